"""Two machines that run the contracts: pyrevm, which is fast, and py-evm, whose gas is what a chain charges.

Both speak raw bytes; `contract_world.World` puts names on them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import coincurve
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from pyrevm import EVM, BlockEnv, CfgEnv, Env

from protocols.abi import address_bytes, checksum_address
from protocols.ids import Address, Wei
from protocols.keccak import keccak256

GAS_LIMIT = 30_000_000  # a block's: no call may need more


@dataclass(frozen=True, slots=True)
class Log:
    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    gas_used: int
    logs: tuple[Log, ...]
    created: Address | None = None


@dataclass(frozen=True, slots=True)
class Reverted:
    data: bytes


@dataclass(frozen=True, slots=True)
class Account:
    key: coincurve.PrivateKey
    address: Address

    @staticmethod
    def of(secret: bytes) -> Account:
        key = coincurve.PrivateKey(secret)
        return Account(key, checksum_address(keccak256(key.public_key.format(compressed=False)[1:])[12:]))


class Backend(Protocol):
    chain_id: int
    riches_wei: Wei
    """What `enrich` gives."""
    deployer: Address

    @property
    def now_s(self) -> int:
        """Timestamp of the next transaction's block."""

    def pass_time(self, until_s: int) -> None: ...
    def enrich(self, account: Account) -> None: ...
    def balance(self, address: Address) -> Wei: ...
    def nonce(self) -> int:
        """Of the deployer's next transaction."""

    def create(self, code: bytes) -> Receipt | Reverted: ...
    def transact(self, sender: Address, to: Address, data: bytes, value_wei: int) -> Receipt | Reverted: ...
    def read(self, to: Address, data: bytes) -> bytes | Reverted: ...


def _address(raw: str) -> Address:
    return checksum_address(address_bytes(Address(raw)))


class PyRevm:
    """No blocks: time stands still until `pass_time`. Its gas is too low, since touched slots stay warm for ever."""

    chain_id = 31337
    riches_wei = Wei(10**24)
    deployer = checksum_address(b"\xd0" * 20)

    def __init__(self, start_s: int = 1_000) -> None:
        env = Env(cfg=CfgEnv(chain_id=self.chain_id), block=BlockEnv(timestamp=start_s))
        self._evm = EVM(env=env, spec_id="CANCUN", gas_limit=GAS_LIMIT)
        self._evm.set_balance(self.deployer, self.riches_wei)
        self.now_s = start_s

    def pass_time(self, until_s: int) -> None:
        assert until_s >= self.now_s
        self.now_s = until_s
        self._evm.set_block_env(BlockEnv(timestamp=until_s))

    def enrich(self, account: Account) -> None:
        self._evm.set_balance(account.address, self.riches_wei)

    def balance(self, address: Address) -> Wei:
        return Wei(self._evm.get_balance(address))

    def nonce(self) -> int:
        return int(self._evm.basic(self.deployer).nonce)

    def create(self, code: bytes) -> Receipt | Reverted:
        created = self._try(lambda: self._evm.deploy(self.deployer, code))
        return created if isinstance(created, Reverted) else self._receipt(_address(created))

    def transact(self, sender: Address, to: Address, data: bytes, value_wei: int) -> Receipt | Reverted:
        call = lambda: self._evm.message_call(sender, to, data, value=value_wei, gas=GAS_LIMIT)  # noqa: E731
        answer = self._try(call)
        return answer if isinstance(answer, Reverted) else self._receipt()

    def read(self, to: Address, data: bytes) -> bytes | Reverted:
        answer: bytes | Reverted = self._try(
            lambda: self._evm.message_call(self.deployer, to, data, gas=GAS_LIMIT, is_static=True)
        )
        return answer

    def _receipt(self, created: Address | None = None) -> Receipt:
        result = self._evm.result
        logs = [Log(_address(log.address), *map(_log_part, log.data)) for log in result.logs]
        return Receipt(result.gas_used, tuple(logs), created)

    def _try(self, execute: Callable[[], Any]) -> Any:
        """Run it; pyrevm raises for a revert and tells the returned bytes only in the message."""
        try:
            return execute()
        except RuntimeError as error:
            found = re.search(r"Revert \{.*output: 0x([0-9a-f]*)", str(error))
            if not found:
                raise
            return Reverted(bytes.fromhex(found[1]))


def _log_part(part: Any) -> Any:
    return tuple(map(bytes, part)) if isinstance(part, list) else bytes(part)


class PyEvm:
    """eth-tester: each transaction is a block, a second after the one before."""

    riches_wei = Wei(10**21)

    def __init__(self) -> None:
        parameters = PyEVMBackend.generate_genesis_params(overrides={"gas_limit": GAS_LIMIT})
        self._tester = EthereumTester(PyEVMBackend(genesis_parameters=parameters))
        self.deployer = Address(self._tester.get_accounts()[0])
        self.chain_id = int(self._tester.backend.chain.chain_id)
        self._tester.time_travel(4_000_000_000)  # the same every time: seats, and so gas, hang on it

    @property
    def now_s(self) -> int:
        return int(self._pending["timestamp"])

    def pass_time(self, until_s: int) -> None:
        if until_s > self.now_s:
            self._tester.time_travel(until_s)

    def enrich(self, account: Account) -> None:
        """eth-tester also learns the key, and signs for the account."""
        self._tester.add_account("0x" + account.key.secret.hex())
        self._execute({"from": self.deployer, "to": account.address, "value": self.riches_wei, "gas": 21_000})

    def balance(self, address: Address) -> Wei:
        return Wei(self._tester.get_balance(address))

    def nonce(self) -> int:
        return int(self._tester.get_nonce(self.deployer))

    def create(self, code: bytes) -> Receipt | Reverted:
        return self._execute({"from": self.deployer, "to": "", "data": "0x" + code.hex(), "gas": 6_000_000})

    def transact(self, sender: Address, to: Address, data: bytes, value_wei: int) -> Receipt | Reverted:
        call = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": value_wei}
        why = self._call(call)
        return why if isinstance(why, Reverted) else self._execute({**call, "gas": 3_000_000})

    def read(self, to: Address, data: bytes) -> bytes | Reverted:
        return self._call({"from": self.deployer, "to": to, "data": "0x" + data.hex()})

    @property
    def _pending(self) -> Any:
        return self._tester.get_block_by_number("pending")

    def _call(self, call: dict[str, Any]) -> bytes | Reverted:
        try:
            return bytes.fromhex(self._tester.call({**call, "gas": GAS_LIMIT // 2}, "pending")[2:])
        except TransactionFailed as error:
            text = str(error.args[0])  # the returned bytes, as Python would print them
            return Reverted(ast.literal_eval(text) if text.startswith(("b'", 'b"')) else b"")

    def _execute(self, transaction: dict[str, Any]) -> Receipt:
        fee = int(self._pending["base_fee_per_gas"]) * 2
        receipt = self._tester.get_transaction_receipt(self._tester.send_transaction({**transaction, "gas_price": fee}))
        assert receipt["status"] == 1, receipt
        logs = [
            Log(_address(log["address"]), tuple(map(_unhex, log["topics"])), _unhex(log["data"]))
            for log in receipt["logs"]
        ]
        created = receipt["contract_address"]
        return Receipt(receipt["gas_used"], tuple(logs), _address(created) if created else None)


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])
