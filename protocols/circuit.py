"""Circuit relay: a peer that nobody can dial is met through one that both sides can.

    A reserves a place at R;  B asks R for A;  R asks A;  A takes it: R hands bytes on, both ways, until a limit.

Inside a circuit A and B secure their own connection: R sees neither who signs nor what is said.
Source: libp2p's circuit relay v2. Spec: protocols/README.md, "Circuits".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from protocols import waku_wire as wire
from protocols.ids import PeerId
from protocols.prefix import NEAR, Prefix
from protocols.verdict import Reject

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"

MAX_CIRCUIT_BYTES = 4096  # of a message
MAX_CIRCUIT_ADDRESSES = 16  # in a message that are read
RESERVATION_S = 3600.0  # then it must be asked for again


class CircuitStatus(IntEnum):
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


class Hop(IntEnum):
    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class Stop(IntEnum):
    CONNECT = 0
    STATUS = 1


# -- Places and circuits -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """What a relay gives."""

    reservations: int = 128
    prefix_reservations: int = 16
    """Of peers in one part of the internet; our own networks don't count."""
    circuits: int = 64
    peer_circuits: int = 8
    """In which one peer is either end."""
    bytes: int = 64 * 1024 * 1024
    """Of a circuit, both ways together."""
    duration_s: int = 1800
    """Of a circuit."""


class Relaying:
    """Who has a place here, and the circuits that are open."""

    def __init__(self, limits: CircuitLimits) -> None:
        self.limits = limits
        self._places: dict[PeerId, tuple[Prefix, float]] = {}
        """Until when."""
        self._ends: Counter[PeerId] = Counter()
        """Circuits by peer: each counts at both ends."""

    @property
    def circuits(self) -> int:
        return self._ends.total() // 2

    @property
    def reservations(self) -> int:
        return len(self._places)

    def reserve(self, peer: PeerId, prefix: Prefix, now_s: float) -> CircuitStatus:
        self._places = {p: place for p, place in self._places.items() if place[1] > now_s}
        others = [place for p, place in self._places.items() if p != peer]
        mates = sum(place[0] == prefix for place in others) if prefix != NEAR else 0
        if len(others) >= self.limits.reservations or mates >= self.limits.prefix_reservations:
            return CircuitStatus.RESERVATION_REFUSED
        self._places[peer] = (prefix, now_s + RESERVATION_S)
        return CircuitStatus.OK

    def open(self, source: PeerId, target: PeerId, now_s: float) -> CircuitStatus:
        """If OK, the circuit counts until `close`."""
        if source == target:
            return CircuitStatus.PERMISSION_DENIED
        if self._places.get(target, (NEAR, now_s))[1] <= now_s:
            return CircuitStatus.NO_RESERVATION
        busy = max(self._ends[source], self._ends[target]) >= self.limits.peer_circuits
        if busy or self.circuits >= self.limits.circuits:
            return CircuitStatus.RESOURCE_LIMIT_EXCEEDED
        self._ends.update((source, target))
        return CircuitStatus.OK

    def close(self, source: PeerId, target: PeerId) -> None:
        self._ends.subtract((source, target))
        self._ends = +self._ends

    def forget(self, peer: PeerId) -> None:
        """It is gone, and its place with it."""
        self._places.pop(peer, None)


# -- Messages ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reservation:
    expires_s: int
    """Since the epoch, by the relay's clock."""
    addresses: tuple[bytes, ...] = ()
    """Binary multiaddrs of the relay."""


@dataclass(frozen=True, slots=True)
class CircuitMessage:
    """`HopMessage` and `StopMessage`, which differ in the numbers of fields and kinds."""

    kind: int
    peer: bytes | None = None
    """Binary peer id."""
    reservation: Reservation | None = None
    limits: tuple[int, int] | None = None
    """(seconds, bytes)."""
    status: int = 0


_HOP_FIELDS = {"peer": 2, "reservation": 3, "limits": 4, "status": 5}
_STOP_FIELDS = {"peer": 2, "reservation": 0, "limits": 3, "status": 4}


def encode_hop(message: CircuitMessage) -> bytes:
    return _encode(message, _HOP_FIELDS)


def encode_stop(message: CircuitMessage) -> bytes:
    return _encode(message, _STOP_FIELDS)


def decode_hop(data: bytes) -> CircuitMessage | Reject:
    return _decode(data, _HOP_FIELDS)


def decode_stop(data: bytes) -> CircuitMessage | Reject:
    return _decode(data, _STOP_FIELDS)


def _encode(message: CircuitMessage, numbers: dict[str, int]) -> bytes:
    out = wire.varint_field(1, message.kind)
    if message.peer is not None:
        out += wire.bytes_field(numbers["peer"], wire.bytes_field(1, message.peer))
    if message.reservation is not None:
        addresses = b"".join(wire.bytes_field(2, each) for each in message.reservation.addresses)
        inner = wire.varint_field(1, message.reservation.expires_s) + addresses
        out += wire.bytes_field(numbers["reservation"], inner)
    if message.limits is not None:
        duration_s, size_bytes = message.limits
        inner = wire.varint_field(1, duration_s) + wire.varint_field(2, size_bytes)
        out += wire.bytes_field(numbers["limits"], inner)
    if message.status:
        out += wire.varint_field(numbers["status"], message.status)
    return out


def _decode(data: bytes, numbers: dict[str, int]) -> CircuitMessage | Reject:
    try:
        found = wire.singular(data, frozenset((1, *filter(None, numbers.values()))))
        reservation = found.get(numbers["reservation"]) if numbers["reservation"] else None
        peer, limits = found.get(numbers["peer"]), found.get(numbers["limits"])
        return CircuitMessage(
            wire.as_int(found[1]),
            None if peer is None else _read_peer(wire.as_bytes(peer)),
            None if reservation is None else _read_reservation(wire.as_bytes(reservation)),
            None if limits is None else _read_limits(wire.as_bytes(limits)),
            wire.as_int(found.get(numbers["status"], 0)),
        )
    except (wire.Malformed, KeyError) as fault:
        return Reject(f"no circuit message: {fault}")


def _read_peer(data: bytes) -> bytes:
    peer = wire.as_bytes(_first(data, 1))
    if not 2 <= len(peer) <= 64:
        raise wire.Malformed(f"a peer id of {len(peer)} bytes")
    return peer


def _read_reservation(data: bytes) -> Reservation:
    addresses: Sequence[bytes] = [wire.as_bytes(value) for number, value in wire.fields(data) if number == 2]
    return Reservation(wire.as_int(_first(data, 1)), tuple(addresses[:MAX_CIRCUIT_ADDRESSES]))


def _read_limits(data: bytes) -> tuple[int, int]:
    found = wire.singular(data, frozenset((1, 2)))
    return wire.as_int(found.get(1, 0)), wire.as_int(found.get(2, 0))


def _first(data: bytes, wanted: int) -> int | bytes:
    for number, value in wire.fields(data):
        if number == wanted:
            return value
    raise wire.Malformed(f"field {wanted} is missing")
