"""The trio shell: real tasks under a clock that jumps; crash storms, escalation, orderly ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from node.errors import ConfigError, Escalated
from node.supervision.policy import Backoff, Intensity, Note, Restart, Rules, Strategy, What
from node.supervision.supervisor import Child, ChildGone, Readiness, ReturnedEarly, Supervisor

RULES = Rules(Strategy.ONE_FOR_ONE, Intensity(3, 30.0), Backoff(1.0, 2.0, 8.0))


class Boom(Exception):
    pass


class Diary:
    """Writes down what children did, in order, and what the supervisor reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[tuple[str, Note, Exception | None]] = []

    def report(self, supervisor: str, note: Note, error: Exception | None) -> None:
        self.notes.append((supervisor, note, error))

    def errors(self, what: What) -> list[Exception | None]:
        return [error for _, note, error in self.notes if note.what is what]

    def forever(self, name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.lines.append(f"+{name}")
            try:
                await trio.sleep_forever()
            finally:
                self.lines.append(f"-{name}")

        return run

    def falling(self, name: str, *, after_s: float = 1.0, times: int = 10**9) -> Callable[[], Awaitable[None]]:
        left = times

        async def run() -> None:
            nonlocal left
            self.lines.append(f"+{name}")
            if left:
                left -= 1
                await trio.sleep(after_s)
                self.lines.append(f"!{name}")
                raise Boom(name)
            try:
                await trio.sleep_forever()
            finally:
                self.lines.append(f"-{name}")

        return run


@pytest.fixture
def diary() -> Iterator[Diary]:
    return Diary()


async def test_a_child_that_falls_comes_back(autojump_clock: MockClock, diary: Diary) -> None:
    root = Supervisor("root", [Child("a", diary.falling("a", times=2))], RULES, report=diary.report)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(60)
        assert diary.lines == ["+a", "!a", "+a", "!a", "+a"]
        assert trio.current_time() == 60
        assert root.statistics().failures == 2
        assert root.statistics().children[0].incarnation == 3
        root.stop()
    assert [note.delay_s for _, note, _ in diary.notes if note.what is What.FAILED] == [1.0, 2.0]


async def test_groups_stop_in_reverse_and_start_in_order(autojump_clock: MockClock, diary: Diary) -> None:
    children = [
        Child("a", diary.forever("a")),
        Child("b", diary.falling("b", times=1)),
        Child("c", diary.forever("c")),
        Child("d", diary.forever("d")),
    ]
    rules = replace(RULES, strategy=Strategy.REST_FOR_ONE)
    root = Supervisor("root", children, rules, report=diary.report)
    with trio.move_on_after(50):
        await root.run()
    assert diary.lines == ["+a", "+b", "+c", "+d", "!b", "-d", "-c", "+b", "+c", "+d", "-d", "-c", "-b", "-a"]


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_crash_storm_escalates_and_leaves_nobody(
    autojump_clock: MockClock, diary: Diary, strategy: Strategy
) -> None:
    """Everything falls all the time, some while being stopped, until the root gives up with a cause."""

    async def bad_loser() -> None:
        try:
            await trio.sleep(0.9)
            raise Boom("early")
        except trio.Cancelled:
            raise Boom("while stopping") from None

    children = [
        Child("at-once", diary.falling("at-once", after_s=0)),
        Child("late", diary.falling("late", after_s=0.9)),
        Child("loser", bad_loser),
        Child("steady", diary.forever("steady")),
    ]
    rules = Rules(strategy, Intensity(20, 100.0), Backoff(1.0, 2.0, 2.0))
    root = Supervisor("root", children, rules, report=diary.report)
    with pytest.raises((Escalated, ExceptionGroup)) as caught:
        await root.run()
    errors = list(caught.value.exceptions) if isinstance(caught.value, ExceptionGroup) else [caught.value]
    assert isinstance(errors[0], Escalated)
    assert isinstance(errors[0].__cause__, Boom)
    assert all(isinstance(e, Boom) for e in errors[1:])
    assert diary.lines.count("+steady") == diary.lines.count("-steady")
    failed = [note for _, note, _ in diary.notes if note.what is What.FAILED]
    assert len(failed) == 21


async def test_a_crash_at_start_is_retried_and_holds_the_rest_back(autojump_clock: MockClock, diary: Diary) -> None:
    attempts = 0

    async def slow_starter(task_status: Readiness) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Boom("not yet")
        await trio.sleep(5)
        diary.lines.append("ready")
        task_status.started()
        await trio.sleep_forever()

    children = [Child("slow", slow_starter, signals_started=True), Child("next", diary.forever("next"))]
    root = Supervisor("root", children, replace(RULES, strategy=Strategy.REST_FOR_ONE), report=diary.report)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert trio.current_time() == 1 + 2 + 5
        await wait_all_tasks_blocked()
        assert diary.lines == ["ready", "+next"]
        root.stop()


async def test_a_child_that_never_starts_escalates(autojump_clock: MockClock) -> None:
    async def dead(task_status: Readiness) -> None:
        raise Boom("no port")

    async def ask() -> None:
        await wait_all_tasks_blocked()
        with pytest.raises(ChildGone):
            await root.wait_started("dead")

    root = Supervisor("root", [Child("dead", dead, signals_started=True)], RULES, report=lambda *_: None)
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group comes out of the nursery
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await root.run()
    escalated = _only(caught.value)
    assert str(escalated) == "root: dead failed, 4 failures here within 30 s"
    assert isinstance(escalated.__cause__, Boom)


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


async def test_a_crash_while_stopping_is_not_lost(autojump_clock: MockClock, diary: Diary) -> None:
    async def loser() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("on the way out")

    children = [Child("a", diary.forever("a")), Child("loser", loser), Child("c", diary.forever("c"))]
    root = Supervisor("root", children, RULES, report=diary.report)
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group comes out of the nursery
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            root.stop()
    assert str(_only(caught.value)) == "on the way out"
    assert diary.lines == ["+a", "+c", "-c", "-a"]


async def test_real_errors_are_never_replaced_by_cancelled(autojump_clock: MockClock) -> None:
    """Sixty times: two children fall in the same instant as the whole program is cancelled."""
    for _ in range(60):
        seen: list[Exception | None] = []

        async def fall() -> None:
            await trio.sleep(1)
            raise Boom

        async def fall_when_stopped() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("stopped")

        def hear(_: str, note: Note, error: Exception | None, seen: list[Exception | None] = seen) -> None:
            if note.what in (What.FAILED, What.STOP_FAILED):
                seen.append(error)

        children = [Child("a", fall), Child("b", fall), Child("c", fall_when_stopped)]
        root = Supervisor("root", children, RULES, report=hear)
        with pytest.raises(BaseExceptionGroup) as caught, trio.move_on_after(1):
            await root.run()
        match, rest = caught.value.split(Boom)
        assert match is not None
        assert rest is None
        assert len(seen) == 3
        assert all(isinstance(e, Boom) for e in seen)


async def test_cancellation_is_orderly_and_clean(autojump_clock: MockClock, diary: Diary) -> None:
    async def slow_to_leave() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(7)
            diary.lines.append("-slow")

    children = [Child("a", diary.forever("a")), Child("slow", slow_to_leave), Child("c", diary.forever("c"))]
    root = Supervisor("root", children, RULES, report=diary.report)
    with trio.move_on_after(10) as scope:
        await root.run()
    assert scope.cancelled_caught
    assert diary.lines == ["+a", "+c", "-c", "-slow", "-a"]
    assert trio.current_time() == 17
    assert [n.name for _, n, _ in diary.notes if n.what is What.SLOW_TO_STOP] == ["slow"]


async def test_child_types(autojump_clock: MockClock, diary: Diary) -> None:
    async def returns() -> None:
        await trio.sleep(1)

    children = [
        Child("transient", returns, Restart.TRANSIENT),
        Child("temporary", diary.falling("temporary"), Restart.TEMPORARY),
        Child("permanent", returns),
    ]
    root = Supervisor("root", children, RULES, report=diary.report)
    with pytest.raises(Escalated) as caught:
        await root.run()
    assert caught.value.child == "permanent"
    assert isinstance(caught.value.__cause__, ReturnedEarly)
    launches = {
        name: sum(n.what is What.STARTED and n.name == name for _, n, _ in diary.notes)
        for name in ("transient", "temporary", "permanent")
    }
    assert launches == {"transient": 1, "temporary": 1, "permanent": 4}


async def test_finishes_when_the_last_child_is_done(autojump_clock: MockClock) -> None:
    root = Supervisor(
        "job", [Child(n, partial(trio.sleep, 3), Restart.TRANSIENT) for n in "abc"], replace(RULES, finishes=True)
    )
    await root.run()
    assert trio.current_time() == 3


# -- Nesting -------------------------------------------------------------------


async def test_escalation_climbs_to_the_root_and_out_of_it(autojump_clock: MockClock, diary: Diary) -> None:
    tight = replace(RULES, intensity=Intensity(1, 30.0))
    leaf = Supervisor("leaf", [Child("a", diary.falling("a"))], tight, report=diary.report)
    middle = Supervisor("middle", [Child("leaf", leaf.run, signals_started=True)], tight, report=diary.report)
    children = [Child("first", diary.forever("first")), Child("middle", middle.run, signals_started=True)]
    root = Supervisor("root", children, tight, report=diary.report)
    with pytest.raises(Escalated) as caught:
        await root.run()
    chain: list[object] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error.supervisor if isinstance(error, Escalated) else type(error))
        error = error.__cause__
    assert chain == ["root", "middle", "leaf", Boom]
    assert diary.lines.count("+a") == 2**3
    assert diary.lines[-1] == "-first"


