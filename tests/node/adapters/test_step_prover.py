"""A real proof of a training step, by a real child: what it is bound to, and that nothing near it is accepted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyrevm
import pytest
import trio
from eth_abi.abi import encode as encode_abi
from safetensors.numpy import save
from tiny_circuit import FolderStore, encode_vector

from actors.ports import Keys, Refused
from node.adapters.prover import ChildProver
from node.artifacts import load
from node.prover.settings import STEP_LOGROWS
from protocols.ids import ContentId, Digest
from protocols.keccak import keccak256
from protocols.statement import FIELD_MODULUS, POINT_BYTES, StepStatement, decode_step_statement
from protocols.training_step import DELTA_BITS, X_BITS, Stepped, StepSpec, compute_step

SPEC = StepSpec((3, 2, 2), 2, "cross_entropy", "momentum", 1, 3, 128)
MUTATIONS = 10_000
X = np.array([[0.5, -1.0, 0.25], [1.0, 0.75, -0.5]], np.float32)
Y = np.array([[1, 0], [0, 1]], np.float32)


@dataclass(frozen=True)
class Prover:
    port: ChildProver
    keys: Keys

    @property
    def name(self) -> Digest:
        return self.keys.vk_digest


def train(steps: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(4)
    states = [rng.integers(-2000, 2000, SPEC.state_length)]
    x, y = (np.rint(rows * 2**bits).astype(np.int64) for rows, bits in ((X, X_BITS), (Y, DELTA_BITS)))
    for _ in range(steps):
        stepped = compute_step(SPEC, states[-1], x, y)
        assert isinstance(stepped, Stepped)
        states.append(stepped.state)
    return states


@pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="minutes: an SRS, keys, and 10,000 mutations")
async def test_a_step_is_proved_and_nothing_else(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "blobs")
    async with trio.open_nursery() as nursery:
        port = ChildProver(nursery, store, store.path, tmp_path / "children", tmp_path / "cache", print)
        built = ok(await port.build_step(SPEC, ok(await port.make_srs(STEP_LOGROWS))))
        prover = Prover(port, built.keys)
        states = train(3)
        path = ok(await port.commit_path(prover.name, store.put(encode_vector(np.concatenate(states)))))
        page = store.put(save({"x": X, "y": Y}))
        ((x, y),) = ok(await port.commit_pages(prover.name, [page]))
        proof = ok(await port.prove(prover.name, store.put(encode_vector(states[1])), page))

        statement = decode_step_statement(proof.proof, proof.instances)
        assert isinstance(statement, StepStatement)
        assert (statement.state, statement.x, statement.y, statement.next_state) == (path[1], x, y, path[2])
        assert proof.instances == (0, 0)
        assert await prover.port.verify(prover.name, proof.proof, proof.instances) is True
        await refuses_neighbours(prover, proof.proof)
        show_on_chain(prover, proof.proof)
        await refuses_what_is_no_step(prover, store, page)
        await shows_where_a_round_begins(prover, store, states[0])
        await port.close(prover.name)


async def shows_where_a_round_begins(prover: Prover, store: FolderStore, state: Any) -> None:
    """C(θ) is C(θ ‖ 0): what a certificate commits to is where the first step's proof begins."""
    start = np.where(np.arange(SPEC.state_length) < SPEC.parameters, state, 0)
    rest = np.full(2 * SPEC.parameters, 7)  # what an aggregation keeps behind θ
    theta = store.put(encode_vector(np.concatenate([start[: SPEC.parameters], rest])))
    (first,) = ok(await prover.port.commit_path(prover.name, store.put(encode_vector(start))))
    assert ok(await prover.port.commit(prover.name, theta)) == first


async def refuses_neighbours(prover: Prover, proof: bytes) -> None:
    assert await prover.port.verify(prover.name, proof, (0,)) is False
    assert await prover.port.verify(prover.name, proof, (0, 0, 0)) is False
    assert await prover.port.verify(prover.name, proof, (0, FIELD_MODULUS)) is False
    assert await prover.port.verify(prover.name, proof + bytes(32), (0, 0)) is False
    assert await prover.port.verify(prover.name, proof[:-32], (0, 0)) is False
    swapped = proof[3 * POINT_BYTES : 4 * POINT_BYTES] + proof[POINT_BYTES : 3 * POINT_BYTES] + proof[:POINT_BYTES]
    assert await prover.port.verify(prover.name, swapped + proof[4 * POINT_BYTES :], (0, 0)) is False
    assert await prover.port.verify(prover.name, proof[:POINT_BYTES] * 4 + proof[4 * POINT_BYTES :], (0, 0)) is False


def show_on_chain(prover: Prover, proof: bytes) -> None:
    """The reusable verifier takes the proof, and none of its mutations."""
    sender, evm = "0x" + "11" * 20, pyrevm.EVM()
    evm.set_balance(sender, 10**18)
    verifier = evm.deploy(sender, load("Halo2VerifierReusable").bytecode)
    kinds = ["bytes", "uint256[]", "bytes32[]"]
    words = [word.to_bytes(32, "big") for word in prover.keys.words]
    register = keccak256(b"registerVka(bytes32[])")[:4]
    evm.message_call(sender, verifier, calldata=register + encode_abi(["bytes32[]"], [words]))
    selector = keccak256(b"verifyProof(bytes,uint256[],bytes32[])")[:4]

    def holds(data: bytes, instances: list[int]) -> bool:
        try:
            reply = evm.message_call(sender, verifier, calldata=selector + encode_abi(kinds, [data, instances, words]))
        except RuntimeError:
            return False  # it reverts rather than say no
        return int.from_bytes(bytes(reply)[:32], "big") == 1

    assert holds(proof, [0, 0])
    assert evm.result.gas_used < 700_000
    for instances in ([0, 1], [1, 0], [0], [0, 0, 0], [0, FIELD_MODULUS]):
        assert not holds(proof, instances)
    rng = Random(1)
    for _ in range(MUTATIONS):
        place, by = rng.randrange(len(proof)), rng.randrange(1, 256)
        assert not holds(proof[:place] + bytes([proof[place] ^ by]) + proof[place + 1 :], [0, 0])


async def refuses_what_is_no_step(prover: Prover, store: FolderStore, page: ContentId) -> None:
    state = train(0)[0]
    off_grid = store.put(save({"x": X * 1000, "y": Y}))
    short, large = store.put(encode_vector(state[:-1])), store.put(encode_vector(state + 16384))
    good = store.put(encode_vector(state))
    for state_id, page_id in ((short, page), (large, page), (good, off_grid), (good, ContentId(bytes(32)))):
        assert isinstance(await prover.port.prove(prover.name, state_id, page_id), Refused)


def ok(value: Any) -> Any:
    assert not isinstance(value, Refused), value
    return value
