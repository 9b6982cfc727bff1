"""A development chain that is started again in its folder goes on where it was, however it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from node.devchain.chain import DevChain
from node.devchain.journal import FILE, open_journal
from node.errors import DataError, FolderLocked
from protocols.abi import checksum_address

CHAIN_ID = 31337
KEY = Account.from_key(b"\x07" * 32)
BALANCES = {bytes.fromhex(KEY.address[2:]): 10**20}
FRIEND = b"r" * 20


def transfer(nonce: int) -> bytes:
    fields: dict[str, Any] = {"nonce": nonce, "gas": 21_000, "value": 5, "chainId": CHAIN_ID}
    fields |= {"to": checksum_address(FRIEND), "maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**6}
    return bytes(KEY.sign_transaction(fields).raw_transaction)


def run(folder: Path, *nonces: int, jump_s: int = 0) -> DevChain:
    """A chain's life: it opens, mines what it gets, and is gone without a word."""
    with open_journal(folder, CHAIN_ID, lambda: 1_900_000_000) as journal:
        chain = DevChain(CHAIN_ID, BALANCES, journal)
        chain.increase_time(jump_s)
        for nonce in nonces:
            chain.send(transfer(nonce))
            chain.mine()
        return chain


def test_blocks_receipts_and_the_clock_come_back(tmp_path: Path) -> None:
    first = run(tmp_path, 0, 1, jump_s=1000)
    again = run(tmp_path)
    assert [again.block(n) for n in range(5)] == [first.block(n) for n in range(5)]
    assert again.balance(FRIEND, 4) == 10
    assert again.now_s() - first.now_s() < 100
    last = run(tmp_path, 2)
    assert last.head()["number"] == 6
    assert last.head()["parentHash"] == (last.block(5) or {})["hash"]


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    first = run(tmp_path, 0)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"s": 19000')
    assert run(tmp_path, 1).block(2) == first.block(2)
    assert run(tmp_path).head()["number"] == 4


@pytest.mark.parametrize("fault", ["another hash", "no JSON", "another chain", "a newer version"])
def test_what_is_not_its_chain_is_refused(tmp_path: Path, fault: str) -> None:
    run(tmp_path, 0)
    path = tmp_path / FILE
    header, *blocks = path.read_text().splitlines()
    match fault:
        case "another hash":
            blocks[-1] = json.dumps(json.loads(blocks[-1]) | {"hash": "00" * 32})
        case "no JSON":
            blocks[0] = "{"
        case "another chain":
            header = json.dumps(json.loads(header) | {"chain_id": 5})
        case _:
            header = json.dumps(json.loads(header) | {"version": 2})
    path.write_text("\n".join((header, *blocks)) + "\n")
    with pytest.raises(DataError, match=FILE):
        run(tmp_path)


def test_a_folder_has_one_chain_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path, CHAIN_ID, lambda: 1), pytest.raises(FolderLocked, match="another development chain"):
        run(tmp_path)
