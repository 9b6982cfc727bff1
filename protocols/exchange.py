"""Requests between peers, answered from the Store: content by its id, and what a job's holders know.

One request, one reply, both records. Public content is checked by its id; what belongs to a job travels
sealed under the job key and is checked after opening, so a seat's state can't be read by its hash alone.

Spec: protocols/README.md, "Exchange".
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols import record
from protocols.chain import Entry
from protocols.ids import ContentId, JobId, RoundNumber
from protocols.verdict import Reject

PROTOCOL = "/skynet/exchange/1"
MAX_REQUEST_BYTES = 17 * 1024 * 1024  # one whole put
MAX_PUT_BYTES = 16 * 1024 * 1024  # an SRS of K=16 in one piece
MAX_REPLY_BYTES = 32 * 1024 * 1024
MAX_GET = 256  # ids asked for at once
PART_BYTES = 4 * 1024 * 1024

# -- Requests ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Get:
    """Public blobs by id: as many whole ones, from the first, as the reply may carry."""

    contents: tuple[ContentId, ...]


@dataclass(frozen=True, slots=True)
class GetPart:
    """PART_BYTES of one public blob from `offset`."""

    content: ContentId
    offset: int


@dataclass(frozen=True, slots=True)
class Put:
    """Keep these blobs for a job that is about to be posted: MAX_PUT_BYTES of them together."""

    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetSealed:
    """A private blob of a job (state, update), sealed to the job."""

    job: JobId
    content: ContentId


@dataclass(frozen=True, slots=True)
class GetSet:
    """A certified round's entries, sealed to the job."""

    job: JobId
    round: RoundNumber


@dataclass(frozen=True, slots=True)
class GetResult:
    """What a job's members announced as `ResultSealed`, as far as a node has heard it."""

    job: JobId


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Addresses of the peers that a node knows."""

    limit: int


Request = Get | GetPart | Put | GetSealed | GetSet | GetResult | GetPeers
_REQUESTS: tuple[type[Request], ...] = (Get, GetPart, Put, GetSealed, GetSet, GetResult, GetPeers)

# -- Replies -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blobs:
    """For `Get`: in the order asked, None where not held; may be shorter than asked."""

    blobs: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """For `GetPart`."""

    total_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """For `Put`; an empty reason is success."""

    refused: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """For `GetSealed` and `GetSet`; empty: not held."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Results:
    """For `GetResult`: signed envelopes."""

    envelopes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CertifiedSet:
    """What a `GetSet` reply holds after opening; kept in the Store as it is (`actors.mail.SetRecord`)."""

    entries: tuple[Entry, ...]


# -- Codec ---------------------------------------------------------------------


def encode_request(request: Request) -> bytes:
    return bytes([_REQUESTS.index(type(request))]) + record.encode(request)


def decode_request(data: bytes) -> Request | Reject:
    if not data or data[0] >= len(_REQUESTS):
        return Reject("unknown request")
    request = record.decode(_REQUESTS[data[0]], data[1:], limit_bytes=MAX_REQUEST_BYTES)
    if isinstance(request, Get) and len(request.contents) > MAX_GET:
        return Reject(f"asks for more than {MAX_GET} blobs at once")
    if isinstance(request, GetPart) and request.offset < 0:
        return Reject("negative offset")
    return request


def sealed_context(job: JobId, name: bytes) -> bytes:
    """Return what the AEAD of a `Sealed` reply authenticates: which thing of which job it is."""
    return b"skynet exchange 1" + job + name


def set_name(number: RoundNumber) -> bytes:
    return b"set" + number.to_bytes(8, "big")
