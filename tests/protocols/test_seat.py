"""A node's part in a job: every path of DESIGN §4, replay, retries, duties, and that nothing is asked twice."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.chain import (
    Applied,
    Apply,
    Assign,
    Assigned,
    Call,
    ChainEvent,
    Expire,
    FeePaid,
    JobEnded,
    JobPosted,
    JobState,
    JoinClosed,
    KeysDelivered,
    NullRound,
    ProofAccepted,
    ProofPolicy,
    ProvingStarted,
    Ready,
    Release,
    RoundCommitted,
    RoundNulled,
    Settle,
    Terms,
    TrainingStarted,
    Withdraw,
    WorkerPaid,
    WorkerReady,
    WorkerSlashed,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.seat import (
    BEACON_S,
    RETRY_S,
    STAGGER_S,
    Action,
    ActionDone,
    CaughtUp,
    CheckPackage,
    Effect,
    Event,
    FetchPackage,
    Fitness,
    OnChain,
    OpenPages,
    Part,
    Perform,
    StartWork,
    StopWork,
    TimePassed,
    hear,
    is_engaged,
    is_over,
    rewind,
    step,
)

JOB = JobId(b"j" * 32)
CONTENT, DIGEST = ContentId(bytes(32)), Digest(bytes(32))
ME, BOB, CAROL, DAVE = (Address(f"0x{i:040x}") for i in range(1, 5))
TERMS = Terms(
    package=CONTENT,
    data=CONTENT,
    initial_state=CONTENT,
    srs=CONTENT,
    requester_key=bytes(32),
    initial_commitment=Digest(bytes(32)),
    pages_root=DIGEST,
    vk_digest=DIGEST,
    delegate=Address("0x" + 40 * "0"),
    pages=4,
    seats=3,
    rounds=2,
    steps=3,
    samples=2,
    proof_policy=ProofPolicy.EVALUATION,
    max_applicants=256,
    join_window_s=100,
    ready_window_s=100,
    round_timeout_s=100,
    proof_window_s=100,
    stake_wei=Wei(1),
    budget_wei=Wei(60),
    move_fee_wei=Wei(1),
    max_loss=0,
)
JOIN_S, READY_S, ROUND_S, PROOF_S = 100, 300, 500, 900
POSTED = JobPosted(JOB, DAVE, TERMS, JOIN_S)
SEATED = (BOB, ME, CAROL)
KEYS = KeysDelivered(JOB, (b"for bob", b"for me", b"for carol"))
ASSIGNED = Assigned(JOB, SEATED, READY_S)
TRAINING = TrainingStarted(JOB, ROUND_S)
PROVING = ProvingStarted(JOB, 7, PROOF_S)
APPLIED = tuple(Applied(JOB, w) for w in (ME, BOB, CAROL))


def committed(number: int, participants: int = 0b111, deadline_s: int = ROUND_S) -> RoundCommitted:
    commitment = Commitment(bytes(64))
    return RoundCommitted(JOB, RoundNumber(number), 0, DIGEST, CONTENT, commitment, participants, DIGEST, deadline_s)


def proved(worker: Address, sample: int) -> ProofAccepted:
    return ProofAccepted(JOB, worker, sample, RoundNumber(0), 4, 0, 1, True)


ROUNDS = (TRAINING, committed(0), committed(1, deadline_s=0), PROVING)
PROOFS = tuple(proved(w, k) for w in SEATED for k in range(TERMS.samples))
SETTLED = (
    *(WorkerPaid(JOB, w, Wei(20)) for w in SEATED),
    FeePaid(JOB, BOB, Wei(1)),
    JobEnded(JOB, JobState.SETTLED, Wei(0)),
)

FETCHED, CHECKED, OPENED, STARTED, STOPPED = (
    ActionDone(a, ok=True) for a in (Action.FETCH, Action.CHECK, Action.OPEN, Action.START, Action.STOP)
)


def live(
    *past: ChainEvent, now_s: float = 1.0, me: Address = ME, offers_work: bool = True
) -> tuple[Part, list[Effect]]:
    """A part that replayed these events and has caught up."""
    part = hear(POSTED, me, offers_work=offers_work)
    for event in past:
        part, effects = step(part, OnChain(event))
        assert effects == (), "nothing is done about the past"
    return run(part, CaughtUp(), TimePassed(now_s))


def run(part: Part, *events: Event | ChainEvent) -> tuple[Part, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        part, more = step(part, event if isinstance(event, Event) else OnChain(event))
        effects += more
    return part, effects


def calls(effects: Iterable[Effect]) -> list[Call]:
    return [e.call for e in effects if isinstance(e, Perform)]


# -- The whole way ------------------------------------------------------------------


def test_from_hearing_of_a_job_to_the_last_wei() -> None:
    part, effects = live()
    assert effects == [FetchPackage()]
    part, effects = run(part, FETCHED)
    assert effects == [CheckPackage()]
    part, effects = run(part, CHECKED)
    assert calls(effects) == [Apply(JOB)]
    part, effects = run(part, ActionDone(Action.APPLY, ok=True), *APPLIED)
    assert effects == []
    part, effects = run(part, TimePassed(JOIN_S + BEACON_S + 0.1), ActionDone(Action.MOVE, ok=True), ASSIGNED)
    assert calls(effects) == [Assign(JOB)]
    part, effects = run(part, KEYS)
    assert effects == [OpenPages(b"for me")]
    part, effects = run(part, OPENED)
    assert calls(effects) == [Ready(JOB)]
    part, effects = run(part, ActionDone(Action.READY, ok=True), WorkerReady(JOB, ME), WorkerReady(JOB, BOB))
    assert effects == []
    part, effects = run(part, TRAINING)
    assert effects == [StartWork(SEATED)]
    part, effects = run(part, STARTED, *ROUNDS[1:], TimePassed(ROUND_S + 1.0), *PROOFS[:-1])
    assert effects == []
    part, effects = run(part, PROOFS[-1], TimePassed(ROUND_S + 2.0), TimePassed(ROUND_S + 1.0 + STAGGER_S))
    assert effects == []  # Bob sits first
    part, effects = run(part, TimePassed(ROUND_S + 1.1 + STAGGER_S))
    assert calls(effects) == [Settle(JOB)]
    part, effects = run(part, ActionDone(Action.MOVE, ok=False), *SETTLED)
    assert effects == [StopWork()]
    part, effects = run(part, STOPPED)
    assert calls(effects) == [Release(JOB, ME), Withdraw()]
    assert not is_over(part)
    part, effects = run(part, ActionDone(Action.RELEASE, ok=True), ActionDone(Action.WITHDRAW, ok=True))
    assert effects == []
    assert is_over(part)
    assert run(part, TimePassed(1e6))[1] == []


# -- Ways out -------------------------------------------------------------------------


def test_who_offers_no_work_does_nothing() -> None:
    part, effects = live(offers_work=False)
    assert effects == []
    assert run(part, *APPLIED[1:], TimePassed(1e4))[1] == []
    assert not is_engaged(part)


@pytest.mark.parametrize("action", [Action.FETCH, Action.CHECK])
def test_an_unfit_package_is_declined_for_good(action: Action) -> None:
    part, _ = live() if action is Action.FETCH else run(live()[0], FETCHED)
    part, effects = run(part, ActionDone(action, ok=False, permanent=True))
    assert effects == [StopWork()]  # the check may have opened children
    assert not is_engaged(part)
    part, effects = run(part, STOPPED, TimePassed(50.0), *APPLIED[1:], TimePassed(1e4))
    assert effects == []
    part, _ = run(part, JobEnded(JOB, JobState.EXPIRED, Wei(60)))
    assert is_over(part)


def test_pages_that_do_not_open_cost_the_seat_but_no_stake() -> None:
    part, effects = run(live(*APPLIED, ASSIGNED, KEYS)[0], FETCHED, CHECKED)
    assert effects == [CheckPackage(), OpenPages(b"for me")]
    part, effects = run(part, ActionDone(Action.OPEN, ok=False, permanent=True))
    assert effects == [StopWork()]
    part, effects = run(part, STOPPED, TRAINING, *ROUNDS[1:], TimePassed(PROOF_S + 1.0 + STAGGER_S))
    assert calls(effects) == [Settle(JOB)]  # duties stay
    _, effects = run(part, *SETTLED)
    assert Release(JOB, ME) in calls(effects)


def test_who_draws_no_seat_gets_its_stake_back_and_closes_its_children() -> None:
    part, _ = run(live(*APPLIED)[0], TimePassed(50.0))
    part, effects = run(part, Assigned(JOB, (BOB, CAROL, DAVE), READY_S))
    assert effects == [Perform(Action.RELEASE, Release(JOB, ME)), StopWork()]
    assert not is_engaged(part)
    part, effects = run(part, STOPPED, ActionDone(Action.RELEASE, ok=True), KEYS, *ROUNDS, TimePassed(1e4))
    assert effects == []
    part, effects = run(part, *SETTLED)
    assert calls(effects) == [Withdraw()]
    assert is_over(run(part, ActionDone(Action.WITHDRAW, ok=True))[0])


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.EXPIRED])
def test_a_job_that_ends_early_gives_everything_back(state: JobState) -> None:
    part, effects = run(live(*APPLIED)[0], JobEnded(JOB, state, Wei(60)))
    assert effects == [Perform(Action.RELEASE, Release(JOB, ME)), Perform(Action.WITHDRAW, Withdraw()), StopWork()]
    part, _ = run(part, STOPPED, ActionDone(Action.RELEASE, ok=True), ActionDone(Action.WITHDRAW, ok=True))
    assert is_over(part)


def test_a_liar_does_not_ask_for_its_stake() -> None:
    past = (*APPLIED, ASSIGNED, KEYS, *ROUNDS, WorkerSlashed(JOB, ME, Wei(1)), JobEnded(JOB, JobState.SETTLED, Wei(0)))
    part, effects = live(*past)
    assert calls(effects) == [Withdraw()]
    part, _ = run(part, STOPPED, ActionDone(Action.WITHDRAW, ok=True))
    assert is_over(part)


def test_another_ones_fault_is_not_ours() -> None:
    past = (*APPLIED, ASSIGNED, KEYS, *ROUNDS, WorkerSlashed(JOB, BOB, Wei(1)), JobEnded(JOB, JobState.SETTLED, Wei(0)))
    assert Release(JOB, ME) in calls(live(*past)[1])


# -- Restarts ---------------------------------------------------------------------------


def test_before_the_time_is_known_nothing_is_done() -> None:
    part, effects = run(hear(POSTED, ME, offers_work=True), CaughtUp())
    assert effects == []
    _, effects = run(part, TimePassed(JOIN_S + BEACON_S + 0.1))
    assert effects == []  # its window has passed: not even fetched


@pytest.mark.parametrize(
    ("past", "wanted"),
    [
        ((), [FetchPackage()]),
        (APPLIED, []),
        ((*APPLIED, ASSIGNED), [FetchPackage()]),
        ((*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME)), [FetchPackage()]),
        ((*APPLIED, ASSIGNED, KEYS, *ROUNDS[:2]), [FetchPackage()]),
        ((*APPLIED, ASSIGNED, KEYS, *ROUNDS), [FetchPackage()]),
    ],
)
def test_a_restart_goes_on_where_it_was(past: tuple[ChainEvent, ...], wanted: list[Effect]) -> None:
    part, effects = live(*past, now_s=50.0)
    assert effects == wanted
    if TRAINING in past:
        assert run(part, FETCHED, CHECKED, OPENED)[1] == [CheckPackage(), OpenPages(b"for me"), StartWork(SEATED)]


def test_after_the_end_a_restart_asks_once_for_what_no_event_tells() -> None:
    part, effects = live(*APPLIED, ASSIGNED, KEYS, *ROUNDS, *PROOFS, *SETTLED)
    assert effects == [Perform(Action.RELEASE, Release(JOB, ME)), Perform(Action.WITHDRAW, Withdraw()), StopWork()]
    nothing_locked = ActionDone(Action.RELEASE, ok=False, permanent=True)
    part, effects = run(part, nothing_locked, ActionDone(Action.WITHDRAW, ok=True), STOPPED, TimePassed(1e5))
    assert effects == []
    assert is_over(part)


@given(st.integers(0, 20))
def test_replay_and_life_lead_to_the_same_state(cut: int) -> None:
    events = (*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), *ROUNDS, *PROOFS, *SETTLED)
    replayed, _ = live(*events[:cut], now_s=50.0)
    lived, _ = run(live(now_s=50.0)[0], *events[:cut])
    for name in ("state", "applicants", "workers", "wraps", "ready", "next_round", "participations", "proofs"):
        assert getattr(replayed, name) == getattr(lived, name)


# -- Failures -----------------------------------------------------------------------------


def test_what_failed_is_tried_again_after_a_while() -> None:
    part, _ = live(now_s=10.0)
    part, effects = run(part, ActionDone(Action.FETCH, ok=False), TimePassed(10.0 + RETRY_S - 0.1))
    assert effects == []
    assert run(part, TimePassed(10.0 + RETRY_S))[1] == [FetchPackage()]


def test_a_call_whose_event_does_not_come_is_sent_again() -> None:
    part, _ = run(live(now_s=10.0)[0], FETCHED, CHECKED)
    part, effects = run(part, ActionDone(Action.APPLY, ok=True), TimePassed(11.0))
    assert effects == []
    assert calls(run(part, TimePassed(10.0 + RETRY_S))[1]) == [Apply(JOB)]
    assert run(part, *APPLIED, TimePassed(20.0))[1] == []


@pytest.mark.parametrize("permanent", [False, True])
def test_work_that_did_not_start_is_not_running(permanent: bool) -> None:
    part, _ = run(live(*APPLIED, ASSIGNED, KEYS, TRAINING, now_s=350.0)[0], FETCHED, CHECKED, OPENED)
    part, effects = run(part, ActionDone(Action.START, ok=False, permanent=permanent), TimePassed(350.0 + RETRY_S))
    assert effects == [StartWork(SEATED)]


def test_work_that_starts_when_the_job_is_over_is_stopped() -> None:
    part, _ = run(live(*APPLIED, ASSIGNED, KEYS, TRAINING, now_s=350.0)[0], FETCHED, CHECKED, OPENED)
    part, effects = run(part, JobEnded(JOB, JobState.SETTLED, Wei(0)))
    assert StopWork() not in effects
    assert StopWork() in run(part, STARTED)[1]


# -- Duties ---------------------------------------------------------------------------------

TICK_S = 0.125


def wait_s(part: Part, call: Call) -> float | None:
    """How long it takes the part to make a call, None for longer than a few staggers."""
    began_s = part.now_s
    for tick in range(1, 80):
        part, effects = run(part, TimePassed(began_s + tick * TICK_S))
        if call in calls(effects):
            return tick * TICK_S
    return None


@pytest.mark.parametrize(
    ("past", "from_s", "call"),
    [
        (APPLIED, JOIN_S + BEACON_S, Assign(JOB)),
        ((*APPLIED, JoinClosed(JOB, 40)), 40 + BEACON_S, Assign(JOB)),
        (APPLIED[:2], JOIN_S, Expire(JOB)),
        ((*APPLIED, ASSIGNED), READY_S, Expire(JOB)),
        ((*APPLIED, ASSIGNED, TRAINING), ROUND_S, NullRound(JOB, RoundNumber(0))),
        ((*APPLIED, ASSIGNED, TRAINING, committed(0, deadline_s=600)), 600, NullRound(JOB, RoundNumber(1))),
        ((*APPLIED, ASSIGNED, TRAINING, RoundNulled(JOB, RoundNumber(0), 600)), 600, NullRound(JOB, RoundNumber(1))),
        ((*APPLIED, ASSIGNED, *ROUNDS, *PROOFS[:-1]), PROOF_S, Settle(JOB)),
    ],
)
def test_duties_fall_due_one_mover_after_the_other(past: tuple[ChainEvent, ...], from_s: float, call: Call) -> None:
    movers = SEATED if ASSIGNED in past else tuple(a.worker for a in past if isinstance(a, Applied))
    waits_s = [wait_s(live(*past, now_s=float(from_s), me=me, offers_work=False)[0], call) for me in movers]
    assert waits_s == [STAGGER_S * rank + TICK_S for rank in range(len(movers))]


def test_with_every_proof_in_the_first_mover_settles_and_the_others_wait() -> None:
    parts = [live(*APPLIED, ASSIGNED, *ROUNDS, *PROOFS[:-1], now_s=600.0, me=me)[0] for me in SEATED]
    waits_s = [wait_s(run(part, PROOFS[-1])[0], Settle(JOB)) for part in parts]
    assert waits_s == [TICK_S, STAGGER_S + TICK_S, 2 * STAGGER_S + TICK_S]


def test_a_job_without_a_certified_round_is_settled_at_once() -> None:
    nulled = (TRAINING, RoundNulled(JOB, RoundNumber(0), 600), RoundNulled(JOB, RoundNumber(1), 0), PROVING)
    part, _ = live(*APPLIED, ASSIGNED, me=BOB)
    _, effects = run(part, *nulled, TimePassed(1.1))
    assert Settle(JOB) in calls(effects)


def test_no_round_after_the_last_is_nulled() -> None:
    """The last certificate's event has no deadline and comes before `ProvingStarted`."""
    part, _ = live(*APPLIED, ASSIGNED, *ROUNDS[:2], now_s=450.0)
    assert calls(run(part, ROUNDS[2])[1]) == []


