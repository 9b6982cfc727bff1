"""Waku messages, topics and metadata: the bytes that we share with every other Waku node.

Encoding is deterministic (fields ascending, defaults left out); decoding is strict and bounded, and a
peer's fault is a `Reject`. Sources: 14/WAKU2-MESSAGE, 23/WAKU2-TOPICS, RELAY-SHARDING, 66/WAKU2-METADATA.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from protocols import waku_wire as wire
from protocols.ids import ContentTopic, Digest, PubsubTopic
from protocols.verdict import Reject

RELAY = "/vac/waku/relay/2.0.0"
METADATA = "/vac/waku/metadata/1.0.0"

MAX_MESSAGE_BYTES = 150 * 1024  # 64/WAKU2-NETWORK; larger messages are dropped by every Waku node
MAX_META_BYTES = 64  # 14/WAKU2-MESSAGE
MAX_TOPIC_BYTES = 256  # ours are under 60; a longer name only burns memory
MAX_METADATA_BYTES = 8 * 1024  # 1,024 shards have 3 KiB
MIN_OWN_CLUSTER = 1024  # clusters below belong to the Waku networks, some of which demand RLN

# -- Message -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WakuMessage:
    """14/WAKU2-MESSAGE. A field at its default is absent on the wire."""

    payload: bytes
    content_topic: ContentTopic
    version: int = 0
    timestamp_ns: int = 0
    """Nanoseconds since the epoch by the sender's clock."""
    meta: bytes = b""
    rate_limit_proof: bytes = b""
    """RLN, not used in our cluster: carried, never read."""
    ephemeral: bool = False
    """Not to be archived by Store nodes."""


_PAYLOAD, _TOPIC, _VERSION, _TIMESTAMP, _META, _PROOF, _EPHEMERAL = 1, 2, 3, 10, 11, 21, 31
_MESSAGE = frozenset((_PAYLOAD, _TOPIC, _VERSION, _TIMESTAMP, _META, _PROOF, _EPHEMERAL))


def encode_message(message: WakuMessage) -> bytes:
    """Return the wire bytes; the caller keeps them under MAX_MESSAGE_BYTES."""
    out = wire.bytes_field(_PAYLOAD, message.payload) + wire.text_field(_TOPIC, message.content_topic)
    if message.version:
        out += wire.varint_field(_VERSION, message.version)
    if message.timestamp_ns:
        out += wire.varint_field(_TIMESTAMP, wire.encode_zigzag(message.timestamp_ns))
    if message.meta:
        out += wire.bytes_field(_META, message.meta)
    if message.rate_limit_proof:
        out += wire.bytes_field(_PROOF, message.rate_limit_proof)
    if message.ephemeral:
        out += wire.varint_field(_EPHEMERAL, 1)
    return out


def decode_message(data: bytes) -> WakuMessage | Reject:
    if len(data) > MAX_MESSAGE_BYTES:
        return Reject(f"message of {len(data)} bytes, the limit is {MAX_MESSAGE_BYTES}")
    try:
        return _read_message(wire.singular(data, _MESSAGE))
    except wire.Malformed as fault:
        return Reject(f"no WakuMessage: {fault}")


def _read_message(found: dict[int, int | bytes]) -> WakuMessage:
    version = wire.as_int(found.get(_VERSION, 0))
    timestamp_ns = wire.decode_zigzag(wire.as_int(found.get(_TIMESTAMP, 0)))
    meta = wire.as_bytes(found.get(_META, b""))
    ephemeral = wire.as_int(found.get(_EPHEMERAL, 0))
    if version >= 2**32:
        raise wire.Malformed("version above 32 bits")
    if timestamp_ns < 0:
        raise wire.Malformed("timestamp before the epoch")
    if len(meta) > MAX_META_BYTES:
        raise wire.Malformed(f"meta of {len(meta)} bytes")
    if ephemeral > 1:
        raise wire.Malformed("ephemeral is neither 0 nor 1")
    return WakuMessage(
        payload=wire.as_bytes(found.get(_PAYLOAD, b"")),
        content_topic=ContentTopic(_read_topic(wire.as_bytes(found.get(_TOPIC, b"")))),
        version=version,
        timestamp_ns=timestamp_ns,
        meta=meta,
        rate_limit_proof=wire.as_bytes(found.get(_PROOF, b"")),
        ephemeral=bool(ephemeral),
    )