async def test_a_nested_supervisor_signals_started_when_all_of_it_has(autojump_clock: MockClock) -> None:
    async def slow(task_status: Readiness) -> None:
        await trio.sleep(4)
        task_status.started()
        await trio.sleep_forever()

    inner = Supervisor("inner", [Child("slow", slow, signals_started=True)], RULES)
    root = Supervisor("root", [Child("inner", inner.run, signals_started=True)], RULES)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert trio.current_time() == 4
        nursery.cancel_scope.cancel()


async def test_a_restarted_supervisor_brings_its_dynamic_children_back(autojump_clock: MockClock, diary: Diary) -> None:
    work = Supervisor("work", [], RULES, report=diary.report)
    rules = replace(RULES, strategy=Strategy.REST_FOR_ONE)
    children = [
        Child("chain", diary.falling("chain", after_s=10, times=1)),
        Child("work", work.run, signals_started=True),
    ]
    root = Supervisor("root", children, rules, report=diary.report)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await work.start_child(Child("job", diary.forever("job"), Restart.TRANSIENT))
        await work.start_child(Child("brief", diary.forever("brief"), Restart.TEMPORARY))
        await trio.sleep(20)
        assert diary.lines == ["+chain", "+job", "+brief", "!chain", "-brief", "-job", "+chain", "+job"]
        nursery.cancel_scope.cancel()


