"""Blocks, receipts and logs of the development chain: every transaction is mined at once, in a block of its own.

The one rule: what is polled (head, blocks, logs, receipts) is a plain dictionary made when its block was mined,
so that reading never touches the EVM. Whatever does touch it must be called by one thread at a time.
Hashes, addresses and data are bytes here; `rpc.py` makes them hex.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth._utils.address import generate_contract_address
from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.exceptions import Revert
from eth.vm.message import Message

from node.devchain.evm import create_chain
from node.devchain.journal import ClockMoved, Journal, MinedBlock, damaged
from protocols.abi import encode_words

GAS_LIMIT = 60_000_000
CALL_GAS = 30_000_000  # py-evm spends about a second on five million
MAX_LOGS = 10_000
TIP_WEI = 1_000_000  # what we suggest; with an almost free base fee nobody runs out of development money
COINBASE = bytes(20)
GAS_MARGIN = 1.2  # an estimate is one run, not a search: leave room for the 1/64 that each call keeps back

Dict = dict[str, Any]


class Refused(Exception):
    """The request can't be served; its text is the answer."""


class Reverted(Exception):
    """The call reverted."""

    def __init__(self, data: bytes) -> None:
        super().__init__("execution reverted")
        self.data = data


@dataclass(frozen=True, slots=True)
class CallRequest:
    """`eth_call` and `eth_estimateGas`; None for `to` creates a contract."""

    to: bytes | None
    data: bytes
    sender: bytes = bytes(20)
    value: int = 0
    gas: int | None = None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Empty `addresses`, and an empty alternative at a position of `topics`, match anything."""

    first: int
    last: int
    addresses: frozenset[bytes] = frozenset()
    topics: tuple[frozenset[bytes], ...] = ()


class DevChain:
    """One canonical chain without forks or a pool; in memory (3 KB a block), and in a journal if it has one."""

    def __init__(self, chain_id: int, balances: Mapping[bytes, int], journal: Journal | None = None) -> None:
        """Begin a chain, or mine the journal's again (5 ms a block). Raises DataError where that gives other blocks."""
        self.chain_id = chain_id
        self._offset_s = 0
        self._journal: Journal | None = None
        genesis_s = self.now_s() if journal is None else journal.genesis_s
        self._evm = create_chain(chain_id, GAS_LIMIT, genesis_s, dict(balances))
        self._headers: list[BlockHeaderAPI] = []
        self._blocks: list[Dict] = []
        self._numbers: dict[bytes, int] = {}
        self._transactions: dict[bytes, Dict] = {}
        self._receipts: dict[bytes, Dict] = {}
        self._logs: list[Sequence[Dict]] = []
        self._publish(self._evm.get_canonical_block_by_number(0), (), ())
        if journal is not None:
            self._restore(journal)

    def _restore(self, journal: Journal) -> None:
        for entry in journal.entries:
            match entry:
                case ClockMoved(offset_s):
                    self._offset_s = offset_s
                case MinedBlock(timestamp_s, raw, block_hash):
                    try:
                        self._mine(timestamp_s, None if raw is None else self._decode(raw))
                    except Refused:
                        raise damaged(journal.path) from None
                    if self.head()["hash"] != block_hash:
                        raise damaged(journal.path)
        self._journal = journal

    # -- Time ----------------------------------------------------------------------

    def now_s(self) -> int:
        return int(time.time()) + self._offset_s

    def increase_time(self, seconds: int) -> int:
        """Move the clock forward for good; return by how much in all."""
        self._offset_s += seconds
        if self._journal is not None:
            self._journal.append(ClockMoved(self._offset_s))
        return self._offset_s

    # -- What is polled ------------------------------------------------------------

    def head(self) -> Dict:
        return self._blocks[-1]

    def block(self, number: int) -> Dict | None:
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def block_number(self, block_hash: bytes) -> int | None:
        return self._numbers.get(block_hash)

    def transaction(self, transaction_hash: bytes) -> Dict | None:
        return self._transactions.get(transaction_hash)

    def receipt(self, transaction_hash: bytes) -> Dict | None:
        return self._receipts.get(transaction_hash)

    def logs(self, wanted: LogFilter) -> list[Dict]:
        found = [log for block in self._logs[wanted.first : wanted.last + 1] for log in block if _matches(wanted, log)]
        if len(found) > MAX_LOGS:
            raise Refused(f"query returned more than {MAX_LOGS} results; ask for fewer blocks")
        return found

    # -- Mining --------------------------------------------------------------------

    def send(self, raw: bytes) -> bytes:
        """Mine a signed transaction; return its hash. A reverting one is mined too, as on any chain."""
        transaction = self._decode(raw)
        if transaction.hash in self._receipts:
            raise Refused("already known")
        self._check_sender(transaction)
        self._mine(self._next_time_s(), transaction)
        return bytes(transaction.hash)

    def mine(self) -> None:
        """Mine an empty block, now."""
        self._mine(self._next_time_s(), None)

    def _mine(self, timestamp_s: int, transaction: SignedTransactionAPI | None) -> None:
        self._evm.header = self._next_header(timestamp_s)
        transactions: tuple[SignedTransactionAPI, ...] = ()
        results: tuple[tuple[ReceiptAPI, ComputationAPI], ...] = ()
        if transaction is not None:
            try:
                _, receipt, computation = self._evm.apply_transaction(transaction)
            except Exception as error:  # py-evm raises its own, eth_utils' and rlp's errors for a bad transaction
                raise Refused(f"invalid transaction: {_one_line(error)}") from error
            transactions, results = (transaction,), ((receipt, computation),)
        block = self._evm.mine_block(coinbase=COINBASE)
        if self._journal is not None:
            raw = None if transaction is None else transaction.encode()
            self._journal.append(MinedBlock(timestamp_s, raw, bytes(block.header.hash)))
        self._publish(block, transactions, results)

    def _next_time_s(self) -> int:
        return max(int(self._headers[-1].timestamp), self.now_s())  # a wall clock may be set back

    def _next_header(self, timestamp_s: int) -> BlockHeaderAPI:
        return self._evm.create_header_from_parent(
            self._headers[-1], timestamp=timestamp_s, gas_limit=GAS_LIMIT, coinbase=COINBASE, mix_hash=bytes(32)
        )

    def _decode(self, raw: bytes) -> SignedTransactionAPI:
        builder = self._evm.get_vm(self._headers[-1]).get_transaction_builder()
        try:
            return builder.decode(raw)
        except Exception as error:  # a decoder of strangers' bytes, with exceptions of three libraries
            raise Refused(f"undecodable transaction: {_one_line(error)}") from error

    def _check_sender(self, transaction: SignedTransactionAPI) -> None:
        """Say what other clients say for the three faults that a wallet must tell apart."""
        try:
            sender = transaction.sender
        except Exception as error:  # eth_keys' and eth_utils' errors
            raise Refused("invalid sender") from error
        state = self._evm.get_vm(self._headers[-1]).state
        expected = state.get_nonce(sender)
        if transaction.nonce != expected:
            which = "too low" if transaction.nonce < expected else "too high"
            raise Refused(f"nonce {which}: next nonce {expected}, tx nonce {transaction.nonce}")
        cost = transaction.value + transaction.gas * transaction.max_fee_per_gas
        if state.get_balance(sender) < cost:
            raise Refused("insufficient funds for gas * price + value")
        if transaction.gas < transaction.intrinsic_gas:
            raise Refused(f"intrinsic gas too low: have {transaction.gas}, want {transaction.intrinsic_gas}")

    # -- State ---------------------------------------------------------------------

    def balance(self, address: bytes, number: int) -> int:
        return int(self._state(number).get_balance(address))

    def nonce(self, address: bytes, number: int) -> int:
        return int(self._state(number).get_nonce(address))

    def code(self, address: bytes, number: int) -> bytes:
        return bytes(self._state(number).get_code(address))

    def storage(self, address: bytes, slot: int, number: int) -> int:
        return int(self._state(number).get_storage(address, slot))

    def call(self, request: CallRequest, number: int) -> bytes:
        """Run without a trace; on the latest block, as the next transaction would run."""
        return bytes(self._run(request, number).output)

    def estimate(self, request: CallRequest, number: int) -> int:
        used = self._run(request, number).get_gas_used()
        zeros = request.data.count(0)
        intrinsic = 21_000 + 4 * zeros + 16 * (len(request.data) - zeros) + (64_000 if request.to is None else 0)
        return min(int((intrinsic + used) * GAS_MARGIN), GAS_LIMIT)

    def tip_wei(self) -> int:
        return TIP_WEI

    def gas_price(self) -> int:
        return int(self._next_header(self._next_time_s()).base_fee_per_gas) + TIP_WEI

    def _state(self, number: int) -> Any:
        return self._evm.get_vm(self._headers[number]).state

    def _run(self, request: CallRequest, number: int) -> ComputationAPI:
        is_latest = number == len(self._headers) - 1
        state = self._evm.get_vm(self._next_header(self._next_time_s()) if is_latest else self._headers[number]).state
        gas = CALL_GAS if request.gas is None else min(request.gas, CALL_GAS)
        context = state.get_transaction_context_class()(gas_price=0, origin=request.sender)
        if request.to is None:
            # A constructor may compare its own address: `Jobs` does.
            target = generate_contract_address(request.sender, state.get_nonce(request.sender))
            message = Message(
                gas, CREATE_CONTRACT_ADDRESS, request.sender, request.value, b"", request.data, create_address=target
            )
            computation = state.computation_class.apply_create_message(state, message, context)
        else:
            code = state.get_code(request.to)
            message = Message(gas, request.to, request.sender, request.value, request.data, code)
            computation = state.computation_class.apply_message(state, message, context)
        if isinstance(computation.error if computation.is_error else None, Revert):
            raise Reverted(bytes(computation.output))
        if computation.is_error:
            raise Refused(f"execution failed: {_one_line(computation.error)}")
        return computation

    # -- From blocks to dictionaries -----------------------------------------------

    def _publish(
        self,
        block: BlockAPI,
        transactions: Sequence[SignedTransactionAPI],
        results: Sequence[tuple[ReceiptAPI, ComputationAPI]],
    ) -> None:
        """Index a mined block; the head moves last, so that a reader never sees half of it."""
        header = block.header
        logs: list[Dict] = []
        for index, (transaction, (receipt, computation)) in enumerate(zip(transactions, results, strict=True)):
            place = {
                "blockHash": bytes(header.hash),
                "blockNumber": header.block_number,
                "transactionHash": bytes(transaction.hash),
                "transactionIndex": index,
            }
            own = [_log(place, len(logs) + i, log) for i, log in enumerate(receipt.logs)]
            logs += own
            self._transactions[place["transactionHash"]] = _transaction(place, transaction, self.chain_id)
            self._receipts[place["transactionHash"]] = _receipt(place, transaction, receipt, computation, header, own)
        self._logs.append(logs)
        self._headers.append(header)
        self._numbers[bytes(header.hash)] = header.block_number
        self._blocks.append(_block(header, [bytes(t.hash) for t in transactions]))


