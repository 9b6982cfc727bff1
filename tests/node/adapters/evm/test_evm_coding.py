from dataclasses import astuple, fields
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.evm.coding import ABIS, Unencodable, _events_by_topic, decode_event, encode_call, name_revert
from node.artifacts import load
from protocols import chain
from protocols.abi import encode_words
from protocols.chain import Apply, JobEnded, JobState, RegisterKey, RoundNulled, Unbond
from protocols.ids import JobId, RoundNumber, Wei
from protocols.keccak import keccak256

JOB = JobId(b"j" * 32)


def test_calldata_by_hand() -> None:
    assert encode_call(Apply(JOB)).data == keccak256(b"applyFor(bytes32)")[:4] + JOB
    encoded = encode_call(Unbond(Wei(7)))
    assert (encoded.contract, encoded.value_wei) == ("Workers", 0)
    assert encoded.data == keccak256(b"unbond(uint128)")[:4] + encode_words(7)
    assert encode_call(RegisterKey((1, 2))).data[4:] == encode_words(32, 2, 1, 2)


@pytest.mark.parametrize("word", [-1, 2**256])
def test_a_word_that_is_none(word: int) -> None:
    with pytest.raises(Unencodable):
        encode_call(RegisterKey((word,)))


def test_every_event_has_the_fields_of_its_log() -> None:
    for event, fragment in _events_by_topic().values():
        assert len(fields(event)) == len(fragment["inputs"]), event
    declared = {f["name"] for name in ("Jobs", "Workers") for f in load(name).abi if f["type"] == "event"}
    assert declared - {"EIP712DomainChanged"} == {event.__name__ for event, _ in _events_by_topic().values()}


def test_every_call_has_the_fields_of_its_function() -> None:
    for call in chain.Call.__args__:
        assert call in __import__("node.adapters.evm.coding", fromlist=["_FUNCTIONS"])._FUNCTIONS


def test_events() -> None:
    topic = keccak256(b"RoundNulled(bytes32,uint32,uint64)")
    assert decode_event([topic, JOB], encode_words(3, 99)) == RoundNulled(JOB, RoundNumber(3), 99)
    topic = keccak256(b"JobEnded(bytes32,uint8,uint256)")
    assert decode_event([topic, JOB], encode_words(7, 5)) == JobEnded(JOB, JobState.EXPIRED, Wei(5))
    assert decode_event([], b"") is None
    assert decode_event([keccak256(b"Else()")], b"") is None


@given(
    st.sampled_from(sorted(_events_by_topic())), st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=600)
)
def test_malformed_logs_raise_value_error_only(topic: bytes, topics: list[bytes], data: bytes) -> None:
    try:
        event = decode_event([topic, *topics], data)
    except ValueError:
        return
    assert event is not None
    assert astuple(event)


def test_reverts_have_names() -> None:
    assert name_revert(keccak256(b"NotSeated()")[:4]) == "NotSeated"
    assert name_revert(keccak256(b"TooEarly(uint64)")[:4] + encode_words(9)) == "TooEarly"
    assert name_revert(keccak256(b"Error(string)")[:4] + encode(["string"], ["no\nway"])) == "no way"
    assert name_revert(keccak256(b"Panic(uint256)")[:4] + encode_words(17)) == "Panic(17)"
    assert name_revert(b"") is None
    assert name_revert(b"\x12\x34\x56\x78") is None
    assert name_revert(keccak256(b"Error(string)")[:4] + b"\xff" * 64) is None


def test_error_names_are_unique() -> None:
    seen: dict[bytes, Any] = {}
    for contract in ABIS:
        for fragment in load(contract).abi:
            if fragment["type"] == "error":
                signature = f"{fragment['name']}({','.join(i['type'] for i in fragment['inputs'])})"
                assert seen.setdefault(keccak256(signature.encode())[:4], signature) == signature
