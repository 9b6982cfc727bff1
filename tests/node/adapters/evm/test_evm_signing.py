import pickle
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from node.adapters.evm.signing import LocalSigner, Transaction, compute_contract_address, sign_transaction
from node.secret import Secret
from protocols.abi import checksum_address
from protocols.keccak import keccak256

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
SIGNER = LocalSigner(Secret(KEY))

amounts = st.one_of(st.integers(0, 300), st.integers(0, 2**96))


@given(
    st.tuples(st.integers(1, 2**53), st.integers(0, 2**40), amounts, amounts, st.integers(0, 2**30)),
    st.one_of(st.none(), st.binary(min_size=20, max_size=20)),
    amounts,
    st.one_of(st.binary(max_size=3), st.binary(min_size=50, max_size=300)),
)
def test_transactions_are_those_of_eth_account(
    numbers: tuple[int, int, int, int, int], to: bytes | None, value: int, data: bytes
) -> None:
    chain_id, nonce, tip, most, gas = numbers
    address = None if to is None else checksum_address(to)
    ours = sign_transaction(Transaction(chain_id, nonce, tip, most, gas, address, value, data), SIGNER)
    fields: dict[str, Any] = {"chainId": chain_id, "nonce": nonce, "maxPriorityFeePerGas": tip, "maxFeePerGas": most}
    fields |= {"gas": gas, "value": value, "data": data} | ({} if address is None else {"to": address})
    theirs = Account.from_key(KEY).sign_transaction(fields)
    assert ours.raw == bytes(theirs.raw_transaction)
    assert ours.hash == bytes(theirs.hash)


def test_digests_are_signed_as_contracts_recover_them() -> None:
    digest = keccak256(b"anything")
    signature = SIGNER.sign_digest(digest)
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert Account._recover_hash(digest, signature=signature) == SIGNER.wallet


def test_contract_addresses() -> None:
    # A published pair: the first contracts of this well-known account.
    creator = checksum_address(bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"))
    assert compute_contract_address(creator, 0).lower() == "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert compute_contract_address(creator, 1).lower() == "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"


@pytest.mark.parametrize("bad", [b"", b"\x01", bytes(32), b"\xff" * 32, KEY + b"\x00"])
def test_bad_keys_are_refused_without_showing_them(bad: bytes) -> None:
    with pytest.raises(ValueError, match="not a secp256k1 private key") as caught:
        LocalSigner(Secret(bad))
    assert caught.value.__cause__ is None
    assert not bad or bad.hex() not in str(caught.value)


def test_a_signer_never_shows_its_key() -> None:
    for text in (
        repr(SIGNER),
        str(SIGNER),
        f"{SIGNER}",
        repr([SIGNER]),
        repr(vars(SIGNER) if hasattr(SIGNER, "__dict__") else ""),
    ):
        assert KEY.hex() not in text
        assert str(int.from_bytes(KEY, "big")) not in text
    with pytest.raises(TypeError):
        pickle.dumps(SIGNER)
