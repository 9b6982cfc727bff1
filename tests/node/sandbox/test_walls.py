"""A child that was taken over, on the kernel as it is: it has its scratch folder and its inputs, and no more."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from actors.ports import Refused
from node.adapters.child import Child, Program, start_child
from node.adapters.sandbox_probe import probe_sandbox
from node.sandbox.policy import Findings, Limits, Measure, find_lacking

HERE = Path(__file__).resolve().parent
LIMITS = Limits(memory_bytes=512 << 20, cpu_s=20, file_bytes=1 << 20)
PROGRAM = Program(
    "escaping_child", LIMITS, {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[2]}"}, is_sandbox_demanded=True
)


@pytest.fixture
async def findings() -> Findings:
    found = await probe_sandbox()
    assert not isinstance(found, str), found
    if find_lacking(found):
        pytest.skip("this kernel has no landlock or no seccomp")
    return found


@dataclass
class Prisoner:
    child: Child
    work: Path
    inputs: Path
    key: Path
    """A file of ours."""

    async def attempt(self, do: str, on: object = "") -> object:
        reply = await self.child.request(do, {"on": str(on)}, timeout_s=20)
        return reply if isinstance(reply, Refused) else reply["error"]


@asynccontextmanager
async def imprisoned(folder: Path, program: Program = PROGRAM) -> AsyncIterator[Prisoner]:
    work, inputs, key = folder / "work", folder / "inputs", folder / "keys" / "wallet.json"
    for path in (work, inputs, key.parent):
        path.mkdir()
    key.write_bytes(b"secret")
    (inputs / "page").write_bytes(b"page")
    async with trio.open_nursery() as nursery:
        child = await start_child(nursery, program, work, lambda line: None, inputs=inputs)
        yield Prisoner(child, work, inputs, key)
        await child.close()


async def test_files(tmp_path: Path, findings: Findings) -> None:
    async with imprisoned(tmp_path) as prisoner:
        assert await prisoner.attempt("write", "own") is None
        assert await prisoner.attempt("read", "own") is None
        assert await prisoner.attempt("rename", "own") is None
        assert await prisoner.attempt("read", prisoner.inputs / "page") is None
        for do in ("read", "write", "append", "empty", "truncate", "remove", "link", "symlink", "rename"):
            assert await prisoner.attempt(do, prisoner.key) is not None, do
        for do in ("chmod", "chown", "touch", "attribute"):
            assert await prisoner.attempt(do, prisoner.key) is not None, do
            assert await prisoner.attempt(do, prisoner.work / "stolen") is not None, do
        for do in ("write", "append", "empty", "truncate", "remove", "rename"):
            assert await prisoner.attempt(do, prisoner.inputs / "page") is not None, do
        for folder in (tmp_path, prisoner.key.parent, Path.home(), "/etc", "/tmp", "/proc/1", f"/proc/{os.getpid()}"):
            assert await prisoner.attempt("list", folder) is not None, folder
        for file in (f"/proc/{os.getpid()}/environ", "/etc/hostname", __file__, HERE.parents[2] / "README.md"):
            assert await prisoner.attempt("read", file) is not None, file
        assert await prisoner.attempt("write", tmp_path / "outside") is not None
        assert await prisoner.attempt("write", "/dev/shm/outside") is not None
        assert prisoner.child.lost is None
    assert prisoner.key.read_bytes() == b"secret"
    assert (prisoner.inputs / "page").read_bytes() == b"page"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "inputs",
        "keys",
        "page",
        "stolen",
        "wallet.json",
        "work",
    ]


async def test_a_shared_folder_grows(tmp_path: Path, findings: Findings) -> None:
    """As the cache of keys does: what is finished there, another child can use but not change."""
    shared = tmp_path / "cache"
    (shared / "finished").mkdir(parents=True)
    (shared / "finished" / "key").write_bytes(b"key")
    async with imprisoned(tmp_path, replace(PROGRAM, writable=(shared,))) as prisoner:
        assert await prisoner.attempt("write", shared / "new.lock") is None
        assert await prisoner.attempt("read", shared / "finished" / "key") is None
        if findings[Measure.MOUNTS] is None:
            for do in ("write", "empty", "truncate", "remove"):
                assert await prisoner.attempt(do, shared / "finished" / "key") is not None, do
            assert await prisoner.attempt("write", shared / "finished" / "more") is not None
            assert await prisoner.attempt("rename", shared / "finished") is not None
            assert (shared / "finished" / "key").read_bytes() == b"key"


async def test_network(tmp_path: Path, findings: Findings) -> None:
    async with imprisoned(tmp_path) as prisoner:
        for do in ("tcp", "udp", "unix", "netlink"):
            assert await prisoner.attempt(do) == "EPERM", do
        assert await prisoner.attempt("pair") is None  # asyncio's


async def test_processes(tmp_path: Path, findings: Findings) -> None:
    async with imprisoned(tmp_path) as prisoner:
        assert await prisoner.attempt("thread") is None
        assert await prisoner.attempt("swarm") is None  # ends at its memory, if not at its limit of threads
        for do in ("fork", "vfork", "session", "unshare", "mount", "root", "user"):
            assert await prisoner.attempt(do) is not None, do
        for program in ("/bin/true", sys.executable):
            assert await prisoner.attempt("run", program) is not None
        for do in ("signal", "trace", "limit"):
            assert await prisoner.attempt(do, os.getpid()) is not None, do
        assert await prisoner.attempt("signal", prisoner.child.pid) is None


async def test_a_kernel_without_any_of_it(tmp_path: Path, findings: Findings) -> None:
    """What is demanded is refused, with the reason; what isn't works without."""
    weak = replace(PROGRAM, module="weakened_child")
    for folder in ("demanded", "not"):
        (tmp_path / folder).mkdir()
    async with imprisoned(tmp_path / "demanded", weak) as prisoner:
        refused = await prisoner.attempt("read", prisoner.key)
        assert isinstance(refused, Refused)
        for word in ("files", "network", "processes", 'sandbox.missing = "warn"'):
            assert word in refused.reason
        assert "memory" not in refused.reason
    async with imprisoned(tmp_path / "not", replace(weak, is_sandbox_demanded=False)) as prisoner:
        assert await prisoner.attempt("write", "own") is None
        assert await prisoner.attempt("read", prisoner.key) is None  # so it is


async def test_the_probe_names_every_measure(findings: Findings) -> None:
    assert set(findings) == set(Measure)
    assert findings[Measure.LANDLOCK] is findings[Measure.SECCOMP] is None
