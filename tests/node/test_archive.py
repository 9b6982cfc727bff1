"""The archive: pages that fit together, and bounds that hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.ports import Gossip
from node.archive import MessageArchive, Retention, open_archive
from node.errors import DataError
from protocols.ids import ContentTopic
from protocols.waku import WakuMessage, encode_message, message_hash, pubsub_topic
from protocols.waku_store import MAX_PAGE, PAGE_BYTES, StoreQuery

TOPIC, OTHER = pubsub_topic(1717, 0), pubsub_topic(1717, 1)
CHAT, NEWS = ContentTopic("/chat/2/lobby/proto"), ContentTopic("/news/1/lobby/proto")
NOW_S = 1_800_000_000.0
NOW_NS = int(NOW_S * 1e9)
AMPLE = Retention(max_bytes=2**30, max_age_s=3600.0, max_messages=10**6)


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def message(number: int, content: ContentTopic = CHAT, size: int = 10, age_ns: int = 0) -> WakuMessage:
    return WakuMessage(number.to_bytes(4, "big").ljust(size, b"."), content, timestamp_ns=NOW_NS - age_ns)


def gossip(found: WakuMessage) -> Gossip:
    return Gossip(TOPIC, encode_message(found))


def find_all(archive: MessageArchive, query: StoreQuery) -> list[list[bytes]]:
    """Hashes, page by page."""
    pages = []
    while True:
        reply = archive.find_sync(query)
        assert reply.status == 200
        pages.append([entry.hash for entry in reply.messages])
        if reply.cursor is None:
            return pages
        query = replace(query, cursor=reply.cursor)


def in_order(messages: list[WakuMessage]) -> list[bytes]:
    return [h for _, h in sorted((m.timestamp_ns, message_hash(TOPIC, m)) for m in messages)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.integers(0, 5), max_size=30), limit=st.integers(1, 12))
def test_pages_hold_each_message_once_both_ways(tmp_path: Path, ages: list[int], limit: int) -> None:
    messages = [message(n, age_ns=age) for n, age in enumerate(ages)]  # many of the same time
    path = tmp_path / "archive.sqlite3"
    path.unlink(missing_ok=True)
    with open_archive(path, AMPLE, Clock()) as archive:
        archive.keep_sync([gossip(m) for m in messages])
        forward = find_all(archive, StoreQuery("", forward=True, limit=limit))
        backward = find_all(archive, StoreQuery("", forward=False, limit=limit))
    assert [h for page in forward for h in page] == in_order(messages)
    assert [h for page in reversed(backward) for h in page] == in_order(messages)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[MessageArchive]:
    with open_archive(tmp_path / "archive.sqlite3", AMPLE, Clock()) as opened:
        yield opened


def test_what_is_asked_for_is_found_and_nothing_else(archive: MessageArchive) -> None:
    chat = [message(n, age_ns=n * 1000) for n in range(10)]
    news = [message(n, NEWS, age_ns=n * 1000) for n in range(10, 20)]
    archive.keep_sync([gossip(m) for m in chat + news])
    archive.keep_sync([Gossip(OTHER, encode_message(message(99)))])

    def found(**asked: object) -> list[bytes]:
        (page,) = find_all(archive, StoreQuery("", forward=True, limit=MAX_PAGE, **asked))  # type: ignore[arg-type]
        return page

    assert found(topic=TOPIC, content_topics=(NEWS,)) == in_order(news)
    assert found(topic=TOPIC, content_topics=(NEWS, CHAT)) == in_order(chat + news)
    assert found(topic=OTHER) == [message_hash(OTHER, message(99))]
    assert found(topic=TOPIC, start_ns=NOW_NS - 12_000, end_ns=NOW_NS - 8_000) == in_order(chat[8:] + news[:3])
    wanted = in_order([chat[2], news[4]])
    assert found(hashes=(*wanted, bytes(32))) == wanted


def test_data_comes_only_when_it_is_asked_for(archive: MessageArchive) -> None:
    archive.keep_sync([gossip(message(1))])
    (bare,) = archive.find_sync(StoreQuery("")).messages
    (whole,) = archive.find_sync(StoreQuery("", include_data=True)).messages
    assert (bare.topic, bare.message) == (None, None)
    assert (whole.topic, whole.message) == (TOPIC, encode_message(message(1)))


def test_a_page_stays_small_enough_for_js(archive: MessageArchive) -> None:
    messages = [message(n, size=140_000, age_ns=n) for n in range(50)]
    archive.keep_sync([gossip(m) for m in messages])
    pages = find_all(archive, StoreQuery("", include_data=True, forward=True, limit=MAX_PAGE))
    assert [h for page in pages for h in page] == in_order(messages)
    assert all(len(page) * 140_000 <= PAGE_BYTES for page in pages)
    assert len(pages) == 3


def test_a_cursor_that_is_not_here_is_refused_by_name(archive: MessageArchive) -> None:
    reply = archive.find_sync(StoreQuery("4", cursor=bytes(32)))
    assert (reply.request_id, reply.status) == ("4", 400)
    assert "cursor" in reply.description


def test_copies_and_messages_of_other_times_are_left_out(archive: MessageArchive) -> None:
    archive.keep_sync([gossip(message(1)), gossip(message(1)), gossip(message(2, age_ns=61 * 10**9))])
    archive.keep_sync([gossip(message(1)), gossip(message(3, age_ns=-61 * 10**9)), Gossip(TOPIC, b"\xff")])
    assert archive.count == 1


def test_a_message_without_a_timestamp_is_kept_at_its_arrival(archive: MessageArchive) -> None:
    bare = replace(message(1), timestamp_ns=0)
    archive.keep_sync([gossip(bare)])
    (entry,) = archive.find_sync(StoreQuery("", start_ns=NOW_NS, end_ns=NOW_NS)).messages
    assert entry.hash == message_hash(TOPIC, bare)


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (replace(AMPLE, max_messages=7), 7),
        (replace(AMPLE, max_bytes=10 * len(encode_message(message(0)))), 10),
        (replace(AMPLE, max_age_s=30.0), 31),
    ],
)
def test_the_oldest_go_first(tmp_path: Path, retention: Retention, kept: int) -> None:
    messages = [message(n, age_ns=n * 10**9) for n in range(60)]
    with open_archive(tmp_path / "archive.sqlite3", retention, Clock()) as archive:
        for m in reversed(messages):
            archive.keep_sync([gossip(m)])
        assert find_all(archive, StoreQuery("", forward=True, limit=MAX_PAGE)) == [in_order(messages[:kept])]
        assert archive.size_bytes == sum(len(encode_message(m)) for m in messages[:kept])
    with open_archive(tmp_path / "archive.sqlite3", retention, Clock()) as again:
        assert again.count == kept


@pytest.mark.parametrize("damage", [b"no database at all" * 400, None])
def test_a_file_that_cannot_be_used_is_begun_anew(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "archive.sqlite3"
    if damage:
        path.write_bytes(damage)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE messages (x)")
        other.close()
    with open_archive(path, AMPLE, Clock()) as archive:
        archive.keep_sync([gossip(message(1))])
        assert archive.count == 1


def test_a_folder_that_cannot_be_written_is_an_operators_error(tmp_path: Path) -> None:
    with pytest.raises(DataError), open_archive(tmp_path / "nowhere" / "archive.sqlite3", AMPLE, Clock()):
        pass
