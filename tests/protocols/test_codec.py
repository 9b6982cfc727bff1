"""Update codecs: exact both ways, no drift, no bytes that make the decoder raise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols import codec
from protocols.codec import BLOCK, CODECS, MAX_ABS, MAX_Q, MAX_SHIFT, Integers
from protocols.verdict import Reject

INT8 = CODECS["int8"]

lengths = st.integers(1, 700)
totals = lengths.flatmap(lambda n: hnp.arrays(np.int64, n, elements=st.integers(-(2**33), 2**33)))


@given(totals)
def test_what_is_encoded_decodes_to_what_the_encoder_said(total: Integers) -> None:
    update, decoded = INT8.encode(total)
    again = INT8.decode(update, len(total))
    assert isinstance(again, np.ndarray)
    assert again.dtype == decoded.dtype == np.int64
    np.testing.assert_array_equal(again, decoded)


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


@given(totals)
def test_encoding_is_symmetric(total: Integers) -> None:
    np.testing.assert_array_equal(INT8.encode(-total)[1], -INT8.encode(total)[1])


@given(st.binary(max_size=600), st.integers(1, 600))
def test_any_bytes_are_a_value(data: bytes, length: int) -> None:
    decoded = INT8.decode(data, length)
    assert isinstance(decoded, Reject) or (len(decoded) == length and np.abs(decoded).max() <= MAX_ABS)


@given(st.data(), st.integers(1, 600))
def test_bytes_of_the_right_length_are_a_value(data: st.DataObject, length: int) -> None:
    size = length + -(-length // BLOCK)
    decoded = INT8.decode(data.draw(st.binary(min_size=size, max_size=size)), length)
    assert isinstance(decoded, Reject) or (len(decoded) == length and np.abs(decoded).max() <= MAX_ABS)


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


def test_error_feedback_loses_nothing() -> None:
    """Over rounds the sum of what was sent follows the sum of what was meant."""
    rng = np.random.default_rng(1)
    error = np.zeros(1000, np.int64)
    meant = np.zeros(1000, np.int64)
    sent = np.zeros(1000, np.int64)
    for _ in range(50):
        delta = rng.normal(0, 300, 1000).astype(np.int64)
        update, error = codec.compress(INT8, delta, error)
        decoded = INT8.decode(update, 1000)
        assert isinstance(decoded, np.ndarray)
        meant += delta
        sent += decoded
    np.testing.assert_array_equal(meant - sent, error)
    assert np.abs(error).max() <= 8


def test_extremes_of_32_bits_are_not_cut() -> None:
    widest = np.array([2**32 + 2**26, -(2**32) - 2**26], np.int64)
    _, error = codec.compress(INT8, widest, np.zeros(2, np.int64))
    assert np.abs(error).max() <= 1 << (MAX_SHIFT - 1)
    _, decoded = INT8.encode(np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max]))
    assert decoded.tolist() == [-MAX_ABS, MAX_ABS]
