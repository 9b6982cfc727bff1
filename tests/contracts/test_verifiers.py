"""Verifiers.sol with ezkl's own verifier and a real proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from contract_world import Done, Refused, World, make_account, sign
from evm_backends import Backend, PyEvm, PyRevm
from job_author import TERMS

from protocols.abi import encode_words
from protocols.chain import (
    Apply,
    Assign,
    Certificate,
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
from protocols.eip712 import Domain, Vote, compute_digest
from protocols.evidence import EPOCH, build_evidence, compute_job_id, hash_commitment, pages_root, set_root, step_leaf
from protocols.ids import Commitment, ContentId, Digest, RoundNumber, Wei
from protocols.job import compute_key_digest, compute_price
from protocols.keccak import keccak256
from protocols.merkle import compute_root

CEREMONY = (
    0x186282957DB913ABD99F91DB59FE69922E95040603EF44C0BD7AA3ADEEF8F5AC,
    0x17944351223333F260DDC3B4AF45191B856689EDA9EAB5CBCDDBBE570CE860D2,
    0x06D971FF4A7467C3EC596ED6EFC674572E32FD6F52B721F97E35B0B3D3546753,
    0x06ECDB9F9567F59ED2EEE36E1E1D58797FD13CC97FAFC2910F5E8A12F202FA9A,
)
"""−[τ]₂ as FACTS gives it, which read it out of published verifiers."""


@dataclass(frozen=True)
class Proved:
    words: tuple[int, ...]
    proof: bytes
    instances: tuple[int, ...]

    @property
    def digest(self) -> Digest:
        return compute_key_digest(self.words)


@pytest.fixture(scope="session")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Proved:
    folder = tmp_path_factory.mktemp("tiny_proof")
    program = Path(__file__).with_name("tiny_proof.py")
    environment = {**os.environ, "HOME": str(folder)}  # ezkl writes there
    subprocess.run([sys.executable, program, folder], check=True, capture_output=True, env=environment, timeout=120)
    key, made = (folder / "vka.bytes").read_bytes(), json.loads((folder / "proof.json").read_text())
    count = int.from_bytes(key[:8], "little")
    words = tuple(int.from_bytes(key[8 + 32 * i : 40 + 32 * i], "big") for i in range(count))
    instances = tuple(int.from_bytes(bytes.fromhex(value), "little") for value in made["instances"][0])
    return Proved(words, bytes.fromhex(made["hex_proof"][2:]), instances)


@pytest.fixture
def world(proved: Proved) -> World:
    world = World(real_verifier=True)
    assert isinstance(world.send(world.deployer, RegisterKey(proved.words)), Done)
    return world


def holds(world: World, proved: Proved, digest: Digest | None = None) -> bool:
    words = [word.to_bytes(32, "big") for word in proved.words]
    digest = proved.digest if digest is None else digest
    return bool(world.read("Verifiers", "verify", digest, proved.proof, proved.instances, words))


def test_a_real_proof_holds_under_its_registered_key(world: World, proved: Proved) -> None:
    assert world.read("Verifiers", "isRegistered", proved.digest)
    assert holds(world, proved)
    assert isinstance(world.send(world.deployer, RegisterKey(proved.words)), Done)  # again: harmless


def test_one_flipped_byte_anywhere_and_it_does_not(world: World, proved: Proved) -> None:
    """Also where the verifier reverts: it answers false, and never reverts itself."""
    step = len(proved.proof) // 40
    for at in [*range(0, len(proved.proof), step), len(proved.proof) - 1]:
        flipped = proved.proof[:at] + bytes([proved.proof[at] ^ 1]) + proved.proof[at + 1 :]
        assert not holds(world, replace(proved, proof=flipped)), at


def test_other_instances_keys_and_lengths_do_not_hold(world: World, proved: Proved) -> None:
    assert not holds(world, replace(proved, instances=(proved.instances[0] + 1,)))
    assert not holds(world, replace(proved, instances=()))
    assert not holds(world, replace(proved, instances=(*proved.instances, 0)))
    assert not holds(world, replace(proved, proof=proved.proof[:-32]))
    assert not holds(world, replace(proved, proof=b""))
    other = replace(proved, words=(*proved.words[:-1], proved.words[-1] ^ 1))
    assert not holds(world, other)  # not registered
    assert not holds(world, other, proved.digest)  # not the words of that name
    world.send(world.deployer, RegisterKey(other.words))
    assert not holds(world, other, proved.digest)  # registered, but not the words of that name


def test_trailing_bytes_are_accepted_so_nothing_may_hang_on_a_proofs_hash(world: World, proved: Proved) -> None:
    assert holds(world, replace(proved, proof=proved.proof + bytes(32)))
    assert not holds(world, replace(proved, proof=proved.proof + bytes(31)))  # whole words only


def test_short_keys_are_refused() -> None:
    world = World(real_verifier=True)
    assert world.send(world.deployer, RegisterKey((1,) * 23)) == Refused("MalformedKey")
    assert isinstance(world.send(world.deployer, RegisterKey((1,) * 24)), Done)


def test_only_the_ceremonys_keys_off_development_networks(proved: Proved) -> None:
    world = World(real_verifier=True, development=False)
    assert world.read("Verifiers", "development") is False
    assert world.send(world.deployer, RegisterKey(proved.words)) == Refused("ForeignSrs")
    ceremony = (*proved.words[:20], *CEREMONY, *proved.words[24:])
    assert isinstance(world.send(world.deployer, RegisterKey(ceremony)), Done)
    for at in range(14, 24):  # both generators and −[τ]₂
        bent = (*ceremony[:at], ceremony[at] ^ 1, *ceremony[at + 1 :])
        assert world.send(world.deployer, RegisterKey(bent)) == Refused("ForeignSrs")


def test_jobs_paid_on_evaluation_alone_are_for_development_networks() -> None:
    world = World(real_verifier=True, development=False)
    outcome = world.send(world.deployer, Post(TERMS, b"n" * 32), compute_price(TERMS))
    assert outcome == Refused("UnprovedTraining")


def test_no_other_verifier_code_is_accepted() -> None:
    world = World()
    for address in (world.addresses["TestBeacon"], make_account("nobody").address):
        with pytest.raises(ValueError, match="UnknownVerifier"):
            world.deploy("Verifiers", address, True)


@pytest.mark.parametrize("backend", [PyRevm, pytest.param(PyEvm, marks=pytest.mark.slow)])
def test_a_worker_is_paid_for_a_real_proof(backend: Callable[[], Backend], proved: Proved) -> None:
    """The whole way with nothing doubled: what the proof begins with is what the receipt and the page commit to."""
    world = World(backend(), real_verifier=True)
    assert isinstance(world.send(world.deployer, RegisterKey(proved.words)), Done)
    requester, worker = make_account("requester"), make_account("worker 0")
    world.enrich(requester, worker)
    theta, x, y = (Commitment(proved.proof[i : i + 64]) for i in (0, 64, 128))
    pages = [(x, y)]
    sizes = {"seats": 1, "rounds": 1, "samples": 1, "pages": 1, "max_loss": 0}
    terms = replace(
        TERMS, join_window_s=100, ready_window_s=100, pages_root=pages_root(pages), vk_digest=proved.digest, **sizes
    )
    job = compute_job_id(world.chain_id, world.jobs, requester.address, b"n" * 32)

    def do(sender: str, call: object, value_wei: int = 0) -> tuple[object, ...]:
        outcome = world.send(sender, call, value_wei)  # type: ignore[arg-type]
        assert isinstance(outcome, Done), outcome
        return outcome.events

    do(worker.address, world.sign_registration(worker, 100), 100)
    do(requester.address, Post(terms, b"n" * 32), compute_price(terms))
    do(worker.address, Apply(job))
    world.pass_time(world.now_s + 101)
    do(worker.address, Assign(job))
    do(requester.address, DeliverKeys(job, (b"wrap",)))
    do(worker.address, Ready(job))
    number, state, update = RoundNumber(0), ContentId(b"s" * 32), ContentId(b"u" * 32)
    entries = [Entry(worker.address, update, compute_root([step_leaf(job, worker.address, number, 4, theta)]))]
    root = set_root(job, number, entries)
    vote = Vote(job, EPOCH, number, 0, Digest(bytes(32)), root, 1, state, hash_commitment(theta))
    signature = sign(worker, compute_digest(Domain(world.chain_id, world.jobs), vote))
    do(worker.address, CommitRound(job, Certificate(number, 0, vote.parent, root, state, theta, 1, 1, (signature,))))
    world.pass_time(world.now_s + 2)
    evidence = build_evidence(job, number, entries, worker.address, terms.steps, 0, pages)
    good = SubmitProof(job, worker.address, 0, evidence, proved.proof, proved.instances, proved.words)
    assert world.send(worker.address, replace(good, instances=(3,))) == Refused("ProofInvalid")
    bent = proved.proof[:-1] + bytes([proved.proof[-1] ^ 1])
    assert world.send(worker.address, replace(good, proof=bent)) == Refused("ProofInvalid")
    (accepted,) = do(worker.address, good)
    assert accepted == ProofAccepted(job, worker.address, 0, number, terms.steps, 0, proved.instances[0], True)
    # Gas of the key's registration and of a proof grows with the circuit; this is the smallest.
    assert 150_000 < world.gas["Verifiers.register"] < 300_000
    assert 600_000 < world.gas["submitProof"] < 1_200_000
    paid, *_ = do(worker.address, Settle(job))
    assert paid == WorkerPaid(job, worker.address, Wei(1001))


def test_the_digest_is_keccak_of_the_words(proved: Proved) -> None:
    assert proved.digest == keccak256(encode_words(*proved.words))
