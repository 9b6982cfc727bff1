"""Light push, filter and store: Google's protobuf as the oracle, the specifications' rules, and nothing that raises."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import ContentTopic, PeerId, PubsubTopic
from protocols.verdict import Reject
from protocols.waku import MAX_MESSAGE_BYTES, WakuMessage, decode_message, encode_message, pubsub_topic
from protocols.waku_allowance import Allowances
from protocols.waku_filter import (
    FAILED_PUSHES,
    FILTER_PUSH,
    FILTER_SUBSCRIBE,
    MAX_CONTENT_TOPICS,
    MAX_CRITERIA,
    MAX_SUBSCRIBERS,
    SUBSCRIPTION_S,
    FilterKind,
    FilterReply,
    FilterRequest,
    Pushed,
    Subscribers,
    decode_filter_reply,
    decode_filter_request,
    decode_pushed,
    encode_filter_reply,
    encode_filter_request,
    encode_pushed,
)
from protocols.waku_lightpush import (
    LIGHTPUSH,
    LIGHTPUSH_V2,
    NO_ID,
    Push,
    PushReply,
    PushStatus,
    admit_push,
    decode_push,
    decode_push_reply,
    decode_push_reply_v2,
    decode_push_v2,
    encode_push,
    encode_push_reply,
    encode_push_reply_v2,
    encode_push_v2,
)
from protocols.waku_store import (
    MAX_PAGE,
    PAGE,
    STORE,
    StoredMessage,
    StoreQuery,
    StoreReply,
    StoreStatus,
    decode_query,
    decode_store_reply,
    encode_query,
    encode_store_reply,
)

TOPIC, OTHER = pubsub_topic(1717, 0), pubsub_topic(1717, 1)
CHAT = ContentTopic("/chat/2/lobby/proto")
ALICE, BOB = PeerId("alice"), PeerId("bob")

# -- The oracle ----------------------------------------------------------------

_F = descriptor_pb2.FieldDescriptorProto
_KINDS = {"b": _F.TYPE_BYTES, "s": _F.TYPE_STRING, "u": _F.TYPE_UINT64, "z": _F.TYPE_SINT64, "?": _F.TYPE_BOOL}


def _schema() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="waku_service.proto", package="waku.service", syntax="proto3")

    def add(name: str, *fields: str) -> None:
        """Fields look like `s10 topic` or `b20* hashes`."""
        added = file.message_type.add(name=name)
        for field in fields:
            kind, label = field.split()
            repeated = _F.LABEL_REPEATED if "*" in kind else _F.LABEL_OPTIONAL
            added.field.add(name=label, number=int(kind[1:].strip("*")), type=_KINDS[kind[0]], label=repeated)

    add("Push", "s1 id", "s20 topic", "b21 message")
    add("PushReply", "s1 id", "u10 status", "s11 description", "u12 peers")
    add("PushV2", "s1 id", "b2 request", "b3 response")
    add("PushV2Request", "s1 topic", "b2 message")
    add("PushV2Response", "?1 success", "s2 info")
    add("Filter", "s1 id", "u2 kind", "s10 topic", "s11* content")
    add("FilterReply", "s1 id", "u10 status", "s11 description")
    add("Pushed", "b1 message", "s2 topic")
    add("Query", "s1 id", "?2 data", "s10 topic", "s11* content", "z12 start", "z13 end", "b20* hashes",
        "b51 cursor", "?52 forward", "u53 limit")  # fmt: skip
    add("StoreReply", "s1 id", "u10 status", "s11 description", "b20* messages", "b51 cursor")
    add("Stored", "b1 hash", "b2 message", "s3 topic")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"waku.service.{name}"))


ORACLE = _schema()

texts = st.text(st.characters(codec="utf-8"), max_size=20)
topics = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
hashes = st.binary(min_size=32, max_size=32)
times = st.integers(-(2**63), 2**63 - 1)

# -- Light push ----------------------------------------------------------------

pushes = st.builds(Push, texts, st.none() | topics.map(PubsubTopic), st.binary(max_size=60))
replies = st.builds(PushReply, texts, st.sampled_from(PushStatus), texts, st.just(0))


@given(pushes)
def test_a_push_comes_back_and_protobuf_agrees(push: Push) -> None:
    assert decode_push(encode_push(push)) == push
    oracle = ORACLE("Push").FromString(encode_push(push))
    assert (oracle.id, oracle.topic, oracle.message) == (push.request_id, push.topic or "", push.message)
    assert decode_push_v2(encode_push_v2(push)) == push
    outer = ORACLE("PushV2").FromString(encode_push_v2(push))
    inner = ORACLE("PushV2Request").FromString(outer.request)
    assert (outer.id, inner.topic, inner.message) == (push.request_id, push.topic or "", push.message)


@given(replies)
def test_an_answer_to_a_push_comes_back_and_protobuf_agrees(reply: PushReply) -> None:
    assert decode_push_reply(encode_push_reply(reply)) == reply
    oracle = ORACLE("PushReply").FromString(encode_push_reply(reply))
    assert (oracle.id, oracle.status, oracle.description) == (reply.request_id, reply.status, reply.description)
    outer = ORACLE("PushV2").FromString(encode_push_reply_v2(reply))
    inner = ORACLE("PushV2Response").FromString(outer.response)
    assert inner.success == (reply.status == 200)
    old = decode_push_reply_v2(encode_push_reply_v2(reply))
    assert isinstance(old, PushReply)
    assert (old.status == 200) == (reply.status == 200)


def admit(push: Push) -> tuple[PubsubTopic, bytes] | PushReply:
    return admit_push(push, {TOPIC}, cluster=1717, shards=8, now_ns=77)


def test_what_is_pushed_is_published_where_it_says_or_where_autosharding_says() -> None:
    message = encode_message(WakuMessage(b"hi", CHAT, timestamp_ns=5))
    assert admit(Push("1", TOPIC, message)) == (TOPIC, message)
    assert admit(Push("1", None, message)) == (TOPIC, message)


def test_a_message_without_a_timestamp_gets_ours() -> None:
    admitted = admit(Push("1", TOPIC, encode_message(WakuMessage(b"hi", CHAT, meta=b"m"))))
    assert isinstance(admitted, tuple)
    assert decode_message(admitted[1]) == WakuMessage(b"hi", CHAT, timestamp_ns=77, meta=b"m")


@pytest.mark.parametrize(
    ("push", "status"),
    [
        (Push("1", TOPIC, bytes(MAX_MESSAGE_BYTES + 1)), PushStatus.PAYLOAD_TOO_LARGE),
        (Push("1", TOPIC, b"\xff"), PushStatus.BAD_REQUEST),
        (Push("1", OTHER, encode_message(WakuMessage(b"", CHAT))), PushStatus.UNSUPPORTED_TOPIC),
        (Push("1", None, encode_message(WakuMessage(b"", ContentTopic("free")))), PushStatus.BAD_REQUEST),
    ],
)
def test_pushes_that_are_refused(push: Push, status: PushStatus) -> None:
    refused = admit(push)
    assert isinstance(refused, PushReply)
    assert (refused.request_id, refused.status) == ("1", status)


# -- Filter --------------------------------------------------------------------

contents = st.lists(topics.map(ContentTopic), max_size=5).map(tuple)
requests = st.builds(FilterRequest, texts, st.sampled_from(FilterKind), st.none() | topics.map(PubsubTopic), contents)


@given(requests)
def test_a_filter_request_comes_back_and_protobuf_agrees(request: FilterRequest) -> None:
    assert decode_filter_request(encode_filter_request(request)) == request
    oracle = ORACLE("Filter").FromString(encode_filter_request(request))
    assert (oracle.id, oracle.kind, oracle.topic) == (request.request_id, request.kind, request.topic or "")
    assert tuple(oracle.content) == request.content_topics


@given(texts, st.sampled_from([200, 400, 404, 503]), texts, topics, st.binary(max_size=50))
def test_answers_and_pushed_messages_come_back(
    identifier: str, status: int, text: str, topic: str, data: bytes
) -> None:
    reply, pushed = FilterReply(identifier, status, text), Pushed(PubsubTopic(topic), data)
    assert decode_filter_reply(encode_filter_reply(reply)) == reply
    assert decode_pushed(encode_pushed(pushed)) == pushed
    oracle = ORACLE("Pushed").FromString(encode_pushed(pushed))
    assert (oracle.message, oracle.topic) == (data, topic)


def subscribe(*content: ContentTopic, topic: PubsubTopic | None = TOPIC) -> FilterRequest:
    return FilterRequest("1", FilterKind.SUBSCRIBE, topic, content or (CHAT,))


def ask(kind: FilterKind, *content: ContentTopic) -> FilterRequest:
    return FilterRequest("1", kind, TOPIC, content)


def test_who_subscribed_gets_what_it_wants_until_it_says_otherwise() -> None:
    subscribers = Subscribers({TOPIC})
    second = ContentTopic("/chat/2/other/proto")
    assert subscribers.handle(ALICE, subscribe(CHAT, second), 0.0) == FilterReply("1", 200)
    assert subscribers.handle(BOB, subscribe(), 0.0).status == 200
    assert subscribers.wanting(TOPIC, CHAT) == (ALICE, BOB)
    assert subscribers.wanting(OTHER, CHAT) == ()
    assert subscribers.handle(ALICE, ask(FilterKind.UNSUBSCRIBE, CHAT), 1.0).status == 200
    assert (subscribers.wanting(TOPIC, CHAT), subscribers.wanting(TOPIC, second)) == ((BOB,), (ALICE,))
    assert subscribers.handle(BOB, ask(FilterKind.UNSUBSCRIBE_ALL), 1.0).status == 200
    assert subscribers.handle(BOB, ask(FilterKind.PING), 1.0).status == 404
    assert subscribers.handle(ALICE, ask(FilterKind.PING), 1.0).status == 200
    assert subscribers.handle(ALICE, ask(FilterKind.UNSUBSCRIBE, second), 1.0).status == 200
    assert len(subscribers) == 0


def test_a_silent_subscriber_is_forgotten_and_a_ping_keeps_it() -> None:
    subscribers = Subscribers({TOPIC})
    for peer in (ALICE, BOB):
        subscribers.handle(peer, subscribe(), 0.0)
    subscribers.handle(BOB, ask(FilterKind.PING), 200.0)
    subscribers.expire(SUBSCRIPTION_S)
    assert subscribers.wanting(TOPIC, CHAT) == (BOB,)


def test_one_that_takes_no_pushes_is_forgotten_and_one_that_takes_one_begins_anew() -> None:
    subscribers = Subscribers({TOPIC})
    subscribers.handle(ALICE, subscribe(), 0.0)
    for arrived in [False] * (FAILED_PUSHES - 1) + [True] + [False] * (FAILED_PUSHES - 1):
        subscribers.note_push(ALICE, arrived=arrived)
    assert subscribers.knows(ALICE)
    subscribers.note_push(ALICE, arrived=False)
    assert not subscribers.knows(ALICE)
    subscribers.note_push(ALICE, arrived=False)  # one that was under way


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (subscribe(topic=None), 400),
        (FilterRequest("1", FilterKind.SUBSCRIBE, TOPIC), 400),
        (subscribe(topic=OTHER), 400),
        (subscribe(*(ContentTopic(f"/a/1/{n}/x") for n in range(MAX_CONTENT_TOPICS + 1))), 400),
        (ask(FilterKind.UNSUBSCRIBE, CHAT), 404),
        (ask(FilterKind.UNSUBSCRIBE), 400),
        (ask(FilterKind.UNSUBSCRIBE_ALL), 404),
        (ask(FilterKind.PING), 404),
    ],
)
def test_filter_requests_that_are_refused(request_: FilterRequest, status: int) -> None:
    subscribers = Subscribers({TOPIC})
    assert subscribers.handle(ALICE, request_, 0.0).status == status
    assert len(subscribers) == 0


def test_subscriptions_are_bounded() -> None:
    subscribers = Subscribers({TOPIC})
    for start in range(0, MAX_CRITERIA, MAX_CONTENT_TOPICS):
        many = (ContentTopic(f"/a/1/{n}/x") for n in range(start, start + MAX_CONTENT_TOPICS))
        assert subscribers.handle(ALICE, subscribe(*many), 0.0).status == 200
    assert subscribers.handle(ALICE, subscribe(), 0.0).status == 503
    for n in range(MAX_SUBSCRIBERS - 1):
        assert subscribers.handle(PeerId(str(n)), subscribe(), 0.0).status == 200
    assert subscribers.handle(BOB, subscribe(), 0.0).status == 503
    assert subscribers.handle(ALICE, subscribe(ContentTopic("/a/1/0/x")), 0.0).status == 200  # nothing new


# -- Store ---------------------------------------------------------------------

by_hash = st.builds(
    StoreQuery, texts, st.booleans(), hashes=st.lists(hashes, min_size=1, max_size=3).map(tuple), forward=st.booleans()
)
by_content = st.builds(
    StoreQuery,
    texts,
    st.booleans(),
    st.none() | topics.map(PubsubTopic),
    contents,
    st.none() | times.filter(lambda t: t < 0),
    st.none() | times.filter(lambda t: t >= 0),
    cursor=st.none() | hashes,
    forward=st.booleans(),
    limit=st.integers(1, MAX_PAGE),
)


@given(by_hash | by_content)
def test_a_query_comes_back_and_protobuf_agrees(query: StoreQuery) -> None:
    assert decode_query(encode_query(query)) == query
    oracle = ORACLE("Query").FromString(encode_query(query))
    assert (oracle.id, oracle.data, oracle.topic) == (query.request_id, query.include_data, query.topic or "")
    assert (oracle.start, oracle.end) == (query.start_ns or 0, query.end_ns or 0)
    assert (tuple(oracle.content), tuple(oracle.hashes)) == (query.content_topics, query.hashes)
    assert (oracle.cursor, oracle.forward, oracle.limit) == (query.cursor or b"", query.forward, query.limit)


stored = st.builds(StoredMessage, hashes) | st.builds(
    StoredMessage, hashes, topics.map(PubsubTopic), st.binary(min_size=1, max_size=40)
)


@given(texts, st.sampled_from(StoreStatus), texts, st.lists(stored, max_size=4).map(tuple), st.none() | hashes)
def test_a_page_comes_back_and_protobuf_agrees(
    identifier: str, status: int, text: str, messages: tuple[StoredMessage, ...], cursor: bytes | None
) -> None:
    reply = StoreReply(identifier, status, text, messages, cursor)
    assert decode_store_reply(encode_store_reply(reply)) == reply
    oracle = ORACLE("StoreReply").FromString(encode_store_reply(reply))
    assert (oracle.status, oracle.cursor, len(oracle.messages)) == (status, cursor or b"", len(messages))
    for ours, theirs in zip(messages, map(ORACLE("Stored").FromString, oracle.messages), strict=True):
        assert (theirs.hash, theirs.message, theirs.topic) == (ours.hash, ours.message or b"", ours.topic or "")


@pytest.mark.parametrize(
    "query",
    [
        StoreQuery("7", hashes=(bytes(32),), content_topics=(CHAT,)),
        StoreQuery("7", hashes=(bytes(32),), start_ns=1),
        StoreQuery("7", start_ns=2, end_ns=1),
        StoreQuery("7", content_topics=(CHAT,) * (MAX_CONTENT_TOPICS + 1)),
    ],
)
def test_queries_that_contradict_themselves(query: StoreQuery) -> None:
    refused = decode_query(encode_query(query))
    assert isinstance(refused, StoreReply)
    assert (refused.request_id, refused.status) == ("7", 400)


def test_a_page_has_the_default_size_or_at_most_the_largest() -> None:
    for asked, granted in ((0, PAGE), (7, 7), (MAX_PAGE + 1, MAX_PAGE), (2**64 - 1, MAX_PAGE)):
        query = decode_query(encode_query(StoreQuery("", limit=asked)))
        assert isinstance(query, StoreQuery)
        assert query.limit == granted


# -- All -----------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_nothing_that_a_peer_sends_raises(data: bytes) -> None:
    assert isinstance(decode_push(data), Push | PushReply)
    assert isinstance(decode_push_v2(data), Push | PushReply)
    assert isinstance(decode_push_reply(data), PushReply | Reject)
    assert isinstance(decode_push_reply_v2(data), PushReply | Reject)
    assert isinstance(decode_filter_request(data), FilterRequest | FilterReply)
    assert isinstance(decode_filter_reply(data), FilterReply | Reject)
    assert isinstance(decode_pushed(data), Pushed | Reject)
    assert isinstance(decode_query(data), StoreQuery | StoreReply)
    assert isinstance(decode_store_reply(data), StoreReply | Reject)


def test_a_request_that_cannot_be_read_is_answered_all_the_same() -> None:
    for refused in (
        decode_push(b"\xff"),
        decode_push_v2(b"\xff"),
        decode_filter_request(b"\xff"),
        decode_query(b"\xff"),
    ):
        assert isinstance(refused, PushReply | FilterReply | StoreReply)
        assert (refused.request_id, refused.status) == (NO_ID, 400)


def test_a_megabyte_of_empty_fields_is_no_work() -> None:
    assert isinstance(decode_store_reply(b"\x12\x00" * 500_000), Reject)


def test_the_ids_are_those_of_the_specifications() -> None:
    assert LIGHTPUSH == "/vac/waku/lightpush/3.0.0"
    assert LIGHTPUSH_V2 == "/vac/waku/lightpush/2.0.0-beta1"
    assert FILTER_SUBSCRIBE == "/vac/waku/filter-subscribe/2.0.0-beta1"
    assert FILTER_PUSH == "/vac/waku/filter-push/2.0.0-beta1"
    assert STORE == "/vac/waku/store-query/3.0.0"
    statuses = {status.name: status.value for status in PushStatus}
    assert statuses == {
        "SUCCESS": 200, "BAD_REQUEST": 400, "PAYLOAD_TOO_LARGE": 413, "INVALID_MESSAGE": 420, "UNSUPPORTED_TOPIC": 421,
        "TOO_MANY_REQUESTS": 429, "INTERNAL_ERROR": 500, "UNAVAILABLE": 503, "NO_RLN_PROOF": 504, "NO_PEERS": 505,
    }  # fmt: skip


def test_an_allowance_is_a_burst_and_then_a_rate() -> None:
    allowances = Allowances(rate_s=2.0, burst=3)
    assert [allowances.take(ALICE, 0.0) for _ in range(4)] == [True, True, True, False]
    assert allowances.take(BOB, 0.0)
    assert [allowances.take(ALICE, 0.5) for _ in range(2)] == [True, False]
    assert [allowances.take(ALICE, 100.0) for _ in range(4)] == [True, True, True, False]
