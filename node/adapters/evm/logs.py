"""Logs of our contracts: read by block or by range, whole or of one job, decoded and in order.

The one rule: an endpoint is a stranger. A log of another address, or one that does not fit its event, is not an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from node.adapters.evm.coding import decode_event
from node.adapters.evm.pool import Pool
from node.adapters.evm.rpc import AnswerTooLarge, Failure, read_data, read_field, read_quantity, to_hex
from protocols.chain import ChainEvent
from protocols.chain_follow import BLOCKS_AT_ONCE, Located
from protocols.ids import Address, JobId

LOG_SPLITS = 7  # 2,000 blocks down to 16; an endpoint that refuses even that means its rate limit
MAX_STRETCH = 256 * BLOCKS_AT_ONCE  # of one job's few logs; a chain of a hundred million blocks is 200 requests
# What endpoints say when a range of blocks holds too much for one answer; there is no common code.
TOO_MUCH = ("limit", "more than", "too many", "too large", "exceed", "range", "response size")

Log = dict[str, Any]


class LogReader:
    """Its methods raise Failure, Unavailable, and ValueError, KeyError or TypeError for malformed logs."""

    def __init__(self, rpc: Pool, contracts: Sequence[Address]) -> None:
        self._rpc = rpc
        self._contracts = list(contracts)

    async def in_block(self, block_hash: bytes) -> list[Log]:
        return await self._ask({"blockHash": to_hex(block_hash)})

    async def between(self, first: int, last: int, job: JobId | None = None, splits: int = LOG_SPLITS) -> list[Log]:
        """Of all blocks first … last; asks for half where the whole is too much."""
        wanted: Log = {"fromBlock": hex(first), "toBlock": hex(last)}
        if job is not None:
            wanted["topics"] = [None, to_hex(job)]
        try:
            return await self._ask(wanted)
        except (AnswerTooLarge, Failure) as error:
            if first >= last or not splits or not _is_too_much(error):
                raise
            middle = (first + last) // 2
            halves = ((first, middle), (middle + 1, last))
            return [log for a, b in halves for log in await self.between(a, b, job, splits - 1)]

    async def of_job(self, job: JobId | None, first: int, last: int) -> list[Log]:
        """The few logs of one job, or of a quiet contract, in a long history: stretches double while the endpoint
        takes them."""
        found: list[Log] = []
        stretch = BLOCKS_AT_ONCE
        while first <= last:
            until = min(first + stretch - 1, last)
            try:
                found += await self.between(first, until, job, splits=0)
            except (AnswerTooLarge, Failure) as error:
                if stretch <= BLOCKS_AT_ONCE >> LOG_SPLITS or not _is_too_much(error):
                    raise
                stretch //= 4  # the next one doubles again: it stays below what the endpoint refused
                continue
            first, stretch = until + 1, min(2 * stretch, MAX_STRETCH)
        return found

    async def _ask(self, wanted: Log) -> list[Log]:
        logs = await self._rpc.request("eth_getLogs", wanted | {"address": self._contracts})
        if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
            raise ValueError("not a list of logs")
        own = {address.lower() for address in self._contracts}
        kept = [log for log in logs if not log.get("removed") and str(log.get("address")).lower() in own]
        return sorted(kept, key=lambda log: (read_quantity(log.get("blockNumber")), read_quantity(log.get("logIndex"))))

    # -- Decoding

    async def trace(self, logs: Iterable[Log]) -> tuple[tuple[Located, int], ...]:
        """Events with the gas that their transactions used."""
        traced: list[tuple[Located, int]] = []
        gas_used: dict[str, int] = {}
        for log in logs:
            event, name = decode_log(log), str(log["transactionHash"])
            if event is None:
                continue
            if name not in gas_used:
                receipt = await self._rpc.request("eth_getTransactionReceipt", name)
                gas_used[name] = read_quantity(read_field(receipt, "gasUsed"))
            traced.append((Located(event, read_quantity(log["blockNumber"])), gas_used[name]))
        return tuple(traced)


def decode_log(log: Log) -> ChainEvent | None:
    return decode_event([read_data(topic) for topic in log["topics"]], read_data(log["data"]))


def locate(logs: Iterable[Log]) -> tuple[Located, ...]:
    """Decoded, each with its block."""
    decoded = ((decode_log(log), log) for log in logs)
    return tuple(Located(event, read_quantity(log["blockNumber"])) for event, log in decoded if event is not None)


def _is_too_much(error: Exception) -> bool:
    return isinstance(error, AnswerTooLarge) or any(phrase in str(error).lower() for phrase in TOO_MUCH)
