"""The Store twin: a disk in memory that outlives the process that writes to it.

A write takes a moment and is then on the disk all at once: a kill before that moment loses all of it, a kill after it
loses nothing, though the writer never hears of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from actors.ports import Record
from protocols.ids import ContentId
from sim.life import Life

WRITE_S = 0.002  # a commit that reaches an SSD


class Disk:
    """What a machine finds again when it is switched on."""

    def __init__(self) -> None:
        self.records: dict[str, dict[bytes, bytes]] = {}
        self.blobs: dict[ContentId, bytes] = {}
        self.public: set[ContentId] = set()


class SimStore:
    """Implements `actors.ports.Store` for one life of a node."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life

    async def write(self, *records: Record) -> None:
        await self._life.spend(WRITE_S)
        for record in records:
            table = self._disk.records.setdefault(record.kind, {})
            if record.value is None:
                table.pop(record.key, None)
            else:
                table[record.key] = record.value
        await self._life.breathe()

    async def read(self, kind: str, key: bytes) -> bytes | None:
        await self._life.breathe()
        return self._disk.records.get(kind, {}).get(key)

    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        await self._life.breathe()
        table = self._disk.records.get(kind, {})
        return sorted((key, value) for key, value in table.items() if key.startswith(prefix))

    async def put_blob(self, data: bytes, *, public: bool, durable: bool = True) -> ContentId:
        content = ContentId(blake3(data).digest())
        if content not in self._disk.blobs or (public and content not in self._disk.public):
            await self._life.spend(WRITE_S)
            self._disk.blobs[content] = data
            if public:
                self._disk.public.add(content)
        await self._life.breathe()
        return content

    async def blob(self, content: ContentId) -> bytes | None:
        await self._life.breathe()
        return self._disk.blobs.get(content)

    async def is_public(self, content: ContentId) -> bool:
        await self._life.breathe()
        return content in self._disk.public

    async def has_blob(self, content: ContentId) -> bool:
        await self._life.breathe()
        return content in self._disk.blobs
