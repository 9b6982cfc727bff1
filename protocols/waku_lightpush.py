"""Light push: a peer without a relay of its own hands us a message to publish, and hears what became of it.

Version 3 answers with a status, version 2 with yes or no and a sentence. Both sides' codecs are here.

Source: 19/WAKU2-LIGHTPUSH. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from enum import IntEnum

from protocols import waku_wire as wire
from protocols.ids import PubsubTopic
from protocols.verdict import Reject
from protocols.waku import (
    MAX_MESSAGE_BYTES,
    MAX_TOPIC_BYTES,
    WakuMessage,
    autoshard,
    decode_message,
    encode_message,
    pubsub_topic,
)

LIGHTPUSH = "/vac/waku/lightpush/3.0.0"
LIGHTPUSH_V2 = "/vac/waku/lightpush/2.0.0-beta1"

MAX_PUSH_BYTES = MAX_MESSAGE_BYTES + 64 * 1024  # nwaku's; what is over the message's limit is told so, not cut off
MAX_PUSH_REPLY_BYTES = 64 * 1024  # a sentence
MAX_REQUEST_ID_BYTES = 128  # a UUID has 36
NO_ID = "N/A"  # in the answer to a request whose id can't be read, as nwaku has it


class PushStatus(IntEnum):
    SUCCESS = 200
    BAD_REQUEST = 400
    PAYLOAD_TOO_LARGE = 413
    INVALID_MESSAGE = 420
    UNSUPPORTED_TOPIC = 421
    TOO_MANY_REQUESTS = 429
    INTERNAL_ERROR = 500
    UNAVAILABLE = 503
    NO_RLN_PROOF = 504
    NO_PEERS = 505


@dataclass(frozen=True, slots=True)
class Push:
    """A request."""

    request_id: str
    topic: PubsubTopic | None
    """None where the content topic decides, by autosharding."""
    message: bytes
    """An encoded WakuMessage."""


@dataclass(frozen=True, slots=True)
class PushReply:
    request_id: str
    status: int
    description: str = ""
    relay_peers: int = 0
    """That the message was offered to."""


# -- Judging a request ---------------------------------------------------------


def admit_push(
    push: Push, followed: Container[PubsubTopic], *, cluster: int, shards: int, now_ns: int
) -> tuple[PubsubTopic, bytes] | PushReply:
    """Return topic and message to publish, or the refusal. A message without a timestamp gets ours."""
    if len(push.message) > MAX_MESSAGE_BYTES:
        problem = f"message of {len(push.message)} bytes, the limit is {MAX_MESSAGE_BYTES}"
        return PushReply(push.request_id, PushStatus.PAYLOAD_TOO_LARGE, problem)
    message = decode_message(push.message)
    if isinstance(message, Reject):
        return PushReply(push.request_id, PushStatus.BAD_REQUEST, message.reason)
    topic = push.topic or _autosharded(message, cluster, shards)
    if isinstance(topic, Reject):
        return PushReply(push.request_id, PushStatus.BAD_REQUEST, topic.reason)
    if topic not in followed:
        return PushReply(push.request_id, PushStatus.UNSUPPORTED_TOPIC, f"{topic} is not relayed here")
    stamped = push.message if message.timestamp_ns else encode_message(replace(message, timestamp_ns=now_ns))
    return topic, stamped


def _autosharded(message: WakuMessage, cluster: int, shards: int) -> PubsubTopic | Reject:
    shard = autoshard(message.content_topic, shards)
    return shard if isinstance(shard, Reject) else pubsub_topic(cluster, shard)


# -- Version 3 -----------------------------------------------------------------

_ID, _STATUS, _DESCRIPTION, _PEERS, _TOPIC, _MESSAGE = 1, 10, 11, 12, 20, 21


def encode_push(push: Push) -> bytes:
    topic = b"" if push.topic is None else wire.text_field(_TOPIC, push.topic)
    return wire.text_field(_ID, push.request_id) + topic + wire.bytes_field(_MESSAGE, push.message)


def decode_push(data: bytes) -> Push | PushReply:
    """A PushReply is the refusal to answer with."""
    try:
        found = wire.singular(data, frozenset((_ID, _TOPIC, _MESSAGE)))
        return Push(read_request_id(found.get(_ID)), _read_topic(found.get(_TOPIC)), wire.as_bytes(found[_MESSAGE]))
    except (wire.Malformed, KeyError) as fault:
        return PushReply(NO_ID, PushStatus.BAD_REQUEST, f"no push: {fault}")


def encode_push_reply(reply: PushReply) -> bytes:
    out = wire.text_field(_ID, reply.request_id) + wire.varint_field(_STATUS, reply.status)
    if reply.description:
        out += wire.text_field(_DESCRIPTION, reply.description)
    if reply.status == PushStatus.SUCCESS:
        out += wire.varint_field(_PEERS, reply.relay_peers)
    return out


def decode_push_reply(data: bytes) -> PushReply | Reject:
    try:
        found = wire.singular(data, frozenset((_ID, _STATUS, _DESCRIPTION, _PEERS)))
        return PushReply(
            read_request_id(found.get(_ID)),
            wire.as_int(found.get(_STATUS, 0)),
            read_description(found.get(_DESCRIPTION)),
            wire.as_int(found.get(_PEERS, 0)),
        )
    except wire.Malformed as fault:
        return Reject(f"no answer to a push: {fault}")


# -- Version 2 -----------------------------------------------------------------

_REQUEST, _RESPONSE = 2, 3


def encode_push_v2(push: Push) -> bytes:
    inner = wire.text_field(1, push.topic or "") + wire.bytes_field(2, push.message)
    return wire.text_field(_ID, push.request_id) + wire.bytes_field(_REQUEST, inner)


def decode_push_v2(data: bytes) -> Push | PushReply:
    try:
        outer = wire.singular(data, frozenset((_ID, _REQUEST, _RESPONSE)))
        inner = wire.singular(wire.as_bytes(outer[_REQUEST]), frozenset((1, 2)))
        topic = _read_topic(inner.get(1) or None)
        return Push(read_request_id(outer.get(_ID)), topic, wire.as_bytes(inner[2]))
    except (wire.Malformed, KeyError) as fault:
        return PushReply(NO_ID, PushStatus.BAD_REQUEST, f"no push: {fault}")


def encode_push_reply_v2(reply: PushReply) -> bytes:
    success = reply.status == PushStatus.SUCCESS
    inner = wire.varint_field(1, int(success)) + wire.text_field(2, reply.description or ("OK" if success else ""))
    return wire.text_field(_ID, reply.request_id) + wire.bytes_field(_RESPONSE, inner)


def decode_push_reply_v2(data: bytes) -> PushReply | Reject:
    """A refusal comes out as INTERNAL_ERROR: version 2 knows no more."""
    try:
        outer = wire.singular(data, frozenset((_ID, _REQUEST, _RESPONSE)))
        inner = wire.singular(wire.as_bytes(outer[_RESPONSE]), frozenset((1, 2)))
        status = PushStatus.SUCCESS if wire.as_int(inner.get(1, 0)) else PushStatus.INTERNAL_ERROR
        return PushReply(read_request_id(outer.get(_ID)), status, read_description(inner.get(2)))
    except (wire.Malformed, KeyError) as fault:
        return Reject(f"no answer to a push: {fault}")


# -- Fields that the request protocols share -----------------------------------


def read_request_id(value: int | bytes | None) -> str:
    """Raises Malformed."""
    raw = wire.as_bytes(value or b"")
    if len(raw) > MAX_REQUEST_ID_BYTES:
        raise wire.Malformed(f"request id of {len(raw)} bytes")
    return wire.decode_text(raw)


def read_description(value: int | bytes | None) -> str:
    """Raises Malformed."""
    return wire.decode_text(wire.as_bytes(value or b"")[:1024])


def _read_topic(value: int | bytes | None) -> PubsubTopic | None:
    if value is None:
        return None
    raw = wire.as_bytes(value)
    if not 0 < len(raw) <= MAX_TOPIC_BYTES:
        raise wire.Malformed(f"pubsub topic of {len(raw)} bytes")
    return PubsubTopic(wire.decode_text(raw))
