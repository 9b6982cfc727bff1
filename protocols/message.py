"""Envelopes and the messages inside them: what peers say to each other over gossip.

One signed envelope a message; a job's messages are sealed to the job before they go in. `open_envelope`
is the gossip check, labelled IGNORE or REJECT as in the specification; it needs no key but the sender's.

Spec: protocols/README.md, "Messages".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NewType

from protocols import record
from protocols.bloom import MAX_FILTER_BYTES, MAX_IDS
from protocols.chain import Entry
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.verdict import Ignore, Reject

VERSION = 1
VERSIONS = (1, 1)
"""[min, max] that this release speaks."""

MAX_ENVELOPE_BYTES = 140 * 1024  # Waku carries 150 KB; the rest is the WakuMessage around us
MAX_INLINE_BYTES = 100 * 1024  # larger updates are pulled by content id
MAX_SKEW_S = 60  # clocks of strangers
MAX_AGE_S = 300  # beyond it an old envelope is not let in again; lower than delivery's GIVE_UP_S, and resends are lost
MAX_SEATS = 64  # a bit each in a vote's participants
MAX_AFTER = 8  # ids that an envelope names as its history; we name four
MAX_VIEW = 2**32 - 1  # a uint32 in what is signed
SIGNED_PREFIX = b"skynet envelope 1"

MessageId = NewType("MessageId", bytes)
"""32 bytes: sha256 of the signed part. Acknowledgements name it."""

record.LENGTHS[MessageId] = 32

# -- Bodies --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """Lobby: where a node listens and which protocol versions it speaks."""

    addresses: tuple[str, ...]
    versions: tuple[int, int]
    offers_work: bool


@dataclass(frozen=True, slots=True)
class JobAnnounced:
    """Lobby: a job whose package and sealed data are to be had at these addresses."""

    job: JobId
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdateAnnounced:
    """Job: a worker's receipt for a round, with the update inline while it is small."""

    round: RoundNumber
    parent: Digest
    """Of the round: after a nulled one its number begins again from another state."""
    entry: Entry
    weights: Commitment
    """The last step leaf, C(w_H)."""
    start_path: tuple[Digest, ...]
    """T jobs: of the receipt's first leaf, C(θ_r), to `entry.leaves`."""
    end_path: tuple[Digest, ...]
    """T jobs: of its last."""
    receipt: bytes
    """EIP-712 `Receipt` by the worker's wallet."""
    update: bytes
    """Encoded update, or empty: pull `entry.update`."""
    loss: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Job: the leader's set for a round; entries ordered by seat."""

    round: RoundNumber
    view: int
    parent: Digest
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class VoteCast:
    """Job: a worker's EIP-712 `Vote`."""

    round: RoundNumber
    view: int
    parent: Digest
    set_root: Digest
    participants: int
    """Bit i set: seat i has an entry in the set."""
    state: ContentId
    commitment: Commitment
    signature: bytes


@dataclass(frozen=True, slots=True)
class ViewChanged:
    """Job: the sender gave up on the leader; `locked` is the set it has signed in this round."""

    round: RoundNumber
    parent: Digest
    view: int
    """The view it moves to."""
    locked: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class RoundReported:
    """Job: what the requester sees of a certified round; judged by nobody."""

    round: RoundNumber
    state: ContentId
    loss: float
    accuracy: float
    workers: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Job: messages that arrived here, by id."""

    messages: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class Synced:
    """Job: what the sender has, so that others see what it lacks, and what it asks for."""

    heads: tuple[MessageId, ...]
    """The last messages that it sent or handed on."""
    has: bytes
    """Bloom filter of its last messages; empty: it doesn't say."""
    wanted: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class ResultSealed:
    """Job, unsealed: the final state, HPKE-sealed to the requester, may be had under `sealed`."""

    job: JobId
    state: ContentId
    sealed: ContentId
    size_bytes: int
    worker: Address


Body = (
    Hello
    | JobAnnounced
    | UpdateAnnounced
    | Proposal
    | VoteCast
    | ViewChanged
    | RoundReported
    | Acknowledged
    | Synced
    | ResultSealed
)

KINDS: dict[str, type[Body]] = {
    "hello": Hello,
    "job": JobAnnounced,
    "update": UpdateAnnounced,
    "proposal": Proposal,
    "vote": VoteCast,
    "view": ViewChanged,
    "round": RoundReported,
    "ack": Acknowledged,
    "sync": Synced,
    "result": ResultSealed,
}
NAMES = {cls: name for name, cls in KINDS.items()}
SEALED = frozenset({"update", "proposal", "vote", "view", "round", "ack", "sync"})
"""Kinds whose body is AEAD under the job key."""
ORDERED = frozenset({"proposal", "vote", "view", "round"})
"""Kinds that mean something after what their sender knew: handed on in causal order."""
PASSING = frozenset({"ack", "sync"})
"""Kinds that are about other messages: never resent, archived or part of a history."""

