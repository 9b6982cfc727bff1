"""Store: questions about past messages, answered in pages.

Messages are ordered by (time, hash). A page is in this order whichever way the pages go; its cursor is the hash of its
last message, or of its first when paging backward, and comes with a page that isn't the last.

Source: 13/WAKU2-STORE, version 3. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from protocols import waku_wire as wire
from protocols.ids import ContentTopic, PubsubTopic
from protocols.verdict import Reject
from protocols.waku_filter import MAX_CONTENT_TOPICS, read_topic
from protocols.waku_lightpush import NO_ID, read_description, read_request_id

STORE = "/vac/waku/store-query/3.0.0"

PAGE, MAX_PAGE = 20, 100  # messages; nwaku's
PAGE_BYTES = 3 * 1024 * 1024  # js takes frames of 4 MiB; a page that would be larger ends earlier
MAX_STORE_REPLY_BYTES = 4 * 1024 * 1024
MAX_HASHES = 1000  # in a question
MAX_QUERY_BYTES = 128 * 1024
HASH_BYTES = 32


class StoreStatus(IntEnum):
    SUCCESS = 200
    BAD_REQUEST = 400
    TOO_MANY_REQUESTS = 429
    INTERNAL_ERROR = 500
    UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class StoreQuery:
    """By hash, or by what is set of topic, content topics and times, both of which are included."""

    request_id: str
    include_data: bool = False
    topic: PubsubTopic | None = None
    content_topics: tuple[ContentTopic, ...] = ()
    start_ns: int | None = None
    end_ns: int | None = None
    hashes: tuple[bytes, ...] = ()
    cursor: bytes | None = None
    forward: bool = False
    limit: int = PAGE
    """Messages of a page, at most MAX_PAGE."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    hash: bytes
    topic: PubsubTopic | None = None
    """With `message` only when data was asked for."""
    message: bytes | None = None
    """An encoded WakuMessage."""


@dataclass(frozen=True, slots=True)
class StoreReply:
    request_id: str
    status: int
    description: str = "OK"
    messages: tuple[StoredMessage, ...] = ()
    cursor: bytes | None = None
    """To ask for the next page with; None with the last one."""


# -- Question ------------------------------------------------------------------

_ID, _DATA, _TOPIC, _CONTENT, _START, _END, _HASHES = 1, 2, 10, 11, 12, 13, 20
_CURSOR, _FORWARD, _LIMIT = 51, 52, 53
_SINGULAR = frozenset((_ID, _DATA, _TOPIC, _START, _END, _CURSOR, _FORWARD, _LIMIT))


def encode_query(query: StoreQuery) -> bytes:
    out = [wire.text_field(_ID, query.request_id), wire.varint_field(_DATA, int(query.include_data))]
    if query.topic is not None:
        out.append(wire.text_field(_TOPIC, query.topic))
    out += [wire.text_field(_CONTENT, topic) for topic in query.content_topics]
    if query.start_ns is not None:
        out.append(wire.varint_field(_START, wire.encode_zigzag(query.start_ns)))
    if query.end_ns is not None:
        out.append(wire.varint_field(_END, wire.encode_zigzag(query.end_ns)))
    out += [wire.bytes_field(_HASHES, each) for each in query.hashes]
    if query.cursor is not None:
        out.append(wire.bytes_field(_CURSOR, query.cursor))
    out += [wire.varint_field(_FORWARD, int(query.forward)), wire.varint_field(_LIMIT, query.limit)]
    return b"".join(out)


def decode_query(data: bytes) -> StoreQuery | StoreReply:
    """A StoreReply is the refusal to answer with."""
    try:
        query = _read_query(data)
    except wire.Malformed as fault:
        return StoreReply(NO_ID, StoreStatus.BAD_REQUEST, f"no query: {fault}")
    fault_or_none = _find_contradiction(query)
    return StoreReply(query.request_id, StoreStatus.BAD_REQUEST, fault_or_none) if fault_or_none else query


