"""Circuits: who has a place, how many there are, and the messages as libp2p has them."""

from __future__ import annotations

import random

import pytest

from protocols.circuit import (
    MAX_CIRCUIT_ADDRESSES,
    RESERVATION_S,
    CircuitLimits,
    CircuitMessage,
    CircuitStatus,
    Hop,
    Relaying,
    Reservation,
    Stop,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)
from protocols.ids import PeerId
from protocols.prefix import NEAR, Prefix
from protocols.verdict import Reject

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
FAR = Prefix("1.2.0.0/16")
OK = CircuitStatus.OK


def test_only_who_has_a_place_is_met() -> None:
    relaying = Relaying(CircuitLimits())
    assert relaying.open(B, A, 0.0) == CircuitStatus.NO_RESERVATION
    assert relaying.reserve(A, NEAR, 0.0) == OK
    assert relaying.open(B, A, 1.0) == OK
    assert relaying.circuits == 1
    assert relaying.open(A, A, 1.0) == CircuitStatus.PERMISSION_DENIED
    assert relaying.open(A, B, 1.0) == CircuitStatus.NO_RESERVATION
    relaying.close(B, A)
    assert relaying.circuits == 0
    assert relaying.open(B, A, RESERVATION_S) == CircuitStatus.NO_RESERVATION
    assert relaying.reserve(A, NEAR, RESERVATION_S) == OK
    relaying.forget(A)
    assert relaying.open(B, A, RESERVATION_S) == CircuitStatus.NO_RESERVATION


def test_places_and_circuits_are_bounded() -> None:
    relaying = Relaying(CircuitLimits(reservations=3, prefix_reservations=2, circuits=2, peer_circuits=1))
    assert [relaying.reserve(PeerId(p), FAR, 0.0) for p in "xyz"] == [OK, OK, CircuitStatus.RESERVATION_REFUSED]
    assert relaying.reserve(PeerId("x"), FAR, 1.0) == OK  # again
    assert [relaying.reserve(p, NEAR, 1.0) for p in (A, B)] == [OK, CircuitStatus.RESERVATION_REFUSED]
    assert relaying.reserve(B, NEAR, RESERVATION_S + 0.5) == OK  # y's has ended
    assert relaying.reservations == 3
    assert relaying.open(C, A, 2.0) == OK
    assert relaying.open(C, PeerId("x"), 2.0) == CircuitStatus.RESOURCE_LIMIT_EXCEEDED  # C has its one
    assert relaying.open(B, PeerId("x"), 2.0) == OK
    assert relaying.open(PeerId("d"), B, 2.0) == CircuitStatus.RESOURCE_LIMIT_EXCEEDED
    relaying.close(C, A)
    assert relaying.open(C, A, 2.0) == OK


MESSAGES = (
    CircuitMessage(Hop.RESERVE),
    CircuitMessage(Hop.CONNECT, peer=b"\x00\x24" + bytes(36)),
    CircuitMessage(Hop.STATUS, reservation=Reservation(7, (b"a", b"bc")), limits=(60, 1 << 30), status=OK),
)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_come_back(message: CircuitMessage) -> None:
    assert decode_hop(encode_hop(message)) == message
    if message.reservation is None:
        assert decode_stop(encode_stop(message)) == message


def test_as_libp2p_writes_them() -> None:
    """Field by field after its protobuf definition."""
    assert encode_hop(CircuitMessage(Hop.CONNECT, peer=b"id")) == bytes.fromhex("080112040a026964")
    assert encode_hop(CircuitMessage(Hop.STATUS, limits=(1, 2), status=OK)) == bytes.fromhex("08022204080110022864")
    assert encode_stop(CircuitMessage(Stop.STATUS, limits=(1, 2), status=OK)) == bytes.fromhex("08011a04080110022064")
    vouched = decode_hop(bytes.fromhex("08021a0808071201611a01762864"))
    assert vouched == CircuitMessage(Hop.STATUS, reservation=Reservation(7, (b"a",)), status=OK)


def test_fuzzed_bytes_are_survived() -> None:
    chance = random.Random(4)
    seeds = [encode_hop(message) for message in MESSAGES]
    for _ in range(4000):
        bad = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(bad) + 1)
            bad[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        for decode in (decode_hop, decode_stop):
            message = decode(bytes(bad))
            assert isinstance(message, Reject | CircuitMessage)
    many = decode_hop(encode_hop(CircuitMessage(Hop.STATUS, reservation=Reservation(1, (b"x",) * 99))))
    assert isinstance(many, CircuitMessage)
    assert many.reservation is not None
    assert len(many.reservation.addresses) == MAX_CIRCUIT_ADDRESSES
