"""Update codecs: exact both ways, no drift, no bytes that make the decoder raise."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols import codec, exact, topk
from protocols.codec import BLOCK, CODECS, MAX_ABS, MAX_Q, MAX_SHIFT, Integers
from protocols.verdict import Reject

INT8 = CODECS["int8"]
names = st.sampled_from(sorted(CODECS))

lengths = st.integers(1, 700) | st.sampled_from([1023, 1024, 1025, 2100])
totals = lengths.flatmap(lambda n: hnp.arrays(np.int64, n, elements=st.integers(-(2**33), 2**33)))


@given(totals, names)
def test_what_is_encoded_decodes_to_what_the_encoder_said(total: Integers, name: str) -> None:
    update, decoded = CODECS[name].encode(total)
    again = CODECS[name].decode(update, len(total))
    assert isinstance(again, np.ndarray)
    assert again.dtype == decoded.dtype == np.int64
    np.testing.assert_array_equal(again, decoded)


@given(totals)
def test_exact_is_exact(total: Integers) -> None:
    compressed = codec.compress(CODECS["exact"], total, np.zeros_like(total))
    assert not compressed.error.any()
    np.testing.assert_array_equal(CODECS["exact"].decode(compressed.update, len(total)), total)


@pytest.mark.parametrize(
    ("update", "length"),
    [
        (b"", 1),
        (b"\0\0", 1),
        (bytes([1]), 1),
        (bytes([1, 0b10]), 1),
        (bytes([exact.MAX_WIDTH + 1]) + bytes(exact.MAX_WIDTH + 1), 1),
        (bytes([exact.MAX_WIDTH]) + b"\1" * exact.MAX_WIDTH, 1),
    ],
)
def test_what_exact_never_writes_is_refused(update: bytes, length: int) -> None:
    assert isinstance(CODECS["exact"].decode(update, length), Reject)


@given(totals)
def test_the_error_is_half_a_quantum_of_its_block(total: Integers) -> None:
    update, error = codec.compress(INT8, total, np.zeros_like(total))
    for start in range(0, len(total), BLOCK):
        shift = update[start // BLOCK * (BLOCK + 1)]
        assert np.abs(error[start : start + BLOCK]).max() <= (1 << shift) >> 1


@given(totals)
def test_the_shift_is_the_smallest(total: Integers) -> None:
    update, decoded = INT8.encode(total)
    for start in range(0, len(total), BLOCK):
        shift = update[start // BLOCK * (BLOCK + 1)]
        assert shift == 0 or np.abs(decoded[start : start + BLOCK]).max() > MAX_Q // 2 << shift


@given(totals, names)
def test_encoding_is_symmetric(total: Integers, name: str) -> None:
    np.testing.assert_array_equal(CODECS[name].encode(-total)[1], -CODECS[name].encode(total)[1])


@given(st.binary(max_size=600), st.integers(1, 600), names)
def test_any_bytes_are_a_value(data: bytes, length: int, name: str) -> None:
    decoded = CODECS[name].decode(data, length)
    assert isinstance(decoded, Reject) or (len(decoded) == length and np.abs(decoded).max() <= MAX_ABS)


@given(st.data(), st.integers(1, 600))
def test_bytes_of_the_right_length_are_a_value(data: st.DataObject, length: int) -> None:
    size = length + -(-length // BLOCK)
    decoded = INT8.decode(data.draw(st.binary(min_size=size, max_size=size)), length)
    assert isinstance(decoded, Reject) or (len(decoded) == length and np.abs(decoded).max() <= MAX_ABS)


@given(st.data(), totals, names)
def test_damaged_bytes_are_a_value(data: st.DataObject, total: Integers, name: str) -> None:
    update = bytearray(CODECS[name].encode(total)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        update[data.draw(st.integers(0, len(update) - 1))] = data.draw(st.integers(0, 255))
    decoded = CODECS[name].decode(bytes(update), len(total))
    assert isinstance(decoded, Reject) or (len(decoded) == len(total) and np.abs(decoded).max() <= MAX_ABS)


@pytest.mark.parametrize(
    ("update", "length"),
    [(b"", 1), (b"\0" * 3, 1), (bytes([MAX_SHIFT + 1, 1]), 1), (b"\x00\x80", 1), (b"\0" * 257, 257)],
)
def test_what_no_encoder_writes_is_refused(update: bytes, length: int) -> None:
    assert isinstance(INT8.decode(update, length), Reject)


def test_known_bytes() -> None:
    """The same on every platform: this vector is the specification's."""
    total = np.array([0, 1, -1, 127, -128, 300, -301, 1000], np.int64)
    update, decoded = INT8.encode(total)
    assert update.hex() == "0300000010f026da7d"
    assert decoded.tolist() == [0, 0, 0, 128, -128, 304, -304, 1000]