def test_who_has_no_part_has_no_duties() -> None:
    part, effects = live(*APPLIED, me=DAVE, offers_work=False, now_s=1e4)
    assert effects == []
    assert run(part, ASSIGNED, *ROUNDS, TimePassed(1e5))[1] == []


# -- Any order ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
def test_nothing_is_asked_for_twice_while_it_is_under_way(seed: int) -> None:
    numbers = random.Random(seed)
    events = [*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), *ROUNDS, *PROOFS, *SETTLED]
    part, effects = live()
    under_way: set[Action] = set()
    now_s = 1.0
    for _ in range(120):
        for effect in effects:
            action = _action_of(effect)
            assert action not in under_way
            under_way.add(action)
        assert part.busy == under_way
        choice = numbers.random()
        if choice < 0.4 and under_way:
            done = numbers.choice(sorted(under_way, key=lambda a: a.value))
            under_way.remove(done)
            ok = numbers.random() < 0.6
            part, effects = run(part, ActionDone(done, ok, permanent=not ok and numbers.random() < 0.1))
        elif choice < 0.7 and events:
            part, effects = run(part, events.pop(0))
        else:
            now_s += numbers.choice((0.0, 1.0, 30.0))
            part, effects = run(part, TimePassed(now_s), CaughtUp())


