"""A job's child: what it is lent, what it may leave on the disk, and what closing it leaves there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from test_child import LIMITS, PROGRAM

from actors.ports import Refused
from node.adapters import job_child
from node.adapters.job_child import JobChild, Opening

SMALL = replace(PROGRAM, limits=replace(LIMITS, cpu_s=20, disk_bytes=1 << 20))


@asynccontextmanager
async def running(folder: Path, fields: Mapping[str, object] | None = None) -> AsyncIterator[JobChild]:
    async with trio.open_nursery() as nursery:
        opening = Opening("echo", fields or {}, 20.0)
        yield (child := JobChild(nursery, SMALL, folder / "job", lambda line: None, opening))
        await child.close()
    assert not (folder / "job").exists()


async def test_paths_are_lent_as_links(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    async with running(tmp_path) as child:
        fields = {"page": one, "pages": [one, two, tmp_path / "none"], "name": "as it is", "count": 3}
        reply = await child.ask("echo", fields, timeout_s=20)
        inputs = tmp_path / "job" / "inputs"
        links = [str(inputs / name) for name in ("one", "two", "none")]
        assert reply == {"page": links[0], "pages": links, "name": "as it is", "count": 3}
        assert (inputs / "one").stat().st_ino == one.stat().st_ino
        one.unlink()
        assert (inputs / "one").read_bytes() == b"1"
        assert not (inputs / "none").exists()


async def test_where_files_can_not_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(job_child.errno.EXDEV, "another disk")

    monkeypatch.setattr(job_child.os, "link", refuse)
    (tmp_path / "one").write_bytes(b"1")
    async with running(tmp_path) as child:
        assert isinstance(await child.ask("echo", {"page": tmp_path / "one"}, timeout_s=20), dict)
        assert (tmp_path / "job" / "inputs" / "one").read_bytes() == b"1"


async def test_one_that_fills_the_disk_is_ended_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_child, "WATCH_S", 0.05)
    async with running(tmp_path) as child:
        refused = await child.ask("litter", {}, timeout_s=20)
        assert refused == Refused("its files are more than 1048576 bytes")
        assert await child.ask("echo", {"a": 1}, timeout_s=20) == {"a": 1}  # another one, in an empty folder
        assert not list((tmp_path / "job" / "work").glob("litter-*"))
