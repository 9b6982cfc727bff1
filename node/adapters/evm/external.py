"""Signers outside this process: a JSON-RPC server, or a command. The wallet's key never comes here.

The one rule: what comes back must be the very transaction that was asked for, signed by the wallet; an external
signer can refuse, but it can't make us send something else.

    JSON-RPC   eth_signTransaction with the transaction; the result is the raw transaction, or an object with `raw`
    command    the same object as JSON on its standard input; it prints the raw transaction in hex
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import trio

from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, read_data, read_field, to_hex
from node.adapters.evm.signing import SignedTransaction, SignerFailed, Transaction, check_signed
from protocols.ids import Address

SIGNING_S = 60.0  # a person may have to press a button; longer, and the fees are stale


class RpcSigner:
    """Web3Signer, Clef and their like."""

    def __init__(self, endpoint: Endpoint, wallet: Address) -> None:
        self._endpoint = endpoint
        self.wallet = wallet

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        try:
            with trio.fail_after(SIGNING_S):
                answer = await self._endpoint.request_once("eth_signTransaction", to_fields(transaction, self.wallet))
            raw = read_data(read_field(answer, "raw") if isinstance(answer, dict) else answer)
        except (Failure, Unavailable) as error:
            raise SignerFailed(f"signer {self._endpoint.name}: {error}") from None
        except trio.TooSlowError:
            raise SignerFailed(f"signer {self._endpoint.name}: no answer within {SIGNING_S:g} s") from None
        return check_signed(transaction, raw, self.wallet)


class CommandSigner:
    def __init__(self, command: Sequence[str], wallet: Address) -> None:
        self._command = tuple(command)
        self.wallet = wallet

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        given = json.dumps(to_fields(transaction, self.wallet)).encode()
        try:
            with trio.fail_after(SIGNING_S):
                ended = await trio.run_process(self._command, stdin=given, capture_stdout=True, check=False)
        except OSError as error:
            raise SignerFailed(f"signer {self._command[0]}: {error.strerror or 'does not start'}") from None
        except trio.TooSlowError:
            raise SignerFailed(f"signer {self._command[0]}: no answer within {SIGNING_S:g} s") from None
        return check_signed(transaction, _read_printed(self._command[0], ended), self.wallet)


def to_fields(transaction: Transaction, wallet: Address) -> dict[str, Any]:
    """As `eth_signTransaction` takes it."""
    t = transaction
    fields: dict[str, Any] = {
        "type": "0x2",
        "from": wallet,
        "chainId": hex(t.chain_id),
        "nonce": hex(t.nonce),
        "maxPriorityFeePerGas": hex(t.tip_wei),
        "maxFeePerGas": hex(t.max_fee_wei),
        "gas": hex(t.gas),
        "value": hex(t.value_wei),
        "data": to_hex(t.data),
    }
    return fields if t.to is None else fields | {"to": t.to}


def _read_printed(name: str, ended: subprocess.CompletedProcess[bytes]) -> bytes:
    if ended.returncode:
        raise SignerFailed(f"signer {name}: it refuses (status {ended.returncode})")
    try:
        return bytes.fromhex(ended.stdout.decode().strip().removeprefix("0x"))
    except ValueError:
        raise SignerFailed(f"signer {name}: it prints no transaction in hex") from None
