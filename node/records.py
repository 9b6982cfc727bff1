"""Records in SQLite: (kind, key) → value, written all or nothing and on the disk when `write` returns.

The one rule: WAL with synchronous=FULL, so that a commit survives `kill -9` and a power cut.
The schema's version is the number of migrations it has seen: a newer one is refused, an older one is backed up
beside the file and migrated. Thread-safe: one connection behind a lock.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from actors.ports import Record
from node import limits
from node.errors import DataError, StoreFull, describe_os_error
from node.key_file import sync_folder

APPLICATION_ID = 0x536B794E  # "SkyN" in the file's header: another program's database is refused

Migration = tuple[str, ...]
"""Statements that lead from one version to the next, in one transaction."""

MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE records (kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))"
        " WITHOUT ROWID",
    ),
)

# -- Opening -------------------------------------------------------------------


@contextmanager
def open_records(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Iterator[Records]:
    """Open or make the database. Raises DataError: newer, damaged or not ours; StoreFull."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise DataError(path, describe_os_error(error), "choose a data_dir that this user can write") from None
    connection = sqlite3.connect(path, timeout=limits.STORE_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        with _faults_named(path):
            _prepare(connection, path, migrations)
        yield Records(connection, path)
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    ours, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    is_new = ours == version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if not is_new and ours != APPLICATION_ID:
        raise DataError(path, "is not a SkyNet database", "choose another data_dir")
    if version > len(migrations):
        problem = f"has schema version {version}, this program knows {len(migrations)}"
        raise DataError(path, problem, "install the newer skynet-node again, or restore a backup")
    if _text_pragma(connection, "quick_check(1)") != "ok":
        raise _damaged(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version < len(migrations):
        if not is_new:
            _back_up(connection, path, version)
        _migrate(connection, migrations[version:], len(migrations))
        sync_folder(path.parent)


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], version: int) -> None:
    with _transaction(connection):
        for migration in migrations:
            for statement in migration:
                connection.execute(statement)
        # Both are part of the transaction: they lie in the file's header.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy to `PATH.vN.backup`. One of an earlier, killed attempt holds the same and is replaced."""
    backup = path.with_name(f"{path.name}.v{version}.backup")
    part = backup.with_name(f"{backup.name}.part")
    part.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(part),))
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(backup)
    sync_folder(path.parent)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _text_pragma(connection: sqlite3.Connection, name: str) -> str:
    return str(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turn SQLite's faults that an operator can mend into user errors."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StoreFull(path, "the disk is full", "make room; nothing that was stored is lost") from None
        if error.sqlite_errorcode in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise DataError(path, str(error), "choose a data_dir that this user can write") from None
        raise
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise _damaged(path) from None
        raise


def _damaged(path: Path) -> DataError:
    return DataError(
        path, "is damaged or no database", "restore a backup, or move it away and start anew: jobs in progress are lost"
    )


def read_beside(path: Path, kind: str) -> list[tuple[bytes, bytes]]:
    """(key, value) of a kind, read only, whether or not a node has the file open. Raises DataError."""
    if not path.exists():
        return []
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=limits.STORE_BUSY_S)
    try:
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise DataError(path, "is not a SkyNet database", "choose another data_dir")
        rows = connection.execute("SELECT key, value FROM records WHERE kind = ? ORDER BY key", (kind,))
        return [(bytes(key), bytes(value)) for key, value in rows]
    except sqlite3.DatabaseError as error:
        raise DataError(path, str(error), "try again; if it stays so, restore a backup") from None
    finally:
        connection.close()


# -- Records -------------------------------------------------------------------


class Records:
    """Made by `open_records`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    def write(self, *records: Record) -> None:
        """All or nothing, in order. Raises StoreFull; ValueError for a value over the limit."""
        for record in records:
            if record.value is not None and len(record.value) > limits.RECORD_BYTES:
                raise ValueError(f"a {record.kind} record of {len(record.value)} bytes belongs into a blob")
        with self._lock, _faults_named(self._path), _transaction(self._connection):
            for record in records:
                self._apply(record)

    def _apply(self, record: Record) -> None:
        if record.value is None:
            self._connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (record.kind, record.key))
        else:
            self._connection.execute(
                "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (record.kind, record.key, record.value),
            )

    def read(self, kind: str, key: bytes) -> bytes | None:
        with self._lock, _faults_named(self._path):
            found = self._connection.execute("SELECT value FROM records WHERE kind = ? AND key = ?", (kind, key))
            row = found.fetchone()
        return None if row is None else bytes(row[0])

    def scan(self, kind: str, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """(key, value) of the keys that begin with `prefix`, ordered by key."""
        query, arguments = "SELECT key, value FROM records WHERE kind = ? AND key >= ?", [kind, prefix]
        if (end := _after(prefix)) is not None:
            query, arguments = f"{query} AND key < ?", [*arguments, end]
        with self._lock, _faults_named(self._path):
            return [(bytes(k), bytes(v)) for k, v in self._connection.execute(f"{query} ORDER BY key", arguments)]


def _after(prefix: bytes) -> bytes | None:
    """The least key that lies behind all that begin with `prefix`; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
