"""Every revert that a user can meet is a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode

from node.adapters.evm.coding import ABIS, explain_revert, name_revert
from node.adapters.evm.refusals import SENTENCES
from node.artifacts import NAMES, load
from node.errors import split_advice
from protocols.keccak import keccak256

ERRORS = {f["name"]: f for contract in NAMES for f in load(contract).abi if f["type"] == "error"}
EXAMPLES: dict[str, Any] = {
    "string": "rounds",
    "bytes": b"domain",
    "bytes32": bytes(32),
    "address": "0x" + 40 * "1",
    "uint256[4]": [1, 2, 3, 4],
}


def encode_error(name: str, *arguments: Any) -> bytes:
    types = [parameter["type"] for parameter in ERRORS[name]["inputs"]]
    return keccak256(f"{name}({','.join(types)})".encode())[:4] + encode(types, arguments)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_custom_error_has_a_sentence(name: str) -> None:
    arguments = [EXAMPLES.get(parameter["type"], 3) for parameter in ERRORS[name]["inputs"]]
    data = encode_error(name, *arguments)
    sentence = explain_revert(data)
    assert name_revert(data) == name
    assert name not in sentence
    problem, remedy = split_advice(sentence)
    assert len(problem.split()) >= 4
    assert remedy


def test_every_contract_with_errors_is_known_to_the_adapter() -> None:
    with_errors = {contract for contract in NAMES for f in load(contract).abi if f["type"] == "error"}
    assert with_errors <= set(ABIS)
    assert set(SENTENCES) == set(ERRORS)


def test_sentences_say_what_the_error_says() -> None:
    assert "no longer open" in explain_revert(encode_error("WrongState", 2))
    assert "1970-01-01 00:01:00 UTC" in explain_revert(encode_error("TooEarly", 60))
    assert "rounds" in explain_revert(encode_error("BadTerms", "rounds"))
    assert "0.5 ether" in explain_revert(encode_error("StakeTooLow", 10**17, 5 * 10**17))


@pytest.mark.parametrize("data", [b"", b"\x01\x02\x03\x04", encode_error("NoQuorum", 3)[:20]])
def test_what_is_none_of_ours_is_not_explained(data: bytes) -> None:
    assert explain_revert(data) == ""
