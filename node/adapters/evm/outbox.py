"""The outbox on disk: entries and what was spent, in records of the Store, written together.

The one rule: `write` returns when it is on the disk. Writes that come while one is under way share the next commit,
so that a burst of transactions costs a few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from actors.ports import Record
from protocols.chain_outbox import Entry
from protocols.chain_spending import Spending
from protocols.ids import Address
from protocols.keccak import keccak256
from protocols.record import decode, encode

TRANSACTION, SPENT = "transaction", "spent"
MAX_ENTRY_BYTES = 2 * 1024 * 1024  # sixteen attempts of the largest transaction that nodes take


class Records(Protocol):
    """`actors.ports.Store` is one."""

    async def write(self, *records: Record) -> None: ...
    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]: ...


class Journal:
    def __init__(self, records: Records | None = None) -> None:
        """None keeps nothing: for a program that ends with its transactions."""
        self._records = records
        self._prefix = b""
        self._waiting: list[Record] = []
        self._turn = trio.Lock()

    async def load(self, chain_id: int, genesis: bytes, wallet: Address) -> tuple[tuple[Entry, ...], Spending]:
        """Of this wallet on this chain; a development chain that begins anew is another one."""
        self._prefix = keccak256(b"outbox" + chain_id.to_bytes(8, "big") + genesis + wallet.lower().encode())[:16]
        if self._records is None:
            return (), Spending()
        rows = await self._records.scan(TRANSACTION, self._prefix)
        entries = tuple(decode(Entry, value, limit_bytes=MAX_ENTRY_BYTES) for _, value in rows)
        hours = await self._records.scan(SPENT, self._prefix)
        spending = Spending({int.from_bytes(key[16:], "big"): int.from_bytes(value, "big") for key, value in hours})
        return tuple(entry for entry in entries if isinstance(entry, Entry)), spending

    async def write(self, entries: Sequence[Entry], forget: Sequence[int], spending: Spending | None) -> None:
        if self._records is None:
            return
        records = [Record(TRANSACTION, self._key(entry.nonce), encode(entry)) for entry in entries]
        records += [Record(TRANSACTION, self._key(nonce), None) for nonce in forget]
        if spending is not None:
            rows = sorted(spending.hours.items())
            records += [Record(SPENT, self._key(hour), wei.to_bytes(32, "big")) for hour, wei in rows]
        self._waiting += records
        async with self._turn:
            # Whoever came before may have written ours too.
            written, self._waiting = self._waiting, []
            if written:
                await self._records.write(*written)

    def _key(self, number: int) -> bytes:
        return self._prefix + number.to_bytes(8, "big")