def _read_topic(value: bytes) -> str:
    if not 0 < len(value) <= MAX_TOPIC_BYTES:
        raise wire.Malformed(f"content topic of {len(value)} bytes")
    return wire.decode_text(value)


def message_hash(topic: PubsubTopic, message: WakuMessage) -> bytes:
    """Deterministic hash of 14/WAKU2-MESSAGE: what Store and acknowledgements name a message by."""
    digest = hashlib.sha256(topic.encode() + message.payload + message.content_topic.encode() + message.meta)
    if message.timestamp_ns:
        digest.update(message.timestamp_ns.to_bytes(8, "big"))
    return digest.digest()


def gossip_id(data: bytes) -> bytes:
    """Gossipsub's message id under StrictNoSign, the same in nwaku, go-waku and js-waku."""
    return hashlib.sha256(data).digest()


# -- Topics --------------------------------------------------------------------


def pubsub_topic(cluster: int, shard: int) -> PubsubTopic:
    return PubsubTopic(f"/waku/2/rs/{cluster}/{shard}")


def content_topic(kind: str) -> ContentTopic:
    """Return SkyNet's content topic for a kind of message."""
    return ContentTopic(f"/skynet/1/{kind}/msgpack")


def autoshard(topic: ContentTopic, shards: int) -> int | Reject:
    """Return the shard of a content topic, which depends on application and version only.

    Forms: `/application/version/name/encoding`, or with the generation in front, which must be 0.
    """
    parts = topic.removeprefix("/0").split("/") if topic.count("/") == 5 else topic.split("/")
    if len(parts) != 5 or parts[0] or not all(parts[1:]):
        return Reject(f"no content topic: {topic:.80}")
    return int.from_bytes(hashlib.sha256((parts[1] + parts[2]).encode()).digest()[-8:], "big") % shards


def job_shard(job: Digest, shards: int) -> int:
    """Return a job's static shard: keccak(job), which the caller computes, mod shards.

    Not by autosharding, which would put every job on one shard.
    """
    return int.from_bytes(job, "big") % shards


# -- Metadata ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metadata:
    """66/WAKU2-METADATA: request and reply are alike."""

    cluster: int | None
    shards: tuple[int, ...]


_CLUSTER, _SHARDS = 1, 2


def encode_metadata(metadata: Metadata) -> bytes:
    """Shards go unpacked, as nwaku sends them: js-waku can't read them packed."""
    out = b"" if metadata.cluster is None else wire.varint_field(_CLUSTER, metadata.cluster)
    return out + b"".join(wire.varint_field(_SHARDS, shard) for shard in metadata.shards)


def decode_metadata(data: bytes) -> Metadata | Reject:
    if len(data) > MAX_METADATA_BYTES:
        return Reject(f"metadata of {len(data)} bytes")
    try:
        return _read_metadata(data)
    except wire.Malformed as fault:
        return Reject(f"no metadata: {fault}")


def _read_metadata(data: bytes) -> Metadata:
    cluster: int | None = None
    shards: list[int] = []
    for number, value in wire.fields(data):
        if number == _CLUSTER:
            cluster = wire.as_int(value)
        elif number == _SHARDS and isinstance(value, bytes):
            shards.extend(_read_packed(value))
        elif number == _SHARDS:
            shards.append(wire.as_int(value))
    if max([cluster or 0, *shards]) >= 2**32:
        raise wire.Malformed("number above 32 bits")
    return Metadata(cluster, tuple(shards))


def _read_packed(data: bytes) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = wire.decode_varint(data, position)
        values.append(value)
    return values
