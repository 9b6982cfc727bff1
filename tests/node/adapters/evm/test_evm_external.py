"""A signer outside the process may refuse, but can't make us send something else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from eth_account import Account

from node.adapters.evm import external
from node.adapters.evm.external import CommandSigner, to_fields
from node.adapters.evm.signing import (
    CURVE_ORDER,
    LocalSigner,
    SignerFailed,
    Transaction,
    check_signed,
    check_statement,
    sign_transaction,
)
from node.secret import Secret
from protocols.abi import checksum_address
from protocols.eip712 import Domain, Vote, compute_digest
from protocols.ids import ContentId, Digest, JobId, RoundNumber

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
SIGNER = LocalSigner(Secret(KEY))
TRANSACTION = Transaction(31337, 7, 1, 10**9, 21_000, checksum_address(bytes(range(20))), 5, b"\x01" * 60)

DOMAIN = Domain(31337, checksum_address(b"j" * 20))
JOB, WORD = JobId(b"j" * 32), Digest(b"w" * 32)
VOTE = Vote(JOB, 1, RoundNumber(3), 0, WORD, WORD, 2**63, ContentId(WORD), WORD)

# What an operator's own command might be: eth_account with the key, one field changed where a test says so.
COMMAND = """
import json, sys
from eth_account import Account
asked = json.load(sys.stdin)
if "typedData" in asked:
    data = asked["typedData"]
    data["message"] |= dict(pair.split("=") for pair in sys.argv[2:])
    signed = Account.from_key(sys.argv[1]).sign_typed_data(full_message=data)
    print(signed.signature.to_0x_hex())
    sys.exit()
fields = asked["transaction"]
fields.pop("from")
fields |= {name: hex(int(value)) for name, value in (pair.split("=") for pair in sys.argv[2:])}
print(Account.from_key(sys.argv[1]).sign_transaction(fields).raw_transaction.to_0x_hex())
"""


def command(*changes: str, key: bytes = KEY) -> CommandSigner:
    return CommandSigner([sys.executable, "-W", "ignore", "-c", COMMAND, key.hex(), *changes], SIGNER.wallet)


async def test_a_command_signs_what_it_was_given() -> None:
    assert await command().sign_transaction(TRANSACTION) == sign_transaction(TRANSACTION, SIGNER)


@pytest.mark.parametrize("change", ["nonce=8", "value=6", "gas=21001", "maxFeePerGas=2000000000", "chainId=1"])
async def test_another_transaction_is_not_sent(change: str) -> None:
    with pytest.raises(SignerFailed, match="another transaction"):
        await command(change).sign_transaction(TRANSACTION)


async def test_a_command_signs_statements_and_no_others_than_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "STATEMENT_S", 60.0)  # this command imports for seconds on a busy machine
    signature = await command().sign_statement(DOMAIN, VOTE)
    assert signature == SIGNER.sign_digest(compute_digest(DOMAIN, VOTE))
    with pytest.raises(SignerFailed, match="another statement"):
        await command("view=1").sign_statement(DOMAIN, VOTE)


def test_a_signature_in_another_form_is_brought_into_the_contracts() -> None:
    good = SIGNER.sign_digest(compute_digest(DOMAIN, VOTE))
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    high = r + (CURVE_ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    for form in (good, good[:64] + bytes([v - 27]), high):
        assert check_statement(DOMAIN, VOTE, form, SIGNER.wallet) == good
    for bent in (b"", good[:-1], good + b"\0", bytes(65), good[:64] + b"\x05", b"\xff" * 64 + b"\x1b"):
        with pytest.raises(SignerFailed):
            check_statement(DOMAIN, VOTE, bent, SIGNER.wallet)


async def test_another_key_is_found() -> None:
    with pytest.raises(SignerFailed, match="another key"):
        await command(key=b"\x11" * 32).sign_transaction(TRANSACTION)


@pytest.mark.parametrize(
    ("program", "reason"),
    [("print('yes')", "nothing signed in hex"), ("raise SystemExit(3)", "status 3"), ("", "another transaction")],
)
async def test_what_is_no_signature_is_a_refusal(program: str, reason: str) -> None:
    with pytest.raises(SignerFailed, match=reason):
        await CommandSigner([sys.executable, "-c", program], SIGNER.wallet).sign_transaction(TRANSACTION)


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SignerFailed, match="No such file"):
        await CommandSigner([str(tmp_path / "none")], SIGNER.wallet).sign_transaction(TRANSACTION)


def test_every_cut_and_flip_is_refused() -> None:
    raw = sign_transaction(TRANSACTION, SIGNER).raw
    for i in range(len(raw)):
        for bent in (raw[:i], raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]):
            with pytest.raises(SignerFailed):
                check_signed(TRANSACTION, bent, SIGNER.wallet)


def test_fields_are_those_of_eth_account() -> None:
    fields = to_fields(TRANSACTION, SIGNER.wallet)
    assert fields.pop("from") == SIGNER.wallet
    assert (
        bytes(Account.from_key(KEY).sign_transaction(fields).raw_transaction)
        == sign_transaction(TRANSACTION, SIGNER).raw
    )
