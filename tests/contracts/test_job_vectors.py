"""tests/vectors/job: what the ledger of `protocols/job` says of whole jobs, replayed on the contracts byte by byte.

A vector has what anybody needs to check another implementation: calldata, block times, and for each call the custom
error or the events and all that it changed. `SKYNET_VECTORS=write pytest tests/contracts/test_job_vectors.py` writes
them again after a change of the rules.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_world import Done
from job_author import INVALID, NONCE, TERMS
from job_twin import Twin
from vector_format import compute_changes, describe_call, describe_event, observe

from protocols.chain import (
    Apply,
    Assign,
    Cancel,
    CommitRound,
    DeliverKeys,
    Expire,
    NullRound,
    Post,
    Ready,
    Release,
    Settle,
    Unbond,
    Withdraw,
    WithdrawStake,
)
from protocols.ids import Digest, JobId, RoundNumber, Wei
from protocols.job import UNBONDING_S, Revert, step

FOLDER = Path(__file__).parents[1] / "vectors/job"

# -- Scenarios -----------------------------------------------------------------------


def start(twin: Twin) -> JobId:
    """Up to training."""
    job = twin.job_id()
    twin.do(twin.requester, Post(TERMS, NONCE))
    for worker in twin.crew[:4]:
        twin.do(worker, Apply(job))
    twin.refusal(twin.crew[0], Apply(job))
    twin.wait(11)
    twin.do(twin.delegate, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"first", b"second", b"third")))
    for seat in twin.seats(job)[:2]:
        twin.do(seat, Ready(job))
    return job


def settled(twin: Twin) -> None:
    """Two rounds, all proofs, one loss too high; everybody is paid out."""
    job = start(twin)
    twin.do(twin.delegate, twin.commit(job, participants=0b011, signers=0b110))
    call = twin.commit(job)
    twin.refusal(twin.delegate, CommitRound(job, dataclasses.replace(call.certificate, parent=Digest(bytes(32)))))
    twin.do(twin.delegate, call)
    twin.refusal(twin.delegate, twin.prove(job, twin.seats(job)[0].address, 0))  # the beacon is not out
    twin.wait(2)
    for number, seat in enumerate(twin.seats(job)):
        for sample in range(TERMS.samples):
            proof = twin.prove(job, seat.address, sample, loss=51 if number == 2 else 50)
            twin.refusal(seat, dataclasses.replace(proof, proof=proof.proof[:-1] + INVALID))
            twin.do(seat, proof)
    twin.do(twin.crew[4], Settle(job))
    for account in twin.accounts.values():
        twin.send(account, Release(job, account.address))
        twin.send(account, Withdraw())
    twin.do(twin.crew[0], Unbond(Wei(100)))
    twin.wait(UNBONDING_S)
    twin.do(twin.crew[0], WithdrawStake())


def slashed(twin: Twin) -> None:
    """One worker proves nothing, one only half."""
    job = start(twin)
    twin.do(twin.delegate, twin.commit(job))
    twin.do(twin.delegate, twin.commit(job, participants=0b110))
    twin.wait(2)
    first, second, _ = twin.seats(job)
    twin.do(first, twin.prove(job, first.address, 0))
    twin.do(first, twin.prove(job, first.address, 1))
    twin.do(second, twin.prove(job, second.address, 1))
    twin.refusal(first, Settle(job))
    twin.wait(TERMS.proof_window_s)
    twin.refusal(second, twin.prove(job, second.address, 0))
    twin.do(first, Settle(job))
    for seat in twin.seats(job):
        twin.send(twin.delegate, Release(job, seat.address))


def nulled(twin: Twin) -> None:
    """No certificate in time, twice: the budget goes back."""
    job = start(twin)
    for number in range(TERMS.rounds):
        twin.refusal(twin.delegate, NullRound(job, RoundNumber(number)))
        twin.wait(TERMS.round_timeout_s)
        twin.do(twin.delegate, NullRound(job, RoundNumber(number)))
    twin.do(twin.delegate, Settle(job))
    twin.do(twin.requester, Withdraw())


def cancelled(twin: Twin) -> None:
    job = twin.job_id()
    twin.do(twin.requester, Post(TERMS, NONCE))
    twin.do(twin.crew[0], Apply(job))
    twin.refusal(twin.crew[0], Cancel(job))
    twin.do(twin.requester, Cancel(job))
    twin.do(twin.crew[0], Release(job, twin.crew[0].address))
    twin.do(twin.requester, Withdraw())


def expired(twin: Twin) -> None:
    """Too few applicants in one job; no keys in another."""
    lonely = twin.job_id(b"l" * 32)
    twin.do(twin.requester, Post(TERMS, b"l" * 32))
    twin.do(twin.crew[4], Apply(lonely))
    job = twin.job_id()
    twin.do(twin.requester, Post(TERMS, NONCE))
    for worker in twin.crew[:3]:
        twin.do(worker, Apply(job))
    twin.refusal(twin.delegate, Expire(lonely))
    twin.wait(11)
    twin.refusal(twin.delegate, Assign(lonely))
    twin.do(twin.delegate, Expire(lonely))
    twin.do(twin.delegate, Assign(job))
    twin.refusal(twin.delegate, Expire(job))
    twin.wait(TERMS.ready_window_s)
    twin.do(twin.delegate, Expire(job))
    twin.do(twin.requester, Withdraw())


SCENARIOS: tuple[Callable[[Twin], None], ...] = (settled, slashed, nulled, cancelled, expired)


def record(scenario: Callable[[Twin], None]) -> dict[str, Any]:
    """Run a scenario on the ledger and write down what it says."""
    twin = Twin()
    ledger = twin.ledger
    twin.found()
    scenario(twin)
    steps = []
    for transaction in twin.log:
        described, result = describe_call(twin.world, transaction), step(ledger, transaction)
        if isinstance(result, Revert):
            described["reverts"] = result.name
        else:
            before, (ledger, events) = ledger, result
            described["events"] = [describe_event(event) for event in events]
            described["changes"] = compute_changes(before, ledger)
        steps.append(described)
    return {
        "about": (scenario.__doc__ or scenario.__name__).strip(),
        "chain_id": twin.world.chain_id,
        "contracts": {name: twin.world.addresses[name] for name in ("Jobs", "Workers", "Verifiers")},
        "accounts": list(twin.accounts),
        "steps": steps,
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_ledger_still_says_what_the_vector_does(scenario: Callable[[Twin], None]) -> None:
    text = json.dumps(record(scenario), indent=1, ensure_ascii=False) + "\n"
    path = FOLDER / f"{scenario.__name__}.json"
    if os.environ.get("SKYNET_VECTORS") == "write":
        path.write_text(text)
    assert path.read_text() == text, "SKYNET_VECTORS=write writes the vectors again"


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_the_contracts_do_what_the_vector_says(name: str) -> None:
    vector = json.loads((FOLDER / f"{name}.json").read_text())
    twin = Twin()  # for the money and the addresses only
    world = twin.world
    assert {name: world.addresses[name] for name in vector["contracts"]} == vector["contracts"]
    for described in vector["steps"]:
        world.pass_time(described["now_s"])
        data = bytes.fromhex(described["data"][2:])
        to, value_wei = world.addresses[described["to"]], described["value_wei"]
        outcome = world.transact(described["sender"], to, data, value_wei)
        if "reverts" in described:
            assert outcome.name == described["reverts"]  # type: ignore[union-attr]
            continue
        assert isinstance(outcome, Done), (described, outcome)
        assert [describe_event(event) for event in outcome.events] == described["events"]
        for what, value in described["changes"].items():
            assert observe(world, what) == value, (described["call"], what)