# -- Children at run time ------------------------------------------------------


async def test_children_come_and_go_at_run_time(autojump_clock: MockClock, diary: Diary) -> None:
    work = Supervisor("work", [], RULES, report=diary.report)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        for name in "xyz":
            await work.start_child(Child(name, diary.forever(name), Restart.TRANSIENT))
        with pytest.raises(ValueError, match="has a child named x"):
            work.start_child_nowait(Child("x", diary.forever("x")))
        await work.stop_child("y")
        assert diary.lines == ["+x", "+y", "+z", "-y"]
        await work.stop_child("y")
        await work.start_child(Child("y", diary.forever("y")))
        assert [c.name for c in work.statistics().children] == ["x", "z", "y"]
        work.stop()
    assert diary.lines[4:] == ["+y", "-y", "-z", "-x"]


async def test_start_child_of_one_that_never_starts(autojump_clock: MockClock) -> None:
    async def dead(task_status: Readiness) -> None:
        raise Boom

    work = Supervisor("work", [], RULES, report=lambda *_: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        with pytest.raises(ChildGone):
            await work.start_child(Child("dead", dead, Restart.TEMPORARY, signals_started=True))
        await work.start_child(Child("dead", trio.sleep_forever))  # the name is free again
        nursery.cancel_scope.cancel()


async def test_start_child_of_a_supervisor_that_ends_or_does_not_run(autojump_clock: MockClock, diary: Diary) -> None:
    async def slow(task_status: Readiness) -> None:
        await trio.sleep_forever()

    work = Supervisor("work", [], RULES, report=diary.report)
    child = Child("slow", slow, Restart.TRANSIENT, signals_started=True)
    with pytest.raises(ChildGone):
        await work.start_child(child)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        nursery.start_soon(_stop_after, work, 1.0)
        with pytest.raises(ChildGone):
            await work.start_child(child)
    work.start_child_nowait(Child("slow", diary.forever("slow"), Restart.TRANSIENT))  # the name is free
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        work.stop()
    assert diary.lines == ["+slow", "-slow"]


async def _stop_after(supervisor: Supervisor, seconds: float) -> None:
    await trio.sleep(seconds)
    supervisor.stop()


async def test_a_child_that_has_ended_leaves_no_trace(autojump_clock: MockClock) -> None:
    work = Supervisor("work", [], RULES)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        for i in range(20):
            await work.start_child(Child(f"job-{i}", partial(trio.sleep, 1), Restart.TRANSIENT))
        await trio.sleep(2)
        assert work.statistics().children == ()
        nursery.cancel_scope.cancel()


async def test_a_child_may_stop_itself_and_start_others(autojump_clock: MockClock, diary: Diary) -> None:
    work = Supervisor("work", [], RULES, report=diary.report)

    async def breeder() -> None:
        await work.start_child(Child("young", diary.forever("young"), Restart.TRANSIENT))
        await work.stop_child("breeder")

    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        await work.start_child(Child("breeder", breeder))
        await trio.sleep(1)
        assert [c.name for c in work.statistics().children] == ["young"]
        nursery.cancel_scope.cancel()


async def test_whoever_hears_a_note_may_act_on_it(autojump_clock: MockClock) -> None:
    work: Supervisor

    def replace_it(_: str, note: Note, error: Exception | None) -> None:
        if note.what is What.FAILED and note.name == "fragile":
            work.stop_child_nowait("fragile")
            work.start_child_nowait(Child("sturdy", trio.sleep_forever))

    async def fragile() -> None:
        raise Boom

    work = Supervisor("work", [Child("fragile", fragile)], RULES, report=replace_it)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work.run)
        await trio.sleep(100)
        assert [c.name for c in work.statistics().children] == ["sturdy"]
        nursery.cancel_scope.cancel()


