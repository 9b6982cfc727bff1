"""One wallet's transactions, from the intention to a block that stays: nonces, higher fees, what a restart finds.

    wanted -> SIGNED, recorded -> SENT -> MINED --settled--> forgotten
                                   |  \\--too slow--> signed anew with a higher fee, recorded, sent
                                   |---orphaned by a reorganisation: sent again
                                   \\---its nonce went to a stranger's transaction: a new nonce, recorded, sent

The one rule: an attempt is recorded before it is sent, and an intention changes its nonce only when no attempt of
it can be mined any more. So a restart loses none, and at most one attempt of an intention is ever executed.
Spec: protocols/README.md, "Chain".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from protocols.ids import Address

# -- Values ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Intent:
    """What to execute; None for `to` creates a contract."""

    to: Address | None
    data: bytes
    value_wei: int = 0
    key: bytes = b""
    """Two intents of one key that is not empty are the same while the first is not mined."""


@dataclass(frozen=True, slots=True)
class Price:
    """Wei per gas."""

    tip_wei: int
    max_fee_wei: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction of an intent."""

    price: Price
    raw: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """Kind `transaction`, key wallet on its chain ‖ nonce."""

    nonce: int
    intent: Intent
    gas: int
    attempts: tuple[Attempt, ...] = ()
    """In the order of their signing; any of them may be the one that is mined."""
    block: int | None = None
    """That it was seen in."""
    sent_s: float = 0.0
    doubtful: bool = False
    """An attempt may have reached an endpoint: the nonce is not ours to give away."""
    missing_s: float | None = None
    """Since when the nonce is used up and no attempt has a receipt."""
    refused: bool = False
    """The last answer was no, for a reason that a higher fee does not mend: an empty wallet, say."""
    filler: bool = False
    """The intent was refused; what remains closes the gap that its nonce would leave."""
    replaces: int | None = None
    """The nonce that this intent had before, until this entry is recorded."""


@dataclass(frozen=True, slots=True)
class Policy:
    settle_blocks: int = 32
    """Blocks on top of a mined transaction before it is forgotten; a deeper reorganisation loses it."""
    bump_s: float = 30.0
    """A dozen blocks: either it was lost or it pays too little."""
    max_fee_wei: int = 10**15
    """Most per gas, tip included."""
    usurped_s: float = 10.0
    """How long a nonce must be used up without a receipt of ours: an endpoint's backends lag behind each other."""


# -- Events and effects ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    intent: Intent
    gas: int
    price: Price
    pending: int
    """The wallet's next nonce, as the chain sees it."""


@dataclass(frozen=True, slots=True)
class Signed:
    nonce: int
    attempt: Attempt
    now_s: float


@dataclass(frozen=True, slots=True)
class SigningFailed:
    nonce: int
    reason: str


class Answer(Enum):
    """What the endpoints said to an attempt."""

    TAKEN = "taken"
    UNSURE = "unsure"
    """No answer: it may have arrived."""
    NONCE_USED = "nonce used"
    """Another transaction has the nonce, in a block or waiting."""
    PRICE_LOW = "price low"
    REFUSED = "refused"
    """For good: the wallet can't pay, or the transaction is invalid."""


@dataclass(frozen=True, slots=True)
class Answered:
    nonce: int
    answer: Answer
    reason: str
    price: Price
    """The market's, now."""
    pending: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A receipt."""

    block: int
    succeeded: bool
    gas_used: int
    cost_wei: int
    """Of gas; without the value."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The chain as of its head; `receipts` holds those of `wanted_receipts` that exist."""

    now_s: float
    head: int
    count: int
    """Nonces used up in blocks."""
    receipts: Mapping[bytes, Seen]
    price: Price


Event = Wanted | Signed | SigningFailed | Answered | Looked


@dataclass(frozen=True, slots=True)
class Sign:
    nonce: int
    intent: Intent
    gas: int
    price: Price


@dataclass(frozen=True, slots=True)
class Write:
    """To the disk, all or nothing, before the effects that follow."""

    entries: tuple[Entry, ...] = ()
    forget: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Broadcast:
    nonce: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Moved:
    """The intent has another nonce now: whoever waits for it waits for that."""

    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Mined:
    nonce: int
    hash: bytes
    seen: Seen


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Not executed, and it won't be."""

    nonce: int
    reason: str


Effect = Sign | Write | Broadcast | Moved | Mined | GivenUp

# -- State -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outbox:
    wallet: Address
    policy: Policy = field(default_factory=Policy)
    entries: Mapping[int, Entry] = field(default_factory=dict)
    next_nonce: int = 0
    """Least that we have not given to an intent; the chain may be ahead."""
    gap_s: float | None = None
    """Since when nonces below our first are used by nobody: a stranger's transaction was orphaned."""


