"""Signers outside this process: a JSON-RPC server, or a command. The wallet's key never comes here.

The one rule: what comes back must be the very transaction or statement that was asked for, signed by the wallet; an
external signer can refuse, but it can't make us send or say something else.

    JSON-RPC   eth_signTransaction with the transaction; the result is the raw transaction, or an object with `raw`
               eth_signTypedData_v4 (or eth_signTypedData) with address and typed data; the result is the signature
    command    the same as JSON on its standard input, {"transaction": …} or {"typedData": …}; it prints hex
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import trio

from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, read_data, read_field, to_hex
from node.adapters.evm.signing import SignedTransaction, SignerFailed, Transaction, check_signed, check_statement
from protocols.eip712 import Domain, Statement, describe
from protocols.ids import Address

SIGNING_S = 60.0  # a person may have to press a button; longer, and the fees are stale
STATEMENT_S = 10.0  # a round waits for it: a signer of votes has to be a machine
TYPED_DATA_METHODS = ("eth_signTypedData_v4", "eth_signTypedData")  # MetaMask's name, and Web3Signer's


class RpcSigner:
    """Web3Signer, Clef and their like."""

    def __init__(self, endpoint: Endpoint, wallet: Address) -> None:
        self._endpoint = endpoint
        self.wallet = wallet

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        answer = await self._ask(SIGNING_S, "eth_signTransaction", to_fields(transaction, self.wallet))
        raw = self._read(read_field(answer, "raw") if isinstance(answer, dict) else answer)
        return check_signed(transaction, raw, self.wallet)

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes:
        data, reason = describe(domain, statement), SignerFailed("")
        for method in TYPED_DATA_METHODS:
            try:
                answer = await self._ask(STATEMENT_S, method, self.wallet, data)
            except SignerFailed as error:
                reason = error
                continue
            return check_statement(domain, statement, self._read(answer), self.wallet)
        raise reason

    async def _ask(self, timeout_s: float, method: str, *parameters: Any) -> Any:
        try:
            with trio.fail_after(timeout_s):
                return await self._endpoint.request_once(method, *parameters)
        except (Failure, Unavailable) as error:
            raise SignerFailed(f"signer {self._endpoint.name}: {error}") from None
        except trio.TooSlowError:
            raise SignerFailed(f"signer {self._endpoint.name}: no answer within {timeout_s:g} s") from None

    def _read(self, answer: object) -> bytes:
        try:
            return read_data(answer)
        except Unavailable as error:
            raise SignerFailed(f"signer {self._endpoint.name}: {error}") from None


class CommandSigner:
    def __init__(self, command: Sequence[str], wallet: Address) -> None:
        self._command = tuple(command)
        self.wallet = wallet

    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        raw = await self._run(SIGNING_S, {"transaction": to_fields(transaction, self.wallet)})
        return check_signed(transaction, raw, self.wallet)

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes:
        asked = {"address": self.wallet, "typedData": describe(domain, statement)}
        return check_statement(domain, statement, await self._run(STATEMENT_S, asked), self.wallet)

    async def _run(self, timeout_s: float, asked: dict[str, Any]) -> bytes:
        given = json.dumps(asked).encode()
        try:
            with trio.fail_after(timeout_s):
                ended = await trio.run_process(self._command, stdin=given, capture_stdout=True, check=False)
        except OSError as error:
            raise SignerFailed(f"signer {self._command[0]}: {error.strerror or 'does not start'}") from None
        except trio.TooSlowError:
            raise SignerFailed(f"signer {self._command[0]}: no answer within {timeout_s:g} s") from None
        return _read_printed(self._command[0], ended)


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
        raise SignerFailed(f"signer {name}: it prints nothing signed in hex") from None
