"""Supervisor: runs children as trio tasks and does what `policy` decides.

The one rule: a child is stopped by its supervisor only. Each runs shielded in a scope of its own, so that a
cancelled program, too, stops in reverse order, and no error of a child is ever replaced by `Cancelled`.

Every happening is handled where it occurs, in one synchronous call: there is no queue between children and policy.
A supervisor may be a child of another (`Child("link", link.run, signals_started=True)`); its escalation is
that child's failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
import trio

from node.errors import Escalated, UserError
from node.supervision import policy
from node.supervision.policy import DEFAULT_RULES, Note, Restart, Rules, What

Report = Callable[[str, Note, Exception | None], None]
"""Hears (supervisor, note, the child's error)."""


class Readiness(Protocol):
    """What `signals_started` children get as `task_status`: trio's, as far as we use it."""

    def started(self) -> None: ...


# -- Children ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Child:
    """What to run and when to run it again. Data of the wiring's; every incarnation calls `run` anew."""

    name: str
    run: Callable[..., Awaitable[object]]
    """Takes no argument, or `task_status` where `signals_started`."""
    restart: Restart = Restart.PERMANENT
    signals_started: bool = False
    """It calls `task_status.started()` when it is ready; otherwise it counts as started at once."""


@dataclass(frozen=True, slots=True)
class ChildStatus:
    name: str
    phase: str
    incarnation: int
    """Number of times that it was launched in this run of its supervisor."""


@dataclass(frozen=True, slots=True)
class SupervisorStatistics:
    name: str
    children: tuple[ChildStatus, ...]
    failures: int
    """Since the program began."""


class ChildGone(Exception):
    """The child ended, or its supervisor did, before it had started."""


class ReturnedEarly(Exception):
    """A permanent child returned; stands for its error."""


def log_note(supervisor: str, note: Note, error: Exception | None) -> None:
    """Report to structlog, as `skynet.node.supervision`."""
    fields: dict[str, Any] = {"child": f"{supervisor}/{note.name}", "incarnation": note.incarnation}
    if note.delay_s is not None:
        fields |= {"restart_in_s": round(note.delay_s, 3), "failures": note.failures}
    if isinstance(error, UserError):
        fields["error"] = str(error)  # says it all; a traceback would bury it
    elif error is not None and note.what is not What.GAVE_UP:
        fields["exc_info"] = error
    log = structlog.get_logger("skynet.node.supervision")
    match note.what:
        case What.STARTED | What.STOPPED | What.DONE:
            log.debug(note.what.value, **fields)
        case What.FAILED | What.SLOW_TO_STOP:
            log.warning(note.what.value, **fields)
        case What.STOP_FAILED | What.GAVE_UP:
            log.error(note.what.value, **fields)


# -- The supervisor ------------------------------------------------------------


class Supervisor:
    """Keeps its children running. Children added at run time stay its children when it is restarted itself."""

    def __init__(
        self,
        name: str,
        children: Iterable[Child] = (),
        rules: Rules = DEFAULT_RULES,
        *,
        report: Report = log_note,
    ) -> None:
        self.name = name
        self._rules = rules
        self._report = report
        self._children: dict[str, Child] = {}
        self._dynamic: set[str] = set()
        self._failures = 0
        self._run: _Run | None = None
        for child in children:
            self._remember(child)

    async def run(self, *, task_status: Readiness = trio.TASK_STATUS_IGNORED) -> None:
        """Run until the last child is done (`finishes`), `stop`, cancellation or escalation.

        Signals started once every child has been up. Raises `Escalated` from the child's error, and what children
        raised while they were being stopped for good; a group where it is more than one.
        """
        if self._run is not None:
            raise RuntimeError(f"supervisor {self.name} runs already")
        self._run = _Run(self.name, self._rules, self._note, self._child_left)
        try:
            await self._run.to_its_end(self._children, frozenset(self._dynamic), task_status)
        finally:
            self._run = None
            for name in sorted(self._dynamic):
                if self._children[name].restart is Restart.TEMPORARY:
                    self._child_left(name)

    def start_child_nowait(self, child: Child) -> None:
        """Add a last child; ValueError if the name is taken. Before `run` it starts with the rest."""
        self._remember(child)
        self._dynamic.add(child.name)
        if self._run is not None:
            self._run.add(child)

    async def start_child(self, child: Child) -> None:
        """Add a last child and wait until it has started, restarts included.

        Raises `ChildGone` if it never does; its name is free then. A cancelled wait leaves the child where it is.
        """
        self.start_child_nowait(child)
        try:
            await self.wait_started(child.name)
        except ChildGone:
            self._child_left(child.name)
            raise

    async def wait_started(self, name: str) -> None:
        """Wait until the child has been up. `ChildGone` if it, or this supervisor, ends before."""
        if self._run is None:
            raise ChildGone(f"{self.name} does not run")
        await self._run.wait_started(name)

    def stop_child_nowait(self, name: str) -> None:
        """Stop and forget a child. No such child is no error: it may have ended by itself."""
        self._child_left(name)
        self._children.pop(name, None)
        if self._run is not None:
            self._run.handle(policy.ChildDismissed(name, trio.current_time()))

    async def stop_child(self, name: str) -> None:
        """Stop and forget a child and wait until it is gone. What it raises meanwhile is reported, not raised."""
        self.stop_child_nowait(name)
        if self._run is not None:
            await self._run.wait_gone(name)

    def stop(self) -> None:
        """End in order; `run` returns when all children have stopped."""
        if self._run is not None:
            self._run.handle(policy.ShutdownRequested(trio.current_time()))

    def statistics(self) -> SupervisorStatistics:
        members = self._run.state.members if self._run is not None else ()
        children = tuple(ChildStatus(m.name, m.phase.value, m.incarnation) for m in members)
        return SupervisorStatistics(self.name, children, self._failures)

    def _remember(self, child: Child) -> None:
        if child.name in self._children or (self._run is not None and self._run.state.member(child.name)):
            raise ValueError(f"supervisor {self.name} has a child named {child.name}")
        self._children[child.name] = child

    def _child_left(self, name: str) -> None:
        """A child of the wiring's own comes back with its supervisor; one of run time is over when it is over."""
        if name in self._dynamic:
            self._dynamic.remove(name)
            del self._children[name]

    def _note(self, note: Note, error: Exception | None) -> None:
        self._failures += note.what is What.FAILED
        self._report(self.name, note, error)


# -- One run of it -------------------------------------------------------------


@dataclass(slots=True)
class _Awaited:
    """Somebody waits for a child to be up, or gone."""

    happened: trio.Event = field(default_factory=trio.Event)
    up: bool = False


@dataclass(slots=True)
class _Started:
    """The `task_status` of one incarnation."""

    run: _Run
    name: str
    incarnation: int

    def started(self, value: object = None) -> None:
        self.run.handle(policy.ChildStarted(self.name, self.incarnation, trio.current_time()))


class _Run:
    """Performs the policy's effects, from begin to Finish."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        note: Callable[[Note, Exception | None], None],
        left: Callable[[str], None],
    ) -> None:
        self.state = policy.State(rules)
        self._name = name
        self._note = note
        self._left = left
        self._children: dict[str, Child] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._awaited: dict[str, _Awaited] = {}
        self._changed = trio.Event()
        self._timer_s = float("inf")
        self._cause: Exception | None = None
        self._stop_errors: list[Exception] = []
        self._nursery: trio.Nursery

    async def to_its_end(self, children: Mapping[str, Child], dynamic: frozenset[str], task_status: Readiness) -> None:
        self._children = dict(children)
        async with trio.open_nursery() as self._nursery:
            specs = tuple((c.name, c.restart, c.name in dynamic) for c in children.values())
            self.state, effects = policy.begin(self.state.rules, specs, trio.current_time())
            self._perform(effects, None)
            try:
                await self._attend(task_status)
            except BaseException as reason:  # Cancelled, as a rule; whatever it is, the children stop in order
                self.handle(policy.ShutdownRequested(trio.current_time()))
                with trio.CancelScope(shield=True):
                    await self._attend(trio.TASK_STATUS_IGNORED)
                if errors := self._errors():
                    raise BaseExceptionGroup(f"{self._name} while it was stopped", [reason, *errors]) from None
                raise
        match self._errors():
            case []:
                return
            case [error]:
                raise error
            case errors:
                raise ExceptionGroup(f"{self._name} ended", errors)

    def add(self, child: Child) -> None:
        self._children[child.name] = child
        self.handle(policy.ChildAdded(child.name, child.restart, True, trio.current_time()))

    def handle(self, event: policy.Event, error: Exception | None = None) -> None:
        """Step and do what follows, at once. Notes come last: whoever hears them may call us again."""
        self.state, effects = policy.step(self.state, event)
        self._perform(effects, error)

    async def wait_started(self, name: str) -> None:
        member = self.state.member(name)
        if member is not None and member.has_been_up:
            return
        if member is not None and self.state.mode is policy.Mode.UP:
            awaited = self._awaited.setdefault(name, _Awaited())
            await awaited.happened.wait()
            if awaited.up:
                return
        raise ChildGone(f"{self._name}/{name} ended before it had started")

    async def wait_gone(self, name: str) -> None:
        while self.state.member(name) is not None and self.state.mode is not policy.Mode.OVER:
            await self._changed.wait()

    # -- Tasks

    async def _attend(self, task_status: Readiness) -> None:
        """Keep the policy's time until it is over."""
        announced = False
        while self.state.mode is not policy.Mode.OVER:
            if not announced and policy.is_up(self.state):
                announced = True
                task_status.started()
            changed = self._changed
            with trio.CancelScope(deadline=self._timer_s):
                await changed.wait()
            if not changed.is_set():
                self.handle(policy.TimePassed(trio.current_time()))

    async def _incarnation(self, child: Child, number: int, scope: trio.CancelScope) -> None:
        error: Exception | None = None
        status = _Started(self, child.name, number)
        try:
            with scope:
                if child.signals_started:
                    await child.run(task_status=status)
                else:
                    status.started()
                    await child.run()
            if child.restart is Restart.PERMANENT and not scope.cancelled_caught:
                error = ReturnedEarly(f"{self._name}/{child.name} returned, but it is permanent")
        except Exception as caught:  # noqa: BLE001 - the one place that may: the policy decides what follows
            error = caught
        except BaseException:
            # Ctrl-C or a bug deeper than any policy; the nursery takes it, but nobody may wait for this child.
            self._exited(child.name, number, None)
            raise
        self._exited(child.name, number, error)

    def _exited(self, name: str, number: int, error: Exception | None) -> None:
        self.handle(policy.ChildExited(name, number, error is not None, trio.current_time()), error)

    # -- Effects

    def _perform(self, effects: policy.Effects, error: Exception | None) -> None:
        notes: list[Note] = []
        for effect in effects:
            match effect:
                case policy.Launch(name, incarnation):
                    self._launch(self._children[name], incarnation)
                case policy.Cancel(name):
                    self._scopes[name].cancel()
                case policy.Forget(name):
                    del self._children[name]
                    self._scopes.pop(name, None)
                    self._tell(name, up=False)
                    self._left(name)
                case policy.SetTimer(at_s):
                    self._timer_s = at_s
                case policy.Finish():
                    for name in list(self._awaited):
                        self._tell(name, up=False)
                case Note():
                    notes.append(effect)
        self._changed.set()
        self._changed = trio.Event()
        for note in notes:
            self._hear(note, error)

    def _launch(self, child: Child, incarnation: int) -> None:
        scope = self._scopes[child.name] = trio.CancelScope(shield=True)
        task = f"{self._name}/{child.name} #{incarnation}"
        self._nursery.start_soon(self._incarnation, child, incarnation, scope, name=task)

    def _hear(self, note: Note, error: Exception | None) -> None:
        match note.what:
            case What.STARTED:
                self._tell(note.name, up=True)
            case What.GAVE_UP:
                self._cause = error
            case What.STOP_FAILED if error is not None and self.state.mode is not policy.Mode.UP:
                self._stop_errors.append(error)
        self._note(note, error)

    def _tell(self, name: str, *, up: bool) -> None:
        if awaited := self._awaited.pop(name, None):
            awaited.up = up
            awaited.happened.set()

    def _errors(self) -> list[Exception]:
        """What this run has to raise: the escalation first."""
        if self.state.escalated is None:
            return self._stop_errors
        intensity = self.state.rules.intensity
        escalated = Escalated(self._name, self.state.escalated, len(self.state.failures_s), intensity.period_s)
        escalated.__cause__ = self._cause
        return [escalated, *self._stop_errors]
