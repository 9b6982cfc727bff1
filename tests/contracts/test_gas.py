"""One honest job on py-evm: a second machine agrees on every event, and its gas is the committed snapshot.

After a change of the contracts: `SKYNET_SNAPSHOT=write pytest tests/contracts/test_gas.py`, and commit the difference.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from contract_world import World, make_account
from evm_backends import PyEvm
from job_author import MANY_PAGES, NONCE, TERMS, TRAINING
from job_twin import Station, Twin

from protocols.chain import (
    Apply,
    Assign,
    Cancel,
    DeliverKeys,
    NullRound,
    Post,
    Ready,
    Release,
    Settle,
    Terms,
    Unbond,
    Withdraw,
    WithdrawStake,
)
from protocols.draw import compute_quorum
from protocols.evidence import pages_root
from protocols.ids import RoundNumber, Wei
from protocols.job import UNBONDING_S

SNAPSHOT = Path(__file__).parents[2] / "contracts/snapshots/gas.json"
TARGETS = {
    "post": 350_000,
    "applyFor": 160_000,
    "submitProof": 120_000,  # without the verifier, which is doubled here
    "commitRound (16 workers)": 200_000,
    "commitRound (16 workers, training)": 200_000,
    "post (training)": 350_000,
    "submitProof (16 workers, training)": 120_000,
    "settle (16 workers)": 16 * 80_000,
}
LARGE_TRAINING = replace(TRAINING, steps=64, pages=1024, pages_root=pages_root(MANY_PAGES))
DOUBLED = ("VerifiersDouble", "Verifiers.register")  # test_verifiers.py looks at the real ones


def run_job(job: Station) -> None:
    """Three workers, two samples each: the calls in the order of a job's life; the later of a kind counts."""
    twin, id_ = job.twin, job.job
    terms = replace(TERMS, rounds=3, join_window_s=100, ready_window_s=100, round_timeout_s=100, proof_window_s=100)
    twin.do(twin.requester, Post(terms, b"c" * 32))
    twin.do(twin.requester, Cancel(twin.job_id(b"c" * 32)))
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in twin.crew:
        twin.do(worker, Apply(id_))
    twin.wait(100)
    twin.do(twin.requester, Assign(id_))
    twin.do(twin.requester, DeliverKeys(id_, (b"w" * 80,) * 3))
    for seat in twin.seats(id_)[:2]:
        twin.do(seat, Ready(id_))
    twin.do(twin.delegate, twin.commit(id_))
    twin.do(twin.delegate, twin.commit(id_))
    twin.wait(100)
    twin.do(twin.delegate, NullRound(id_, RoundNumber(2)))
    twin.wait(3)
    for sample in range(terms.samples):
        for seat in twin.seats(id_):
            twin.do(seat, twin.prove(id_, seat.address, sample))
    twin.do(twin.requester, Settle(id_))
    for seat in twin.seats(id_):
        twin.do(seat, Release(id_, seat.address))
        twin.do(seat, Withdraw())
        twin.do(seat, Unbond(Wei(100)))
    twin.wait(UNBONDING_S)
    for seat in twin.seats(id_):
        twin.do(seat, WithdrawStake())


def measure_sixteen(terms: Terms) -> dict[str, int]:
    """A round, a proof and a settlement of sixteen workers, one sample each."""
    twin = Twin(World(PyEvm()), crew=tuple(make_account(f"worker {i}") for i in range(16)))
    twin.found()
    terms = replace(terms, seats=16, rounds=2, samples=1, join_window_s=100, ready_window_s=100, round_timeout_s=100)
    job = twin.job_id()
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in twin.crew:
        twin.do(worker, Apply(job))
    twin.wait(100)
    twin.do(twin.requester, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"w" * 80,) * 16))
    for seat in twin.seats(job)[: compute_quorum(16)]:
        twin.do(seat, Ready(job))
    for _ in range(terms.rounds):
        twin.do(twin.delegate, twin.commit(job, participants=2**16 - 1, signers=2 ** compute_quorum(16) - 1))
    twin.wait(2)
    for seat in twin.seats(job)[:8]:
        twin.do(seat, twin.prove(job, seat.address, 0))
    twin.wait(60)
    twin.do(twin.requester, Settle(job))  # eight are paid, eight are slashed
    return {name: twin.world.gas[name] for name in ("post", "commitRound", "submitProof", "settle")}


@pytest.mark.parametrize(("call", "most"), TARGETS.items())
def test_gas_is_what_it_may_be(call: str, most: int) -> None:
    assert json.loads(SNAPSHOT.read_text())[call] <= most


def test_gas_is_that_of_the_snapshot() -> None:
    twin = Twin(World(PyEvm()))
    twin.found()
    run_job(Station(twin))
    gas = {name: twin.world.gas[name] for name in sorted(twin.world.gas) if name not in DOUBLED}
    sixteen, training = measure_sixteen(TERMS), measure_sixteen(LARGE_TRAINING)
    gas |= {f"{name} (16 workers)": sixteen[name] for name in ("commitRound", "settle")}
    gas["post (training)"] = training["post"]
    gas |= {f"{name} (16 workers, training)": training[name] for name in ("commitRound", "submitProof")}
    if os.environ.get("SKYNET_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(gas, indent=1) + "\n")
    expected = json.loads(SNAPSHOT.read_text())
    assert gas == expected, "SKYNET_SNAPSHOT=write makes a new snapshot"
