"""A worker is paid for real proofs of its training steps, with nothing doubled: child, verifier and contracts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from contract_world import Done, Refused, World, make_account, sign
from job_author import TRAINING
from safetensors.numpy import save
from tiny_circuit import FolderStore, encode_vector

from actors.ports import Refused as PortRefused
from node.adapters.prover import ChildProver
from node.prover.settings import STEP_LOGROWS
from protocols.assignment import pages_of_round
from protocols.chain import (
    Apply,
    Assign,
    Call,
    Certificate,
    ChainEvent,
    CommitRound,
    DeliverKeys,
    Entry,
    Post,
    ProofAccepted,
    Ready,
    RegisterKey,
    Settle,
    SubmitProof,
    WorkerPaid,
)
from protocols.draw import compute_challenge_seed, draw_sample
from protocols.eip712 import Domain, Vote, compute_digest
from protocols.evidence import (
    EPOCH,
    build_step_evidence,
    certificate_digest,
    compute_job_id,
    hash_commitment,
    pages_root,
    receipt_root,
    set_root,
)
from protocols.ids import ContentId, Digest, RoundNumber, Seat, Wei
from protocols.job import compute_price
from protocols.training_step import DELTA_BITS, X_BITS, Stepped, StepSpec, compute_step

SPEC = StepSpec((3, 2, 2), 2, "cross_entropy", "momentum", 1, 3, 128)
STEPS, NONCE, FIRST = 3, b"n" * 32, RoundNumber(0)
X = tuple(np.array([[0.5, -1.0, 0.25], [1.0, 0.75, -0.5]], np.float32) * sign for sign in (1, -1))
Y = np.array([[1, 0], [0, 1]], np.float32)


@pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="a minute: an SRS, keys and proofs")
async def test_a_worker_is_paid_for_the_steps_that_it_took(tmp_path: Path) -> None:
    store, world = FolderStore(tmp_path / "blobs"), World(real_verifier=True)
    requester, worker = make_account("requester"), make_account("worker 0")
    world.enrich(requester, worker)
    job = compute_job_id(world.chain_id, world.jobs, requester.address, NONCE)
    drawn = pages_of_round(Digest(job), len(X), 1, Seat(0), FIRST, STEPS)
    states = train(drawn)

    async with trio.open_nursery() as nursery:
        port = ChildProver(nursery, store, store.path, tmp_path / "children", tmp_path / "cache", print)
        keys = ok(await port.build_step(SPEC, ok(await port.make_srs(STEP_LOGROWS)))).keys
        name = keys.vk_digest
        stored = [store.put(save({"x": x, "y": Y})) for x in X]
        pages = ok(await port.commit_pages(name, stored))
        # Only θ is in the package, and its commitment is that of the whole first state.
        theta = ok(await port.commit(name, store.put(encode_vector(states[0][: SPEC.parameters]))))
        path = ok(await port.commit_path(name, store.put(encode_vector(np.concatenate(states)))))
        assert path[0] == theta

        def do(sender: Any, call: Call, value_wei: int = 0) -> tuple[ChainEvent, ...]:
            outcome = world.send(sender.address, call, value_wei)
            assert isinstance(outcome, Done), outcome
            return outcome.events

        terms = replace(
            TRAINING, vk_digest=name, initial_commitment=hash_commitment(theta), pages=len(X),
            pages_root=pages_root(pages), seats=1, rounds=1, steps=STEPS, samples=4, proof_window_s=10_000,
        )  # fmt: skip
        do(requester, RegisterKey(keys.words))
        do(worker, world.sign_registration(worker, 100), 100)
        do(requester, Post(terms, NONCE), compute_price(terms))
        do(worker, Apply(job))
        world.pass_time(world.now_s + 11)
        do(worker, Assign(job))
        do(requester, DeliverKeys(job, (b"wrap",)))
        do(worker, Ready(job))
        entries = [Entry(worker.address, ContentId(b"u" * 32), receipt_root(job, worker.address, FIRST, path))]
        root, state = set_root(job, FIRST, entries), ContentId(b"s" * 32)
        vote = Vote(job, EPOCH, FIRST, 0, Digest(bytes(32)), root, 1, state, hash_commitment(path[-1]))
        signature = sign(worker, compute_digest(Domain(world.chain_id, world.jobs), vote))
        do(worker, CommitRound(job, Certificate(FIRST, 0, vote.parent, root, state, path[-1], 1, 1, (signature,))))
        world.pass_time(world.now_s + 2)

        beacon = Digest(world.read("TestBeacon", "randomness", world.read("Jobs", "summaryOf", job)[6]))
        last = certificate_digest(job, FIRST, root, state, path[-1])
        seed = compute_challenge_seed(world.chain_id, world.jobs, job, worker.address, last, beacon)
        proofs: dict[int, Any] = {}
        for k in range(terms.samples):
            sample = draw_sample(seed, k, [FIRST], terms, job, Seat(0))
            if sample.step not in proofs:
                before = store.put(encode_vector(states[sample.step]))
                proofs[sample.step] = ok(await port.prove(name, before, stored[sample.page]))
            proof = proofs[sample.step]
            evidence = build_step_evidence(job, FIRST, entries, worker.address, path, sample.step, sample.page, pages)
            call = SubmitProof(job, worker.address, k, evidence, proof.proof, proof.instances, keys.words)
            refuses_lies(world, call)
            accepted = ProofAccepted(job, worker.address, k, FIRST, sample.step, sample.page, 0, earns=True)
            assert do(worker, call) == (accepted,)
            assert world.gas["submitProof"] < 1_050_000
        assert len(proofs) > 1
        assert do(worker, Settle(job))[0] == WorkerPaid(job, worker.address, Wei(1001))
        await port.close(name)


def refuses_lies(world: World, call: SubmitProof) -> None:
    """What the contract sees by itself, and what only the verifier can see."""
    proof = call.proof
    bent = (
        (replace(call, instances=()), "StepUnproved"),
        (replace(call, instances=(0, 1)), "StepUnproved"),
        (replace(call, instances=(0,) * (len(call.instances) + 1)), "ProofInvalid"),
        (replace(call, proof=proof[:192] + bytes(64) + proof[256:]), "NotInReceipt"),
        (replace(call, proof=proof[:64] + bytes(64) + proof[128:]), "NotInPages"),
        (replace(call, proof=proof[:256] + proof[:64] + proof[320:]), "ProofInvalid"),
        (replace(call, proof=proof[:-1] + bytes([proof[-1] ^ 1])), "ProofInvalid"),
    )
    for lie, name in bent:
        assert world.send(call.worker, lie) == Refused(name)


def train(pages: tuple[int, ...]) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """States before each step and after the last; the optimizer's begins with zeros."""
    states = [np.zeros(SPEC.state_length, np.int64)]
    states[0][: SPEC.parameters] = np.random.default_rng(4).integers(-2000, 2000, SPEC.parameters)
    for page in pages:
        x, y = np.rint(X[page] * 2**X_BITS).astype(np.int64), np.rint(Y * 2**DELTA_BITS).astype(np.int64)
        stepped = compute_step(SPEC, states[-1], x, y)
        assert isinstance(stepped, Stepped)
        states.append(stepped.state)
    return states


def ok(value: Any) -> Any:
    assert not isinstance(value, PortRefused), value
    return value