@pytest.mark.parametrize(("name", "limit"), [("int8", 8), ("int8z", 8), ("top2", 20_000)])
def test_error_feedback_loses_nothing(name: str, limit: int) -> None:
    """Over rounds the sum of what was sent follows the sum of what was meant, though top2 sends a value in 32."""
    rng = np.random.default_rng(1)
    error = np.zeros(1000, np.int64)
    meant = np.zeros(1000, np.int64)
    sent = np.zeros(1000, np.int64)
    for _ in range(50):
        delta = rng.normal(0, 300, 1000).astype(np.int64)
        update, error = codec.compress(CODECS[name], delta, error)
        decoded = CODECS[name].decode(update, 1000)
        assert isinstance(decoded, np.ndarray)
        meant += delta
        sent += decoded
    np.testing.assert_array_equal(meant - sent, error)
    assert np.abs(error).max() <= limit


def test_extremes_of_32_bits_are_not_cut() -> None:
    widest = np.array([2**32 + 2**26, -(2**32) - 2**26], np.int64)
    _, error = codec.compress(INT8, widest, np.zeros(2, np.int64))
    assert np.abs(error).max() <= 1 << (MAX_SHIFT - 1)
    _, decoded = INT8.encode(np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max]))
    assert decoded.tolist() == [-MAX_ABS, MAX_ABS]


# -- top2 ----------------------------------------------------------------------


@given(totals)
def test_the_largest_are_kept_within_a_factor(total: Integers) -> None:
    _, decoded = CODECS["top2"].encode(total)
    for start in range(0, len(total), topk.CHUNK):
        before, after = np.abs(total[start : start + topk.CHUNK]), decoded[start : start + topk.CHUNK]
        assert np.count_nonzero(after) <= topk.KEPT
        if len(before) > topk.KEPT and np.any(after):
            assert before[after == 0].max() <= before[after != 0].min()


def test_top2_is_38_bytes_of_1024() -> None:
    total = np.zeros(1024, np.int64)
    total[:32] = 80
    total[5] = -2000
    update, decoded = CODECS["top2"].encode(total)
    remainders, values = "041182519c1495a359de0c5392d5bd1cd7b3ddff", "0030000000000000"
    assert update.hex() == "3258" + "ffffffff00000000" + remainders + values
    assert len(update) == topk.CHUNK_BYTES == 38
    assert decoded[5] == -2048
    assert set(decoded[[0, 31]].tolist()) == {80}


@pytest.mark.parametrize(("where", "what"), [(2, 0x7F), (10, 0xFF), (9, 0x01)])
def test_top2_positions_are_all_there_and_ascend(where: int, what: int) -> None:
    update = bytearray(CODECS["top2"].encode(np.arange(1024))[0])
    update[where] = what
    assert isinstance(CODECS["top2"].decode(bytes(update), 1024), Reject)


# -- int8z ---------------------------------------------------------------------


def test_int8z_pays_where_values_are_uneven() -> None:
    total = np.random.default_rng(1).laplace(0, 60, 20_000).astype(np.int64)
    assert len(CODECS["int8z"].encode(total)[0]) < 0.85 * len(INT8.encode(total)[0])


def test_a_stream_is_one_and_of_its_size() -> None:
    update, _ = CODECS["int8z"].encode(np.arange(600))
    bomb = zlib.compress(bytes(10_000_000))
    for wrong in (update[:-1], update + b"\0", update + update, bomb, zlib.compress(b""), b""):
        assert isinstance(CODECS["int8z"].decode(wrong, 600), Reject)
