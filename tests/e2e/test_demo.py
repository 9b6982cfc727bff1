"""`skynet demo` does what the README says, and the short cuts that it could take are closed."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio
from demo_run import Demo, run_demo

from actors.mail import ReceiptRecord
from node.adapters.prover import ChildProver, Settings
from node.store import DiskStore, open_store
from protocols.ids import Commitment, ContentId, JobId
from protocols.package import Dataset, decode_dataset, decode_package
from protocols.record import decode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NODES = ("node0", "node1", "node2", "node3")


def test_every_proof_is_verified_and_every_wei_accounted_for(demo: Demo) -> None:
    assert demo.status == 0, demo.errors[-3000:]
    summary = demo.summary
    assert summary["accuracy"] >= 0.93
    assert summary["rounds"] == 8
    assert summary["training"] == "unproved"
    assert len(summary["workers"]) == 3
    assert all(w["proof_verified"] and w["gas"] > 0 and w["paid_wei"] > 0 for w in summary["workers"])
    paid_wei = sum(w["paid_wei"] for w in summary["workers"])
    assert paid_wei + summary["fees_wei"] + summary["refund_wei"] == summary["escrow_wei"]
    assert Path(summary["model"]).stat().st_size > 4 * 1060
    assert (demo.folder / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert "training: unproved" in demo.errors


def test_no_key_shows_in_any_log(demo: Demo) -> None:
    secrets = []
    for path in demo.folder.glob("*/keys/*.json"):
        secrets.append(json.loads(path.read_text())["secret"])
    for account in json.loads((demo.folder / "chain" / "accounts.json").read_text())["accounts"]:
        secrets.append(account["private_key"].removeprefix("0x"))
    assert len(secrets) > 15
    texts = [path.read_text(errors="replace") for path in demo.folder.rglob("*.log")] + [demo.output, demo.errors]
    assert sum(map(len, texts)) > 1000
    assert not [secret[:8] for secret in secrets for text in texts if secret in text]


def test_workers_prove_their_own_weights(demo: Demo, cache: Path, tmp_path: Path) -> None:
    """Each commitment is that of the saved weights, no two are equal, and one quantum changes it."""
    assert trio.run(_inspect_workers, demo.folder, cache, tmp_path) == 3


async def _inspect_workers(folder: Path, cache: Path, scratch: Path) -> int:
    commitments: set[Commitment] = set()
    workers = 0
    for name in NODES:
        with open_store(folder / name) as store:
            receipts = [decode(ReceiptRecord, v, limit_bytes=1 << 20) for _, v in await store.scan("receipt")]
            if not receipts:
                continue  # it drew no seat
            workers += 1
            async with _open_prover(store, cache, scratch / name) as (prover, job, dataset):
                for receipt in receipts:
                    assert isinstance(receipt, ReceiptRecord)
                    assert await prover.commit(job, receipt.weights) == receipt.announced.weights
                    commitments.add(receipt.announced.weights)
                await _try_other_statements(store, prover, job, dataset, receipts[-1])
    assert len(commitments) == workers * 8
    return workers


async def _try_other_statements(
    store: DiskStore, prover: ChildProver, job: JobId, dataset: Dataset, receipt: object
) -> None:
    assert isinstance(receipt, ReceiptRecord)
    blob = await store.blob(receipt.weights)
    assert blob is not None
    moved = np.frombuffer(blob, dtype="<i4").copy()
    moved[0] += 1
    other = await store.put_blob(moved.tobytes(), public=False)
    assert await prover.commit(job, other) != receipt.announced.weights
    losses = [await prover.compute_loss(job, receipt.weights, page.opened) for page in dataset.held_out[:3]]
    assert len(set(losses)) == 3


@asynccontextmanager
async def _open_prover(
    store: DiskStore, cache: Path, scratch: Path
) -> AsyncIterator[tuple[ChildProver, JobId, Dataset]]:
    scratch.mkdir()
    package, dataset = await _find_manifests(store)
    job = JobId(bytes(32))
    async with trio.open_nursery() as nursery:
        prover = ChildProver(
            nursery, store, store.blob_path, scratch, cache / "skynet", lambda line: None, Settings(threads=1)
        )
        keys = await prover.open(job, package)
        assert not hasattr(keys, "reason"), keys
        yield prover, job, dataset
        await prover.close(job)
        nursery.cancel_scope.cancel()


async def _find_manifests(store: DiskStore) -> tuple[ContentId, Dataset]:
    """The Store names blobs by content: the two manifests are those that decode as such."""
    package, dataset = None, None
    for path in store.blob_path(ContentId(bytes(32))).parent.parent.parent.rglob("*"):
        if path.is_file() and len(path.name) == 64:
            data = path.read_bytes()
            content = ContentId(bytes.fromhex(path.name))
            if hasattr(decode_package(data), "circuit"):
                package = content
            opened = decode_dataset(data)
            if isinstance(opened, Dataset):
                dataset = opened
    assert package is not None
    assert dataset is not None
    return package, dataset


@pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="a second demo: a minute of both processors")
def test_permuted_labels_fail_the_demo(tmp_path: Path, cache: Path) -> None:
    demo = run_demo(tmp_path, cache, "--permute-labels")
    assert demo.status != 0
    assert demo.summary["accuracy"] < 0.3, demo.summary
    assert "not a success" in demo.errors