Step = tuple[Outbox, tuple[Effect, ...]]

FILLER_GAS = 100_000  # 21,000, and on some rollups the parent chain's share


def restore(wallet: Address, policy: Policy, entries: tuple[Entry, ...]) -> Outbox:
    """What the disk has: each entry may have been sent before the kill, so none gives its nonce away."""
    kept = {entry.nonce: replace(entry, doubtful=True, sent_s=0.0, missing_s=None) for entry in entries}
    return Outbox(wallet, policy, kept, max(kept, default=-1) + 1)


def find(state: Outbox, key: bytes) -> int | None:
    """Return the nonce of an intent of this key that is under way."""
    found = (n for n, e in state.entries.items() if e.intent.key == key and e.block is None and not e.filler)
    return next(found, None) if key else None


def wanted_receipts(state: Outbox, head: int, count: int) -> tuple[bytes, ...]:
    """Hashes to look up before `Looked`: of what should be mined and was not seen, or is to be forgotten."""
    due = (e for e in state.entries.values() if e.nonce < count and (e.block is None or _is_settled(state, e, head)))
    return tuple(attempt.hash for entry in due for attempt in entry.attempts)


def raise_price(last: Price, market: Price, most_wei: int) -> Price | None:
    """An eighth more than before, which every client takes as a replacement; None beyond the limit."""
    tip = max(market.tip_wei, last.tip_wei + last.tip_wei // 8 + 1)
    fee = max(market.max_fee_wei, last.max_fee_wei + last.max_fee_wei // 8 + 1, tip)
    return Price(tip, fee) if fee <= most_wei else None


# -- Transition ------------------------------------------------------------------


def step(state: Outbox, event: Event) -> Step:
    match event:
        case Wanted(intent, gas, price, pending):
            return _open(state, Entry(0, intent, gas), price, pending)
        case Signed(nonce, attempt, now_s) if nonce in state.entries:
            return _record(state, state.entries[nonce], attempt, now_s)
        case SigningFailed(nonce, reason) if nonce in state.entries:
            return _unsigned(state, state.entries[nonce], reason)
        case Answered(nonce) if nonce in state.entries:
            return _hear(state, state.entries[nonce], event)
        case Looked():
            return _look(state, event)
        case _:
            return state, ()


def _put(state: Outbox, entry: Entry) -> Outbox:
    return replace(state, entries={**state.entries, entry.nonce: entry})


def _drop(state: Outbox, nonce: int) -> Outbox:
    return replace(state, entries={n: e for n, e in state.entries.items() if n != nonce})


def _open(state: Outbox, entry: Entry, price: Price, pending: int) -> Step:
    """Give the intent the next nonce and have it signed."""
    nonce = max(state.next_nonce, pending)
    state = _put(replace(state, next_nonce=nonce + 1), replace(entry, nonce=nonce))
    return state, (Sign(nonce, entry.intent, entry.gas, price),)


def _record(state: Outbox, entry: Entry, attempt: Attempt, now_s: float) -> Step:
    old = entry.replaces
    entry = replace(entry, attempts=(*entry.attempts, attempt), sent_s=now_s, replaces=None)
    forget = () if old is None else (old,)
    state = _put(state if old is None else _drop(state, old), entry)
    moved = () if old is None else (Moved(old, entry.nonce),)
    return state, (Write((entry,), forget), *moved, Broadcast(entry.nonce, attempt))


def _unsigned(state: Outbox, entry: Entry, reason: str) -> Step:
    if entry.attempts:
        return state, ()  # a higher fee was to be signed; what was sent may be mined yet
    if entry.replaces is not None:
        return _vacate(_drop(state, entry.nonce), entry.nonce), ()  # the old entry stands and is looked at again
    return _give_up(state, entry, reason)


# -- What the endpoints say --------------------------------------------------------


def _hear(state: Outbox, entry: Entry, said: Answered) -> Step:
    match said.answer:
        case Answer.TAKEN | Answer.UNSURE:
            return _put(state, replace(entry, doubtful=True, refused=False)), ()
        case answer if entry.doubtful:  # an attempt may be on its way: the next looks tell
            return _put(state, replace(entry, refused=answer is Answer.REFUSED)), ()
        case Answer.NONCE_USED:
            return _reissue(state, entry, said.price, said.pending)
        case Answer.PRICE_LOW:
            price = raise_price(entry.attempts[-1].price, said.price, state.policy.max_fee_wei)
            if price is None:
                return _give_up(state, entry, f"{said.reason}: beyond the limit for fees")
            return state, (Sign(entry.nonce, entry.intent, entry.gas, price),)
        case Answer.REFUSED:
            return _give_up(state, entry, said.reason)


def _give_up(state: Outbox, entry: Entry, reason: str) -> Step:
    """Nothing of it was taken. The last nonce is free again; one in the middle is filled, or all later ones wait."""
    if entry.filler:
        return state, ()
    finished = GivenUp(entry.nonce, reason)
    if entry.nonce == state.next_nonce - 1:
        return _vacate(_drop(state, entry.nonce), entry.nonce), (Write(forget=(entry.nonce,)), finished)
    filler = replace(entry, filler=True, gas=FILLER_GAS, attempts=(), intent=Intent(state.wallet, b""))
    return _put(state, filler), (Write((filler,)), finished)


def _vacate(state: Outbox, nonce: int) -> Outbox:
    return replace(state, next_nonce=nonce) if nonce == state.next_nonce - 1 else state


def _reissue(state: Outbox, entry: Entry, price: Price, pending: int) -> Step:
    """Another nonce for the intent; the old entry stays on the disk until the new one is there."""
    if entry.filler:
        return _drop(state, entry.nonce), (Write(forget=(entry.nonce,)),)  # the gap is filled, by a stranger
    fresh = Entry(0, entry.intent, entry.gas, replaces=entry.nonce)
    return _open(state, fresh, price, max(pending, entry.nonce + 1))


# -- What the chain says -----------------------------------------------------------


def _look(state: Outbox, look: Looked) -> Step:
    effects: list[Effect] = []
    moving = {e.replaces for e in state.entries.values()}
    for nonce in sorted(state.entries):
        if nonce in state.entries and nonce not in moving:
            state, more = _judge(state, state.entries[nonce], look)
            effects += more
    state, more = _fill_gap(state, look)
    return state, (*effects, *more)


def _fill_gap(state: Outbox, look: Looked) -> Step:
    lowest = min((n for n in state.entries if n >= look.count), default=look.count)
    if lowest == look.count:
        return replace(state, gap_s=None), ()
    since_s = look.now_s if state.gap_s is None else state.gap_s
    if look.now_s - since_s < state.policy.usurped_s:
        return replace(state, gap_s=since_s), ()
    filler = Entry(look.count, Intent(state.wallet, b""), FILLER_GAS, filler=True)
    state = _put(replace(state, gap_s=None), filler)
    return state, (Sign(filler.nonce, filler.intent, filler.gas, look.price),)


def _judge(state: Outbox, entry: Entry, look: Looked) -> Step:
    if entry.nonce >= look.count:
        return _press(state, replace(entry, missing_s=None), look)
    found = next((a for a in entry.attempts if a.hash in look.receipts), None)
    if found is not None:
        return _include(state, entry, found, look)
    if entry.block is not None and not _is_settled(state, entry, look.head):
        return state, ()
    since_s = look.now_s if entry.missing_s is None else entry.missing_s
    if look.now_s - since_s < state.policy.usurped_s:
        return _put(state, replace(entry, missing_s=since_s)), ()
    return _reissue(state, entry, look.price, look.count)


def _press(state: Outbox, entry: Entry, look: Looked) -> Step:
    """Not mined: send again what was orphaned, or pay more."""
    if not entry.attempts:
        if entry.filler:
            return _put(state, entry), (Sign(entry.nonce, entry.intent, entry.gas, look.price),)
        return state, ()  # being signed
    last = entry.attempts[-1]
    if entry.block is not None:
        entry = replace(entry, block=None, sent_s=look.now_s)
        return _put(state, entry), (Write((entry,)), Broadcast(entry.nonce, last))
    if look.now_s - entry.sent_s < state.policy.bump_s:
        return _put(state, entry), ()
    state = _put(state, replace(entry, sent_s=look.now_s))
    price = raise_price(last.price, look.price, state.policy.max_fee_wei)
    if entry.sent_s == 0.0 or entry.refused or price is None:  # of an earlier life: it may never have been sent
        return state, (Broadcast(entry.nonce, last),)
    return state, (Sign(entry.nonce, entry.intent, entry.gas, price),)


def _include(state: Outbox, entry: Entry, attempt: Attempt, look: Looked) -> Step:
    seen = look.receipts[attempt.hash]
    told = () if entry.block is not None or entry.filler else (Mined(entry.nonce, attempt.hash, seen),)
    if look.head - seen.block >= state.policy.settle_blocks:
        return _drop(state, entry.nonce), (Write(forget=(entry.nonce,)), *told)
    entry = replace(entry, block=seen.block, missing_s=None)
    return _put(state, entry), (Write((entry,)), *told) if told else ()


def _is_settled(state: Outbox, entry: Entry, head: int) -> bool:
    return entry.block is not None and head - entry.block >= state.policy.settle_blocks
