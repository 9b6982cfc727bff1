"""Following a chain that may change its mind: heads in, events in order out, and back where blocks were replaced.

    IDLE --head--> PINNING -> ALIGNING -> READING -> IDLE
                        \\ our last mark is gone: WALKING back to one that is not, Withdraw

The one rule: events are delivered only from blocks that descend from the last mark. A mark is the number and hash
of a block that was read up to; what lies above a mark that the chain no longer has is withdrawn before anything else.

Every read may fail (`Failed`), which abandons the attempt: the next head begins another from the same marks.
Spec: protocols/README.md, "Chain".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.chain import ChainEvent

BLOCKS_AT_ONCE = 2000  # what public RPC endpoints commonly allow in one eth_getLogs
MARKS = 256  # deeper reorganisations read everything again: correct, and slow

# -- What is read ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """A block's header, as far as it matters here."""

    number: int
    hash: bytes
    timestamp_s: int
    parent: bytes = b""
    """Hash of the block before; empty if unknown."""


@dataclass(frozen=True, slots=True)
class Located:
    """An event and the block that it is in."""

    event: ChainEvent
    block: int


# -- Events and effects ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeadSeen:
    head: Head


@dataclass(frozen=True, slots=True)
class HeaderRead:
    number: int
    header: Head | None
    """None: the endpoint has no such block (yet)."""


@dataclass(frozen=True, slots=True)
class EventsRead:
    """Every event of the range that was asked for, in order, while its last block was the chain's."""

    events: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The last effect could not be performed."""


Event = HeadSeen | HeaderRead | EventsRead | Failed


@dataclass(frozen=True, slots=True)
class ReadHeader:
    number: int


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Answer `EventsRead` only if block `last` has the hash `pin` before and after."""

    first: int
    last: int
    pin: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    events: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """What was delivered from blocks above did not happen."""

    above: int


Effect = ReadHeader | ReadEvents | Deliver | Withdraw
"""At most one read, and it comes last: its answer is the next event."""

# -- State -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Pinning:
    """Which block is at `number` now?"""

    number: int


@dataclass(frozen=True, slots=True)
class Aligning:
    """Is our last mark still the chain's? `pin` is where to read to; None: nowhere, there is nothing new."""

    mark: Mark
    pin: Head | None


@dataclass(frozen=True, slots=True)
class Reading:
    pin: Head


@dataclass(frozen=True, slots=True)
class Walking:
    """Looking for the newest mark that the chain still has, among the first `kept`."""

    kept: int


@dataclass(frozen=True, slots=True)
class Follow:
    floor: int
    """Number of the block before the first that is read."""
    confirmations: int = 0
    """Blocks on top before a block is read."""
    stretch: int = BLOCKS_AT_ONCE
    """Most blocks that one read covers."""
    marks: tuple[Mark, ...] = ()
    head: Head | None = None
    """That this attempt reads to."""
    done: bytes = b""
    """Hash of the last head that was read to."""
    stage: Pinning | Aligning | Reading | Walking | None = None

    @property
    def read_to(self) -> int:
        """Number of the last block that was read."""
        return self.marks[-1].number if self.marks else self.floor

    @property
    def is_idle(self) -> bool:
        return self.stage is None


Step = tuple[Follow, tuple[Effect, ...]]


def is_caught_up(state: Follow) -> bool:
    """Whether the last head, less its confirmations, has been read."""
    return state.is_idle and state.head is not None and state.done == state.head.hash


# -- Transition ------------------------------------------------------------------


def step(state: Follow, event: Event) -> Step:
    match event, state.stage:
        case HeadSeen(head), None:
            if head.hash == state.done:
                return replace(state, head=head), ()
            return _advance(replace(state, head=head))
        case HeaderRead(number, Head() as header), Pinning(wanted) if number == wanted:
            return _align(state, header)
        case HeaderRead(number, Head() as header), Aligning(mark, pin) if number == mark.number:
            if header.hash != mark.hash:
                return _walk(state, state.marks.index(mark))
            return _finish(state) if pin is None else _read(state, pin)
        case HeaderRead(_, Head() as header), Walking(kept):
            if header.hash == state.marks[kept - 1].hash:
                return _withdraw(state, kept)
            return _walk(state, kept - 1)
        case EventsRead(events), Reading(pin):
            marks = (*state.marks, Mark(pin.number, pin.hash))[-MARKS:]
            after, effects = _advance(replace(state, marks=marks))
            return after, (Deliver(events), *effects) if events else effects
        case HeadSeen(), _:
            return state, ()  # one attempt at a time
        case _:
            return replace(state, stage=None), ()


def _advance(state: Follow) -> Step:
    """Take the next stretch towards the head, or check that the chain still has what we read."""
    assert state.head is not None
    target = state.head.number - state.confirmations
    if target > state.read_to:
        last = min(state.read_to + state.stretch, target)
        if last == state.head.number:
            return _align(state, state.head)
        return replace(state, stage=Pinning(last)), (ReadHeader(last),)
    known = [mark for mark in state.marks if mark.number <= state.head.number]
    if not known:
        return _finish(state)
    if known[-1] == Mark(state.head.number, state.head.hash):
        return _finish(state)
    if known[-1].number == state.head.number:
        return _walk(state, len(known) - 1)
    # The last block that we read, or, of an endpoint that lags, one that it has too.
    return replace(state, stage=Aligning(known[-1], None)), (ReadHeader(known[-1].number),)


def _align(state: Follow, pin: Head) -> Step:
    """Read up to `pin` if it descends from our last mark."""
    if not state.marks:
        return _read(state, pin)
    mark = state.marks[-1]
    if pin.number == mark.number + 1 and pin.parent:
        return _read(state, pin) if pin.parent == mark.hash else _walk(state, len(state.marks) - 1)
    return replace(state, stage=Aligning(mark, pin)), (ReadHeader(mark.number),)


def _read(state: Follow, pin: Head) -> Step:
    return replace(state, stage=Reading(pin)), (ReadEvents(state.read_to + 1, pin.number, pin.hash),)


def _walk(state: Follow, kept: int) -> Step:
    if kept == 0:
        return _withdraw(state, 0)
    return replace(state, stage=Walking(kept)), (ReadHeader(state.marks[kept - 1].number),)


def _withdraw(state: Follow, kept: int) -> Step:
    state = replace(state, marks=state.marks[:kept], done=b"")
    after, effects = _advance(state)
    return after, (Withdraw(state.read_to), *effects)


def _finish(state: Follow) -> Step:
    assert state.head is not None
    return replace(state, stage=None, done=state.head.hash), ()
