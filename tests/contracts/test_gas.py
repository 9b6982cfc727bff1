"""One honest job on py-evm: a second machine agrees on every event, and its gas is the committed snapshot.

After a change of the contracts: `SKYNET_SNAPSHOT=write pytest tests/contracts/test_gas.py`, and commit the difference.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from contract_world import World
from evm_backends import PyEvm
from job_twin import NONCE, TERMS, Station, Twin

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
    Withdraw,
    WithdrawStake,
)
from protocols.ids import RoundNumber, Wei

SNAPSHOT = Path(__file__).parents[2] / "contracts/snapshots/gas.json"
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
        twin.do(seat, WithdrawStake(Wei(100)))


def test_gas_is_that_of_the_snapshot() -> None:
    twin = Twin(World(PyEvm()))
    twin.found()
    run_job(Station(twin))
    gas = {name: twin.world.gas[name] for name in sorted(twin.world.gas) if name not in DOUBLED}
    if os.environ.get("SKYNET_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(gas, indent=1) + "\n")
    expected = json.loads(SNAPSHOT.read_text())
    assert gas == expected, "SKYNET_SNAPSHOT=write makes a new snapshot"
