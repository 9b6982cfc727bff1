"""Frames: what goes in comes out, and no bytes make the parser raise."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import frames
from protocols.verdict import Reject

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), st.integers(-9, 9) | st.binary(), max_size=5))
def test_a_map_survives(message: dict[str, object]) -> None:
    frame = frames.encode_frame(message)
    assert frames.decode_length(frame[:4]) == len(frame) - 4
    assert frames.decode_body(frame[4:]) == message


@given(st.binary(max_size=200) | plain.map(msgpack.packb))
def test_any_bytes_are_a_value(body: bytes) -> None:
    assert isinstance(frames.decode_body(body), dict | Reject)
    assert isinstance(frames.decode_reply(body), dict | frames.Refusal | Reject)
    assert isinstance(frames.decode_request(body), tuple | Reject)


@given(st.binary(max_size=6))
def test_a_length_is_bounded(header: bytes) -> None:
    length = frames.decode_length(header)
    assert isinstance(length, Reject) or 0 < length <= frames.MAX_REPLY_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x81" * 2000,  # nested without an end
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"a": msgpack.Timestamp(1)}),
        msgpack.packb({"a": 1}) + b"\x00",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",  # an array that claims 2**32 items
        b"\x81\xa1\xff\x01",  # a key that is not UTF-8
        msgpack.packb({"a": [[[[[[[[[1]]]]]]]]]}),
    ],
)
def test_what_is_not_a_plain_map_is_refused(body: bytes) -> None:
    assert isinstance(frames.decode_body(body), Reject)


def test_request_and_replies() -> None:
    assert frames.decode_request(frames.request("train", {"h": 3})[4:]) == ("train", {"h": 3})
    assert frames.decode_reply(frames.done({"loss": 0.5})[4:]) == {"loss": 0.5}
    assert frames.decode_reply(frames.refused("bad\x1b[2J")[4:]) == frames.Refusal("bad?[2J")
    both = msgpack.packb({"done": {}, "refused": "no"})
    assert isinstance(frames.decode_reply(both), Reject)


def test_our_own_frame_has_a_limit() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        frames.encode_frame({"a": bytes(frames.MAX_REPLY_BYTES)})


def test_a_request_names_many_files() -> None:
    pages = ["/a/long/path/of/a/page" for _ in range(60_000)]
    request = frames.request("train", {"pages": pages})
    assert isinstance(frames.decode_length(request[:4]), Reject)
    assert frames.decode_length(request[:4], limit_bytes=frames.MAX_REQUEST_BYTES) == len(request) - 4
    assert frames.decode_request(request[4:]) == ("train", {"pages": pages})
    assert isinstance(frames.decode_reply(request[4:]), Reject)
