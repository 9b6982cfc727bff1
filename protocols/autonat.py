"""Reachability: peers are asked to dial us back, and most of their answers say whether strangers can.

    unknown --most of the last VOTERS reached us--> public
       \\--most did not--> private --> we reserve places at relays

Source: libp2p's AutoNAT, version 1. Spec: protocols/README.md, "Circuits".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from protocols import waku_wire as wire
from protocols.ids import PeerId
from protocols.verdict import Reject

AUTONAT = "/libp2p/autonat/1.0.0"

MAX_AUTONAT_BYTES = 4096  # of a message
MAX_DIALLED = 8  # addresses of a request that are looked at
VOTERS = 5  # peers whose last answers count: one liar among three decides nothing

_DIAL, _DIAL_RESPONSE = 0, 1


class Reachability(Enum):
    UNKNOWN = "unknown"
    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What peers said, the latest last."""

    answers: Mapping[PeerId, bool] = field(default_factory=dict)
    verdict: Reachability = Reachability.UNKNOWN


def step(judgement: Judgement, peer: PeerId, *, reached: bool) -> Judgement:
    """Count a peer's answer; where as many say yes as no, nothing changes."""
    answers = {**{p: said for p, said in judgement.answers.items() if p != peer}, peer: reached}
    answers = dict(list(answers.items())[-VOTERS:])
    yes = sum(answers.values())
    verdict = judgement.verdict
    if 2 * yes != len(answers):
        verdict = Reachability.PUBLIC if 2 * yes > len(answers) else Reachability.PRIVATE
    return Judgement(answers, verdict)


# -- Messages ------------------------------------------------------------------


class DialStatus(IntEnum):
    OK = 0
    DIAL_ERROR = 100
    DIAL_REFUSED = 101
    BAD_REQUEST = 200
    INTERNAL_ERROR = 300


@dataclass(frozen=True, slots=True)
class DialRequest:
    peer: bytes
    """Binary peer id."""
    addresses: tuple[bytes, ...]
    """Binary multiaddrs."""


@dataclass(frozen=True, slots=True)
class DialReply:
    status: int
    text: str = ""
    address: bytes = b""
    """That was reached."""


def encode_dial(peer: bytes, addresses: Sequence[bytes]) -> bytes:
    who = wire.bytes_field(1, peer) + b"".join(wire.bytes_field(2, address) for address in addresses)
    return wire.varint_field(1, _DIAL) + wire.bytes_field(2, wire.bytes_field(1, who))


def decode_dial(data: bytes) -> DialRequest | Reject:
    try:
        outer = wire.singular(data, frozenset((1, 2)))
        who = wire.as_bytes(wire.singular(wire.as_bytes(outer[2]), frozenset((1,)))[1])
        if wire.as_int(outer[1]) != _DIAL:
            raise wire.Malformed("no request to dial")
        peers = [wire.as_bytes(value) for number, value in wire.fields(who) if number == 1]
        addresses = [wire.as_bytes(value) for number, value in wire.fields(who) if number == 2]
        if len(peers) != 1 or not 2 <= len(peers[0]) <= 64:
            raise wire.Malformed("no peer id")
        return DialRequest(peers[0], tuple(addresses[:MAX_DIALLED]))
    except (wire.Malformed, KeyError) as fault:
        return Reject(f"no request to dial: {fault}")


def encode_dial_reply(reply: DialReply) -> bytes:
    inner = wire.varint_field(1, reply.status)
    if reply.text:
        inner += wire.text_field(2, reply.text)
    if reply.address:
        inner += wire.bytes_field(3, reply.address)
    return wire.varint_field(1, _DIAL_RESPONSE) + wire.bytes_field(3, inner)


def decode_dial_reply(data: bytes) -> DialReply | Reject:
    try:
        outer = wire.singular(data, frozenset((1, 3)))
        inner = wire.singular(wire.as_bytes(outer[3]), frozenset((1, 2, 3)))
        text = wire.decode_text(wire.as_bytes(inner.get(2, b""))[:1024])
        return DialReply(wire.as_int(inner.get(1, 0)), text, wire.as_bytes(inner.get(3, b"")))
    except (wire.Malformed, KeyError) as fault:
        return Reject(f"no reply to a request to dial: {fault}")
