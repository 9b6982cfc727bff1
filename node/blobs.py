"""Blobs as files named by their blake3: `blobs/public/ab/abcd…`, `blobs/private/ab/abcd…`.

The one rule: a file has its name only once its bytes are on the disk (temporary file, fsync, rename, fsync of the
folder), and nobody gets bytes that don't hash to the name: such a file is dropped and counted.
Public and private lie in folders of their own, so that serving the wrong one takes more than a forgotten check.
Thread-safe; the index is in memory, read from the folders at opening, so the files are the only truth.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from blake3 import blake3

from node import limits
from node.errors import DataError, StoreFull, describe_os_error
from node.key_file import sync_folder
from protocols.ids import ContentId

log = structlog.get_logger("skynet.node.blobs")

_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobStatistics:
    count: int
    size_bytes: int
    limit_bytes: int
    broken: int
    """Dropped since the start: what was read was not what the name says."""


@dataclass(frozen=True, slots=True)
class _Entry:
    size_bytes: int
    public: bool


def content_id(data: bytes) -> ContentId:
    return ContentId(blake3(data).digest())


class Blobs:
    """All blobs of one data folder."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Make the folders, drop what a killed process left half-written, and list what is there."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._index: dict[ContentId, _Entry]
        self._broken = 0
        try:
            for each in (folder, folder / "incoming", folder / "public", folder / "private"):
                each.mkdir(mode=0o700, exist_ok=True)
            for leftover in (folder / "incoming").iterdir():
                leftover.unlink()
            private, public = (_list(folder / _side(side), side) for side in (False, True))
            for content in private.keys() & public.keys():  # stored both ways at once; public is the wider promise
                self._path(content, False).unlink()
            self._index = private | public
        except OSError as error:
            raise DataError(folder, describe_os_error(error), "give this user access to it") from None
        self._size_bytes = sum(entry.size_bytes for entry in self._index.values())

    # -- Reading

    def read(self, content: ContentId) -> bytes | None:
        """Return the bytes; None if it isn't here, or no longer what it was."""
        if content not in self._index:
            return None
        try:
            data = self.path(content).read_bytes()
        except FileNotFoundError:
            if content in self._index and self.path(content).exists():
                return self.read(content)  # it was published meanwhile
            data = b""
        if content_id(data) == content:
            return data
        if self.drop(content):
            self._broken += 1
            log.warning("broken_blob_dropped", content=content.hex())
        return None

    def has(self, content: ContentId) -> bool:
        return content in self._index

    def is_public(self, content: ContentId) -> bool:
        entry = self._index.get(content)
        return entry is not None and entry.public

    def path(self, content: ContentId) -> Path:
        """Where the blob lies, or would lie, for a child to read. Publishing moves it."""
        return self._path(content, self.is_public(content))

    def statistics(self) -> BlobStatistics:
        return BlobStatistics(len(self._index), self._size_bytes, self._limit_bytes, self._broken)

    # -- Writing

    def put(self, data: bytes, *, public: bool, durable: bool = True) -> ContentId:
        """Store and return the name. What is public stays public. Raises StoreFull."""
        content = content_id(data)
        if self._publish_if_here(content, public):
            return content
        self._reserve(len(data))
        try:
            self._write(content, data, public, durable)
        except OSError as error:
            self._release(len(data))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(self._folder, "the disk is full", "make room; nothing stored is lost") from None
            raise
        with self._lock:
            if content in self._index:  # somebody else was as fast
                self._size_bytes -= len(data)
            public = public or self.is_public(content)
            self._index[content] = _Entry(len(data), public)
        return content

    def drop(self, content: ContentId) -> bool:
        """Delete a blob; False if it isn't here."""
        with self._lock:
            entry = self._index.pop(content, None)
            if entry is None:
                return False
            self._size_bytes -= entry.size_bytes
            self._path(content, entry.public).unlink(missing_ok=True)
            return True

    def _publish_if_here(self, content: ContentId, public: bool) -> bool:
        with self._lock:
            entry = self._index.get(content)
            if entry is None:
                return False
            if public and not entry.public:
                old, new = self._path(content, False), self._path(content, True)
                _make_shard(new.parent)
                old.rename(new)
                sync_folder(new.parent)
                sync_folder(old.parent)
                self._index[content] = _Entry(entry.size_bytes, True)
            return True

    def _reserve(self, size_bytes: int) -> None:
        if size_bytes > limits.BLOB_BYTES:
            raise StoreFull(self._folder, f"a blob of {size_bytes} bytes is over the limit", "use a smaller package")
        with self._lock:
            if self._size_bytes + size_bytes > self._limit_bytes:
                problem = f"the blobs fill their limit of {self._limit_bytes // limits.MIB} MiB"
                raise StoreFull(self._folder, problem, "raise store.blobs_mib, or end old jobs")
            self._size_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        with self._lock:
            self._size_bytes -= size_bytes

    def _write(self, content: ContentId, data: bytes, public: bool, durable: bool) -> None:
        final = self._path(content, public)
        descriptor, part = tempfile.mkstemp(dir=self._folder / "incoming")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(descriptor)
            _make_shard(final.parent)
            os.rename(part, final)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
        if durable:
            sync_folder(final.parent)

    def _path(self, content: ContentId, public: bool) -> Path:
        name = content.hex()
        return self._folder / _side(public) / name[:2] / name


def _side(public: bool) -> str:
    return "public" if public else "private"


def _make_shard(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def _list(folder: Path, public: bool) -> dict[ContentId, _Entry]:
    return {
        ContentId(bytes.fromhex(file.name)): _Entry(file.stat().st_size, public)
        for shard in _entries(folder)
        if shard.is_dir()
        for file in _entries(Path(shard.path))
        if _NAME.fullmatch(file.name) and file.name.startswith(shard.name)
    }


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries
