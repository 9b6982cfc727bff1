"""The outbox: whatever is lost, orphaned, delayed, killed or raced, an intention is executed once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.chain_outbox import (
    Answer,
    Answered,
    Attempt,
    Broadcast,
    Entry,
    GivenUp,
    Intent,
    Looked,
    Mined,
    Moved,
    Outbox,
    Policy,
    Price,
    Seen,
    Sign,
    Signed,
    SigningFailed,
    Wanted,
    Write,
    find,
    raise_price,
    restore,
    step,
    wanted_receipts,
)
from protocols.ids import Address
from protocols.record import decode, encode

WALLET = Address("0x" + "11" * 20)
MARKET = Price(1, 10)
POLICY = Policy(settle_blocks=4, bump_s=30.0, max_fee_wei=10_000, usurped_s=5.0)


@dataclass
class Net:
    """A chain that executes what it was told in order of nonces, and forgets what it orphans."""

    pool: dict[int, bytes] = field(default_factory=dict)
    blocks: list[list[tuple[int, bytes]]] = field(default_factory=lambda: [[]])
    base: int = 5

    @property
    def count(self) -> int:
        return sum(len(block) for block in self.blocks)

    def take(self, nonce: int, raw: bytes) -> Answer:
        if nonce < self.count:
            return Answer.TAKEN if raw in self.executed() else Answer.NONCE_USED
        if price_of(raw) < self.base:
            return Answer.PRICE_LOW
        held = self.pool.get(nonce)
        if held is not None and held != raw and price_of(raw) <= price_of(held):
            return Answer.NONCE_USED
        self.pool[nonce] = raw
        return Answer.TAKEN

    def mine(self) -> None:
        block: list[tuple[int, bytes]] = []
        while (nonce := self.count + len(block)) in self.pool and price_of(self.pool[nonce]) >= self.base:
            block.append((nonce, self.pool.pop(nonce)))
        self.blocks.append(block)

    def reorganise(self, depth: int) -> None:
        del self.blocks[max(1, len(self.blocks) - depth) :]

    def executed(self) -> list[bytes]:
        return [raw for block in self.blocks for _, raw in block]


def price_of(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "big")


@dataclass
class Node:
    """Performs the effects, keeps what it wrote, and can be killed after any of them."""

    net: Net
    state: Outbox = field(default_factory=lambda: Outbox(WALLET, POLICY))
    disk: dict[int, bytes] = field(default_factory=dict)
    now_s: float = 1.0
    word: str = "well"
    """How the next broadcast goes."""
    told: list[Any] = field(default_factory=list)
    kill_in: int | None = None
    signed: dict[int, bytes] = field(default_factory=dict)
    """Nonce to what its intent says."""

    def want(self, tag: bytes) -> None:
        self.take(Wanted(Intent(WALLET, tag, key=tag), 21_000, MARKET, self.net.count))

    def look(self, after_s: float = 1.0) -> None:
        self.now_s += after_s
        net, head = self.net, len(self.net.blocks) - 1
        wanted = wanted_receipts(self.state, head, net.count)
        where = {raw: number for number, block in enumerate(net.blocks) for _, raw in block}
        receipts = {h: Seen(where[h], True, 21_000, 1) for h in wanted if h in where}
        self.take(Looked(self.now_s, head, net.count, receipts, replace(MARKET, max_fee_wei=2 * net.base)))

    def take(self, event: Any) -> None:
        self.state, effects = step(self.state, event)
        for effect in effects:
            if self.kill_in is not None:
                self.kill_in -= 1
                if self.kill_in < 0:
                    self.restart()
                    return
            self.perform(effect)

    def perform(self, effect: Any) -> None:
        match effect:
            case Sign(nonce, intent, _, price):
                if self.word == "no signer":
                    self.take(SigningFailed(nonce, "no signer"))
                    return
                self.signed[nonce] = intent.data
                raw = price.max_fee_wei.to_bytes(8, "big") + nonce.to_bytes(8, "big") + intent.data
                self.take(Signed(nonce, Attempt(price, raw, raw), self.now_s))
            case Write(entries, forget):
                for entry in entries:
                    self.disk[entry.nonce] = encode(entry)
                for nonce in forget:
                    self.disk.pop(nonce, None)
            case Broadcast(nonce, attempt):
                assert any(attempt == a for a in self.stored(nonce).attempts), "recorded before it is sent"
                self.take(Answered(nonce, self.send(nonce, attempt.raw), "", MARKET, self.net.count))
            case Moved() | Mined() | GivenUp():
                self.told.append(effect)

    def send(self, nonce: int, raw: bytes) -> Answer:
        if self.word == "lost":
            return Answer.UNSURE
        if self.word == "poor":
            return Answer.REFUSED
        answer = self.net.take(nonce, raw)
        return Answer.UNSURE if self.word == "no answer" else answer

    def stored(self, nonce: int) -> Entry:
        entry = decode(Entry, self.disk[nonce], limit_bytes=1 << 20)
        assert isinstance(entry, Entry)
        return entry

    def restart(self) -> None:
        self.kill_in = None
        self.state = restore(WALLET, POLICY, tuple(self.stored(nonce) for nonce in sorted(self.disk)))

    def settle(self) -> None:
        """Everything works again for as long as it takes."""
        self.word, self.kill_in, self.net.base = "well", None, 5
        for _ in range(40):
            self.net.mine()
            self.look(31.0)


def count_executed(net: Net, tag: bytes) -> int:
    return sum(raw[16:] == tag for raw in net.executed())


def test_sent_mined_settled_forgotten() -> None:
    node = Node(Net())
    node.want(b"a")
    assert find(node.state, b"a") == 0
    node.net.mine()
    node.look()
    assert [type(told) for told in node.told] == [Mined]
    assert node.disk
    assert find(node.state, b"a") is None
    for _ in range(4):
        node.net.mine()
    node.look()
    assert not node.disk
    assert not node.state.entries


def test_an_orphan_is_sent_again() -> None:
    node = Node(Net())
    node.want(b"a")
    node.net.mine()
    node.look()
    node.net.reorganise(1)
    node.look()
    node.settle()
    assert count_executed(node.net, b"a") == 1


def test_a_stuck_transaction_pays_more() -> None:
    node = Node(Net(base=9))
    node.want(b"a")
    node.net.base = 40
    for _ in range(4):
        node.net.mine()
        node.look(31.0)
    assert count_executed(node.net, b"a") == 1
    assert price_of(node.net.executed()[0]) == 80


def test_a_fee_beyond_the_limit_is_not_signed() -> None:
    assert raise_price(Price(1, 9_000), MARKET, 10_000) is None
    node = Node(Net(base=9))
    node.want(b"a")
    node.net.base = 6_000
    for _ in range(3):
        node.look(31.0)
    assert len(node.state.entries[0].attempts) == 1


def test_a_refused_intent_in_the_middle_leaves_no_gap() -> None:
    node = Node(Net())
    node.word = "lost"
    node.want(b"a")
    state, effects = step(node.state, Wanted(Intent(WALLET, b"b"), 21_000, MARKET, 0))
    sign = effects[0]
    assert isinstance(sign, Sign)
    node.state = state
    node.word = "well"
    node.want(b"c")
    node.word = "poor"
    node.perform(sign)
    assert any(isinstance(told, GivenUp) and told.nonce == 1 for told in node.told)
    node.settle()
    assert [count_executed(node.net, tag) for tag in (b"a", b"b", b"c")] == [1, 0, 1]


def test_a_strangers_transaction_takes_the_nonce() -> None:
    node = Node(Net())
    node.net.take(0, (50).to_bytes(8, "big") + bytes(8) + b"stranger")
    node.net.mine()
    node.take(Wanted(Intent(WALLET, b"a"), 21_000, MARKET, 0))
    assert Moved(0, 1) in node.told
    node.settle()
    assert count_executed(node.net, b"a") == 1
    assert not node.disk


def test_a_gap_that_an_orphaned_stranger_left_is_filled() -> None:
    node = Node(Net())
    node.net.take(0, (50).to_bytes(8, "big") + bytes(8) + b"stranger")
    node.net.mine()
    node.want(b"a")
    node.net.reorganise(1)
    assert node.net.count == 0
    node.settle()
    assert count_executed(node.net, b"a") == 1
    assert node.net.count == 2
    assert not node.disk


TAGS = tuple(bytes([n]) for n in range(1, 6))
WORDS = st.sampled_from(["well", "well", "lost", "no answer", "no signer"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from(TAGS), WORDS),
        st.tuples(st.just("mine"), st.integers(1, 3), st.none()),
        st.tuples(st.just("reorganise"), st.integers(1, 3), st.none()),
        st.tuples(st.just("look"), st.sampled_from([1.0, 6.0, 31.0]), WORDS),
        st.tuples(st.just("kill"), st.integers(0, 4), st.none()),
        st.tuples(st.just("stranger"), st.none(), st.none()),
        st.tuples(st.just("base"), st.sampled_from([5, 9, 30, 200]), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_every_recorded_intention_is_executed_once(steps: list[tuple[str, Any, Any]]) -> None:
    node = Node(Net())
    wanted: set[bytes] = set()
    recorded: set[bytes] = set()
    for name, argument, word in steps:
        node.word = word or "well"
        match name:
            case "want" if argument not in wanted:
                wanted.add(argument)
                node.want(argument)
            case "mine":
                for _ in range(argument):
                    node.net.mine()
            case "reorganise":
                node.net.reorganise(argument)
            case "look":
                node.look(argument)
            case "kill":
                node.kill_in = argument
            case "stranger":
                node.net.take(node.net.count, (1).to_bytes(8, "big") + bytes(8) + b"stranger")
            case "base":
                node.net.base = argument
        recorded |= {node.stored(nonce).intent.data for nonce in node.disk}
    node.restart()
    node.settle()
    given_up = {node.signed.get(told.nonce) for told in node.told if isinstance(told, GivenUp)}
    for tag in wanted:
        executed = count_executed(node.net, tag)
        assert executed <= 1
        assert executed == 1 or tag not in recorded or tag in given_up
    assert not node.disk
