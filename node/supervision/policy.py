"""Restart policy: which child to launch, cancel or give up on, decided without tasks and without a clock.

The one rule: every launch has a number of its own, and an exit counts once, for the incarnation that it names.
A child that falls while its group is being stopped has not failed: it has stopped.

    child       IDLE → STARTING → RUNNING → DONE                    (IDLE: waits for its turn or its back-off)
                  ↑        └──────┴─→ DOOMED → STOPPING → gone      (DOOMED: waits for later siblings to stop)
                  └────────────────────────────────┘
    supervisor  UP → ENDING → OVER

Source: Erlang/OTP's supervisor. Where we differ: a crash at start is an ordinary failure (back-off, then
escalation), a restart waits for the back-off, and the last child's end may end the supervisor (`finishes`).
One long file, since a machine is checked by reading its events, state and transition side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import assert_never

# -- Rules ---------------------------------------------------------------------


class Restart(Enum):
    PERMANENT = "permanent"
    """Always started again; its normal return is a failure too."""
    TRANSIENT = "transient"
    """Started again after a failure; a normal return is its end."""
    TEMPORARY = "temporary"
    """Never started again: not after a failure, not with its group."""


class Strategy(Enum):
    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"
    ALL_FOR_ONE = "all_for_one"


@dataclass(frozen=True, slots=True)
class Intensity:
    """More than `restarts` failures within `period_s` are an escalation."""

    restarts: int = 3
    period_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The k-th failure in a row waits first · factor^(k-1), up to the cap. A period without failure resets k."""

    first_s: float = 0.5
    factor: float = 2.0
    cap_s: float = 15.0

    def delay_s(self, failures: int) -> float:
        # The exponent is bounded since a float's is: a child may fail for years under a high intensity.
        return min(self.cap_s, self.first_s * self.factor ** min(failures - 1, 64))


@dataclass(frozen=True, slots=True)
class Rules:
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = Intensity()
    backoff: Backoff = Backoff()
    finishes: bool = False
    """End normally once every child is done; otherwise an empty supervisor waits for new children."""
    slow_stop_s: float = 5.0
    """A child that takes longer to stop is reported once: trio can't take a task's life."""


DEFAULT_RULES = Rules()


# -- Events --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChildAdded:
    """A new last child. `dynamic`: added at run time, so it waits for no sibling under one_for_one."""

    name: str
    restart: Restart
    dynamic: bool
    now_s: float


@dataclass(frozen=True, slots=True)
class ChildStarted:
    name: str
    incarnation: int
    now_s: float


@dataclass(frozen=True, slots=True)
class ChildExited:
    name: str
    incarnation: int
    failed: bool
    now_s: float


@dataclass(frozen=True, slots=True)
class ChildDismissed:
    """Somebody wants this child stopped and forgotten."""

    name: str
    now_s: float


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    now_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = ChildAdded | ChildStarted | ChildExited | ChildDismissed | ShutdownRequested | TimePassed

