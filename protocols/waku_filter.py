"""Filter: a light peer names content topics, and a full one pushes it every message on them.

    stranger --SUBSCRIBE--> subscriber --UNSUBSCRIBE of all, silence, pushes that fail--> stranger

A subscriber that neither asks nor pings for SUBSCRIPTION_S is forgotten; being disconnected for less doesn't matter.
State changes in place, as in `waku_relay`: a copy for every request would cost more than the request.

Source: 12/WAKU2-FILTER. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import IntEnum

from protocols import waku_wire as wire
from protocols.ids import ContentTopic, PeerId, PubsubTopic
from protocols.verdict import Reject
from protocols.waku import MAX_MESSAGE_BYTES, MAX_TOPIC_BYTES
from protocols.waku_lightpush import NO_ID, read_description, read_request_id

FILTER_SUBSCRIBE = "/vac/waku/filter-subscribe/2.0.0-beta1"
FILTER_PUSH = "/vac/waku/filter-push/2.0.0-beta1"

MAX_CONTENT_TOPICS = 100  # in a request, as nwaku has it
MAX_CRITERIA = 1000  # of a peer
MAX_SUBSCRIBERS = 1000  # each may cost a stream a message
MAX_FILTER_BYTES = 64 * 1024  # 100 content topics of the largest size, and room
MAX_PUSHED_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
SUBSCRIPTION_S = 300.0  # nwaku's; js pings every minute
FAILED_PUSHES = 3  # in a row, of a peer that is connected; then it is forgotten


class FilterKind(IntEnum):
    PING = 0
    SUBSCRIBE = 1
    UNSUBSCRIBE = 2
    UNSUBSCRIBE_ALL = 3


class FilterStatus(IntEnum):
    SUCCESS = 200
    BAD_REQUEST = 400
    NOT_FOUND = 404
    TOO_MANY_REQUESTS = 429
    UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class FilterRequest:
    request_id: str
    kind: FilterKind
    topic: PubsubTopic | None = None
    content_topics: tuple[ContentTopic, ...] = ()


@dataclass(frozen=True, slots=True)
class FilterReply:
    request_id: str
    status: int
    description: str = "OK"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a subscriber gets."""

    topic: PubsubTopic
    message: bytes
    """An encoded WakuMessage."""


# -- Subscribers ---------------------------------------------------------------

Criterion = tuple[PubsubTopic, ContentTopic]


@dataclass(slots=True)
class _Subscriber:
    until_s: float
    criteria: dict[Criterion, None] = field(default_factory=dict)
    failures: int = 0


class Subscribers:
    """Who wants what. `followed` are the pubsub topics that we relay: others can't be subscribed to."""

    def __init__(self, followed: Container[PubsubTopic]) -> None:
        self._followed = followed
        self._subscribers: dict[PeerId, _Subscriber] = {}
        self._wanted: dict[Criterion, dict[PeerId, None]] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    def knows(self, peer: PeerId) -> bool:
        return peer in self._subscribers

    def handle(self, peer: PeerId, request: FilterRequest, now_s: float) -> FilterReply:
        match request.kind:
            case FilterKind.SUBSCRIBE:
                fault = self._subscribe(peer, request, now_s)
            case FilterKind.UNSUBSCRIBE:
                fault = self._unsubscribe(peer, request)
            case FilterKind.UNSUBSCRIBE_ALL:
                fault = self._known(peer)
                self.forget(peer)
            case FilterKind.PING:
                fault = self._known(peer)
        if peer in self._subscribers:
            self._subscribers[peer].until_s = now_s + SUBSCRIPTION_S
        return FilterReply(request.request_id, *fault) if fault else FilterReply(request.request_id, 200)

    def wanting(self, topic: PubsubTopic, content_topic: ContentTopic) -> tuple[PeerId, ...]:
        return tuple(self._wanted.get((topic, content_topic), ()))

    def note_push(self, peer: PeerId, *, arrived: bool) -> None:
        """A push to a connected peer has succeeded or failed."""
        subscriber = self._subscribers.get(peer)
        if subscriber is None:
            return
        subscriber.failures = 0 if arrived else subscriber.failures + 1
        if subscriber.failures >= FAILED_PUSHES:
            self.forget(peer)

    def forget(self, peer: PeerId) -> None:
        subscriber = self._subscribers.pop(peer, None)
        for criterion in () if subscriber is None else subscriber.criteria:
            self._drop(criterion, peer)

    def expire(self, now_s: float) -> None:
        for peer in [p for p, subscriber in self._subscribers.items() if subscriber.until_s <= now_s]:
            self.forget(peer)

    def _subscribe(self, peer: PeerId, request: FilterRequest, now_s: float) -> tuple[FilterStatus, str] | None:
        named = _check_named(request)
        if isinstance(named, tuple):
            return named
        if request.topic not in self._followed:
            return FilterStatus.BAD_REQUEST, f"{request.topic} is not relayed here"
        criteria = [(named, content) for content in request.content_topics]
        known = self._subscribers.get(peer)
        if known is None and len(self._subscribers) >= MAX_SUBSCRIBERS:
            return FilterStatus.UNAVAILABLE, f"{MAX_SUBSCRIBERS} peers are subscribed here already"
        subscriber = known or _Subscriber(now_s)
        if len({**subscriber.criteria, **dict.fromkeys(criteria)}) > MAX_CRITERIA:
            return FilterStatus.UNAVAILABLE, f"more than {MAX_CRITERIA} content topics"
        self._subscribers[peer] = subscriber
        for criterion in criteria:
            subscriber.criteria[criterion] = None
            self._wanted.setdefault(criterion, {})[peer] = None
        return None

    def _unsubscribe(self, peer: PeerId, request: FilterRequest) -> tuple[FilterStatus, str] | None:
        named = _check_named(request)
        if isinstance(named, tuple):
            return named
        fault = self._known(peer)
        if fault:
            return fault
        criteria = self._subscribers[peer].criteria
        for criterion in ((named, content) for content in request.content_topics):
            if criterion in criteria:
                del criteria[criterion]
                self._drop(criterion, peer)
        if not criteria:
            self.forget(peer)
        return None

    def _known(self, peer: PeerId) -> tuple[FilterStatus, str] | None:
        return None if peer in self._subscribers else (FilterStatus.NOT_FOUND, "peer has no subscriptions")

    def _drop(self, criterion: Criterion, peer: PeerId) -> None:
        wanting = self._wanted[criterion]
        del wanting[peer]
        if not wanting:
            del self._wanted[criterion]


