"""Waku messages: the specifications' vectors, Google's protobuf as the oracle, and nothing that raises."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import example, given
from hypothesis import strategies as st

from protocols import waku
from protocols.ids import ContentTopic, Digest, PubsubTopic
from protocols.verdict import Reject
from protocols.waku import (
    MAX_MESSAGE_BYTES,
    Metadata,
    WakuMessage,
    autoshard,
    content_topic,
    decode_message,
    decode_metadata,
    encode_message,
    encode_metadata,
    job_shard,
    message_hash,
    pubsub_topic,
)

# -- The oracle ----------------------------------------------------------------

_F = descriptor_pb2.FieldDescriptorProto
_FILE = descriptor_pb2.FileDescriptorProto(name="waku.proto", package="waku.v2", syntax="proto3")


def _message(name: str, *fields: tuple[str, int, int, int]) -> None:
    added = _FILE.message_type.add(name=name)
    for field, number, kind, label in fields:
        added.field.add(name=field, number=number, type=kind, label=label)


_message(
    "WakuMessage",
    ("payload", 1, _F.TYPE_BYTES, _F.LABEL_OPTIONAL),
    ("content_topic", 2, _F.TYPE_STRING, _F.LABEL_OPTIONAL),
    ("version", 3, _F.TYPE_UINT32, _F.LABEL_OPTIONAL),
    ("timestamp", 10, _F.TYPE_SINT64, _F.LABEL_OPTIONAL),
    ("meta", 11, _F.TYPE_BYTES, _F.LABEL_OPTIONAL),
    ("rate_limit_proof", 21, _F.TYPE_BYTES, _F.LABEL_OPTIONAL),
    ("ephemeral", 31, _F.TYPE_BOOL, _F.LABEL_OPTIONAL),
)
_message(
    "Metadata", ("cluster_id", 1, _F.TYPE_UINT32, _F.LABEL_OPTIONAL), ("shards", 2, _F.TYPE_UINT32, _F.LABEL_REPEATED)
)
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_FILE)
Oracle = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("waku.v2.WakuMessage"))
MetadataOracle = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("waku.v2.Metadata"))

topics = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).map(ContentTopic)
messages = st.builds(
    WakuMessage,
    payload=st.binary(max_size=300),
    content_topic=topics,
    version=st.integers(0, 2**32 - 1),
    timestamp_ns=st.integers(0, 2**63 - 1),
    meta=st.binary(max_size=64),
    rate_limit_proof=st.binary(max_size=40),
    ephemeral=st.booleans(),
)
SAMPLE = WakuMessage(b"payload", content_topic("job"), 0, 1_700_000_000_000_000_000, b"meta")

# -- Messages ------------------------------------------------------------------


@given(messages)
def test_messages_come_back(message: WakuMessage) -> None:
    assert decode_message(encode_message(message)) == message


@given(messages)
def test_protobuf_reads_ours_and_we_read_protobufs(message: WakuMessage) -> None:
    oracle = Oracle.FromString(encode_message(message))
    assert (oracle.payload, oracle.content_topic, oracle.version, oracle.timestamp) == (
        message.payload,
        message.content_topic,
        message.version,
        message.timestamp_ns,
    )
    assert (oracle.meta, oracle.rate_limit_proof, oracle.ephemeral) == (
        message.meta,
        message.rate_limit_proof,
        message.ephemeral,
    )
    assert decode_message(oracle.SerializeToString()) == message


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(data: bytes) -> None:
    assert isinstance(decode_message(data), WakuMessage | Reject)
    assert isinstance(decode_metadata(data), Metadata | Reject)


@given(messages, st.data())
def test_mutations_never_raise_and_truncation_is_seen(message: WakuMessage, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(decode_message(bytes(encoded)), WakuMessage | Reject)


def test_unknown_fields_are_skipped() -> None:
    encoded = encode_message(SAMPLE)
    assert decode_message(b"\xfa\x02\x03new\xf0\x03\x07\xfd\x02abcd\xf9\x02abcdefgh" + encoded) == SAMPLE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "content topic"),
        (b"\x0a\x01x", "content topic"),
        (b"\x12\x02\xff\xfe", "UTF-8"),
        (b"\x12\x01a\x12\x01b", "twice"),
        (b"\x10\x01", "a number where"),
        (b"\x12\x01a\x1a\x01b", "bytes where"),
        (b"\x12\x01a\x18\x80\x80\x80\x80\x10", "32 bits"),
        (b"\x12\x01a\x50\x01", "epoch"),
        (b"\x12\x01a\xf8\x01\x02", "ephemeral"),
        (b"\x12\x01a\x5a\x41" + bytes(65), "meta"),
        (b"\x12\x05a", "truncated field"),
        (b"\x12\x01a\x18", "truncated varint"),
        (b"\x12\x01a\x18" + b"\x80" * 10 + b"\x01", "overlong"),
        (b"\x12\x01a\x18" + b"\xff" * 9 + b"\x7f", "64 bits"),
        (b"\x12\x01a\x0b", "wire type"),
        (b"\x12\x01a\x00\x01", "field number"),
        (b"\x12\x01a\x3dab", "truncated field"),
        (b"\x12\x82\x02" + b"a" * 258, "258 bytes"),
        (bytes(MAX_MESSAGE_BYTES + 1), "the limit is"),
    ],
)
def test_what_is_no_message_is_rejected_with_a_reason(data: bytes, reason: str) -> None:
    verdict = decode_message(data)
    assert isinstance(verdict, Reject)
    assert reason in verdict.reason


# -- Hash and shards -----------------------------------------------------------

TOPIC = PubsubTopic("/waku/2/default-waku/proto")
CONTENT = ContentTopic("/waku/2/default-content/proto")
PAYLOAD, META, STAMP = bytes.fromhex("010203045445535405060708"), b"super-secret", 0x175789BFA23F8400


@pytest.mark.parametrize(
    ("payload", "meta", "expected"),
    [  # 14/WAKU2-MESSAGE, "Test vectors"
        (PAYLOAD, META, "64cce733fed134e83da02b02c6f689814872b1a0ac97ea56b76095c3c72bfe05"),
        (PAYLOAD, bytes(range(64)), "7158b6498753313368b9af8f6e0a0a05104f68f972981da42a43bc53fb0c1b27"),
        (PAYLOAD, b"", "a2554498b31f5bcdfcbf7fa58ad1c2d45f0254f3f8110a85588ec3cf10720fd8"),
        (b"", META, "483ea950cb63f9b9d6926b262bb36194d3f40a0463ce8446228350bd44e96de4"),
    ],
)
def test_hash_vectors(payload: bytes, meta: bytes, expected: str) -> None:
    assert message_hash(TOPIC, WakuMessage(payload, CONTENT, 0, STAMP, meta)).hex() == expected


@pytest.mark.parametrize(
    ("topic", "shard"),
    [  # nwaku's and go-waku's own vectors, 8 shards
        ("/toychat/2/huilong/proto", 3),
        ("/0/toychat/2/huilong/proto", 3),
        ("/toychat2/2/huilong/proto", 6),
        ("/0/toychat2/2/huilong/proto", 6),
        ("/toychat/2/huilong/proto2", 3),
        ("/0/toychat/4/huilong/proto2", 7),
    ],
)
def test_autoshard_vectors(topic: str, shard: int) -> None:
    assert autoshard(ContentTopic(topic), 8) == shard


@pytest.mark.parametrize(
    "bad", ["", "invalid", "/a/b/c", "/a//c/d", "/1/a/2/b/proto", "a/b/c/d/e", "0/a/b/c/d", "//b/c/d"]
)
def test_what_is_no_content_topic_has_no_shard(bad: str) -> None:
    assert isinstance(autoshard(ContentTopic(bad), 8), Reject)


def test_our_topics() -> None:
    assert pubsub_topic(1717, 3) == "/waku/2/rs/1717/3"
    assert content_topic("update") == "/skynet/1/update/msgpack"
    lobby = {autoshard(content_topic(kind), 8) for kind in ("hello", "job", "update")}
    assert lobby == {autoshard(content_topic("x"), 8)}  # every kind on one shard: why jobs have static ones


@given(st.binary(min_size=32, max_size=32), st.integers(1, 1024))
def test_job_shards_are_within_range(digest: bytes, shards: int) -> None:
    assert job_shard(Digest(digest), shards) == int(digest.hex(), 16) % shards


def test_job_shards_spread() -> None:
    assert {job_shard(Digest(bytes(31) + bytes([n])), 8) for n in range(8)} == set(range(8))


# -- Metadata ------------------------------------------------------------------

metadatas = st.builds(
    Metadata,
    st.none() | st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple),
)


@given(metadatas)
@example(Metadata(0, ()))
def test_metadata_comes_back_and_protobuf_agrees(metadata: Metadata) -> None:
    encoded = encode_metadata(metadata)
    assert decode_metadata(encoded) == metadata
    oracle = MetadataOracle.FromString(encoded)
    assert (oracle.cluster_id, tuple(oracle.shards)) == (metadata.cluster or 0, metadata.shards)


def test_shards_are_written_unpacked_for_js_and_read_both_ways() -> None:
    assert encode_metadata(Metadata(1717, (1, 2))) == b"\x08\xb5\x0d\x10\x01\x10\x02"
    assert decode_metadata(b"\x08\xb5\x0d\x12\x02\x01\x02") == Metadata(1717, (1, 2))


@pytest.mark.parametrize("data", [b"\x08\x80\x80\x80\x80\x10", b"\x12\x01\x80", b"\x0a\x01x", bytes(8193)])
def test_bad_metadata_is_rejected(data: bytes) -> None:
    assert isinstance(decode_metadata(data), Reject)


def test_the_public_constants_are_wakus() -> None:
    assert (waku.RELAY, waku.METADATA) == ("/vac/waku/relay/2.0.0", "/vac/waku/metadata/1.0.0")
