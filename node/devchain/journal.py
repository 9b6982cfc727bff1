"""What was mined, on disk: a development chain that is started again in its folder goes on where it was.

The one rule: a block's line is in the file before anybody hears of the block. Mining is deterministic, so a
line needs no more than the block's time and transaction; each ends with the hash that mining it again must give.

    blocks.jsonl   {"version": 1, "chain_id": 31337, "genesis_s": …}
                   {"s": timestamp, "tx": "hex", "hash": "hex"}     a block; no "tx" in an empty one
                   {"offset_s": …}                                  the clock was moved
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from node.errors import DataError, FolderLocked

VERSION = 1
FILE = "blocks.jsonl"


@dataclass(frozen=True, slots=True)
class MinedBlock:
    timestamp_s: int
    raw: bytes | None
    """The signed transaction, if it has one."""
    hash: bytes


@dataclass(frozen=True, slots=True)
class ClockMoved:
    offset_s: int
    """In all."""


Entry = MinedBlock | ClockMoved


class Journal:
    """An open file of this process alone; made by `open_journal`."""

    def __init__(self, file: BinaryIO, path: Path, genesis_s: int, entries: tuple[Entry, ...]) -> None:
        self._file = file
        self.path = path
        self.genesis_s = genesis_s
        self.entries = entries
        """What was there when it was opened."""

    def append(self, entry: Entry) -> None:
        """Write one entry. It survives the death of this process; a power cut may take the last second."""
        match entry:
            case MinedBlock(timestamp_s, None, block_hash):
                _write(self._file, {"s": timestamp_s, "hash": block_hash.hex()})
            case MinedBlock(timestamp_s, bytes() as raw, block_hash):
                _write(self._file, {"s": timestamp_s, "tx": raw.hex(), "hash": block_hash.hex()})
            case ClockMoved(offset_s):
                _write(self._file, {"offset_s": offset_s})


@contextmanager
def open_journal(folder: Path, chain_id: int, now_s: Callable[[], int]) -> Iterator[Journal]:
    """Open or begin the folder's chain. Raises FolderLocked, DataError; OSError for a folder that can't be written."""
    path = folder / FILE
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderLocked(
                folder, "another development chain runs here", "stop it, or choose another --dir"
            ) from None
        file.seek(0)
        lines = _whole_lines(file)
        if not lines:
            _write(file, {"version": VERSION, "chain_id": chain_id, "genesis_s": now_s()})
            file.seek(0)
            lines = _whole_lines(file)
        genesis_s = _read_header(lines[0], path, chain_id)
        yield Journal(file, path, genesis_s, tuple(_read_entry(line, path) for line in lines[1:]))


def damaged(path: Path) -> DataError:
    return DataError(path, "is damaged, or of another version", "remove this folder to begin a new chain")


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """Every line; what a killed process left of another one is cut off."""
    data = file.read()
    end = data.rfind(b"\n") + 1
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    return data[:end].splitlines()


def _write(file: BinaryIO, value: dict[str, Any]) -> None:
    file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
    file.flush()


def _read_header(line: bytes, path: Path, chain_id: int) -> int:
    try:
        header = json.loads(line)
        version, found, genesis_s = (int(header[name]) for name in ("version", "chain_id", "genesis_s"))
    except (ValueError, KeyError, TypeError):
        raise damaged(path) from None
    if version != VERSION:
        raise DataError(path, f"is of version {version}", "use the version that wrote it, or another --dir")
    if found != chain_id:
        raise DataError(path, f"holds chain {found}, not {chain_id}", "choose another --dir")
    return genesis_s


def _read_entry(line: bytes, path: Path) -> Entry:
    try:
        value = json.loads(line)
        if "offset_s" in value:
            return ClockMoved(int(value["offset_s"]))
        raw = bytes.fromhex(value["tx"]) if "tx" in value else None
        return MinedBlock(int(value["s"]), raw, bytes.fromhex(value["hash"]))
    except (ValueError, KeyError, TypeError):
        raise damaged(path) from None
