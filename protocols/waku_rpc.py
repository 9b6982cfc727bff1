"""Gossipsub's RPC as Waku relay speaks it: subscriptions, publications, control.

StrictNoSign: a publication carries data and one topic, nothing else. A publication that breaks this is
left out and counted in `refused`, since the rest of its frame may be honest; a frame that can't be
parsed is a `Reject`. Peer exchange in PRUNE and IDONTWANT are skipped: discovery is another protocol's
work, and the protocol id stands for gossipsub 1.1.

Source: libp2p specs, pubsub/gossipsub-v1.1.md. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols import waku_wire as wire
from protocols.ids import PubsubTopic
from protocols.verdict import Reject
from protocols.waku import MAX_TOPIC_BYTES

MAX_RPC_BYTES = 1024 * 1024  # what go-libp2p accepts; senders batch several publications into a frame
MAX_ENTRIES = 10_000  # of all kinds in a frame: 15 ms of parsing; a megabyte of empty entries would take a second
ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Subscription:
    topic: PubsubTopic
    subscribe: bool


@dataclass(frozen=True, slots=True)
class Publication:
    topic: PubsubTopic
    data: bytes


@dataclass(frozen=True, slots=True)
class IHave:
    topic: PubsubTopic
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Prune:
    topic: PubsubTopic
    backoff_s: int


@dataclass(frozen=True, slots=True)
class Rpc:
    subscriptions: tuple[Subscription, ...] = ()
    publications: tuple[Publication, ...] = ()
    ihave: tuple[IHave, ...] = ()
    iwant: tuple[bytes, ...] = ()
    graft: tuple[PubsubTopic, ...] = ()
    prune: tuple[Prune, ...] = ()
    refused: int = 0
    """Publications that broke StrictNoSign; decoding sets it."""


# -- Encoding ------------------------------------------------------------------


def encode_publication(publication: Publication) -> bytes:
    """Return the RPC that carries one publication: encoded once, sent to every peer."""
    inner = wire.bytes_field(2, publication.data) + wire.text_field(4, publication.topic)
    return wire.bytes_field(2, inner)


def encode_rpc(rpc: Rpc) -> bytes:
    out = [
        wire.bytes_field(1, wire.varint_field(1, int(s.subscribe)) + wire.text_field(2, s.topic))
        for s in rpc.subscriptions
    ]
    out += map(encode_publication, rpc.publications)
    control = _encode_control(rpc)
    if control:
        out.append(wire.bytes_field(3, control))
    return b"".join(out)


def _encode_control(rpc: Rpc) -> bytes:
    out = [wire.bytes_field(1, wire.text_field(1, ihave.topic) + _encode_ids(2, ihave.ids)) for ihave in rpc.ihave]
    if rpc.iwant:
        out.append(wire.bytes_field(2, _encode_ids(1, rpc.iwant)))
    out += [wire.bytes_field(3, wire.text_field(1, topic)) for topic in rpc.graft]
    out += [
        wire.bytes_field(4, wire.text_field(1, prune.topic) + wire.varint_field(3, prune.backoff_s))
        for prune in rpc.prune
    ]
    return b"".join(out)


def _encode_ids(number: int, ids: tuple[bytes, ...]) -> bytes:
    return b"".join(wire.bytes_field(number, each) for each in ids)


# -- Decoding ------------------------------------------------------------------


def decode_rpc(data: bytes) -> Rpc | Reject:
    if len(data) > MAX_RPC_BYTES:
        return Reject(f"RPC of {len(data)} bytes, the limit is {MAX_RPC_BYTES}")
    try:
        return _Reader().read(data)
    except wire.Malformed as fault:
        return Reject(f"no RPC: {fault}")


class _Reader:
    """Gathers a frame's entries and counts them."""

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self.publications: list[Publication] = []
        self.ihave: list[IHave] = []
        self.iwant: list[bytes] = []
        self.graft: list[PubsubTopic] = []
        self.prune: list[Prune] = []
        self.refused = 0
        self.entries = 0

    def read(self, data: bytes) -> Rpc:
        for number, value in wire.fields(data):
            self._count()
            if number == 1:
                self._read_subscription(wire.as_bytes(value))
            elif number == 2:
                self._read_publication(wire.as_bytes(value))
            elif number == 3:
                self._read_control(wire.as_bytes(value))
        return Rpc(
            tuple(self.subscriptions),
            tuple(self.publications),
            tuple(self.ihave),
            tuple(self.iwant),
            tuple(self.graft),
            tuple(self.prune),
            self.refused,
        )

    def _count(self) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise wire.Malformed(f"more than {MAX_ENTRIES} entries")

    def _read_subscription(self, data: bytes) -> None:
        found = wire.singular(data, frozenset((1, 2)))
        self.subscriptions.append(Subscription(_topic(found.get(2, b"")), bool(wire.as_int(found.get(1, 0)))))

    def _read_publication(self, data: bytes) -> None:
        topics: list[PubsubTopic] = []
        payload: bytes | None = None
        signed = False
        for number, value in wire.fields(data):
            self._count()
            if number == 2:
                payload = wire.as_bytes(value)
            elif number == 4:
                topics.append(_topic(value))
            elif number in (1, 3, 5, 6):  # from, seqno, signature, key
                signed = True
        if signed or payload is None or len(topics) != 1:
            self.refused += 1
        else:
            self.publications.append(Publication(topics[0], payload))

    def _read_control(self, data: bytes) -> None:
        for number, value in wire.fields(data):
            self._count()
            if number == 1:
                self._read_ihave(wire.as_bytes(value))
            elif number == 2:
                self.iwant += self._read_ids(wire.as_bytes(value), 1)
            elif number == 3:
                self.graft.append(_topic(wire.singular(wire.as_bytes(value), frozenset((1,))).get(1, b"")))
            elif number == 4:
                found = wire.singular(wire.as_bytes(value), frozenset((1, 3)))
                self.prune.append(Prune(_topic(found.get(1, b"")), wire.as_int(found.get(3, 0))))

    def _read_ihave(self, data: bytes) -> None:
        topic = next((value for number, value in wire.fields(data) if number == 1), b"")
        self.ihave.append(IHave(_topic(topic), tuple(self._read_ids(data, 2))))

    def _read_ids(self, data: bytes, number_of_ids: int) -> list[bytes]:
        ids = []
        for number, value in wire.fields(data):
            self._count()
            # Ids of another length are another network's; nothing of ours is behind them.
            if number == number_of_ids and len(wire.as_bytes(value)) == ID_BYTES:
                ids.append(wire.as_bytes(value))
        return ids


def _topic(value: int | bytes) -> PubsubTopic:
    raw = wire.as_bytes(value)
    if not 0 < len(raw) <= MAX_TOPIC_BYTES:
        raise wire.Malformed(f"topic of {len(raw)} bytes")
    return PubsubTopic(wire.decode_text(raw))