# -- Logs ----------------------------------------------------------------------


async def test_what_happens_is_logged(autojump_clock: MockClock) -> None:
    faults = iter([ConfigError("node.toml", "is wrong", "mend it"), Boom("inner")])

    async def fragile() -> None:
        raise next(faults)

    rules = replace(RULES, intensity=Intensity(1, 30.0))
    with structlog.testing.capture_logs() as logs, pytest.raises(Escalated):
        await Supervisor("root", [Child("a", fragile)], rules).run()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("child_started", "debug"),
        ("child_failed", "warning"),
        ("child_started", "debug"),
        ("child_failed", "warning"),
        ("supervisor_gave_up", "error"),
    ]
    assert logs[1]["error"] == "node.toml: is wrong; mend it"
    assert logs[1]["restart_in_s"] == 1.0
    assert isinstance(logs[3]["exc_info"], Boom)
    assert all(line["child"] == "root/a" for line in logs)


# -- Deeper faults -------------------------------------------------------------


def test_ctrl_c_in_a_child_ends_everything_in_order() -> None:
    lines: list[str] = []

    async def interrupted() -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    async def steady() -> None:
        try:
            await trio.sleep_forever()
        finally:
            lines.append("-steady")

    root = Supervisor("root", [Child("steady", steady), Child("i", interrupted)], RULES, report=lambda *_: None)
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(root.run, clock=MockClock(autojump_threshold=0))
    assert isinstance(_only(caught.value), KeyboardInterrupt)
    assert lines == ["-steady"]


async def test_one_run_at_a_time(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [Child("a", trio.sleep_forever)], RULES)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(RuntimeError, match="runs already"):
            await root.run()
        nursery.cancel_scope.cancel()
