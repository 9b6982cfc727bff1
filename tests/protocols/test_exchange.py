"""Requests: they come back as they were, hostile ones are verdicts."""

from __future__ import annotations

from typing import get_args

import pytest
from any_record import any_of, mutations
from hypothesis import given
from hypothesis import strategies as st

from protocols import record
from protocols.exchange import (
    MAX_GET,
    MAX_PUT_BYTES,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    PART_BYTES,
    Get,
    GetPart,
    GetPeers,
    GetSet,
    Put,
    Request,
    decode_request,
    encode_request,
    sealed_context,
    set_name,
)
from protocols.ids import ContentId, JobId, RoundNumber
from protocols.verdict import Reject

CONTENT = ContentId(bytes(32))
JOB = JobId(bytes(32))


def is_proper(request: Request) -> bool:
    return not isinstance(request, GetPart) or request.offset >= 0


@given(st.one_of(*map(any_of, get_args(Request))).filter(is_proper))
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(st.binary(max_size=200))
def test_random_bytes_are_a_request_or_a_verdict(data: bytes) -> None:
    assert isinstance(decode_request(data), Request | Reject)


@given(st.one_of(*map(any_of, get_args(Request))), st.data())
def test_mutated_bytes_are_a_request_or_a_verdict(request: Request, data: st.DataObject) -> None:
    decoded = decode_request(mutations(data.draw, encode_request(request)))
    assert isinstance(decoded, Request | Reject)
    if isinstance(decoded, GetSet):
        set_name(decoded.round)  # what the answer is sealed with: it must not raise


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([len(get_args(Request))]) + record.encode(GetPeers(1)),
        encode_request(Get((CONTENT,) * (MAX_GET + 1))),
        encode_request(GetPart(CONTENT, -1)),
        encode_request(GetSet(JOB, RoundNumber(-1))),
        encode_request(GetSet(JOB, RoundNumber(2**64))),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    assert isinstance(decode_request(data), Reject)


def test_the_order_of_requests_is_fixed() -> None:
    """The first byte names the kind: a new one goes to the end."""
    kinds = [decode_request(bytes([i]) + b"\x00") for i in range(len(get_args(Request)))]
    named = [k.reason.split(":")[0] for k in kinds if isinstance(k, Reject)]
    assert named == ["Get", "GetPart", "Put", "GetSealed", "GetSet", "GetResult", "GetPeers"]


def test_the_largest_put_fits_a_request() -> None:
    request = Put((bytes(MAX_PUT_BYTES),))
    assert len(encode_request(request)) <= MAX_REQUEST_BYTES
    assert decode_request(encode_request(request)) == request


def test_a_part_and_a_whole_put_fit_a_reply() -> None:
    assert max(PART_BYTES, MAX_PUT_BYTES) + 64 * 1024 <= MAX_REPLY_BYTES


def test_sealed_contexts_differ_by_what_is_sealed() -> None:
    other = JobId(b"j" * 32)
    names = [CONTENT, *(set_name(RoundNumber(n)) for n in (0, 1))]
    contexts = {sealed_context(job, name) for job in (JOB, other) for name in names}
    assert len(contexts) == 6