def _action_of(effect: Effect) -> Action:
    match effect:
        case FetchPackage():
            return Action.FETCH
        case CheckPackage():
            return Action.CHECK
        case OpenPages():
            return Action.OPEN
        case StartWork():
            return Action.START
        case StopWork():
            return Action.STOP
        case Perform(action):
            return action


@given(st.integers(0, 2**32))
def test_in_the_end_every_part_is_over(seed: int) -> None:
    """Whatever failed on the way: once actions succeed nothing stays locked, running or unclaimed."""
    numbers = random.Random(seed)
    events = [*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), *ROUNDS, *PROOFS, *SETTLED]
    part, pending = live()
    now_s = 1.0
    for turn in range(300):
        calm = turn > 200
        if pending and numbers.random() < 0.5:
            action = _action_of(pending.pop(0))
            ok = calm or numbers.random() < 0.5
            permanent = not ok and action in (Action.FETCH, Action.CHECK, Action.OPEN) and numbers.random() < 0.2
            part, effects = run(part, ActionDone(action, ok, permanent=permanent))
        elif events and numbers.random() < 0.3:
            part, effects = run(part, events.pop(0))
        else:
            now_s += 3.0
            part, effects = run(part, TimePassed(now_s))
        pending += effects
    assert not events
    assert is_over(part)
    assert part.stopped


