"""Real proofs of a small circuit, by real children: what holds, what is refused, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyrevm
import pytest
import trio
from eth_abi.abi import encode as encode_abi
from tiny_circuit import (
    OPTIONS,
    PARAMETERS,
    FolderStore,
    build_graph,
    build_hungry_graph,
    compute_loss,
    describe_package,
    draw_page,
    draw_weights,
    encode_page,
    encode_vector,
)

from actors.ports import Keys, Proof, Prover, Refused
from node.adapters.prover import Built, ChildProver, Deadlines, Settings
from node.artifacts import load
from node.prover.settings import CircuitOptions
from protocols.ids import Commitment, ContentId, JobId
from protocols.keccak import keccak256
from protocols.package import Page
from protocols.statement import compute_key_digest
from protocols.statement import compute_loss as to_loss

JOB = JobId(b"\x01" * 32)
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Bench:
    """A Store, a cache and a prover on top; one circuit built, its package and one page in the Store."""

    store: FolderStore
    prover: ChildProver
    built: Built
    package: ContentId
    page: ContentId
    weights: ContentId

    def put(self, vector: Any) -> ContentId:
        return self.store.put(encode_vector(np.asarray(vector)))

    def repackage(self, circuit_changes: dict[str, Any] | None = None, **changes: Any) -> ContentId:
        circuit = replace(self.built.circuit, **(circuit_changes or {}))
        return self.store.put(describe_package(circuit, **changes))


def make_prover(nursery: trio.Nursery, store: FolderStore, scratch: Path, cache: Path) -> ChildProver:
    return ChildProver(nursery, store, store.path, scratch, cache, lambda line: None, Settings(threads=1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and SRS for the whole module: a test that needs its own makes its own."""
    return tmp_path_factory.mktemp("prover")


@asynccontextmanager
async def bench(shared: Path, scratch: Path) -> AsyncIterator[Bench]:
    store = FolderStore(shared / "blobs")
    async with trio.open_nursery() as nursery:
        prover = make_prover(nursery, store, scratch, shared / "cache")
        srs = await find_srs(prover, trio.Path(shared / "srs"))
        built = await prover.build_circuit(store.put(build_graph()), srs, OPTIONS)
        assert isinstance(built, Built), built
        package = store.put(describe_package(built.circuit))
        page, weights = store.put(encode_page(*draw_page())), store.put(encode_vector(draw_weights()))
        yield Bench(store, prover, built, package, page, weights)
        await prover.close(built.keys.vk_digest)
        await prover.close(JOB)


async def find_srs(prover: ChildProver, note: trio.Path) -> ContentId:
    """Make the SRS in the module's first test only."""
    if not await note.exists():
        await note.write_bytes(ok(await prover.make_srs(OPTIONS.logrows)))
    return ContentId(await note.read_bytes())


def ok(value: Any) -> Any:
    assert not isinstance(value, Refused), value
    return value


# -- What holds ----------------------------------------------------------------


def test_it_is_the_port(tmp_path: Path) -> None:
    def accept(prover: Prover) -> None: ...

    checked: Callable[[ChildProver], None] = accept
    assert checked is accept


