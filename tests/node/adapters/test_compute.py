"""The Compute port over real children and the real Store: a job of three workers, and what goes wrong on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import trio

from actors.ports import Aggregate, Aggregated, Compute, Evaluated, Refused, Train, Trained
from node.adapters import compute as adapter
from node.adapters.compute import ChildCompute, Deadlines, Settings
from node.packing import manifest
from node.store import DiskStore, open_store
from protocols.assignment import pages_of_round
from protocols.ids import ContentId, Digest, JobId, RoundNumber, Seat
from protocols.package import Circuit, Package, encode_package
from protocols.verdict import Accept, Ignore, Reject

JOB = JobId(b"\x07" * 32)
ABSENT = ContentId(b"\x01" * 32)
P = 1060
STEPS = 250
ROUNDS = 5
WORKERS = 3


@dataclass
class Bench:
    """A Store with the digits in it and a compute on top."""

    compute: ChildCompute
    store: DiskStore
    log: list[str]
    package: Package
    name: ContentId
    data: manifest.DataDraft

    def children(self, job: JobId = JOB) -> int:
        pid = self.compute._jobs[job].child.pid
        assert pid is not None
        return pid

    async def vector(self, content: ContentId) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        data = await self.store.blob(content)
        assert data is not None
        return np.frombuffer(data, "<i4")

    def request(self, pages: int = 3, **changes: object) -> Train:
        request = Train(JOB, RoundNumber(0), self.package.initial_state, None, self.data.train[:pages])
        return replace(request, **changes)  # type: ignore[arg-type]  # tests name fields

    async def pack(self, **changes: object) -> ContentId:
        """Put a package that differs."""
        package = replace(self.package, **changes)  # type: ignore[arg-type]  # tests name fields
        return await self.store.put_blob(encode_package(package), public=True)


@asynccontextmanager
async def opened(packed: Path, folder: Path, settings: Settings | None = None) -> AsyncIterator[Bench]:
    model, data = manifest.read_model_draft(packed), manifest.read_data_draft(packed)
    circuit = Circuit(model.onnx, ABSENT, ABSENT, "insecure-local", 13, Digest(bytes(32)), "23.0.5", 26)
    package = manifest.finalise_package(model, circuit)
    log: list[str] = []
    with open_store(folder / "data") as store:
        for content in (*model.blobs, *data.train, *data.held_out):
            store.put_blob_sync(manifest.blob_path(packed, content).read_bytes(), public=False)
        name = store.put_blob_sync(encode_package(package), public=True)
        async with trio.open_nursery() as nursery:
            compute = ChildCompute(nursery, store, store.blob_path, folder / "scratch", log.append, settings)
            yield Bench(compute, store, log, package, name, data)
            nursery.cancel_scope.cancel()


async def test_three_workers_learn_the_digits(packed_digits: Path, tmp_path: Path) -> None:
    """Disjoint pages, int8 updates with error feedback, mean: five rounds reach what the demo must reach in eight."""
    async with opened(packed_digits, tmp_path) as bench:
        compute: Compute = bench.compute
        jobs = [JobId(bytes([worker]) * 32) for worker in range(WORKERS)]
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(compute.open, job, bench.name)
        state = bench.package.initial_state
        errors: list[ContentId | None] = [None] * WORKERS
        for number in map(RoundNumber, range(ROUNDS)):
            trained = []
            for seat, job in enumerate(jobs):
                drawn = pages_of_round(Digest(bytes(32)), len(bench.data.train), WORKERS, Seat(seat), number, STEPS)
                pages = tuple(bench.data.train[index] for index in drawn)
                result = await compute.train(Train(job, number, state, errors[seat], pages))
                assert isinstance(result, Trained)
                errors[seat] = result.error
                trained.append(result)
            updates = tuple(result.update for result in trained)
            assert [await compute.check_update(jobs[0], update) for update in updates] == [Accept()] * WORKERS
            states = [await compute.aggregate(Aggregate(job, state, updates, WORKERS)) for job in jobs]
            assert len(set(states)) == 1  # bit-identical
            assert len({result.weights for result in trained}) == WORKERS
            assert isinstance(states[0], Aggregated)
            state = states[0].state
        verdict = await compute.evaluate(jobs[0], state, bench.data.held_out)
        assert isinstance(verdict, Evaluated)
        assert verdict.accuracy >= 0.93
        local = await compute.evaluate(jobs[1], trained[1].weights, bench.data.held_out)
        assert isinstance(local, Evaluated)
        assert not await bench.store.is_public(trained[0].update)
    assert not any((tmp_path / "scratch").glob("*/*-*"))  # every output was taken


async def test_a_killed_child_is_replaced(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path) as bench:
        assert await bench.compute.open(JOB, bench.name) is None
        before = await bench.compute.train(bench.request())
        first = bench.children()
        assert await bench.compute.open(JOB, bench.name) is None
        assert bench.children() == first
        for _ in range(3):
            os.kill(bench.children(), signal.SIGKILL)
            # The Store moves a blob when it is published; the next child must find it nevertheless.
            await bench.store.put_blob(await bench.store.blob(bench.package.predict) or b"", public=True)
            assert await bench.compute.train(bench.request()) == before
        os.kill(bench.children(), signal.SIGKILL)
        refused = await bench.compute.train(bench.request())
        assert isinstance(refused, Refused)
        assert "SIGKILL" in refused.reason
        assert any("starting another" in line for line in bench.log)
        await bench.compute.close(JOB)
        assert isinstance(await bench.compute.train(bench.request()), Refused)


async def test_a_kill_in_the_middle_of_training(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path) as bench:
        assert await bench.compute.open(JOB, bench.name) is None
        request = bench.request(pages=359)
        request = replace(request, pages=request.pages * 10)
        results: list[Trained | Refused] = []

        async def train() -> None:
            results.append(await bench.compute.train(request))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            await trio.sleep(0.2)
            os.kill(bench.children(), signal.SIGKILL)
        assert isinstance(results[0], Trained)
        assert results[0] == await bench.compute.train(request)


async def test_a_deadline_is_kept_and_forgiven(packed_digits: Path, tmp_path: Path) -> None:
    settings = Settings(deadlines=Deadlines(train_s=0.01))
    async with opened(packed_digits, tmp_path, settings) as bench:
        assert await bench.compute.open(JOB, bench.name) is None
        request = bench.request(pages=359)
        refused = await bench.compute.train(replace(request, pages=request.pages * 20))
        assert refused == Refused("no answer to train within 0.01 s")
        verdict = await bench.compute.evaluate(JOB, bench.package.initial_state, bench.data.held_out[:1])
        assert isinstance(verdict, Evaluated)


async def test_a_cancelled_request_costs_no_restart(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path) as bench:
        for _ in range(4):
            assert await bench.compute.open(JOB, bench.name) is None
            with trio.move_on_after(0.01) as scope:
                await bench.compute.train(replace(bench.request(), pages=bench.request(359).pages * 20))
            assert scope.cancelled_caught
        assert isinstance(await bench.compute.train(bench.request()), Trained)


async def test_memory_is_bounded(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path, Settings(memory_bytes=300 << 20)) as bench:
        assert isinstance(await bench.compute.open(JOB, bench.name), Refused)


async def test_packages_that_are_not_fit(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path) as bench:
        junk = await bench.store.put_blob(b"junk", public=True)
        cases = {
            ABSENT: "is not here",
            junk: "not msgpack",
            await bench.pack(predict=ABSENT): "is not here",
            await bench.pack(predict=junk): "not an artifact",
            await bench.pack(predict=bench.package.loss_and_grad): "the artifact",
            await bench.pack(initial_state=junk): "a vector of 4 bytes",
            await bench.pack(batch=5): "the artifact takes",
            await bench.pack(outer="nesterov"): "a vector of 4240 bytes for 2120",
        }
        for package, reason in cases.items():
            refused = await bench.compute.open(JOB, package)
            assert isinstance(refused, Refused)
            assert reason in refused.reason
        assert isinstance(await bench.compute.train(bench.request()), Refused)
        assert await bench.compute.open(JOB, bench.name) is None


async def test_updates_are_judged(packed_digits: Path, tmp_path: Path) -> None:
    async with opened(packed_digits, tmp_path) as bench:
        assert await bench.compute.open(JOB, bench.name) is None
        short = await bench.store.put_blob(b"\0" * 100, public=False)
        assert isinstance(await bench.compute.check_update(JOB, short), Reject)
        assert isinstance(await bench.compute.check_update(JOB, ABSENT), Ignore)
        assert isinstance(await bench.compute.check_update(JobId(b"x" * 32), short), Ignore)
        bad = Aggregate(JOB, bench.package.initial_state, (short,), WORKERS)
        assert isinstance(await bench.compute.aggregate(bad), Refused)
        assert isinstance(await bench.compute.aggregate(replace(bad, updates=())), Refused)
        assert isinstance(await bench.compute.train(bench.request(state=short)), Refused)
        assert isinstance(await bench.compute.train(bench.request(pages=0)), Refused)


@pytest.mark.parametrize("kind", ["missing", "link", "fifo", "folder", "short", "long"])
def test_outputs_are_read_as_hostile(tmp_path: Path, kind: str) -> None:
    path, secret = tmp_path / "1-weights", tmp_path / "key"
    secret.write_bytes(b"s" * 8)
    match kind:
        case "link":
            path.symlink_to(secret)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "short" | "long":
            path.write_bytes(b"x" * (7 if kind == "short" else 9))
        case _:
            pass
    assert isinstance(adapter._read_output(path, 8, 8), Refused)
    good = tmp_path / "2-weights"
    good.write_bytes(b"x" * 8)
    assert adapter._read_output(good, 8, 8) == b"x" * 8
    assert not good.exists()


@pytest.mark.parametrize("value", [None, "1", 1, True, float("nan"), float("inf")])
def test_a_loss_is_a_finite_number(value: object) -> None:
    assert isinstance(adapter._finite({"loss": value}, "loss"), Refused)
    assert adapter._finite({"loss": 0.5}, "loss") == 0.5
