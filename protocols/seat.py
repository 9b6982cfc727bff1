"""A node's part in one job, from hearing of it to the last wei, as a pure state machine.

    HEARD -> FIT -> APPLIED -> SEATED -> READY -> WORKING -> OVER          (or DECLINED at any check)

The state is what chain events and finished actions say; `decide` derives from it what to do now, so a
restart replays the chain, becomes live and goes on where it was. Every action is idempotent or refused
by the contract, and is not asked for again while it is under way.

Anyone may move a stuck job on: duties are staggered by rank, so that the first mover spares the rest.
Spec: protocols/README.md, "Seats"; DESIGN §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Applied,
    Apply,
    Assign,
    Assigned,
    Call,
    ChainEvent,
    Expire,
    JobEnded,
    JobPosted,
    JobState,
    JoinClosed,
    KeysDelivered,
    NullRound,
    ProofAccepted,
    ProvingStarted,
    Ready,
    Release,
    RoundCommitted,
    RoundNulled,
    Settle,
    Terms,
    TrainingStarted,
    Withdraw,
    WithdrawIn,
    WorkerReady,
    WorkerSlashed,
)
from protocols.ids import Address, JobId, RoundNumber, Seat

BEACON_S = 1.0  # after the join deadline: before that the round which draws the seats is out on no network
STAGGER_S = 2.0  # between movers: longer than a block, so that the second sees what the first did
RETRY_S = 2.0  # before an action that failed is tried again

# -- Events and effects --------------------------------------------------------


class Action(Enum):
    """What the node may have under way for a job; at most one of each."""

    FETCH = "fetch"
    CHECK = "check"
    OPEN = "open"
    START = "start"
    STOP = "stop"
    APPLY = "apply"
    READY = "ready"
    MOVE = "move"
    RELEASE = "release"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class OnChain:
    event: ChainEvent


@dataclass(frozen=True, slots=True)
class ActionDone:
    action: Action
    ok: bool
    permanent: bool = False
    """Of a failure: don't try again. The package is unfit, or there is nothing (left) to release."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The chain has been read to its head: act from now on."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float
    """Chain time."""


Event = OnChain | ActionDone | CaughtUp | TimePassed


@dataclass(frozen=True, slots=True)
class FetchPackage:
    """Bring package, data and everything they name into the Store."""


@dataclass(frozen=True, slots=True)
class CheckPackage:
    """Rebuild circuit and keys, load the artifacts, compare with the terms."""


@dataclass(frozen=True, slots=True)
class OpenPages:
    """Unwrap the job key and open every page."""

    wrap: bytes


@dataclass(frozen=True, slots=True)
class StartWork:
    workers: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class StopWork:
    pass


@dataclass(frozen=True, slots=True)
class Perform:
    action: Action
    call: Call


_RUNNING = (JobState.OPEN, JobState.ASSIGNED, JobState.TRAINING, JobState.PROVING)

Effect = FetchPackage | CheckPackage | OpenPages | StartWork | StopWork | Perform

# -- State ---------------------------------------------------------------------


class Fitness(Enum):
    UNKNOWN = "unknown"
    FETCHED = "fetched"
    FIT = "fit"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Part:
    job: JobId
    terms: Terms
    requester: Address
    me: Address
    offers_work: bool
    join_deadline_s: int
    live: bool = False
    now_s: float = 0.0
    state: JobState = JobState.OPEN
    fitness: Fitness = Fitness.UNKNOWN
    applicants: tuple[Address, ...] = ()
    workers: tuple[Address, ...] = ()
    wraps: tuple[bytes, ...] = ()
    opened: bool = False
    ready: frozenset[Address] = frozenset()
    working: bool = False
    stopped: bool = False
    """Actors and children are closed for good: our part has ended."""
    next_round: RoundNumber = RoundNumber(0)  # noqa: RUF009 - a NewType call is the identity
    deadline_s: float = 0.0
    """Of the state the job is in; while it is proving and every proof is in, since when it may be settled."""
    beacon_round: int = 0
    """Whose randomness draws the challenge; 0 before it is known."""
    participations: Mapping[Seat, int] = field(default_factory=dict)
    proofs: Mapping[Address, int] = field(default_factory=dict)
    """Accepted samples by worker."""
    slashed: bool = False
    released: bool = False
    withdrawn: bool = False
    busy: frozenset[Action] = frozenset()
    retry_s: Mapping[Action, float] = field(default_factory=dict)


Step = tuple[Part, tuple[Effect, ...]]


def hear(event: JobPosted, me: Address, *, offers_work: bool) -> Part:
    """Return the part that begins with a job's posting."""
    return Part(event.job, event.terms, event.requester, me, offers_work, event.join_deadline_s)


