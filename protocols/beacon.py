"""Which rounds of a public beacon jobs wait for, and when it is this node's turn to post one.

    NEEDED -our turn-> POSTING -it is on chain-> OUT        (failed: again after RETRY_S)

The one rule: whoever moves the job on posts for it, in the same order. A round waits for its first mover, and each
later one only steps in when those before it did not: posting costs gas, and one valid signature is enough.
Spec: protocols/README.md, "Beacon".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from protocols.chain import JobState
from protocols.job import Beacon
from protocols.seat import Part, is_proved
from protocols.verdict import Accept, Reject, Verdict

CHAIN_HASH = "04f1e9062b8a81f848fded9c12306733282b2727ecced50032187751166ec8c3"
"""drand's evmnet, as its servers name it."""
BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583
SIGNATURE_BYTES = 64
STAGGER_S = 6.0  # between posters: a fetch, and a block or two in which the next one can see it
RETRY_S = 3.0  # a round's period: no source had it, or the chain did not answer

# -- Signatures ------------------------------------------------------------------


def validate_signature(signature: bytes) -> Verdict:
    """Whether it can be a round's point of G1, x then y; whether it is signed, the contract says."""
    if len(signature) != SIGNATURE_BYTES:
        return Reject(f"{len(signature)} bytes, not {SIGNATURE_BYTES}")
    x, y = split_signature(signature)
    if x >= BASE_FIELD or y >= BASE_FIELD or (y * y - x * x * x - 3) % BASE_FIELD:
        return Reject("no point of the curve")
    return Accept()


def split_signature(signature: bytes) -> tuple[int, int]:
    """(x, y), as `Beacon.post` takes it."""
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


# -- Needs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """A round that a job can't go on without."""

    round: int
    from_s: float
    """Chain time of our turn to post it."""


def find_need(part: Part, schedule: Beacon) -> Need | None:
    """What the job waits for, if we are one of those who post it: its movers, and after them its requester."""
    if part.state is JobState.OPEN:
        complete = len(part.applicants) >= part.terms.seats
        if not complete or part.now_s <= part.join_deadline_s:
            return None
        number = schedule.round_at(part.join_deadline_s)
    elif part.state is JobState.PROVING and not is_proved(part):
        number = part.beacon_round
    else:
        return None
    movers = part.workers or part.applicants
    ranked = movers if part.requester in movers else (*movers, part.requester)
    if part.me not in ranked:
        return None
    return Need(number, schedule.time_of(number) + ranked.index(part.me) * STAGGER_S)


# -- State and transition --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watch:
    busy: frozenset[int] = frozenset()
    out: frozenset[int] = frozenset()
    """Seen on chain."""
    retry_s: Mapping[int, float] = field(default_factory=dict)
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Looked:
    """Chain time, and everything that is needed now."""

    now_s: float
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class PostingEnded:
    round: int
    is_out: bool


@dataclass(frozen=True, slots=True)
class Reorganized:
    """The chain replaced blocks: what was out may be gone."""


Event = Looked | PostingEnded | Reorganized


@dataclass(frozen=True, slots=True)
class PostRound:
    """See whether it is on chain; if not, fetch it, and post it."""

    round: int


def step(watch: Watch, event: Event) -> tuple[Watch, tuple[PostRound, ...]]:
    match event:
        case Looked(now_s, needs):
            return _look(replace(watch, now_s=max(watch.now_s, now_s)), needs)
        case PostingEnded(number, is_out):
            watch = replace(watch, busy=watch.busy - {number})
            if is_out:
                return replace(watch, out=watch.out | {number}), ()
            return replace(watch, retry_s={**watch.retry_s, number: watch.now_s + RETRY_S}), ()
        case Reorganized():
            return replace(watch, out=frozenset()), ()


def _look(watch: Watch, needs: Iterable[Need]) -> tuple[Watch, tuple[PostRound, ...]]:
    needed = sorted({need.round for need in needs})
    due = {need.round for need in needs if watch.now_s >= need.from_s}
    wanted = [
        number for number in sorted(due - watch.busy - watch.out) if watch.now_s >= watch.retry_s.get(number, 0.0)
    ]
    # What nothing waits for any more is forgotten, so that this never grows beyond the jobs under way.
    kept = {number: s for number, s in watch.retry_s.items() if number in needed}
    watch = replace(watch, retry_s=kept, out=watch.out & set(needed), busy=watch.busy | set(wanted))
    return watch, tuple(PostRound(number) for number in wanted)