def _matches(wanted: LogFilter, log: Mapping[str, Any]) -> bool:
    if wanted.addresses and log["address"] not in wanted.addresses:
        return False
    topics = log["topics"]
    if len(topics) < len(wanted.topics):
        return False
    return all(not any_of or topic in any_of for any_of, topic in zip(wanted.topics, topics, strict=False))


def _block(header: BlockHeaderAPI, transactions: Iterable[bytes]) -> Dict:
    return {
        "number": header.block_number,
        "hash": bytes(header.hash),
        "parentHash": bytes(header.parent_hash),
        "nonce": bytes(8),
        "sha3Uncles": bytes(header.uncles_hash),
        "logsBloom": header.bloom.to_bytes(256, "big"),
        "transactionsRoot": bytes(header.transaction_root),
        "stateRoot": bytes(header.state_root),
        "receiptsRoot": bytes(header.receipt_root),
        "miner": bytes(header.coinbase),
        "difficulty": 0,
        "totalDifficulty": 0,
        "extraData": bytes(header.extra_data),
        "size": 1000,
        "gasLimit": header.gas_limit,
        "gasUsed": header.gas_used,
        "timestamp": header.timestamp,
        "baseFeePerGas": header.base_fee_per_gas,
        "mixHash": bytes(header.mix_hash),
        "transactions": list(transactions),
        "uncles": [],
        "withdrawals": [],
        "withdrawalsRoot": bytes(header.withdrawals_root),
        "blobGasUsed": 0,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": bytes(header.parent_beacon_block_root),
    }