# -- Effects -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Cancel:
    name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The child is gone for good; its name is free."""

    name: str


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `TimePassed` at this time; replaces the timer before. Infinity: none."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Finish:
    """All children are gone. `escalated` names the one that failed too often, None after an orderly end."""

    escalated: str | None


class What(Enum):
    STARTED = "child_started"
    FAILED = "child_failed"
    DONE = "child_done"
    STOPPED = "child_stopped"
    STOP_FAILED = "child_failed_while_stopping"
    SLOW_TO_STOP = "child_slow_to_stop"
    GAVE_UP = "supervisor_gave_up"


@dataclass(frozen=True, slots=True)
class Note:
    """For the log."""

    what: What
    name: str
    incarnation: int
    delay_s: float | None = None
    """Until the next start, if there is one."""
    failures: int = 0
    """Within the period, this one included."""


Effect = Launch | Cancel | Forget | SetTimer | Finish | Note
Effects = tuple[Effect, ...]

# -- State ---------------------------------------------------------------------


class Phase(Enum):
    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    DOOMED = "doomed"
    STOPPING = "stopping"
    DONE = "done"


ALIVE = frozenset({Phase.STARTING, Phase.RUNNING, Phase.DOOMED, Phase.STOPPING})
_LEAVING = (Phase.DOOMED, Phase.STOPPING)


@dataclass(frozen=True, slots=True)
class Member:
    """A child as the policy sees it."""

    name: str
    restart: Restart
    dynamic: bool
    phase: Phase = Phase.IDLE
    incarnation: int = 0
    """Number of the latest launch."""
    due_s: float = -math.inf
    """IDLE: not before. STOPPING: reported as slow after."""
    started_s: float = math.inf
    failures: int = 0
    """In a row."""
    has_been_up: bool = False
    leaves: bool = False
    """DOOMED or STOPPING: not to come back."""


class Mode(Enum):
    UP = "up"
    ENDING = "ending"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class State:
    rules: Rules
    members: tuple[Member, ...] = ()
    """In start order."""
    mode: Mode = Mode.UP
    failures_s: tuple[float, ...] = ()
    """Times of the failures within the period."""
    escalated: str | None = None
    timer_s: float = field(default=math.inf)

    def member(self, name: str) -> Member | None:
        return next((m for m in self.members if m.name == name), None)


def is_up(state: State) -> bool:
    """Whether every child has been up since it was added."""
    return state.mode is Mode.UP and all(m.has_been_up or m.phase is Phase.DONE for m in state.members)


# -- Transition ----------------------------------------------------------------


def begin(rules: Rules, children: tuple[tuple[str, Restart, bool], ...], now_s: float) -> tuple[State, Effects]:
    """Start with these (name, restart, dynamic), in order."""
    members = tuple(Member(name, restart, dynamic) for name, restart, dynamic in children)
    return _settle(State(rules, members), now_s)


def step(state: State, event: Event) -> tuple[State, Effects]:
    if state.mode is Mode.OVER:
        return state, ()
    effects: Effects = ()
    match event:
        case ChildAdded(name, restart, dynamic):
            state = _add(state, Member(name, restart, dynamic))
        case ChildStarted(name, incarnation, now_s):
            state, effects = _started(state, name, incarnation, now_s)
        case ChildExited(name, incarnation, failed, now_s):
            state, effects = _exited(state, name, incarnation, failed, now_s)
        case ChildDismissed(name):
            state, effects = _dismissed(state, name)
        case ShutdownRequested():
            state = _end(state)
        case TimePassed():
            pass
        case _:
            assert_never(event)
    state, more = _settle(state, event.now_s)
    return state, effects + more


def _add(state: State, member: Member) -> State:
    if state.mode is Mode.ENDING or state.member(member.name) is not None:
        return state
    return replace(state, members=(*state.members, member))


def _started(state: State, name: str, incarnation: int, now_s: float) -> tuple[State, Effects]:
    member = state.member(name)
    if member is None or member.incarnation != incarnation or member.phase is not Phase.STARTING:
        return state, ()
    up = replace(member, phase=Phase.RUNNING, started_s=now_s, has_been_up=True)
    return _put(state, up), (Note(What.STARTED, name, incarnation),)


def _dismissed(state: State, name: str) -> tuple[State, Effects]:
    member = state.member(name)
    if member is None:
        return state, ()
    if member.phase in ALIVE:
        return _put(state, _doom(member, leaves=True)), ()
    return _drop(state, name), (Forget(name),)


# -- Exits ---------------------------------------------------------------------


def _exited(state: State, name: str, incarnation: int, failed: bool, now_s: float) -> tuple[State, Effects]:
    member = state.member(name)
    if member is None or member.incarnation != incarnation or member.phase not in ALIVE:
        return state, ()  # of an incarnation that we have heard of already
    if member.phase in _LEAVING:
        return _stopped(state, member, failed, now_s)
    if member.restart is Restart.PERMANENT or (failed and member.restart is Restart.TRANSIENT):
        return _failed(state, member, now_s)
    note = Note(What.FAILED if failed else What.DONE, name, incarnation)
    if member.restart is Restart.TEMPORARY or member.dynamic:
        # Dynamic children leave when they are done: otherwise a node would collect the names of all its jobs.
        return _drop(state, name), (note, Forget(name))
    return _put(state, replace(member, phase=Phase.DONE)), (note,)


def _stopped(state: State, member: Member, failed: bool, now_s: float) -> tuple[State, Effects]:
    note = Note(What.STOP_FAILED if failed else What.STOPPED, member.name, member.incarnation)
    if member.leaves:
        return _drop(state, member.name), (note, Forget(member.name))
    phase = Phase.DONE if state.mode is Mode.ENDING else Phase.IDLE
    return _put(state, replace(member, phase=phase, due_s=now_s)), (note,)


def _failed(state: State, member: Member, now_s: float) -> tuple[State, Effects]:
    rules = state.rules
    recent = (*(t for t in state.failures_s if now_s - t < rules.intensity.period_s), now_s)
    state = replace(state, failures_s=recent)
    if len(recent) > rules.intensity.restarts:
        state = _put(state, replace(member, phase=Phase.DONE))
        notes = tuple(Note(w, member.name, member.incarnation, None, len(recent)) for w in (What.FAILED, What.GAVE_UP))
        return _end(replace(state, escalated=member.name)), notes
    # A child that never came up has started_s = inf: its row of failures goes on.
    in_a_row = 1 if now_s - member.started_s >= rules.intensity.period_s else member.failures + 1
    delay_s = rules.backoff.delay_s(in_a_row)
    waiting = replace(member, phase=Phase.IDLE, due_s=now_s + delay_s, failures=in_a_row, started_s=math.inf)
    note = Note(What.FAILED, member.name, member.incarnation, delay_s, len(recent))
    return _fell_group(_put(state, waiting), member.name, now_s), (note,)


def _fell_group(state: State, failed: str, now_s: float) -> State:
    """Doom the siblings that have to go down with `failed`; those that are done come back with the group."""
    names = [m.name for m in state.members]
    match state.rules.strategy:
        case Strategy.ONE_FOR_ONE:
            victims: frozenset[str] = frozenset()
        case Strategy.REST_FOR_ONE:
            victims = frozenset(names[names.index(failed) + 1 :])
        case Strategy.ALL_FOR_ONE:
            victims = frozenset(names) - {failed}
        case _:
            assert_never(state.rules.strategy)

    def fall(member: Member) -> Member:
        if member.name not in victims:
            return member
        if member.phase in ALIVE:
            return _doom(member, leaves=member.restart is Restart.TEMPORARY)
        if member.phase is Phase.DONE:
            return replace(member, phase=Phase.IDLE, due_s=now_s)
        return member

    return replace(state, members=tuple(map(fall, state.members)))


def _doom(member: Member, *, leaves: bool) -> Member:
    if member.phase in _LEAVING:
        return replace(member, leaves=member.leaves or leaves)
    return replace(member, phase=Phase.DOOMED, leaves=leaves)


def _end(state: State) -> State:
    """Doom everybody."""

    def last(member: Member) -> Member:
        return _doom(member, leaves=False) if member.phase in ALIVE else replace(member, phase=Phase.DONE)

    return replace(state, mode=Mode.ENDING, members=tuple(map(last, state.members)))


# -- Settling ------------------------------------------------------------------


def _settle(state: State, now_s: float) -> tuple[State, Effects]:
    """Do what has become possible: stop in reverse, then start in order, then finish."""
    state, stops = _stop_doomed(state, now_s)
    state, starts = _start_idle(state, now_s)
    effects = stops + starts
    if _is_over(state):
        return replace(state, mode=Mode.OVER), (*effects, Finish(state.escalated))
    timer_s = min((m.due_s for m in state.members if _has_timer(m) and m.due_s > now_s), default=math.inf)
    if timer_s != state.timer_s:
        return replace(state, timer_s=timer_s), (*effects, SetTimer(timer_s))
    return state, effects


def _stop_doomed(state: State, now_s: float) -> tuple[State, Effects]:
    effects: list[Effect] = []
    for member in reversed(state.members):
        if member.phase is Phase.DOOMED:
            stopping = replace(member, phase=Phase.STOPPING, due_s=now_s + state.rules.slow_stop_s)
            state = _put(state, stopping)
            effects.append(Cancel(member.name, member.incarnation))
        elif member.phase is Phase.STOPPING and member.due_s <= now_s:
            state = _put(state, replace(member, due_s=math.inf))
            effects.append(Note(What.SLOW_TO_STOP, member.name, member.incarnation))
        if member.phase in _LEAVING and _is_ordered(state):
            break  # those before it may be what it needs to stop cleanly
    return state, tuple(effects)


def _start_idle(state: State, now_s: float) -> tuple[State, Effects]:
    effects: list[Effect] = []
    for member in state.members:
        if member.phase is Phase.IDLE and member.due_s <= now_s and _may_start(state, member):
            launched = replace(member, phase=Phase.STARTING, incarnation=member.incarnation + 1, started_s=math.inf)
            state = _put(state, launched)
            effects.append(Launch(member.name, launched.incarnation))
    return state, tuple(effects)


def _may_start(state: State, member: Member) -> bool:
    """Whether everything before `member` is up, as far as the strategy makes it lean on that."""
    if state.mode is not Mode.UP:
        return False
    earlier = state.members[: state.members.index(member)]
    if _is_ordered(state):
        nobody_leaves = all(m.phase not in _LEAVING for m in state.members)
        return nobody_leaves and all(m.phase in (Phase.RUNNING, Phase.DONE) for m in earlier)
    if member.dynamic or member.has_been_up:
        return True
    return all(m.dynamic or m.has_been_up or m.phase is Phase.DONE for m in earlier)


def _is_ordered(state: State) -> bool:
    return state.mode is Mode.ENDING or state.rules.strategy is not Strategy.ONE_FOR_ONE


def _is_over(state: State) -> bool:
    if state.mode is Mode.ENDING:
        return all(m.phase not in ALIVE for m in state.members)
    return state.rules.finishes and all(m.phase is Phase.DONE for m in state.members)


def _has_timer(member: Member) -> bool:
    return member.phase in (Phase.IDLE, Phase.STOPPING)


# -- Members -------------------------------------------------------------------


def _put(state: State, member: Member) -> State:
    return replace(state, members=tuple(member if m.name == member.name else m for m in state.members))


def _drop(state: State, name: str) -> State:
    return replace(state, members=tuple(m for m in state.members if m.name != name))