async def test_a_worker_rebuilds_the_requesters_key(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        keys = ok(await b.prover.open(JOB, b.package))
        assert keys == b.built.keys
        assert keys.vk_digest == compute_key_digest(keys.words) == b.built.circuit.vk_digest
        assert b.built.circuit.loss_scale_bits == 14  # 13 and the factor 1/2
        assert b.built.circuit.ezkl_version == "23.0.5"
        assert await b.prover.open(JOB, b.package) is keys


async def test_a_proof_shows_the_loss_of_committed_vectors(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        ok(await b.prover.open(JOB, b.package))
        found = ok(await b.prover.prove(JOB, b.weights, b.page))
        assert isinstance(found, Proof)
        expected = compute_loss(draw_weights(), *draw_page())
        assert to_loss(found.instances[0], 14) == pytest.approx(expected, abs=1e-3)
        assert ok(await b.prover.compute_loss(JOB, b.weights, b.page)) == to_loss(found.instances[0], 14)
        theta = ok(await b.prover.commit(JOB, b.weights))
        ((x, y),) = ok(await b.prover.commit_pages(JOB, (b.page,)))
        assert found.proof.startswith(theta + x + y)
        assert ok(await b.prover.verify(JOB, found.proof, found.instances))

        # Each committed point, the rest, the end and the loss: none can be changed.
        for position in (10, 70, 140, 200, len(found.proof) - 1):
            bent = bytearray(found.proof)
            bent[position] ^= 1
            assert not ok(await b.prover.verify(JOB, bytes(bent), found.instances)), position
        other = Commitment(theta)
        for start in (64, 128):  # a good point in the wrong place
            swapped = found.proof[:start] + other + found.proof[start + 64 :]
            assert not ok(await b.prover.verify(JOB, swapped, found.instances))
        assert not ok(await b.prover.verify(JOB, found.proof, (found.instances[0] + 1,)))
        assert not ok(await b.prover.verify(JOB, found.proof + bytes(32), found.instances))
        assert not ok(await b.prover.verify(JOB, found.proof[:-32], found.instances))


async def test_a_quantum_makes_another_commitment_and_a_page_another_loss(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        name = b.built.keys.vk_digest
        nudged = draw_weights()
        nudged[5] += 1
        first, second = ok(await b.prover.commit_many(name, (b.weights, b.put(nudged))))
        assert first != second
        pages = [b.store.put(encode_page(*draw_page(seed))) for seed in (0, 1)]
        assert len(set(ok(await b.prover.commit_pages(name, pages)))) == 2
        losses = [ok(await b.prover.compute_loss(name, b.weights, page)) for page in pages]
        assert losses[0] != losses[1]
        for loss, seed in zip(losses, (0, 1), strict=True):
            assert loss == pytest.approx(compute_loss(draw_weights(), *draw_page(seed)), abs=1e-3)


async def test_vectors_of_any_length_and_size_are_committed(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        name = b.built.keys.vk_digest
        state = np.array([2**31 - 1, -(2**31), 0, *range(2 * PARAMETERS - 3)])
        padded, longer = [ok(await b.prover.commit(name, b.put(v))) for v in ([1, 2], [1, 2, 0])]
        assert padded == longer
        assert ok(await b.prover.commit(name, b.put(state)))
        assert ok(await b.prover.commit_many(name, ())) == ()
        assert isinstance(await b.prover.commit(name, b.put(range(2000))), Refused)
        assert isinstance(await b.prover.commit(name, b.store.put(b"123")), Refused)


async def test_pages_are_held_against_the_dataset(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        ok(await b.prover.open(JOB, b.package))
        ((x, y),) = ok(await b.prover.commit_pages(JOB, (b.page,)))
        good = Page(b.page, b.page, (x, y))
        assert await b.prover.check_pages(JOB, (good, good)) is None
        refused = await b.prover.check_pages(JOB, (good, replace(good, commitments=(x, x))))
        assert isinstance(refused, Refused)
        assert "page 1" in refused.reason


async def test_the_contract_verifies_what_the_child_proves(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        found = ok(await b.prover.prove(b.built.keys.vk_digest, b.weights, b.page))
    words = [word.to_bytes(32, "big") for word in b.built.keys.words]
    sender, evm = "0x" + "11" * 20, pyrevm.EVM()
    evm.set_balance(sender, 10**18)
    verifier = evm.deploy(sender, load("Halo2VerifierReusable").bytecode)

    def call(signature: str, kinds: list[str], values: list[Any]) -> bytes:
        selector = keccak256(signature.encode())[:4]
        return bytes(evm.message_call(sender, verifier, calldata=selector + encode_abi(kinds, values)))

    def verify(proof: bytes, loss: int) -> bytes:
        return call(
            "verifyProof(bytes,uint256[],bytes32[])", ["bytes", "uint256[]", "bytes32[]"], [proof, [loss], words]
        )

    assert call("registerVka(bytes32[])", ["bytes32[]"], [words]) == b.built.keys.vk_digest
    answer = verify(found.proof, found.instances[0])
    assert (int.from_bytes(answer[:32], "big"), answer[32:64]) == (1, b.built.keys.vk_digest)
    with pytest.raises(RuntimeError, match="Revert"):
        verify(found.proof, found.instances[0] + 1)


# -- What is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("circuit", "package", "reason"),
    [
        ({"vk_digest": bytes(32)}, {}, "verifying key"),
        ({"logrows": 12}, {}, "K is 10"),
        ({"ezkl_version": "22.0.0"}, {}, "ezkl version"),
        ({"loss_scale_bits": 13}, {}, "scale of the loss"),
        ({"srs_origin": "ceremony"}, {}, "ceremony"),
        ({}, {"scale_bits": 12}, "scale is 13"),
        ({}, {"batch": 3}, "shape of x"),
        ({}, {"y_shape": (3,)}, "shape of y"),
        ({"onnx": ContentId(bytes(32))}, {}, "is not here"),
    ],
)
async def test_a_package_that_does_not_fit_is_refused(
    shared: Path, tmp_path: Path, circuit: dict[str, Any], package: dict[str, Any], reason: str
) -> None:
    async with bench(shared, tmp_path) as b:
        refused = await b.prover.open(JOB, b.repackage(circuit, **package))
        assert isinstance(refused, Refused)
        assert reason in refused.reason
        assert isinstance(await b.prover.commit(JOB, b.weights), Refused)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"input_visibility":"KZGCommit"', b'"input_visibility":"Private"', "input_visibility"),
        (b'"param_visibility":"Fixed"', b'"param_visibility":"Private"', "param_visibility"),
        (
            b'"ignore_range_check_inputs_outputs":false',
            b'"ignore_range_check_inputs_outputs":true',
            "ignore_range_check",
        ),
        (b'"input_scale":13', b'"input_scale":12', "not those of this graph"),
        (b'"model_input_scales":[13,13,13]', b'"model_input_scales":[13,13,7]', "not those of this graph"),
        (b'"timestamp":0', b'"timestamp":1', "not those of this graph"),
        (b"{", b" {", "not those of this graph"),
    ],
)
async def test_strange_settings_are_refused(shared: Path, tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    async with bench(shared, tmp_path) as b:
        settings = b.store.path(b.built.circuit.settings).read_bytes()
        assert old in settings
        altered = b.store.put(settings.replace(old, new, 1))
        refused = await b.prover.open(JOB, b.repackage({"settings": altered}))
        assert isinstance(refused, Refused)
        assert reason in refused.reason


async def test_a_wrong_srs_is_refused(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        own = make_prover(b.prover._nursery, b.store, tmp_path / "own", tmp_path / "other cache")
        other, larger = ok(await own.make_srs(10)), ok(await own.make_srs(11))
        good = b.store.path(b.built.circuit.srs).read_bytes()
        bent = bytearray(good)
        bent[4 + (64 << 10) + 100] ^= 1  # in the second Lagrange point
        for srs, reason in (
            (other, "verifying key"),  # another secret
            (larger, "for K = 11"),
            (b.store.put(good[:-1]), "wrong size"),
            (b.store.put(bytes(bent)), ""),
        ):
            refused = await b.prover.open(JOB, b.repackage({"srs": srs}))
            assert isinstance(refused, Refused)
            assert reason in refused.reason


async def test_a_graph_that_asks_for_too_much_is_refused(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        srs = b.built.circuit.srs
        for data, options, reason in (
            (b"no graph", OPTIONS, "not a valid ONNX"),
            (build_graph(), CircuitOptions(logrows=10, scale_bits=50), "scale_bits"),
            (build_graph(), CircuitOptions(logrows=11), "for K = 10"),
        ):
            refused = await b.prover.build_circuit(b.store.put(data), srs, options)
            assert isinstance(refused, Refused)
            assert reason in refused.reason
        refused = await b.prover.build_circuit(b.built.circuit.onnx, srs, OPTIONS, srs_origin="ceremony")
        assert isinstance(refused, Refused)


async def test_a_graph_that_takes_17_gb_costs_its_child_only(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        refused = await b.prover.build_circuit(b.store.put(build_hungry_graph()), b.built.circuit.srs, OPTIONS)
        assert refused == Refused("the child was killed by SIGABRT")
        assert isinstance(await b.prover.prove(b.built.keys.vk_digest, b.weights, b.page), Proof)


async def test_values_out_of_range_cost_the_child_nothing(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        name = b.built.keys.vk_digest
        child = b.prover._open[name].circuit.pid
        huge = b.put(np.full(PARAMETERS, 2**30))
        empty = b.store.put(encode_page(*(rows[:1] for rows in draw_page())))
        rows, labels = draw_page()
        rows[0, 0] = np.nan
        for weights, page in (
            (huge, b.page),
            (b.put([1, 2, 3]), b.page),
            (b.weights, empty),
            (b.weights, b.store.put(b"no page")),
            (b.weights, b.store.put(encode_page(rows, labels))),
            (b.weights, b.store.put(encode_page(rows * 0 + 1e30, labels))),
        ):
            assert isinstance(await b.prover.prove(name, weights, page), Refused)
        assert ok(await b.prover.compute_loss(name, b.weights, b.page)) > 0
        assert b.prover._open[name].circuit.pid == child


PANIC = """
from pathlib import Path
from node.compute.files import Unfit
from node.prover import ezkl_calls
try:
    ezkl_calls.generate_srs(Path("srs"), 40)
except Unfit as unfit:
    print(unfit)
    import os, sys
    sys.stdout.flush()
    os._exit(0)
"""


def run(code: str, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "HOME": str(cwd), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_panic_is_contained(tmp_path: Path) -> None:
    assert "panicked" in run(PANIC, cwd=tmp_path)


def test_the_child_is_free_of_jax(tmp_path: Path) -> None:
    code = "import sys, node.prover.__main__, node.prover.program; print('jax' in sys.modules, 'ezkl' in sys.modules)"
    assert run(code, cwd=tmp_path) == "False True\n"


# -- Kills and crowds ----------------------------------------------------------


async def test_a_kill_while_keys_are_built_leaves_a_usable_cache(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path / "scratch") as b:
        cache = tmp_path / "cache"
        prover = make_prover(b.prover._nursery, b.store, tmp_path / "own", cache)
        killed: list[int] = []

        async def kill_soon() -> None:
            # The parent tries again after a crash, so this one is killed as often as it may restart, and once more.
            while True:
                for part in cache.glob("*.part-*"):
                    if pid := child_pid(tmp_path / "own"):
                        killed.append(pid)
                        os.kill(pid, signal.SIGKILL)
                        while part.exists() and child_pid(tmp_path / "own") == pid:
                            await trio.sleep(0.001)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_soon)
            refused = await prover.build_circuit(b.built.circuit.onnx, b.built.circuit.srs, OPTIONS)
            nursery.cancel_scope.cancel()
        assert killed
        assert isinstance(refused, Refused)
        assert list(cache.glob("*.part-*"))
        again = ok(await prover.build_circuit(b.built.circuit.onnx, b.built.circuit.srs, OPTIONS))
        assert again.keys == b.built.keys
        assert not list(cache.glob("*.part-*"))
        assert ok(await prover.verify(again.keys.vk_digest, *proof_of(await prove(prover, b, again))))
        await prover.close(again.keys.vk_digest)


def child_pid(scratch: Path) -> int | None:
    """Return the child whose working folder lies in the scratch folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(scratch):
                return int(process.name)
        except OSError:
            continue
    return None


async def prove(prover: ChildProver, b: Bench, built: Built) -> Proof | Refused:
    return await prover.prove(built.keys.vk_digest, b.weights, b.page)


def proof_of(found: Proof | Refused) -> tuple[bytes, tuple[int, ...]]:
    assert isinstance(found, Proof)
    return found.proof, found.instances


async def test_nodes_of_one_machine_build_once(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path / "scratch") as b:
        cache = tmp_path / "cache"
        found: list[Keys | Refused] = []

        async def one(number: int) -> None:
            prover = make_prover(b.prover._nursery, b.store, tmp_path / str(number), cache)
            found.append(await prover.open(JOB, b.package))
            await prover.close(JOB)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number)
        assert found == [b.built.keys] * 4
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


async def test_a_lost_child_is_replaced(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        name = b.built.keys.vk_digest
        before = ok(await b.prover.commit(name, b.weights))
        pid = b.prover._open[name].circuit.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert ok(await b.prover.commit(name, b.weights)) == before
        assert b.prover._open[name].circuit.pid != pid


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(memory_bytes=320 << 20, threads=1), ""),
        (Settings(deadlines=Deadlines(open_s=0.05)), "within 0.05 s"),
    ],
)
async def test_limits_hold(shared: Path, tmp_path: Path, settings: Settings, reason: str) -> None:
    async with bench(shared, tmp_path / "scratch") as b:
        store, nursery = b.store, b.prover._nursery
        poor = ChildProver(nursery, store, store.path, tmp_path, tmp_path / "cache", lambda line: None, settings)
        refused = await poor.build_circuit(b.built.circuit.onnx, b.built.circuit.srs, CircuitOptions(logrows=10))
        assert isinstance(refused, Refused)
        assert reason in refused.reason


async def test_the_srs_is_made_once(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        assert await b.prover.make_srs(OPTIONS.logrows) == b.built.circuit.srs
        assert isinstance(await b.prover.make_srs(60), Refused)


async def test_nothing_is_done_for_a_circuit_that_is_not_open(shared: Path, tmp_path: Path) -> None:
    async with bench(shared, tmp_path) as b:
        await b.prover.close(JOB)
        for refused in (
            await b.prover.commit(JOB, b.weights),
            await b.prover.prove(JOB, b.weights, b.page),
            await b.prover.check_pages(JOB, ()),
            await b.prover.verify(JOB, bytes(256), (1,)),
        ):
            assert refused is False or isinstance(refused, Refused)
