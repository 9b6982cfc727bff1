"""The largest jobs that the terms allow fit into a block at every step."""

from __future__ import annotations

from dataclasses import replace

from contract_world import Done, make_account
from job_author import NONCE, TERMS
from job_twin import Twin

from protocols.chain import (
    Apply,
    Assign,
    DeliverKeys,
    NullRound,
    Post,
    ProvingStarted,
    Ready,
    Settle,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.draw import compute_quorum
from protocols.ids import RoundNumber, Wei

BLOCK_GAS = 30_000_000


def test_the_most_applicants_and_seats() -> None:
    """The seat draw over 256, certificates by 43 of 64, and 64 slashed at once."""
    crew = tuple(make_account(f"worker {i}") for i in range(257))
    twin = Twin(crew=crew)
    twin.found(stake_wei=1)
    terms = replace(TERMS, seats=64, rounds=1, stake_wei=Wei(1), samples=32)
    job = twin.job_id()
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in crew[:256]:
        twin.do(worker, Apply(job))
    assert twin.refusal(crew[256], Apply(job)) == "TooLate"
    twin.wait(1)
    twin.do(crew[0], Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"w" * 80,) * 64))
    for seat in twin.seats(job)[: compute_quorum(64)]:
        twin.do(seat, Ready(job))
    twin.do(crew[0], twin.commit(job, participants=2**64 - 1, signers=2 ** compute_quorum(64) - 1))
    twin.wait(2)
    last = twin.ledger.jobs[job].seats[63]
    twin.do(crew[0], twin.prove(job, last, 31))
    twin.wait(60)
    events = twin.do(crew[0], Settle(job))
    assert sum(isinstance(event, WorkerSlashed) for event in events) == 64
    twin.audit()
    assert max(twin.world.gas.values()) < BLOCK_GAS / 3


def test_the_most_rounds() -> None:
    """The challenge looks for the worker's one round behind 1,023 others."""
    twin = Twin(crew=(make_account("worker 0"), make_account("worker 1")))
    twin.found()
    terms = replace(TERMS, seats=2, rounds=1024, samples=1)
    job = twin.job_id()
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in twin.crew:
        twin.do(worker, Apply(job))
    twin.wait(11)
    twin.do(twin.crew[0], Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"w", b"w")))
    for worker in twin.crew:
        twin.do(worker, Ready(job))
    for _ in range(1023):
        twin.do(twin.crew[0], twin.commit(job, participants=0b01, signers=0b11))
    twin.do(twin.crew[0], twin.commit(job, participants=0b10, signers=0b11))
    twin.wait(2)
    last = twin.seats(job)[1].address
    call = twin.prove(job, last, 0)
    assert call.evidence.round == 1023
    outcome = twin.world.send(last, call)
    assert isinstance(outcome, Done)
    # This EVM takes slots that earlier calls touched for warm: add what reading 256 cold ones costs.
    assert outcome.gas_used + 256 * 2_000 < BLOCK_GAS / 10


def test_eight_rounds_without_a_certificate_end_the_training() -> None:
    twin = Twin()
    twin.found()
    terms = replace(TERMS, rounds=1024)
    job = twin.job_id()
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in twin.crew[:4]:
        twin.do(worker, Apply(job))
    twin.wait(11)
    twin.do(twin.delegate, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"w",) * 3))
    for seat in twin.seats(job)[:2]:
        twin.do(seat, Ready(job))
    for number in range(7):
        twin.wait(terms.round_timeout_s)
        twin.do(twin.crew[0], NullRound(job, RoundNumber(number)))
    twin.do(twin.crew[0], twin.commit(job))  # counts from the start again
    for number in range(8, 16):
        twin.wait(terms.round_timeout_s)
        *_, last = twin.do(twin.crew[0], NullRound(job, RoundNumber(number)))
    assert isinstance(last, ProvingStarted)
    twin.wait(2)
    for seat in twin.seats(job):
        for sample in range(terms.samples):
            twin.do(seat, twin.prove(job, seat.address, sample))
    events = twin.do(twin.crew[0], Settle(job))
    assert sum(isinstance(event, WorkerPaid) for event in events) == 3
    twin.audit()
