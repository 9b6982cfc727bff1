"""The Store port on disk: records, blobs and the lock on the folder that holds them.

The one rule: one process at a time, and what returned is on the disk. The event loop never waits for the disk:
the asynchronous methods work in threads, which exist in this file only. A cancelled write has either happened
or not begun. The command line uses the `_sync` twins.

    DATA_DIR/lock   records.sqlite3   blobs/{public,private,incoming}/
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from actors.ports import Record
from node import limits
from node.blobs import Blobs, BlobStatistics
from node.errors import DataError, FolderLocked, describe_os_error
from node.key_file import make_private_folder
from node.records import MIGRATIONS, Migration, Records, open_records
from protocols.ids import ContentId

T = TypeVar("T")

# -- Opening -------------------------------------------------------------------


@contextmanager
def open_store(
    folder: Path, *, blobs_mib: int = 20_480, migrations: Sequence[Migration] = MIGRATIONS
) -> Iterator[DiskStore]:
    """Lock the folder and open what is in it. Raises FolderLocked, DataError, StoreFull, KeyFileError."""
    make_private_folder(folder)
    with lock_folder(folder), open_records(folder / "records.sqlite3", migrations) as records:
        yield DiskStore(records, Blobs(folder / "blobs", blobs_mib * limits.MIB))


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go of it when the process ends, however it ends."""
    path = folder / "lock"
    try:
        # Not inheritable, like everything that Python opens: a child can't hold it after us.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataError(path, describe_os_error(error), "choose a data_dir that this user can write") from None
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise DataError(folder, "its file system can't lock files", "choose a data_dir on a local disk") from None
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        by = f"process {holder}" if holder.isdecimal() else "another process"
        raise FolderLocked(folder, f"in use by {by}", "stop it, or choose another data_dir") from None


# -- The store -----------------------------------------------------------------


class DiskStore:
    """Implements `actors.ports.Store`; made by `open_store`."""

    def __init__(self, records: Records, blobs: Blobs) -> None:
        self._records = records
        self._blobs = blobs
        # One connection, one thread: more would wait for its lock and keep the pool from others.
        self._record_threads = trio.CapacityLimiter(1)
        self._blob_threads = trio.CapacityLimiter(limits.BLOB_THREADS)

    # -- Records

    async def write(self, *records: Record) -> None:
        await self._in_thread(self._record_threads, partial(self._records.write, *records))

    async def read(self, kind: str, key: bytes) -> bytes | None:
        return await self._in_thread(self._record_threads, partial(self._records.read, kind, key))

    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        return await self._in_thread(self._record_threads, partial(self._records.scan, kind, prefix))

    def write_sync(self, *records: Record) -> None:
        self._records.write(*records)

    def read_sync(self, kind: str, key: bytes) -> bytes | None:
        return self._records.read(kind, key)

    def scan_sync(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        return self._records.scan(kind, prefix)

    # -- Blobs

    async def put_blob(self, data: bytes, *, public: bool, durable: bool = True) -> ContentId:
        put = partial(self._blobs.put, data, public=public, durable=durable)
        return await self._in_thread(self._blob_threads, put)

    async def blob(self, content: ContentId) -> bytes | None:
        return await self._in_thread(self._blob_threads, partial(self._blobs.read, content))

    async def is_public(self, content: ContentId) -> bool:
        await trio.lowlevel.checkpoint()
        return self._blobs.is_public(content)

    async def has_blob(self, content: ContentId) -> bool:
        await trio.lowlevel.checkpoint()
        return self._blobs.has(content)

    async def drop_blob(self, content: ContentId) -> bool:
        """Delete a blob that no record needs any more; False if it isn't here."""
        return await self._in_thread(self._blob_threads, partial(self._blobs.drop, content))

    def put_blob_sync(self, data: bytes, *, public: bool) -> ContentId:
        return self._blobs.put(data, public=public)

    def blob_sync(self, content: ContentId) -> bytes | None:
        return self._blobs.read(content)

    def blob_path(self, content: ContentId) -> Path:
        """Where a blob that is here lies, for a child to read. Ask again each time: publishing moves it."""
        return self._blobs.path(content)

    def statistics(self) -> BlobStatistics:
        return self._blobs.statistics()

    async def _in_thread(self, limiter: trio.CapacityLimiter, work: Callable[[], T]) -> T:
        # abandon_on_cancel stays False: a thread that goes on after its caller would write after a newer write.
        return await trio.to_thread.run_sync(work, limiter=limiter)