def _log(place: Mapping[str, Any], index: int, log: Any) -> Dict:
    return {
        **place,
        "address": bytes(log.address),
        "topics": [encode_words(topic) for topic in log.topics],
        "data": bytes(log.data),
        "logIndex": index,
        "removed": False,
    }


def _transaction(place: Mapping[str, Any], transaction: Any, chain_id: int) -> Dict:
    return {
        **place,
        "hash": bytes(transaction.hash),
        "type": transaction.type_id or 0,
        "chainId": chain_id,
        "nonce": transaction.nonce,
        "from": bytes(transaction.sender),
        "to": bytes(transaction.to) or None,
        "value": transaction.value,
        "gas": transaction.gas,
        "gasPrice": transaction.max_fee_per_gas,
        "maxFeePerGas": transaction.max_fee_per_gas,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
        "input": bytes(transaction.data),
        "v": transaction.y_parity,
        "r": transaction.r,
        "s": transaction.s,
    }


def _receipt(
    place: Mapping[str, Any], transaction: Any, receipt: Any, computation: Any, header: Any, logs: list[Dict]
) -> Dict:
    price = min(transaction.max_fee_per_gas, header.base_fee_per_gas + transaction.max_priority_fee_per_gas)
    is_creation = transaction.to == CREATE_CONTRACT_ADDRESS
    return {
        **place,
        "from": bytes(transaction.sender),
        "to": bytes(transaction.to) or None,
        "type": transaction.type_id or 0,
        "status": int(computation.is_success),
        "gasUsed": receipt.gas_used,
        "cumulativeGasUsed": receipt.gas_used,
        "effectiveGasPrice": price,
        "contractAddress": bytes(computation.msg.storage_address) if is_creation else None,
        "logs": logs,
        "logsBloom": receipt.bloom.to_bytes(256, "big"),
    }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