def rewind(part: Part, events: Iterable[ChainEvent]) -> Part:
    """After a reorganisation: `events` are all that happened since the posting; what the node did itself stands.

    Work for other seats than those that now are, and children that were closed, begin again from the package.
    """
    fresh = Part(part.job, part.terms, part.requester, part.me, part.offers_work, part.join_deadline_s)
    for event in events:
        fresh = _hear_chain(fresh, event)
    fresh = replace(fresh, live=part.live, now_s=part.now_s, busy=part.busy, retry_s=part.retry_s)
    ended = fresh.state not in _RUNNING
    if ended:
        fresh = replace(fresh, released=part.released, withdrawn=part.withdrawn)
    if part.stopped and not ended:
        return fresh
    if part.working and fresh.workers != part.workers:
        return replace(fresh, fitness=part.fitness)
    opened = part.opened and fresh.wraps == part.wraps
    return replace(fresh, fitness=part.fitness, opened=opened, working=part.working, stopped=part.stopped)


# -- Transition ----------------------------------------------------------------


def step(part: Part, event: Event) -> Step:
    match event:
        case OnChain(on_chain):
            part = _hear_chain(part, on_chain)
        case ActionDone():
            part = _finish(part, event)
        case CaughtUp():
            part = replace(part, live=True)
        case TimePassed(now_s):
            part = replace(part, now_s=max(part.now_s, now_s))
    # Before the time is known every deadline seems to lie ahead.
    return _decide(part) if part.live and part.now_s else (part, ())


def is_over(part: Part) -> bool:
    """Whether nothing is left to do or to receive."""
    ended = part.state in (JobState.SETTLED, JobState.CANCELLED, JobState.EXPIRED)
    idle = not part.busy and not _wanted_stop(part)
    square = part.withdrawn and (part.released or part.slashed)
    return ended and idle and (square or part.me not in part.applicants)


def is_proved(part: Part) -> bool:
    """Whether every proof of those who took part is in."""
    took_part = [part.workers[s] for s, n in part.participations.items() if n]
    return all(part.proofs.get(w, 0) >= part.terms.samples for w in took_part)


def is_engaged(part: Part) -> bool:
    """Whether the job takes one of the node's places: it may seat us or has."""
    seated = part.me in part.workers if part.workers else part.offers_work
    return seated and part.state in _RUNNING and part.fitness is not Fitness.UNFIT


def _hear_chain(part: Part, event: ChainEvent) -> Part:
    match event:
        case Applied(_, worker):
            return replace(part, applicants=(*part.applicants, worker))
        case JoinClosed(_, deadline_s):
            return replace(part, join_deadline_s=deadline_s)
        case Assigned(_, workers, deadline_s):
            return replace(part, state=JobState.ASSIGNED, workers=workers, deadline_s=deadline_s)
        case KeysDelivered(_, wraps):
            return replace(part, wraps=wraps)
        case WorkerReady(_, worker):
            return replace(part, ready=part.ready | {worker})
        case TrainingStarted(_, deadline_s):
            return replace(part, state=JobState.TRAINING, deadline_s=deadline_s)
        case RoundCommitted():
            took_part = {s: part.participations.get(s, 0) + 1 for s in _seats_of(part, event.participants)}
            part = replace(part, participations={**part.participations, **took_part})
            return replace(part, next_round=RoundNumber(event.round + 1), deadline_s=event.round_deadline_s)
        case RoundNulled(_, number, deadline_s):
            return replace(part, next_round=RoundNumber(number + 1), deadline_s=deadline_s)
        case ProvingStarted(_, beacon_round, deadline_s):
            part = replace(part, state=JobState.PROVING, beacon_round=beacon_round, deadline_s=deadline_s)
            return _settle_early(part)
        case ProofAccepted(_, worker):
            return _settle_early(replace(part, proofs={**part.proofs, worker: part.proofs.get(worker, 0) + 1}))
        case WorkerSlashed(_, worker) if worker == part.me:
            return replace(part, slashed=True)
        case JobEnded(_, state):
            return replace(part, state=state)
        case _:
            return part


def _seats_of(part: Part, bits: int) -> tuple[Seat, ...]:
    return tuple(Seat(i) for i in range(len(part.workers)) if bits >> i & 1)


def _finish(part: Part, done: ActionDone) -> Part:
    part = replace(part, busy=part.busy - {done.action})
    if not done.ok:
        part = replace(part, retry_s={**part.retry_s, done.action: part.now_s + RETRY_S})
        if not done.permanent:
            return part
    match done.action:
        case Action.FETCH | Action.CHECK if not done.ok:
            return replace(part, fitness=Fitness.UNFIT)
        case Action.FETCH:
            return replace(part, fitness=Fitness.FETCHED)
        case Action.CHECK:
            return replace(part, fitness=Fitness.FIT)
        case Action.OPEN:
            return replace(part, opened=done.ok, fitness=Fitness.FIT if done.ok else Fitness.UNFIT)
        case Action.START:
            return replace(part, working=done.ok)
        case Action.STOP:
            return replace(part, working=False, stopped=True)
        case Action.RELEASE:
            return replace(part, released=True)
        case Action.WITHDRAW:
            return replace(part, withdrawn=True)
        case Action.APPLY | Action.READY | Action.MOVE:  # done when its event is seen, not before
            return replace(part, retry_s={**part.retry_s, done.action: part.now_s + RETRY_S})


