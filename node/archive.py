"""The messages of the last hours, in SQLite, for those who missed them: a node's Waku Store.

The one rule: it is bounded by count, size and age, and the oldest go first. It is a cache: a file that is damaged or
of another version is begun anew, and a power cut may cost the last second. The event loop never waits for the disk.

    DATA_DIR/archive.sqlite3
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from actors.ports import Gossip
from node import limits
from node.errors import DataError, describe_os_error
from protocols.ids import PubsubTopic
from protocols.verdict import Reject
from protocols.waku import decode_message, message_hash
from protocols.waku_store import PAGE_BYTES, StoredMessage, StoreQuery, StoreReply, StoreStatus

log = structlog.get_logger("skynet.node.archive")

VERSION = 1
SCHEMA = (
    "CREATE TABLE messages (hash BLOB NOT NULL UNIQUE, time_ns INTEGER NOT NULL, topic TEXT NOT NULL,"
    " content_topic TEXT NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX by_time ON messages (time_ns, hash)",
)
MAX_SKEW_NS = 60 * 10**9  # a sender's clock; a message from further off would never age, or be gone at once


@dataclass(frozen=True, slots=True)
class Retention:
    """What an operator grants; the smallest of the three counts."""

    max_bytes: int
    """Of the messages; the file has a little more."""
    max_age_s: float
    max_messages: int


@contextmanager
def open_archive(path: Path, retention: Retention, time_s: Callable[[], float]) -> Iterator[MessageArchive]:
    """Open or begin the archive. Raises DataError when the folder can't be written."""
    try:
        connection = _open(path)
    except sqlite3.OperationalError as error:
        raise DataError(path, str(error), "choose a data_dir that this user can write") from None
    except OSError as error:
        raise DataError(path, describe_os_error(error), "choose a data_dir that this user can write") from None
    try:
        yield MessageArchive(connection, retention, time_s)
    finally:
        connection.close()


def _open(path: Path) -> sqlite3.Connection:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        return _prepare(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        log.warning("the message archive is begun anew", path=str(path), reason=str(error))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _prepare(path)


def _prepare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=limits.STORE_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if not is_new and version != VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


# -- The archive ---------------------------------------------------------------


class MessageArchive:
    """Made by `open_archive`; implements `node.adapters.libp2p.service.Archive`."""

    def __init__(self, connection: sqlite3.Connection, retention: Retention, time_s: Callable[[], float]) -> None:
        self._connection = connection
        self._retention = retention
        self._time_s = time_s
        self._threads = trio.CapacityLimiter(1)  # one connection, one thread
        self.count = self.size_bytes = 0
        self._count()

    async def keep(self, batch: Sequence[Gossip]) -> None:
        await trio.to_thread.run_sync(partial(self.keep_sync, batch), limiter=self._threads)

    async def find(self, query: StoreQuery) -> StoreReply:
        return await trio.to_thread.run_sync(partial(self.find_sync, query), limiter=self._threads)

    # -- Keeping

    def keep_sync(self, batch: Sequence[Gossip]) -> None:
        """Add what isn't here yet and what retention asks for; a full disk costs the batch, not the node."""
        now_ns = int(self._time_s() * 1e9)
        rows = [row for gossip in batch if (row := _row_of(gossip, now_ns)) is not None]
        try:
            with _transaction(self._connection):
                for row in rows:
                    added = self._connection.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?)", row)
                    if added.rowcount:
                        self.count, self.size_bytes = self.count + 1, self.size_bytes + len(row[4])
                self._prune(now_ns)
        except sqlite3.Error as error:
            log.warning("messages are not archived", count=len(rows), reason=str(error))
            with suppress(sqlite3.Error):
                self._count()

    def _prune(self, now_ns: int) -> None:
        granted = self._retention
        self._delete("time_ns < ?", now_ns - int(granted.max_age_s * 1e9))
        while self.count > granted.max_messages or self.size_bytes > granted.max_bytes:
            surplus = max(self.count - granted.max_messages, 1)
            self._delete("rowid IN (SELECT rowid FROM messages ORDER BY time_ns, hash LIMIT ?)", surplus)

    def _delete(self, which: str, argument: int) -> None:
        gone = self._connection.execute(f"DELETE FROM messages WHERE {which} RETURNING length(data)", (argument,))  # noqa: S608 - ours
        sizes = [size for (size,) in gone]
        self.count -= len(sizes)
        self.size_bytes -= sum(sizes)

    def _count(self) -> None:
        row = self._connection.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM messages").fetchone()
        self.count, self.size_bytes = int(row[0]), int(row[1])

    # -- Finding

    def find_sync(self, query: StoreQuery) -> StoreReply:
        try:
            return self._find(query)
        except sqlite3.Error as error:
            log.warning("a query of the archive failed", reason=str(error))
            return StoreReply(query.request_id, StoreStatus.INTERNAL_ERROR, "the archive can't be read")

    def _find(self, query: StoreQuery) -> StoreReply:
        conditions, arguments = _filter_of(query)
        if query.cursor is not None:
            at = self._connection.execute("SELECT time_ns FROM messages WHERE hash = ?", (query.cursor,)).fetchone()
            if at is None:
                return StoreReply(query.request_id, StoreStatus.BAD_REQUEST, "the cursor's message is not here")
            conditions.append(f"(time_ns, hash) {'>' if query.forward else '<'} (?, ?)")
            arguments += [at[0], query.cursor]
        way = "" if query.forward else " DESC"
        found = self._connection.execute(
            f"SELECT hash, topic, data FROM messages WHERE {' AND '.join(conditions) or 'TRUE'}"  # noqa: S608 - ours
            f" ORDER BY time_ns{way}, hash{way} LIMIT ?",
            (*arguments, query.limit + 1),
        )
        page, more = _take_page(found, query)
        if not query.forward:
            page.reverse()
        cursor = page[-1 if query.forward else 0].hash if more else None
        return StoreReply(query.request_id, StoreStatus.SUCCESS, "OK", tuple(page), cursor)


def _row_of(gossip: Gossip, now_ns: int) -> tuple[bytes, int, str, str, bytes] | None:
    message = decode_message(gossip.data)
    if isinstance(message, Reject):
        return None
    time_ns = message.timestamp_ns or now_ns
    if abs(time_ns - now_ns) > MAX_SKEW_NS:
        return None
    return message_hash(gossip.topic, message), time_ns, gossip.topic, message.content_topic, gossip.data


def _filter_of(query: StoreQuery) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    arguments: list[object] = []
    for column, values in (("hash", query.hashes), ("content_topic", query.content_topics)):
        if values:
            conditions.append(f"{column} IN ({','.join('?' * len(values))})")
            arguments += values
    for condition, value in (
        ("topic = ?", query.topic),
        ("time_ns >= ?", query.start_ns),
        ("time_ns <= ?", query.end_ns),
    ):
        if value is not None:
            conditions.append(condition)
            arguments.append(value)
    return conditions, arguments


def _take_page(found: sqlite3.Cursor, query: StoreQuery) -> tuple[list[StoredMessage], bool]:
    """Return a page in the order of the rows, and whether there is more."""
    page: list[StoredMessage] = []
    size_bytes = 0
    for digest, topic, data in found:
        size_bytes += len(data) if query.include_data else 0
        if len(page) == query.limit or (page and size_bytes > PAGE_BYTES):
            return page, True
        page.append(StoredMessage(digest, PubsubTopic(topic), data) if query.include_data else StoredMessage(digest))
    return page, False


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
