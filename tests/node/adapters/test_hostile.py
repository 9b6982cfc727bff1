"""Hostile packages, each through a real child: a refusal with its reason, a loop that goes on, and the next job runs.

What a package could do once it has taken its child over is in tests/node/sandbox/test_walls.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from hostile_packages import VECTORS, Shelf, endless, export, fill_shelf, foreign, huge, kind, many, patient

from actors.ports import Refused, Train, Trained
from node.adapters.compute import ChildCompute, Deadlines, Settings
from node.store import open_store
from protocols.ids import JobId, RoundNumber

HOSTILE, NEXT = JobId(b"\x66" * 32), JobId(b"\x07" * 32)
SETTINGS = Settings(memory_bytes=8 << 30, deadlines=Deadlines(open_s=60, train_s=60))
IN_A_HURRY = Settings(memory_bytes=8 << 30, deadlines=Deadlines(open_s=3, train_s=1))
HELD_UP_S = 0.05


class Watch(trio.abc.Instrument):
    """Measures how long the loop's thread computed without a pause: on a busy machine real time would say nothing."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began_s = time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest_s = max(self.longest_s, time.thread_time() - self._began_s)


class Ticker:
    """Measures in real time how late a task of the same loop wakes, at the median."""

    def __init__(self) -> None:
        self._late_s: list[float] = []

    async def run(self) -> None:
        while True:
            due_s = trio.current_time() + 0.01
            await trio.sleep_until(due_s)
            self._late_s.append(trio.current_time() - due_s)

    @property
    def median_s(self) -> float:
        return sorted(self._late_s)[len(self._late_s) // 2]


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Assert that the loop went on beside the body."""
    watch, ticker = Watch(), Ticker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        await trio.sleep(0.05)
        trio.lowlevel.add_instrument(watch)
        yield
        trio.lowlevel.remove_instrument(watch)
        nursery.cancel_scope.cancel()
    assert watch.longest_s < HELD_UP_S
    assert ticker.median_s < HELD_UP_S


@asynccontextmanager
async def opened(folder: Path, settings: Settings) -> AsyncIterator[tuple[ChildCompute, Shelf]]:
    with open_store(folder / "data") as store:
        shelf = fill_shelf(store)
        async with trio.open_nursery() as nursery:
            scratch = folder / "data" / "scratch"
            yield ChildCompute(nursery, store, store.blob_path, scratch, lambda line: None, settings), shelf
            nursery.cancel_scope.cancel()


async def train(compute: ChildCompute, job: JobId, shelf: Shelf) -> Trained | Refused:
    return await compute.train(Train(job, RoundNumber(0), shelf.state, None, (shelf.page,)))


async def assert_the_next_job_runs(compute: ChildCompute, shelf: Shelf) -> None:
    assert await compute.open(NEXT, await shelf.pack(export(kind))) is None
    assert isinstance(await train(compute, NEXT, shelf), Trained)


UNFIT = {
    "foreign": "calls foreign code",
    "endless": "loop without a constant end",
    "huge": "a tensor of the module has 17000000000 bytes",
    "many": "the compiled step wants",
    "segfaults.bin": "the child was killed by SIGSEGV",
    "corrupts.bin": "the child was killed by SIG|the module can't be read",  # as its heap happens to lie
}


async def test_what_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    functions = {"foreign": foreign, "endless": endless, "huge": huge, "many": many}
    async with opened(tmp_path, SETTINGS) as (compute, shelf):
        for name, reason in UNFIT.items():
            artifact = export(functions[name]) if name in functions else (VECTORS / name).read_bytes()
            package = await shelf.pack(artifact)
            async with watched():
                refused = await compute.open(HOSTILE, package)
            assert isinstance(refused, Refused), name
            assert re.search(reason, refused.reason), name
            assert isinstance(await train(compute, HOSTILE, shelf), Refused)
        await assert_the_next_job_runs(compute, shelf)


async def test_what_outlives_its_deadlines(tmp_path: Path) -> None:
    """A file over which the parser hangs, and a step of a quarter of an hour."""
    async with opened(tmp_path, IN_A_HURRY) as (compute, shelf):
        hanging, patience = await shelf.pack((VECTORS / "hangs.bin").read_bytes()), await shelf.pack(export(patient))
        async with watched():
            assert await compute.open(HOSTILE, hanging) == Refused("no answer to open within 3 s")
            compute._settings = SETTINGS
            assert await compute.open(HOSTILE, patience) is None
            compute._settings = IN_A_HURRY
            assert await train(compute, HOSTILE, shelf) == Refused("no answer to train within 1 s")
        compute._settings = SETTINGS
        await assert_the_next_job_runs(compute, shelf)


def test_the_foreign_one_ends_a_plain_process(tmp_path: Path) -> None:
    """What the checks are for: loaded as jax loads it, this artifact jumps to where its packer's function was."""
    (tmp_path / "artifact").write_bytes(export(foreign))
    load = "import jax.export, jax.numpy as n, pathlib, sys; data = pathlib.Path(sys.argv[1]).read_bytes()"
    call = "jax.export.deserialize(bytearray(data)).call(n.zeros(4), n.zeros((2, 3)), n.zeros((2, 1)))[1].sum().item()"
    done = subprocess.run([sys.executable, "-c", f"{load}; {call}", str(tmp_path / "artifact")], capture_output=True)
    assert done.returncode != 0
