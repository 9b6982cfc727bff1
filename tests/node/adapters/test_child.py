"""A child that dies, hangs, lies or grabs: the parent gets `Refused` and nothing is left behind."""

import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest
import trio

from actors.ports import Refused
from node.adapters.child import LOG_BYTES, Child, Program, start_child
from node.sandbox import Limits
from protocols import frames

HERE = Path(__file__).resolve().parent
LIMITS = Limits(memory_bytes=512 << 20, cpu_s=2, file_bytes=64 << 10, files=64)
PROGRAM = Program("odd_child", LIMITS, {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[2]}"})


@asynccontextmanager
async def running(scratch: Path, log: list[str]) -> AsyncIterator[Child]:
    async with trio.open_nursery() as nursery:
        child = await start_child(nursery, PROGRAM, scratch, log.append)
        yield child
        await child.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.02)


Ask = Callable[[Child], Awaitable[frames.Frame | Refused]]


def ask(do: str, timeout_s: float = 20, **fields: object) -> Ask:
    async def request(child: Child) -> frames.Frame | Refused:
        return await child.request(do, fields, timeout_s=timeout_s)

    return request


async def test_it_answers_in_turn(tmp_path: Path) -> None:
    answers: list[object] = []
    async with running(tmp_path, []) as child:

        async def one(number: int) -> None:
            answers.append(await ask("echo", number=number)(child))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)
        assert await ask("be quick")(child) == {}
    assert sorted(a["number"] for a in answers if isinstance(a, dict)) == list(range(8))
    assert not is_alive(child.pid)


@pytest.mark.parametrize(("do", "reason"), [("refuse", "not? today"), ("raise", "ValueError: a bad package")])
async def test_a_refusal_costs_the_child_nothing(tmp_path: Path, do: str, reason: str) -> None:
    async with running(tmp_path, []) as child:
        assert await ask(do)(child) == Refused(reason)
        assert child.lost is None
        assert await ask("echo", a=1)(child) == {"a": 1}


@pytest.mark.parametrize(
    ("do", "timeout_s", "reason"),
    [
        ("die", 20, "SIGSEGV"),
        ("exit", 20, "status 7"),
        ("overstay", 20, "SIGALRM: a part of its work took longer than that may"),
        ("sleep", 0.5, "no answer to sleep within 0.5 s"),
        ("ignore", 0.5, "no answer to ignore within 0.5 s"),
    ],
)
async def test_a_lost_child_is_a_refusal(tmp_path: Path, do: str, timeout_s: float, reason: str) -> None:
    async with running(tmp_path, []) as child:
        await ask("echo")(child)
        refused = await ask(do, timeout_s)(child)
        assert isinstance(refused, Refused)
        assert reason in refused.reason
        assert not is_alive(child.pid)
        assert await ask("echo")(child) == refused


async def test_an_operator_may_kill_it(tmp_path: Path) -> None:
    async with running(tmp_path, []) as child, trio.open_nursery() as nursery:

        async def kill() -> None:
            await trio.sleep(0.3)
            os.kill(child.pid, 9)

        nursery.start_soon(kill)
        assert await ask("sleep")(child) == Refused("the child was killed by SIGKILL")


@pytest.mark.skipif(sys.platform != "linux", reason="rlimits of other systems differ")
async def test_limits_hold(tmp_path: Path) -> None:
    async with running(tmp_path, []) as child:
        assert await ask("eat")(child) == Refused("MemoryError: ")
        assert "File too large" in str(await ask("write")(child))
        assert "Too many open files" in str(await ask("open")(child))
    async with running(tmp_path, []) as child:
        assert await ask("spin")(child) == Refused("the child was killed by SIGXCPU")


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack(">I", 0),
        struct.pack(">I", 1 << 31) + b"x",
        struct.pack(">I", 3) + b"abc",
        frames.encode_frame({"done": {}, "refused": "both"}),
        frames.encode_frame({"done": 1}),
        struct.pack(">I", 2) + msgpack.packb([1]),
    ],
)
async def test_a_hostile_reply_ends_it(tmp_path: Path, raw: bytes) -> None:
    async with running(tmp_path, []) as child:
        assert isinstance(await ask("raw", bytes=raw)(child), Refused)
        assert not is_alive(child.pid)


async def test_a_reply_cut_short_meets_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path, []) as child:
        refused = await ask("raw", 0.5, bytes=frames.done({"a": 1})[:-1])(child)
        assert refused == Refused("no answer to raw within 0.5 s")


async def test_a_cancelled_request_ends_it(tmp_path: Path) -> None:
    async with running(tmp_path, []) as child:
        with trio.move_on_after(0.3):
            await ask("sleep")(child)
        assert await ask("echo")(child) == Refused("sleep was cancelled")


async def test_its_output_goes_to_the_log(tmp_path: Path) -> None:
    log: list[str] = []
    async with running(tmp_path, log) as child:
        assert await ask("print")(child) == {}
        assert await ask("flood")(child) == {}
        await eventually(lambda: bool(log))
    assert log[0] == "a library says hello"
    assert sum(map(len, log)) < LOG_BYTES
    assert log[-1].endswith("more bytes were dropped")


async def test_its_world_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYNET_PASSPHRASE", "canary")
    async with running(tmp_path, []) as child:
        answer = await ask("limits")(child)
    assert isinstance(answer, dict)
    environment = answer["environment"]
    assert isinstance(environment, dict)
    assert set(environment) <= {"HOME", "TMPDIR", "LANG", "PYTHONPATH", "LC_CTYPE"}
    assert environment["HOME"] == answer["directory"] == str(tmp_path)


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = f"""
import pathlib, sys, trio
sys.path[:0] = {[str(HERE), str(HERE.parents[2])]!r}
from test_child import PROGRAM, ask
from node.adapters.child import start_child
async def main():
    async with trio.open_nursery() as nursery:
        child = await start_child(nursery, PROGRAM, pathlib.Path({str(tmp_path)!r}), print)
        await ask("echo")(child)
        print(child.pid, flush=True)
        await ask("sleep")(child)
trio.run(main)
"""
    process = await trio.lowlevel.open_process([sys.executable, "-c", parent], stdout=-1)
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await process.stdout.receive_some()
    process.kill()
    await process.wait()
    await process.stdout.aclose()
    await eventually(lambda: not is_alive(int(line)) or _is_zombie(int(line)))


def _is_zombie(pid: int) -> bool:
    # Where nobody reaps orphans, as in some containers, a dead one stays in the table.
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