def _check_named(request: FilterRequest) -> PubsubTopic | tuple[FilterStatus, str]:
    if request.topic is None or not request.content_topics:
        return FilterStatus.BAD_REQUEST, "a pubsub topic and content topics must be named"
    if len(request.content_topics) > MAX_CONTENT_TOPICS:
        return FilterStatus.BAD_REQUEST, f"more than {MAX_CONTENT_TOPICS} content topics in a request"
    return request.topic


# -- Codec ---------------------------------------------------------------------

_ID, _KIND, _TOPIC, _CONTENT = 1, 2, 10, 11
_STATUS, _DESCRIPTION = 10, 11
_MESSAGE, _PUSHED_TOPIC = 1, 2


def encode_filter_request(request: FilterRequest) -> bytes:
    out = wire.text_field(_ID, request.request_id)
    if request.kind:
        out += wire.varint_field(_KIND, request.kind)
    if request.topic is not None:
        out += wire.text_field(_TOPIC, request.topic)
    return out + b"".join(wire.text_field(_CONTENT, topic) for topic in request.content_topics)


def decode_filter_request(data: bytes) -> FilterRequest | FilterReply:
    """A FilterReply is the refusal to answer with."""
    content: list[ContentTopic] = []
    found: dict[int, int | bytes] = {}
    try:
        for number, value in wire.fields(data):
            if number == _CONTENT:
                content.append(ContentTopic(read_topic(value)))
            elif number in (_ID, _KIND, _TOPIC):
                found[number] = value
        kind = wire.as_int(found.get(_KIND, 0))
        if kind not in list(FilterKind):
            raise wire.Malformed(f"request of kind {kind}")
        topic = PubsubTopic(read_topic(found[_TOPIC])) if _TOPIC in found else None
        return FilterRequest(read_request_id(found.get(_ID)), FilterKind(kind), topic, tuple(content))
    except wire.Malformed as fault:
        return FilterReply(NO_ID, FilterStatus.BAD_REQUEST, f"no request: {fault}")


def encode_filter_reply(reply: FilterReply) -> bytes:
    out = wire.text_field(_ID, reply.request_id) + wire.varint_field(_STATUS, reply.status)
    return out + wire.text_field(_DESCRIPTION, reply.description)


def decode_filter_reply(data: bytes) -> FilterReply | Reject:
    try:
        found = wire.singular(data, frozenset((_ID, _STATUS, _DESCRIPTION)))
        status = wire.as_int(found.get(_STATUS, 0))
        return FilterReply(read_request_id(found.get(_ID)), status, read_description(found.get(_DESCRIPTION)))
    except wire.Malformed as fault:
        return Reject(f"no answer of a filter: {fault}")


def encode_pushed(pushed: Pushed) -> bytes:
    return wire.bytes_field(_MESSAGE, pushed.message) + wire.text_field(_PUSHED_TOPIC, pushed.topic)


def decode_pushed(data: bytes) -> Pushed | Reject:
    try:
        found = wire.singular(data, frozenset((_MESSAGE, _PUSHED_TOPIC)))
        topic = PubsubTopic(read_topic(found.get(_PUSHED_TOPIC, b"")))
        return Pushed(topic, wire.as_bytes(found.get(_MESSAGE, b"")))
    except wire.Malformed as fault:
        return Reject(f"no pushed message: {fault}")


def read_topic(value: int | bytes) -> str:
    """Raises Malformed."""
    raw = wire.as_bytes(value)
    if not 0 < len(raw) <= MAX_TOPIC_BYTES:
        raise wire.Malformed(f"topic of {len(raw)} bytes")
    return wire.decode_text(raw)