def _read_query(data: bytes) -> StoreQuery:
    found: dict[int, int | bytes] = {}
    content: list[ContentTopic] = []
    hashes: list[bytes] = []
    for number, value in wire.fields(data):
        if number == _CONTENT:
            content.append(ContentTopic(read_topic(value)))
        elif number == _HASHES:
            hashes.append(_read_hash(value))
        elif number in _SINGULAR:
            found[number] = value
    limit = wire.as_int(found.get(_LIMIT, 0))
    return StoreQuery(
        request_id=read_request_id(found.get(_ID)),
        include_data=bool(wire.as_int(found.get(_DATA, 0))),
        topic=PubsubTopic(read_topic(found[_TOPIC])) if _TOPIC in found else None,
        content_topics=tuple(content),
        start_ns=wire.decode_zigzag(wire.as_int(found[_START])) if _START in found else None,
        end_ns=wire.decode_zigzag(wire.as_int(found[_END])) if _END in found else None,
        hashes=tuple(hashes),
        cursor=_read_hash(found[_CURSOR]) if found.get(_CURSOR) else None,
        forward=bool(wire.as_int(found.get(_FORWARD, 0))),
        limit=min(limit, MAX_PAGE) if limit else PAGE,
    )


def _find_contradiction(query: StoreQuery) -> str:
    filtered = bool(query.content_topics) or query.start_ns is not None or query.end_ns is not None
    if query.hashes and filtered:
        return "message hashes and a content filter exclude each other"
    if len(query.hashes) > MAX_HASHES or len(query.content_topics) > MAX_CONTENT_TOPICS:
        return f"more than {MAX_HASHES} hashes or {MAX_CONTENT_TOPICS} content topics"
    if query.start_ns is not None and query.end_ns is not None and query.start_ns > query.end_ns:
        return "the start lies behind the end"
    return ""


def _read_hash(value: int | bytes) -> bytes:
    raw = wire.as_bytes(value)
    if len(raw) != HASH_BYTES:
        raise wire.Malformed(f"hash of {len(raw)} bytes")
    return raw


# -- Answer --------------------------------------------------------------------

_STATUS, _DESCRIPTION, _MESSAGES = 10, 11, 20
_ENTRY_HASH, _ENTRY_MESSAGE, _ENTRY_TOPIC = 1, 2, 3


def encode_store_reply(reply: StoreReply) -> bytes:
    out = [wire.text_field(_ID, reply.request_id), wire.varint_field(_STATUS, reply.status)]
    out.append(wire.text_field(_DESCRIPTION, reply.description))
    out += [wire.bytes_field(_MESSAGES, _encode_entry(entry)) for entry in reply.messages]
    if reply.cursor is not None:
        out.append(wire.bytes_field(_CURSOR, reply.cursor))
    return b"".join(out)


def _encode_entry(entry: StoredMessage) -> bytes:
    out = wire.bytes_field(_ENTRY_HASH, entry.hash)
    if entry.message is not None:
        out += wire.bytes_field(_ENTRY_MESSAGE, entry.message)
    if entry.topic is not None:
        out += wire.text_field(_ENTRY_TOPIC, entry.topic)
    return out


def decode_store_reply(data: bytes) -> StoreReply | Reject:
    entries: list[StoredMessage] = []
    found: dict[int, int | bytes] = {}
    try:
        for number, value in wire.fields(data):
            if number == _MESSAGES:
                entries.append(_read_entry(wire.as_bytes(value)))
            else:
                found[number] = value
        if len(entries) > MAX_PAGE:
            return Reject(f"a page of {len(entries)} messages")
        return StoreReply(
            read_request_id(found.get(_ID)),
            wire.as_int(found.get(_STATUS, 0)),
            read_description(found.get(_DESCRIPTION)),
            tuple(entries),
            _read_hash(found[_CURSOR]) if found.get(_CURSOR) else None,
        )
    except wire.Malformed as fault:
        return Reject(f"no answer of a store: {fault}")


def _read_entry(data: bytes) -> StoredMessage:
    found = wire.singular(data, frozenset((_ENTRY_HASH, _ENTRY_MESSAGE, _ENTRY_TOPIC)))
    topic = PubsubTopic(read_topic(found[_ENTRY_TOPIC])) if _ENTRY_TOPIC in found else None
    message = wire.as_bytes(found[_ENTRY_MESSAGE]) if _ENTRY_MESSAGE in found else None
    return StoredMessage(_read_hash(found.get(_ENTRY_HASH, b"")), topic, message)
