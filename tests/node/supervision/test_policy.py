"""The restart policy: rules of thumb as examples, invariants as a machine that obeys every effect."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.supervision.policy import (
    ALIVE,
    Backoff,
    Cancel,
    ChildAdded,
    ChildDismissed,
    ChildExited,
    ChildStarted,
    Effects,
    Event,
    Finish,
    Forget,
    Intensity,
    Launch,
    Mode,
    Note,
    Phase,
    Restart,
    Rules,
    SetTimer,
    ShutdownRequested,
    State,
    Strategy,
    TimePassed,
    What,
    begin,
    is_up,
    step,
)

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


def rules(strategy: Strategy, **changes: object) -> Rules:
    return replace(Rules(strategy, Intensity(3, 30.0), Backoff(1.0, 2.0, 8.0)), **changes)  # type: ignore[arg-type]


def deeds(effects: Effects) -> list[object]:
    """What is done, without log and timer."""
    return [e for e in effects if not isinstance(e, Note | SetTimer)]


def up(strategy: Strategy, *children: tuple[str, Restart], **changes: object) -> State:
    """A supervisor all of whose children run, at time 0."""
    state, _ = begin(rules(strategy, **changes), tuple((n, r, False) for n, r in children), 0.0)
    for name, _ in children:
        state, _ = step(state, ChildStarted(name, 1, 0.0))
    assert is_up(state)
    return state


def run(state: State, *events: Event) -> tuple[State, list[object]]:
    done: list[object] = []
    for event in events:
        state, effects = step(state, event)
        done += deeds(effects)
    return state, done


ABC = (("a", PERMANENT), ("b", PERMANENT), ("c", PERMANENT))

# -- Starting ------------------------------------------------------------------


@pytest.mark.parametrize("strategy", Strategy)
def test_starts_in_order_and_waits_for_each(strategy: Strategy) -> None:
    state, effects = begin(rules(strategy), tuple((n, r, False) for n, r in ABC), 0.0)
    assert deeds(effects) == [Launch("a", 1)]
    state, done = run(state, ChildStarted("a", 1, 1.0))
    assert done == [Launch("b", 1)]
    state, done = run(state, ChildStarted("b", 1, 2.0))
    assert done == [Launch("c", 1)]
    assert not is_up(state)
    assert is_up(step(state, ChildStarted("c", 1, 3.0))[0])


@pytest.mark.parametrize("strategy", Strategy)
def test_a_crash_at_start_is_retried_before_the_next_starts(strategy: Strategy) -> None:
    state, _ = begin(rules(strategy), tuple((n, r, False) for n, r in ABC), 0.0)
    state, done = run(state, ChildExited("a", 1, True, 0.0))
    assert done == []
    state, done = run(state, TimePassed(1.0))
    assert done == [Launch("a", 2)]
    state, done = run(state, ChildStarted("a", 2, 1.0))
    assert done == [Launch("b", 1)]


def test_a_dynamic_child_waits_for_nobody_under_one_for_one() -> None:
    state, _ = begin(rules(Strategy.ONE_FOR_ONE), (("a", PERMANENT, False), ("b", PERMANENT, False)), 0.0)
    state, done = run(state, ChildAdded("job", TRANSIENT, True, 0.0))
    assert done == [Launch("job", 1)]


# -- Groups --------------------------------------------------------------------


def test_one_for_one_restarts_the_one() -> None:
    _, done = run(up(Strategy.ONE_FOR_ONE, *ABC), ChildExited("b", 1, True, 5.0), TimePassed(6.0))
    assert done == [Launch("b", 2)]


def test_rest_for_one_stops_the_rest_in_reverse_and_starts_it_in_order() -> None:
    state, done = run(up(Strategy.REST_FOR_ONE, *ABC), ChildExited("a", 1, True, 5.0))
    assert done == [Cancel("c", 1)]
    state, done = run(state, ChildExited("c", 1, False, 5.0))
    assert done == [Cancel("b", 1)]
    state, done = run(state, TimePassed(6.0))
    assert done == []  # b is not gone yet
    state, done = run(state, ChildExited("b", 1, False, 6.5))
    assert done == [Launch("a", 2)]
    state, done = run(state, ChildStarted("a", 2, 7.0), ChildStarted("b", 2, 7.0), ChildStarted("c", 2, 7.0))
    assert done == [Launch("b", 2), Launch("c", 2)]
    assert is_up(state)


def test_rest_for_one_leaves_the_earlier_alone() -> None:
    _, done = run(up(Strategy.REST_FOR_ONE, *ABC), ChildExited("c", 1, True, 5.0), TimePassed(6.0))
    assert done == [Launch("c", 2)]


def test_all_for_one_stops_all() -> None:
    _, done = run(up(Strategy.ALL_FOR_ONE, *ABC), ChildExited("b", 1, True, 5.0), ChildExited("c", 1, False, 5.0))
    assert done == [Cancel("c", 1), Cancel("a", 1)]


def test_a_sibling_that_falls_while_its_group_stops_counts_once() -> None:
    state = up(Strategy.ALL_FOR_ONE, *ABC)
    state, _ = run(
        state, ChildExited("a", 1, True, 5.0), ChildExited("c", 1, True, 5.0), ChildExited("b", 1, True, 5.0)
    )
    assert state.failures_s == (5.0,)
    assert [m.failures for m in state.members] == [1, 0, 0]


def test_an_exit_of_an_earlier_incarnation_changes_nothing() -> None:
    state, _ = run(up(Strategy.ONE_FOR_ONE, *ABC), ChildExited("a", 1, True, 5.0), TimePassed(6.0))
    assert step(state, ChildExited("a", 1, True, 6.0)) == (state, ())
    assert step(state, ChildStarted("a", 1, 6.0)) == (state, ())


def test_a_failure_before_the_group_is_back_widens_the_group() -> None:
    state = up(Strategy.REST_FOR_ONE, *ABC)
    state, done = run(state, ChildExited("c", 1, True, 5.0), ChildExited("a", 1, True, 5.1))
    assert done == [Cancel("b", 1)]
    state, done = run(state, ChildExited("b", 1, False, 5.1), TimePassed(6.1))
    assert done == [Launch("a", 2)]


# -- Child types ---------------------------------------------------------------


def test_permanent_comes_back_from_a_normal_return_and_it_counts() -> None:
    state, done = run(up(Strategy.ONE_FOR_ONE, ABC[0]), ChildExited("a", 1, False, 5.0), TimePassed(6.0))
    assert done == [Launch("a", 2)]
    assert state.failures_s == (5.0,)


def test_transient_is_done_after_a_normal_return() -> None:
    state, done = run(up(Strategy.ONE_FOR_ONE, ("a", TRANSIENT)), ChildExited("a", 1, False, 5.0), TimePassed(60.0))
    assert done == []
    assert state.members[0].phase is Phase.DONE
    assert is_up(state)


def test_a_done_transient_comes_back_with_its_group() -> None:
    state = up(Strategy.ALL_FOR_ONE, ("a", TRANSIENT), ("b", PERMANENT))
    state, done = run(state, ChildExited("a", 1, False, 1.0), ChildExited("b", 1, True, 2.0))
    assert done == [Launch("a", 2)]


def test_temporary_never_comes_back() -> None:
    state = up(Strategy.ALL_FOR_ONE, ("a", TEMPORARY), ("b", PERMANENT), ("c", TEMPORARY))
    state, done = run(state, ChildExited("a", 1, True, 1.0))
    assert done == [Forget("a")]
    assert state.failures_s == ()
    state, done = run(state, ChildExited("b", 1, True, 2.0), ChildExited("c", 1, False, 2.0), TimePassed(3.0))
    assert done == [Cancel("c", 1), Forget("c"), Launch("b", 2)]


def test_a_dismissed_child_is_forgotten_even_while_it_waits() -> None:
    state = up(Strategy.ONE_FOR_ONE, *ABC)
    state, done = run(state, ChildDismissed("b", 1.0), ChildExited("b", 1, True, 1.0))
    assert done == [Cancel("b", 1), Forget("b")]
    assert state.failures_s == ()
    state, done = run(state, ChildExited("a", 1, True, 2.0), ChildDismissed("a", 2.1), TimePassed(9.0))
    assert done == [Forget("a")]


# -- Back-off and escalation ---------------------------------------------------


def test_back_off_doubles_up_to_its_cap_and_forgets_after_a_quiet_period() -> None:
    state = up(Strategy.ONE_FOR_ONE, ABC[0], intensity=Intensity(1000, 30.0))
    delays, now_s = [], 0.0
    for incarnation in range(1, 7):
        state, effects = step(state, ChildExited("a", incarnation, True, now_s))
        (note,) = (e for e in effects if isinstance(e, Note))
        assert note.delay_s is not None
        delays.append(note.delay_s)
        now_s += note.delay_s
        state, _ = run(state, TimePassed(now_s), ChildStarted("a", incarnation + 1, now_s))
    assert delays == [1, 2, 4, 8, 8, 8]
    _, effects = step(state, ChildExited("a", 7, True, now_s + 30.0))
    assert effects[0] == Note(What.FAILED, "a", 7, 1.0, 1)


def test_back_off_of_a_thousand_failures_is_the_cap() -> None:
    assert Backoff(0.5, 2.0, 15.0).delay_s(100_000) == 15.0


def test_escalation_stops_everybody_in_reverse_and_finishes() -> None:
    state = up(Strategy.ONE_FOR_ONE, *ABC, intensity=Intensity(0, 30.0))
    state, done = run(state, ChildExited("b", 1, True, 5.0))
    assert done == [Cancel("c", 1)]
    state, done = run(state, ChildExited("c", 1, True, 5.0), ChildExited("a", 1, False, 5.0))
    assert done == [Cancel("a", 1), Finish("b")]
    assert state.mode is Mode.OVER


def test_old_failures_do_not_count() -> None:
    state = up(Strategy.ONE_FOR_ONE, ABC[0], intensity=Intensity(1, 10.0))
    for incarnation in range(1, 6):
        now_s = 11.0 * incarnation
        state, _ = run(state, ChildExited("a", incarnation, True, now_s), TimePassed(now_s + 8))
        state, _ = run(state, ChildStarted("a", incarnation + 1, now_s + 8))
    assert state.mode is Mode.UP


def test_shutdown_stops_in_reverse_and_starts_nobody() -> None:
    state, done = run(up(Strategy.ONE_FOR_ONE, *ABC), ChildExited("b", 1, True, 1.0), ShutdownRequested(1.5))
    assert done == [Cancel("c", 1)]
    state, done = run(state, TimePassed(9.0), ChildExited("c", 1, False, 9.0), ChildExited("a", 1, False, 9.0))
    assert done == [Cancel("a", 1), Finish(None)]


def test_a_slow_stop_is_said_once() -> None:
    state, _ = run(up(Strategy.ONE_FOR_ONE, ABC[0]), ShutdownRequested(0.0))
    assert state.timer_s == 5.0
    state, effects = step(state, TimePassed(5.0))
    assert effects == (Note(What.SLOW_TO_STOP, "a", 1), SetTimer(math.inf))
    assert step(state, TimePassed(50.0)) == (state, ())


def test_finishes_when_all_are_done() -> None:
    state = up(Strategy.ALL_FOR_ONE, ("a", TRANSIENT), ("b", TRANSIENT), finishes=True)
    state, done = run(state, ChildExited("a", 1, False, 1.0))
    assert done == []
    state, done = run(state, ChildExited("b", 1, False, 1.0))
    assert done == [Finish(None)]


# -- Invariants ----------------------------------------------------------------


class World(RuleBasedStateMachine):
    """Does what the policy says, and lets children start, fall, hang and stop in any order."""

    children = Bundle("children")

    @initialize(
        strategy=st.sampled_from(Strategy),
        restarts=st.integers(0, 4),
        finishes=st.booleans(),
        kinds=st.lists(st.sampled_from(Restart), max_size=4),
    )
    def begin(self, strategy: Strategy, restarts: int, finishes: bool, kinds: list[Restart]) -> None:
        self.now_s = 0.0
        self.rules = Rules(strategy, Intensity(restarts, 20.0), Backoff(1.0, 2.0, 8.0), finishes, 3.0)
        self.alive: dict[str, int] = {}
        self.cancelled: set[tuple[str, int]] = set()
        self.launched: dict[str, int] = {}
        self.kinds = {f"s{i}": kind for i, kind in enumerate(kinds)}
        self.temporary_launches: dict[str, int] = {}
        self.added = 0
        self.counted: list[float] = []
        self.finish: Finish | None = None
        self.timer_s = math.inf
        self.state, effects = begin(self.rules, tuple((n, k, False) for n, k in self.kinds.items()), 0.0)
        self.obey(effects)

    def send(self, event: Event) -> None:
        was_over = self.state.mode is Mode.OVER
        self.state, effects = step(self.state, event)
        assert not (was_over and effects)
        self.obey(effects)

    def obey(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Launch(name, incarnation):
                    self.check_launch(name, incarnation)
                    self.alive[name] = self.launched[name] = incarnation
                case Cancel(name, incarnation):
                    assert self.alive[name] == incarnation
                    assert (name, incarnation) not in self.cancelled
                    self.cancelled.add((name, incarnation))
                    self.check_cancel(name)
                case Forget(name):
                    assert name not in self.alive
                    assert self.state.member(name) is None
                    self.kinds.pop(name)
                    self.launched.pop(name, None)
                case SetTimer(at_s):
                    self.timer_s = at_s
                case Finish():
                    assert not self.alive
                    self.finish = effect
                case Note(What.FAILED, name) if self.kinds.get(name) is not TEMPORARY:
                    self.counted.append(self.now_s)

    def check_launch(self, name: str, incarnation: int) -> None:
        assert name not in self.alive
        assert incarnation == self.launched.get(name, 0) + 1
        assert self.state.mode is Mode.UP
        if self.kinds[name] is TEMPORARY:
            assert incarnation == 1
        if self.rules.strategy is not Strategy.ONE_FOR_ONE:
            names = [m.name for m in self.state.members]
            for earlier in names[: names.index(name)]:
                member = self.state.member(earlier)
                assert member is not None
                assert member.phase in (Phase.RUNNING, Phase.DONE)

    def check_cancel(self, name: str) -> None:
        """In reverse: nobody behind it is on its way out any more."""
        if self.rules.strategy is not Strategy.ONE_FOR_ONE or self.state.mode is Mode.ENDING:
            names = [m.name for m in self.state.members]
            for later in self.state.members[names.index(name) + 1 :]:
                assert later.phase not in (Phase.DOOMED, Phase.STOPPING)

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.alive)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def child_starts(self, data: st.DataObject) -> None:
        name = self.pick(data)
        self.send(ChildStarted(name, self.alive[name], self.now_s))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), failed=st.booleans())
    def child_exits(self, data: st.DataObject, failed: bool) -> None:
        name = self.pick(data)
        self.send(ChildExited(name, self.alive.pop(name), failed, self.now_s))

    @precondition(lambda self: self.launched)
    @rule(data=st.data(), failed=st.booleans())
    def old_news_arrives(self, data: st.DataObject, failed: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.launched)))
        stale = self.launched[name] - (name in self.alive)
        before = self.state
        self.send(ChildExited(name, stale, failed, self.now_s))
        self.send(ChildStarted(name, stale, self.now_s))
        assert self.state == before

    @rule(kind=st.sampled_from(Restart), dynamic=st.booleans())
    def child_is_added(self, kind: Restart, dynamic: bool) -> None:
        name = f"d{self.added}"
        self.added += 1
        if self.state.mode is Mode.UP:
            self.kinds[name] = kind
        self.send(ChildAdded(name, kind, dynamic, self.now_s))

    @precondition(lambda self: self.kinds)
    @rule(data=st.data())
    def child_is_dismissed(self, data: st.DataObject) -> None:
        self.send(ChildDismissed(data.draw(st.sampled_from(sorted(self.kinds))), self.now_s))

    @rule()
    def timer_expires(self) -> None:
        if self.timer_s < math.inf:
            self.now_s = max(self.now_s, self.timer_s)
            self.timer_s = math.inf
            before = self.state
            self.send(TimePassed(self.now_s))
            assert self.state != before or before.mode is Mode.OVER  # no timer without a reason

    @rule(seconds=st.floats(0.1, 25.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.send(TimePassed(self.now_s))

    @rule()
    def shutdown_is_requested(self) -> None:
        self.send(ShutdownRequested(self.now_s))

    @invariant()
    def state_knows_who_lives(self) -> None:
        if hasattr(self, "state"):
            assert {m.name: m.incarnation for m in self.state.members if m.phase in ALIVE} == self.alive

    @invariant()
    def escalates_exactly_beyond_the_intensity(self) -> None:
        if not hasattr(self, "state"):
            return
        window = self.rules.intensity.period_s
        most = max(
            (sum(t - window < u <= t for u in self.counted[: i + 1]) for i, t in enumerate(self.counted)), default=0
        )
        assert (self.state.escalated is not None) == (most > self.rules.intensity.restarts)

    @invariant()
    def never_stuck(self) -> None:
        """Something lives, a timer runs, or nobody wants to run."""
        if hasattr(self, "state") and self.state.mode is not Mode.OVER and not self.alive and self.timer_s == math.inf:
            assert all(m.phase is Phase.DONE for m in self.state.members)
            assert self.state.mode is Mode.UP

    def teardown(self) -> None:
        """Whatever happened, a shutdown ends once every child has obeyed."""
        if not hasattr(self, "state"):
            return
        self.send(ShutdownRequested(self.now_s))
        while self.alive:
            obedient = sorted(n for n, i in self.alive.items() if (n, i) in self.cancelled)
            assert obedient
            self.send(ChildExited(obedient[0], self.alive.pop(obedient[0]), False, self.now_s))
        assert self.finish is not None
        assert self.state.mode is Mode.OVER


World.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_world = World.TestCase