# -- Reorganisations ------------------------------------------------------------------------


def working(*more: ChainEvent) -> Part:
    part, _ = live(*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), TRAINING, now_s=50.0)
    return run(part, FETCHED, CHECKED, OPENED, STARTED, *more)[0]


def test_a_round_that_was_orphaned_is_open_again_and_work_goes_on() -> None:
    part = working(committed(0))
    back = rewind(part, (*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), TRAINING))
    assert back == replace(working(), now_s=part.now_s)
    assert back.working
    assert back.next_round == 0


def test_an_application_that_was_orphaned_is_made_again() -> None:
    fit, _ = run(live(now_s=1.0)[0], FETCHED, CHECKED, ActionDone(Action.APPLY, ok=True), Applied(JOB, ME))
    _, effects = run(rewind(fit, ()), TimePassed(9.0))
    assert calls(effects) == [Apply(JOB)]


def test_other_seats_after_a_reorganisation_begin_from_the_package() -> None:
    others = Assigned(JOB, (CAROL, ME, BOB), READY_S)
    back = rewind(working(), (*APPLIED, others))
    assert not back.working
    assert not back.opened
    assert back.workers == others.workers
    assert back.fitness is Fitness.FIT
    assert calls(run(back, KEYS, TimePassed(60.0))[1]) == []
    assert OpenPages(b"for me") in run(back, KEYS, TimePassed(60.0))[1]


def test_a_job_that_had_ended_and_has_not_fetches_what_it_closed() -> None:
    part, _ = live(*APPLIED, ASSIGNED, KEYS, *ROUNDS, *PROOFS, *SETTLED)
    over, _ = run(part, STOPPED, ActionDone(Action.WITHDRAW, ok=True), ActionDone(Action.RELEASE, ok=True))
    back = rewind(over, (*APPLIED, ASSIGNED, KEYS, *ROUNDS))
    assert not back.withdrawn
    assert not back.stopped
    assert FetchPackage() in run(back, TimePassed(60.0))[1]


@given(st.integers(0, 20), st.integers(0, 20))
def test_rewinding_is_replaying_less(cut: int, kept: int) -> None:
    events = (*APPLIED, ASSIGNED, KEYS, WorkerReady(JOB, ME), *ROUNDS, *PROOFS, *SETTLED)
    back = rewind(live(*events[:cut], now_s=50.0)[0], events[: min(kept, cut)])
    replayed, _ = live(*events[: min(kept, cut)], now_s=50.0)
    for name in ("state", "applicants", "workers", "wraps", "ready", "next_round", "participations", "proofs"):
        assert getattr(back, name) == getattr(replayed, name)
