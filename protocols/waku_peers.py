"""Peer exchange: a peer is asked for node records of others, and has some.

Source: 34/WAKU2-PEER-EXCHANGE. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from protocols import waku_wire as wire
from protocols.enr import MAX_ENR_BYTES
from protocols.verdict import Reject

PEER_EXCHANGE = "/vac/waku/peer-exchange/2.0.0-alpha1"

MAX_PEERS = 60  # records in an answer: a sample, not the whole book
MAX_PEER_QUERY_BYTES = 1024  # a number
MAX_PEER_REPLY_BYTES = 64 * 1024  # MAX_PEERS records have 18 KiB; others may send more, of which we read the first

_QUERY, _RESPONSE = 1, 2
_COUNT, _INFOS, _ENR, _STATUS, _DESCRIPTION = 1, 1, 1, 10, 11


class PeerStatus(IntEnum):
    SUCCESS = 200
    BAD_REQUEST = 400
    TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class PeerReply:
    records: tuple[bytes, ...] = ()
    """Encoded node records, unchecked."""
    status: int = PeerStatus.SUCCESS
    description: str = ""


def encode_peer_query(count: int) -> bytes:
    return wire.bytes_field(_QUERY, wire.varint_field(_COUNT, count))


def decode_peer_query(data: bytes) -> int | PeerReply:
    """Return how many records are wanted, at most MAX_PEERS; a PeerReply is the refusal to answer with."""
    try:
        outer = wire.singular(data, frozenset((_QUERY, _RESPONSE)))
        inner = wire.singular(wire.as_bytes(outer[_QUERY]), frozenset((_COUNT,)))
        return min(wire.as_int(inner.get(_COUNT, MAX_PEERS)), MAX_PEERS)
    except (wire.Malformed, KeyError) as fault:
        return PeerReply(status=PeerStatus.BAD_REQUEST, description=f"no query: {fault}")


def encode_peer_reply(reply: PeerReply) -> bytes:
    inner = b"".join(wire.bytes_field(_INFOS, wire.bytes_field(_ENR, record)) for record in reply.records)
    inner += wire.varint_field(_STATUS, reply.status)
    if reply.description:
        inner += wire.text_field(_DESCRIPTION, reply.description)
    return wire.bytes_field(_RESPONSE, inner)


def decode_peer_reply(data: bytes) -> PeerReply | Reject:
    """Return at most MAX_PEERS records. Peers of the protocol's first version send no status."""
    try:
        outer = wire.singular(data, frozenset((_QUERY, _RESPONSE)))
        return _read_reply(wire.as_bytes(outer[_RESPONSE]))
    except (wire.Malformed, KeyError) as fault:
        return Reject(f"no answer to a query for peers: {fault}")


def _read_reply(data: bytes) -> PeerReply:
    records: list[bytes] = []
    status, description = int(PeerStatus.SUCCESS), ""
    for number, value in wire.fields(data):
        if number == _INFOS and len(records) < MAX_PEERS:
            records.append(_read_record(wire.as_bytes(value)))
        elif number == _STATUS:
            status = wire.as_int(value)
        elif number == _DESCRIPTION:
            description = wire.decode_text(wire.as_bytes(value)[:1024])
    return PeerReply(tuple(records), status, description)


def _read_record(info: bytes) -> bytes:
    record = wire.as_bytes(wire.singular(info, frozenset((_ENR,))).get(_ENR, b""))
    if len(record) > MAX_ENR_BYTES:
        raise wire.Malformed(f"a node record of {len(record)} bytes")
    return record
