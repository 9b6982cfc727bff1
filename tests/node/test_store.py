"""The store: what returned is there, whatever happens afterwards."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ports import Record, Store
from node import limits
from node.blobs import Blobs, content_id
from node.errors import DataError, ExitCode, FolderLocked, StoreFull
from node.records import MIGRATIONS, open_records
from node.store import DiskStore, lock_folder, open_store
from protocols.ids import ContentId

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with open_store(tmp_path / "data") as opened:
        yield opened


# -- Records -------------------------------------------------------------------


async def test_records_are_written_read_scanned_and_deleted(store: DiskStore) -> None:
    port: Store = store
    await port.write(Record("vote", b"b", b"2"), Record("vote", b"a", b"1"), Record("job", b"a", b"3"))
    assert await port.read("vote", b"a") == b"1"
    assert await port.read("vote", b"z") is None
    assert await port.scan("vote") == [(b"a", b"1"), (b"b", b"2")]
    await port.write(Record("vote", b"a", b"9"), Record("vote", b"b", None), Record("vote", b"none", None))
    assert await port.scan("vote") == [(b"a", b"9")]
    assert store.scan_sync("job") == [(b"a", b"3")]


@settings(max_examples=30, deadline=None)
@given(keys=st.sets(st.binary(max_size=3), max_size=20), prefix=st.binary(max_size=2))
def test_scan_is_a_sorted_filter(keys: set[bytes], prefix: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, open_records(Path(folder) / "r.sqlite3") as records:
        records.write(*(Record("k", key, key) for key in keys))
        assert [k for k, _ in records.scan("k", prefix)] == sorted(k for k in keys if k.startswith(prefix))


async def test_a_write_is_all_or_nothing(store: DiskStore) -> None:
    with pytest.raises(ValueError, match="belongs into a blob"):
        await store.write(Record("a", b"1", b"x"), Record("a", b"2", bytes(limits.RECORD_BYTES + 1)))
    with pytest.raises(sqlite3.Error):
        await store.write(Record("a", b"1", b"x"), Record(None, b"2", b"x"))  # type: ignore[arg-type]
    assert await store.scan("a") == []
    await store.write(Record("a", b"1", b"x"))  # the connection is still good


async def test_records_survive_a_restart(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        await store.write(Record("a", b"1", b"x"))
        content = await store.put_blob(b"blob", public=True)
    with open_store(tmp_path) as store:
        assert await store.read("a", b"1") == b"x"
        assert await store.blob(content) == b"blob"
        assert await store.is_public(content)


async def test_many_tasks_at_once(store: DiskStore) -> None:
    async def write(i: int) -> None:
        await store.write(Record("n", bytes([i]), bytes([i])))
        assert await store.blob(await store.put_blob(bytes([i]) * 100, public=i % 2 == 0)) == bytes([i]) * 100

    async with trio.open_nursery() as nursery:
        for i in range(50):
            nursery.start_soon(write, i)
    assert len(await store.scan("n")) == 50
    assert store.statistics().count == 50


async def test_a_cancelled_write_has_happened_or_not_begun(store: DiskStore) -> None:
    for i in range(20):
        with trio.move_on_after(0.0005 * i) as scope:
            await store.write(Record("c", bytes([i]), b"1"), Record("c", bytes([i, i]), b"2"))
        there = (await store.read("c", bytes([i])), await store.read("c", bytes([i, i])))
        assert there in ((b"1", b"2"), (None, None))
        assert there[0] or scope.cancelled_caught


# -- Schema --------------------------------------------------------------------

NEXT = (
    *MIGRATIONS,
    ("ALTER TABLE records ADD COLUMN note TEXT", "UPDATE records SET value = CAST(value || x'21' AS BLOB)"),
)


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path, migrations=NEXT) as store:
        store.write_sync()
    before = (tmp_path / "records.sqlite3").read_bytes()
    with (
        pytest.raises(
            DataError, match=r"records.sqlite3: has schema version 2, this program knows 1; install"
        ) as caught,
        open_store(tmp_path),
    ):
        pass
    assert caught.value.code == ExitCode.DATA
    assert (tmp_path / "records.sqlite3").read_bytes() == before


def test_an_older_database_is_backed_up_and_migrated(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.write_sync(Record("a", b"1", b"x"))
    with open_records(tmp_path / "records.sqlite3", NEXT) as records:
        assert records.read("a", b"1") == b"x!"
    backup = tmp_path / "records.sqlite3.v1.backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with open_records(backup) as records:
        assert records.read("a", b"1") == b"x"


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.write_sync(Record("a", b"1", b"x"))
    broken = (*MIGRATIONS, ("UPDATE records SET value = x'00'", "NONSENSE"))
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError), open_store(tmp_path, migrations=broken):
            pass
    with open_store(tmp_path) as store:
        assert store.read_sync("a", b"1") == b"x"


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to have a header of one " * 20, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "records.sqlite3").write_bytes(content)
    with pytest.raises(DataError, match=r"records.sqlite3: is damaged or no database"), open_store(tmp_path):
        pass


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.write_sync(*(Record("a", bytes([i]), bytes(500)) for i in range(100)))
    path = tmp_path / "records.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 4] = os.urandom(8192)
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"), open_store(tmp_path):
        pass


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "records.sqlite3")
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="is not a SkyNet database; choose another data_dir"), open_store(tmp_path):
        pass


# -- The lock ------------------------------------------------------------------


def test_a_second_process_hears_who_holds_the_folder(tmp_path: Path) -> None:
    with open_store(tmp_path):
        code = (
            "import sys, pathlib\nfrom node.errors import FolderLocked\nfrom node.store import open_store\n"
            "try:\n    open_store(pathlib.Path(sys.argv[1])).__enter__()\n"
            "except FolderLocked as error:\n    print(error); sys.exit(int(error.code))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == ExitCode.LOCKED, done.stderr
        line = f"{tmp_path}: in use by process {os.getpid()}; stop it, or choose another data_dir\n"
        assert done.stdout == line
        with pytest.raises(FolderLocked), lock_folder(tmp_path):
            pass
    with open_store(tmp_path):
        pass


def test_the_folder_is_private(tmp_path: Path) -> None:
    with open_store(tmp_path / "new" / "data") as store:
        store.put_blob_sync(b"x", public=True)
        for path in (tmp_path / "new" / "data", *(tmp_path / "new" / "data").rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# -- Blobs ---------------------------------------------------------------------


async def test_blobs_by_content(store: DiskStore) -> None:
    secret, open_ = await store.put_blob(b"private", public=False), await store.put_blob(b"public", public=True)
    assert secret == content_id(b"private")
    assert await store.blob(secret) == b"private"
    assert (await store.is_public(secret), await store.is_public(open_)) == (False, True)
    assert "private" in store.blob_path(secret).parts
    assert "public" in store.blob_path(open_).parts
    unknown = ContentId(b"?" * 32)
    assert await store.blob(unknown) is None
    assert not await store.has_blob(unknown)
    assert not await store.is_public(unknown)


async def test_publishing_moves_and_stays(store: DiskStore) -> None:
    content = await store.put_blob(b"x", public=False)
    old = store.blob_path(content)
    await store.put_blob(b"x", public=True)
    assert not old.exists()
    assert await store.is_public(content)
    await store.put_blob(b"x", public=False)
    assert await store.is_public(content)
    assert store.blob_path(content).read_bytes() == b"x"
    assert store.statistics().count == 1
    assert store.statistics().size_bytes == 1


@pytest.mark.parametrize("damage", [b"", b"y", b"xx"])
async def test_a_broken_blob_is_dropped_and_counted(store: DiskStore, damage: bytes) -> None:
    content = await store.put_blob(b"x", public=True)
    store.blob_path(content).write_bytes(damage)
    assert await store.blob(content) is None
    assert not await store.has_blob(content)
    assert (store.statistics().broken, store.statistics().count, store.statistics().size_bytes) == (1, 0, 0)
    assert await store.put_blob(b"x", public=True) == content
    assert await store.blob(content) == b"x"


async def test_a_vanished_blob_is_no_error(store: DiskStore) -> None:
    content = await store.put_blob(b"x", public=False)
    store.blob_path(content).unlink()
    assert await store.blob(content) is None
    assert store.statistics().broken == 1


async def test_dropping(store: DiskStore) -> None:
    content = await store.put_blob(b"x", public=False)
    assert await store.drop_blob(content)
    assert not await store.drop_blob(content)
    assert not store.blob_path(content).exists()
    assert store.statistics().size_bytes == 0


def test_the_limit_is_of_all_together(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 100)
    blobs.put(bytes(60), public=False)
    blobs.put(bytes(60), public=True)  # the same again takes no room
    with pytest.raises(StoreFull, match=r"the blobs fill their limit .* raise store.blobs_mib") as caught:
        blobs.put(bytes(41), public=False)
    assert caught.value.code == ExitCode.DISK
    blobs.put(bytes(40), public=False)
    assert blobs.statistics().size_bytes == 100
    assert Blobs(tmp_path, 100).statistics().size_bytes == 100


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path, 1000)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreFull, match="the disk is full"):
            blobs.put(b"x", public=False)
    assert blobs.statistics().size_bytes == 0
    assert list((tmp_path / "incoming").iterdir()) == []
    blobs.put(b"x", public=False)


def test_leftovers_and_strangers_in_the_folder(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 1000)
    content = blobs.put(b"x", public=True)
    (tmp_path / "incoming" / "tmpabc").write_bytes(b"half")
    (tmp_path / "public" / "README").write_bytes(b"?")
    (tmp_path / "public" / content.hex()[:2] / "README").write_bytes(b"?")
    twin = tmp_path / "private" / content.hex()[:2]
    twin.mkdir()
    (twin / content.hex()).write_bytes(b"x")
    again = Blobs(tmp_path, 1000)
    assert again.statistics().count == 1
    assert again.is_public(content)
    assert not (tmp_path / "incoming" / "tmpabc").exists()
    assert not (twin / content.hex()).exists()


def test_the_same_blob_from_many_threads(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 10_000)
    threads = [threading.Thread(target=blobs.put, args=(b"x" * 100,), kwargs={"public": i % 2 == 0}) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.statistics().size_bytes == 100
    assert blobs.read(content_id(b"x" * 100)) == b"x" * 100
    assert blobs.is_public(content_id(b"x" * 100))


# -- kill -9 -------------------------------------------------------------------

WRITER = """
import os, sys, pathlib
from actors.ports import Record
from node.store import open_store
with open_store(pathlib.Path(sys.argv[1])) as store:
    n = int.from_bytes(store.read_sync("count", b"n") or b"", "big")
    print("ready", flush=True)
    while True:
        n += 1
        content = store.put_blob_sync(n.to_bytes(8, "big") * 4000, public=n % 3 == 0)
        count = n.to_bytes(8, "big")
        store.write_sync(Record("count", b"n", count), Record("twin", b"n", count), Record("blob", count, content))
        print(n, flush=True)
"""


def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """What was acknowledged is there, twins are equal, every blob that a record names is whole."""
    dice = random.Random(7)
    acknowledged = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        acknowledged = max([acknowledged, *map(int, lines)])
        with open_store(tmp_path) as store:
            count = store.read_sync("count", b"n") or bytes(8)
            assert int.from_bytes(count, "big") in (acknowledged, acknowledged + 1)
            assert (store.read_sync("twin", b"n") or bytes(8)) == count
            named = store.scan_sync("blob")
            assert [int.from_bytes(k, "big") for k, _ in named] == list(range(1, len(named) + 1))
            for number, content in named:
                assert store.blob_sync(ContentId(content)) == number * 4000
            assert store.statistics().broken == 0
            acknowledged = int.from_bytes(count, "big")
    assert acknowledged > 6
