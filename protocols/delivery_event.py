"""What happens to a delivery, and what it wants done.

Spec: protocols/README.md, "Delivery".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.ids import JobId
from protocols.message import MessageId

# -- Events --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageSent:
    """We want `wire` to reach `recipients` (node keys); its history is what `Delivery.history` said."""

    message: MessageId
    job: JobId
    wire: bytes = field(repr=False)
    recipients: frozenset[bytes]
    now_s: float


@dataclass(frozen=True, slots=True)
class MessageTakenUp:
    """What the outbox still held when we started."""

    message: MessageId
    job: JobId
    wire: bytes = field(repr=False)
    recipients: frozenset[bytes]
    since_s: float
    """When it was first sent."""
    now_s: float


@dataclass(frozen=True, slots=True)
class MessageArrived:
    message: MessageId
    job: JobId
    after: tuple[MessageId, ...]
    """Its causal history."""
    ordered: bool
    """Whether it must not be handed on before what it comes after."""
    acknowledge: bool
    wire: bytes = field(repr=False)
    now_s: float


@dataclass(frozen=True, slots=True)
class HeardBefore:
    """Messages that a former life of this node has handed on, in that order."""

    job: JobId
    messages: tuple[MessageId, ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class AcknowledgementReceived:
    sender: bytes
    messages: tuple[MessageId, ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class SyncReceived:
    """What a member has, and what it asks for."""

    sender: bytes
    job: JobId
    heads: tuple[MessageId, ...]
    """The last that it sent or handed on."""
    has: bytes
    """Bloom filter of what it has of late; empty: it doesn't say."""
    wanted: tuple[MessageId, ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class JobLeft:
    job: JobId
    now_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = (
    MessageSent
    | MessageTakenUp
    | MessageArrived
    | HeardBefore
    | AcknowledgementReceived
    | SyncReceived
    | JobLeft
    | TimePassed
)

# -- Effects -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    job: JobId
    wire: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendAcknowledgements:
    job: JobId
    messages: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class SendSync:
    job: JobId
    heads: tuple[MessageId, ...]
    has: bytes
    wanted: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class HandOn:
    """Give it to its actor: it arrived for the first time, and what it comes after was handed on."""

    message: MessageId


@dataclass(frozen=True, slots=True)
class Settle:
    """The verdict on a message that we sent: `len(reached)` of `len(reached | missing)` said that they have it.

    It is deleted from the outbox. Who is missing may have it all the same: we only know what was acknowledged.
    """

    message: MessageId
    job: JobId
    reached: frozenset[bytes]
    missing: frozenset[bytes]
    since_s: float
    at_s: float


Effect = Publish | SendAcknowledgements | SendSync | HandOn | Settle


# -- Counts --------------------------------------------------------------------


@dataclass(slots=True)
class Counts:
    """sent = acknowledged + given up + withdrawn + what is pending."""

    sent: int = 0
    """Messages that somebody must acknowledge, those taken up again after a restart included."""
    acknowledged: int = 0
    """Messages that every recipient acknowledged."""
    resent: int = 0
    given_up: int = 0
    withdrawn: int = 0
    """Not wanted any more: we left their job."""
    duplicates: int = 0
    asked: int = 0
    """Messages that others named, that we lacked and asked for."""
    recovered: int = 0
    """Of these, those that came."""
    answered: int = 0
    """Messages that we sent again because somebody lacked them."""
    late: int = 0
    """Handed on without what they come after: it did not come in time."""