# -- Decision ------------------------------------------------------------------


def _decide(part: Part) -> Step:
    effects: list[Effect] = []
    for action, effect in _wanted(part):
        if action not in part.busy and part.now_s >= part.retry_s.get(action, 0.0):
            part = replace(part, busy=part.busy | {action})
            effects.append(effect)
    return part, tuple(effects)


def _wanted(part: Part) -> list[tuple[Action, Effect]]:
    wanted: list[tuple[Action, Effect]] = []
    match part.state:
        case JobState.OPEN:
            wanted += _wanted_open(part)
        case JobState.ASSIGNED:
            wanted += _wanted_assigned(part)
        case JobState.TRAINING | JobState.PROVING:
            if part.me in part.workers and part.opened and not part.working:
                wanted.append((Action.START, StartWork(part.workers)))
            elif part.me in part.workers and not part.opened:
                wanted += _wanted_keys(part)
            if part.state is JobState.PROVING:
                wanted += _duty(part, part.deadline_s, Settle(part.job))
            elif part.next_round < part.terms.rounds:  # the last one's event comes just before `ProvingStarted`
                wanted += _duty(part, part.deadline_s, NullRound(part.job, part.next_round))
        case _:
            wanted += _wanted_over(part)
    if part.workers and part.me in part.applicants and part.me not in part.workers:
        wanted += _wanted_release(part)
    return wanted + _wanted_stop(part)


def _wanted_open(part: Part) -> list[tuple[Action, Effect]]:
    if part.now_s > part.join_deadline_s:
        if len(part.applicants) < part.terms.seats:
            return _duty(part, part.join_deadline_s, Expire(part.job))
        return _duty(part, part.join_deadline_s + BEACON_S, Assign(part.job))
    if not part.offers_work or part.me in part.applicants:
        return []
    match part.fitness:
        case Fitness.UNKNOWN:
            return [(Action.FETCH, FetchPackage())]
        case Fitness.FETCHED:
            return [(Action.CHECK, CheckPackage())]
        case Fitness.FIT:
            return [(Action.APPLY, Perform(Action.APPLY, Apply(part.job)))]
        case Fitness.UNFIT:
            return []


def _wanted_assigned(part: Part) -> list[tuple[Action, Effect]]:
    wanted = _duty(part, part.deadline_s, Expire(part.job))
    if part.me in part.workers and not part.opened:
        wanted += _wanted_keys(part)
    elif part.me in part.workers and part.me not in part.ready:
        wanted.append((Action.READY, Perform(Action.READY, Ready(part.job))))
    return wanted


def _wanted_keys(part: Part) -> list[tuple[Action, Effect]]:
    """Package, check and keys, in that order; all three again after a restart."""
    match part.fitness:
        case Fitness.UNKNOWN:
            return [(Action.FETCH, FetchPackage())]
        case Fitness.FETCHED:
            return [(Action.CHECK, CheckPackage())]
        case Fitness.FIT if part.wraps:
            return [(Action.OPEN, OpenPages(part.wraps[part.workers.index(part.me)]))]
        case _:
            return []


def _wanted_over(part: Part) -> list[tuple[Action, Effect]]:
    if part.working or part.me not in part.applicants:
        return []
    wanted = _wanted_release(part)
    if not part.withdrawn:
        token = part.terms.token
        call = Withdraw() if token == ZERO_ADDRESS else WithdrawIn(token)
        wanted.append((Action.WITHDRAW, Perform(Action.WITHDRAW, call)))
    return wanted


def _wanted_stop(part: Part) -> list[tuple[Action, Effect]]:
    """Once our part has ended, however far it had come: the check alone opens both children."""
    ended = part.state not in _RUNNING or (part.workers and part.me not in part.workers)
    began = part.me in part.applicants or part.fitness is not Fitness.UNKNOWN
    beginning = part.busy & {Action.FETCH, Action.CHECK, Action.OPEN, Action.START}
    if part.stopped or beginning or not (part.fitness is Fitness.UNFIT or (ended and began)):
        return []
    return [(Action.STOP, StopWork())]


def _wanted_release(part: Part) -> list[tuple[Action, Effect]]:
    if part.released or part.slashed:
        return []
    return [(Action.RELEASE, Perform(Action.RELEASE, Release(part.job, part.me)))]


def _settle_early(part: Part) -> Part:
    """With every proof in, the deadline is now: the stagger of the movers begins here."""
    return replace(part, deadline_s=min(part.deadline_s, part.now_s)) if is_proved(part) else part


def _duty(part: Part, from_s: float, call: Call) -> list[tuple[Action, Effect]]:
    """A call that anyone may make: in rank order, each mover waits for the one before."""
    movers = part.workers or part.applicants
    if part.me not in movers or part.now_s <= from_s + movers.index(part.me) * STAGGER_S:
        return []
    return [(Action.MOVE, Perform(Action.MOVE, call))]
