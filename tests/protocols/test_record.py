"""Records: every type that travels comes back as it was, and no bytes make the decoder raise."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from any_record import any_of, mutations
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import record
from protocols.chain import Certificate, Entry, Evidence, ProofPolicy, Terms
from protocols.exchange import (
    Addresses,
    Blobs,
    CertifiedSet,
    Get,
    GetPart,
    GetPeers,
    GetResult,
    GetSealed,
    GetSet,
    Kept,
    Part,
    Put,
    Sealed,
)
from protocols.ids import Address, ContentId, Digest, RoundNumber
from protocols.message import KINDS, Envelope
from protocols.verdict import Reject

EXCHANGED = (Get, GetPart, Put, GetSealed, GetSet, GetResult, GetPeers)
REPLIES = (Blobs, Part, Kept, Sealed, Addresses, CertifiedSet)
TYPES = (*KINDS.values(), *EXCHANGED, *REPLIES, Envelope, Terms, Certificate, Evidence)
LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Old:
    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class New:
    name: str
    entries: tuple[Entry, ...]
    note: str = "none"
    pair: tuple[int, bool] | None = None


@dataclass(frozen=True, slots=True)
class Scalars:
    number: int = 0
    share: float = 0.0
    flag: bool = False
    round: RoundNumber = RoundNumber(0)  # noqa: RUF009 - a NewType call is the identity
    worker: Address = Address("0x" + 40 * "0")  # noqa: RUF009 - the same
    content: ContentId = ContentId(bytes(32))  # noqa: RUF009 - the same
    policy: ProofPolicy = ProofPolicy.EVALUATION


MANY = settings(max_examples=settings().max_examples * 5)


@MANY
@given(st.sampled_from(TYPES), st.data())
def test_what_is_encoded_is_decoded(kind: type, data: st.DataObject) -> None:
    value = data.draw(any_of(kind))
    encoded = record.encode(value)
    decoded = record.decode(kind, encoded, limit_bytes=LIMIT)
    assert decoded == value
    assert record.encode(decoded) == encoded


@MANY
@given(st.sampled_from(TYPES), st.data())
def test_mutated_bytes_are_a_value_or_a_verdict(kind: type, data: st.DataObject) -> None:
    encoded = mutations(data.draw, record.encode(data.draw(any_of(kind))))
    assert isinstance(record.decode(kind, encoded, limit_bytes=LIMIT), kind | Reject)


@given(st.sampled_from(TYPES), st.binary(max_size=300))
def test_random_bytes_are_a_value_or_a_verdict(kind: type, data: bytes) -> None:
    assert isinstance(record.decode(kind, data, limit_bytes=LIMIT), kind | Reject)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=6),
)


@given(st.sampled_from(TYPES), plain)
def test_any_msgpack_is_a_value_or_a_verdict(kind: type, value: Any) -> None:
    assert isinstance(record.decode(kind, msgpack.packb(value), limit_bytes=LIMIT), kind | Reject)


# -- Strictness ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, True),  # a boolean is no integer
        (0, "1"),
        (0, 1.0),
        (0, b"\x01"),
        (1, True),
        (1, "0.5"),
        (2, 1),
        (3, -1),  # a round is a uint32
        (3, 2**32),
        (4, "0x" + 39 * "0"),
        (4, "0x" + 38 * "0" + "zz"),  # this one made the prover's set root raise
        (4, "00" + 40 * "0"),
        (4, b"0x" + 40 * b"0"),
        (5, bytes(31)),
        (5, bytes(33)),
        (6, 99),
        (6, False),
        (6, [0]),
        (6, 0.0),
    ],
)
def test_what_is_of_another_type_is_refused(at: int, value: object) -> None:
    raw = record.encode(Scalars())
    wrong = msgpack.unpackb(raw)
    wrong[at] = value
    assert isinstance(record.decode(Scalars, raw, limit_bytes=LIMIT), Scalars)
    assert isinstance(record.decode(Scalars, msgpack.packb(wrong), limit_bytes=LIMIT), Reject)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        msgpack.packb({"number": 1}),
        msgpack.packb(["x", []]) + b"\x00",  # trailing
        msgpack.packb(["x"]),  # too few
        msgpack.packb([msgpack.ExtType(1, b"x"), []]),
        msgpack.packb(["x", {"a": 1}]),
        msgpack.packb([b"x", []]),
        b"\x92\xa1\xff\x90",  # not UTF-8
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    assert isinstance(record.decode(Old, data, limit_bytes=LIMIT), Reject)


def test_size_is_checked_before_parsing() -> None:
    assert isinstance(record.decode(Put, record.encode(Put(bytes(100))), limit_bytes=100), Reject)


def test_integers_of_the_chain_travel_as_32_bytes() -> None:
    for number in (2**64 - 1, 2**64, 2**256 - 1):
        assert record.decode(Scalars, record.encode(Scalars(number)), limit_bytes=LIMIT) == Scalars(number)


def test_a_list_is_bounded() -> None:
    most = record.encode(Get((ContentId(bytes(32)),) * record.MAX_ITEMS))
    more = record.encode(Get((ContentId(bytes(32)),) * (record.MAX_ITEMS + 1)))
    assert isinstance(record.decode(Get, most, limit_bytes=LIMIT), Get)
    assert isinstance(record.decode(Get, more, limit_bytes=LIMIT), Reject)


def test_nested_headers_cost_little() -> None:
    """Each claims the largest array there is; the parser reserves what a header claims."""
    began_s = time.process_time()
    for _ in range(20):
        assert isinstance(record.decode(Old, b"\xdc\xff\xff" * 1000, limit_bytes=LIMIT), Reject)
        assert isinstance(record.decode(Old, b"\x91" * 100_000, limit_bytes=LIMIT), Reject)
    assert time.process_time() - began_s < 1.0


# -- Versions ----------------------------------------------------------------------

ENTRIES = (Entry(Address("0x" + 40 * "a"), ContentId(bytes(32)), Digest(bytes(32))),)


def test_an_older_reader_ignores_what_it_does_not_know() -> None:
    encoded = record.encode(New("x", ENTRIES, "note", (1, True)))
    assert record.decode(Old, encoded, limit_bytes=LIMIT) == Old("x", ENTRIES)


def test_a_newer_reader_fills_in_what_is_missing() -> None:
    encoded = record.encode(Old("x", ENTRIES))
    assert record.decode(New, encoded, limit_bytes=LIMIT) == New("x", ENTRIES)