# -- Envelope ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    version: int
    kind: str
    sender: bytes
    """Ed25519 public key of the node, 32 bytes."""
    job: bytes
    """Job id, or empty in the lobby."""
    sequence: int
    """Distinct for each message of the sender; never reused, also after a restart."""
    sent_s: int
    body: bytes
    """A record, sealed if the kind is."""
    after: tuple[MessageId, ...] = ()
    """The last messages of the job that the sender had sent or handed on: its causal history."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope that passed the gossip check, and its id."""

    envelope: Envelope
    id: MessageId
    wire: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Signed:
    envelope: bytes
    """As the sender encoded it: fields of a newer version stay under its signature."""
    signature: bytes


def signed_part(envelope: Envelope) -> bytes:
    """Return the bytes that the sender signs."""
    return SIGNED_PREFIX + record.encode(envelope)


def seal_context(envelope: Envelope) -> bytes:
    """Return what the AEAD authenticates beside the body: a body can't move to another envelope."""
    head = (envelope.kind.encode(), envelope.sender, envelope.job, envelope.sequence.to_bytes(8, "big"))
    return b"skynet body 1" + b"".join(len(part).to_bytes(2, "big") + part for part in head)


def encode_envelope(envelope: Envelope, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the envelope's wire bytes."""
    signed = signed_part(envelope)
    return record.encode(_Signed(signed[len(SIGNED_PREFIX) :], sign(signed)))


def message_id(envelope: Envelope) -> MessageId:
    """Return the id of an envelope of ours."""
    return MessageId(hashlib.sha256(signed_part(envelope)).digest())


def open_envelope(
    data: bytes, *, now_s: float, verify: Callable[[bytes, bytes, bytes], bool], fresh: bool = True
) -> Opened | Ignore | Reject:
    """Check one envelope as gossip does.

    [REJECT] it decodes within the size limit; its kind's job field is as the kind demands; the
    signature is the sender's. [IGNORE] versions that we don't speak, unknown kinds (a newer peer
    may know them), and those sent more than MAX_SKEW_S ahead of our clock or MAX_AGE_S ago unless
    `fresh` is False (a stored message).
    """
    signed = record.decode(_Signed, data, limit_bytes=MAX_ENVELOPE_BYTES)
    if isinstance(signed, Reject):
        return signed
    envelope = record.decode(Envelope, signed.envelope, limit_bytes=MAX_ENVELOPE_BYTES)
    if isinstance(envelope, Reject):
        return envelope
    if not VERSIONS[0] <= envelope.version <= VERSIONS[1]:
        return Ignore(f"envelope version {envelope.version}; this node speaks {VERSIONS[0]} to {VERSIONS[1]}")
    if envelope.kind not in KINDS:
        return Ignore(f"unknown kind {envelope.kind!r:.40}")
    fault = _fault_of(envelope, signed.signature)
    if fault is not None:
        return fault
    if fresh and not -MAX_SKEW_S <= now_s - envelope.sent_s <= MAX_AGE_S:
        return Ignore(f"sent {now_s - envelope.sent_s:+.0f} s away from our clock")
    signed_bytes = SIGNED_PREFIX + signed.envelope
    if not verify(envelope.sender, signed_bytes, signed.signature):
        return Reject("bad signature")
    return Opened(envelope, MessageId(hashlib.sha256(signed_bytes).digest()), data)


def _fault_of(envelope: Envelope, signature: bytes) -> Reject | None:
    if len(envelope.sender) != 32 or len(envelope.job) not in (0, 32) or len(signature) != 64:
        return Reject("a key, job id or signature of the wrong length")
    if (envelope.kind in ("hello", "job")) == bool(envelope.job):
        return Reject(f"kind {envelope.kind} on the wrong topic")
    if envelope.sequence < 0 or envelope.sequence >= 2**63:
        return Reject("sequence out of range")
    if len(envelope.after) > MAX_AFTER:
        return Reject(f"more than {MAX_AFTER} messages as its history")
    return None


def decode_body(kind: str, body: bytes) -> Body | Reject:
    """Return the message that an opened body holds; what is signed in it fits the words it is signed in."""
    message = record.decode(KINDS[kind], body, limit_bytes=MAX_ENVELOPE_BYTES)
    if isinstance(message, Proposal | VoteCast | ViewChanged) and not 0 <= message.view <= MAX_VIEW:
        return Reject(f"{kind}: no view")
    if isinstance(message, VoteCast) and not 0 <= message.participants < 1 << MAX_SEATS:
        return Reject(f"{kind}: participants beyond {MAX_SEATS} seats")
    if isinstance(message, Synced) and (
        len(message.has) > MAX_FILTER_BYTES or len(message.heads) > MAX_AFTER or len(message.wanted) > MAX_IDS
    ):
        return Reject(f"{kind}: it says more than it may")
    return message
