"""Following: whatever the chain replaces and whichever reads fail, what stands in the end is what the chain says."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.chain import Applied
from protocols.chain_follow import (
    Deliver,
    EventsRead,
    Failed,
    Follow,
    Head,
    HeaderRead,
    HeadSeen,
    Located,
    ReadEvents,
    ReadHeader,
    Withdraw,
    is_caught_up,
    step,
)
from protocols.ids import Address, JobId

JOB = JobId(b"j" * 32)


def applied(tag: int) -> Applied:
    return Applied(JOB, Address(f"0x{tag:040x}"))


@dataclass
class FakeChain:
    """Blocks with one event each; a reorganisation replaces the last ones."""

    blocks: list[tuple[Head, Applied]] = field(default_factory=list)
    made: int = 0

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            parent = self.blocks[-1][0].hash if self.blocks else b"genesis"
            number = len(self.blocks)
            self.blocks.append((Head(number, self.made.to_bytes(32, "big"), number, parent), applied(self.made)))

    def reorganise(self, depth: int, grown: int) -> None:
        del self.blocks[max(1, len(self.blocks) - depth) :]
        self.grow(grown)

    def header(self, number: int) -> Head | None:
        return self.blocks[number][0] if number < len(self.blocks) else None

    def events(self, first: int, last: int) -> tuple[Located, ...]:
        return tuple(Located(event, head.number) for head, event in self.blocks[first : last + 1])


@dataclass
class Reader:
    """Performs effects at once, and keeps what was delivered and not withdrawn."""

    chain: FakeChain
    state: Follow
    heard: list[Located] = field(default_factory=list)
    reads: int = 0

    def poll(self, disturb: list[str] | None = None) -> None:
        """One head; each read is disturbed by the next word: a failure, or a reorganisation in the middle of it."""
        self._take(HeadSeen(self.chain.blocks[-1][0]), disturb or [])

    def _take(self, event: object, disturb: list[str]) -> None:
        self.state, effects = step(self.state, event)  # type: ignore[arg-type]  # any of the union
        for effect in effects:
            match effect:
                case Withdraw(above):
                    self.heard = [located for located in self.heard if located.block <= above]
                case Deliver(events):
                    assert not self.heard or events[0].block > self.heard[-1].block
                    self.heard += events
                case ReadHeader() | ReadEvents():
                    self.reads += 1
                    self._take(self._answer(effect, disturb), disturb)

    def _answer(self, effect: ReadHeader | ReadEvents, disturb: list[str]) -> object:
        word = disturb.pop(0) if disturb else "well"
        if word == "fail":
            return Failed()
        if word == "replace":
            self.chain.reorganise(2, 3)
        if isinstance(effect, ReadHeader):
            return HeaderRead(effect.number, self.chain.header(effect.number))
        pinned = self.chain.header(effect.last)
        if pinned is None or pinned.hash != effect.pin:
            return Failed()
        return EventsRead(self.chain.events(effect.first, effect.last))


def make(blocks: int, confirmations: int = 0) -> Reader:
    chain = FakeChain()
    chain.grow(blocks)
    return Reader(chain, Follow(-1, confirmations))


def test_history_is_read_in_stretches() -> None:
    reader = make(4500)
    reader.poll()
    assert is_caught_up(reader.state)
    assert len(reader.heard) == 4500


def test_a_new_block_costs_one_read_and_an_old_one_none() -> None:
    reader = make(10)
    reader.poll()
    before = reader.reads
    reader.poll()
    assert reader.reads == before
    reader.chain.grow(1)
    reader.poll()
    assert reader.reads == before + 1


@pytest.mark.parametrize("depth", range(1, 13))
def test_a_reorganisation_withdraws_exactly_what_it_replaced(depth: int) -> None:
    reader = make(1)
    for _ in range(20):
        reader.chain.grow(1)
        reader.poll()
    kept = reader.heard[: 21 - depth]
    reader.chain.reorganise(depth, depth + 1)
    withdrawn: list[int] = []
    reader.state, effects = step(reader.state, HeadSeen(reader.chain.blocks[-1][0]))
    while effects:
        withdrawn += [effect.above for effect in effects if isinstance(effect, Withdraw)]
        read = effects[-1]
        if not isinstance(read, ReadHeader | ReadEvents):
            break
        reader.state, effects = step(reader.state, reader._answer(read, []))  # type: ignore[arg-type]
    assert withdrawn == [kept[-1].block]


def test_a_block_of_the_same_height_is_noticed() -> None:
    reader = make(5)
    reader.poll()
    reader.chain.reorganise(1, 1)
    reader.poll()
    assert reader.heard == list(reader.chain.events(0, 4))


def test_confirmed_blocks_are_not_withdrawn() -> None:
    reader = make(30, confirmations=6)
    reader.poll()
    assert [located.block for located in reader.heard] == list(range(24))
    reader.chain.reorganise(6, 7)
    before = list(reader.heard)
    reader.poll()
    assert reader.heard[:24] == before


def test_an_endpoint_that_lags_withdraws_nothing() -> None:
    reader = make(20)
    reader.poll()
    before = list(reader.heard)
    reader.state, effects = step(reader.state, HeadSeen(reader.chain.blocks[15][0]))
    assert not any(isinstance(effect, Withdraw) for effect in effects)
    reader.state, _ = step(reader.state, Failed())
    reader.poll()
    assert reader.heard == before


WORDS = st.lists(st.sampled_from(["well", "well", "fail", "replace"]), max_size=12)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 14), WORDS), max_size=12),
    st.integers(0, 4),
    st.integers(1, 30),
)
def test_what_stands_is_what_the_chain_says(
    changes: list[tuple[int, int, list[str]]], confirmations: int, blocks: int
) -> None:
    reader = make(blocks, confirmations)
    for depth, grown, words in changes:
        reader.chain.reorganise(depth, grown)
        reader.poll(list(words))
    reader.chain.grow(confirmations + 14)
    reader.poll()
    assert is_caught_up(reader.state)
    last = len(reader.chain.blocks) - 1 - confirmations
    assert reader.heard == list(reader.chain.events(0, last))
