"""`skynet demo --proved`: the training itself is proved, and what its workers committed to is what they did."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import trio
from demo_run import Demo, run_demo

from actors.mail import ReceiptRecord
from node.adapters.prover import ChildProver, Settings
from node.store import DiskStore, open_store
from protocols.evidence import receipt_root
from protocols.ids import ContentId, JobId
from protocols.package import Package, TrainingCircuit, decode_package
from protocols.record import decode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="two minutes of both processors"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("proved")
    return run_demo(folder / "demo", folder / "cache", "--proved", "--keep")


def test_training_is_proved_and_paid(demo: Demo) -> None:
    assert demo.status == 0, demo.errors[-3000:]
    summary = demo.summary
    assert summary["training"] == "proved"
    assert "training: proved" in demo.errors
    assert summary["accuracy"] >= 0.93
    assert all(w["proof_verified"] and w["paid_wei"] > 0 for w in summary["workers"])


def test_every_step_was_committed_to(demo: Demo, tmp_path: Path) -> None:
    """Of one receipt: the leaves are C of the saved states, the root is over them, and a moved quantum shows."""
    trio.run(_inspect, demo.folder, tmp_path)


async def _inspect(folder: Path, scratch: Path) -> None:
    for name in ("node0", "node1", "node2", "node3"):
        with open_store(folder / name) as store:
            receipts = [decode(ReceiptRecord, value, limit_bytes=1 << 20) for _, value in await store.scan("receipt")]
            if not receipts:
                continue  # it drew no seat
            receipt = receipts[0]
            assert isinstance(receipt, ReceiptRecord)
            assert receipt.states is not None
            entry, number = receipt.announced.entry, receipt.announced.round
            (job,) = {key[:32] for key, _ in await store.scan("receipt")}
            assert receipt_root(JobId(job), entry.worker, number, receipt.leaves) == entry.leaves
            await _commit_again(store, receipt, folder.parent / "cache" / "skynet", scratch)
            return
    raise AssertionError("nobody has a receipt")


async def _commit_again(store: DiskStore, receipt: ReceiptRecord, cache: Path, scratch: Path) -> None:
    content, package = await _find_package(store)
    assert isinstance(package.circuit, TrainingCircuit)
    assert receipt.states is not None
    path = np.frombuffer(await store.blob(receipt.states) or b"", "<i4").reshape(-1, package.circuit.step.state_length)
    assert len(path) == len(receipt.leaves) == 80 + 1
    moved = path[:2].copy()
    moved[1, 7] += 1
    job = JobId(bytes(32))
    async with trio.open_nursery() as nursery:
        prover = ChildProver(nursery, store, store.blob_path, scratch, cache, lambda line: None, Settings(threads=1))
        assert not hasattr(await prover.open(job, content), "reason")
        assert await prover.commit_path(job, receipt.states) == receipt.leaves
        again = await prover.commit_path(job, await store.put_blob(moved.tobytes(), public=False))
        assert isinstance(again, tuple)
        assert (again[0] == receipt.leaves[0], again[1] == receipt.leaves[1]) == (True, False)
        await prover.close(job)
        nursery.cancel_scope.cancel()


async def _find_package(store: DiskStore) -> tuple[ContentId, Package]:
    for path in store.blob_path(ContentId(bytes(32))).parent.parent.parent.rglob("*"):
        if path.is_file() and len(path.name) == 64 and isinstance(found := decode_package(path.read_bytes()), Package):
            return ContentId(bytes.fromhex(path.name)), found
    raise AssertionError("no package is here")
