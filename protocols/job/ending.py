"""The ends of a job: settled, cancelled, expired; and stakes released after them."""

from __future__ import annotations

from dataclasses import replace

from protocols.chain import ChainEvent, JobEnded, JobState, WorkerPaid, WorkerSlashed
from protocols.ids import Address, JobId, Wei
from protocols.job.change import Stepped, change_stake, get_job, owe, pay_fee, put_job, require
from protocols.job.ledger import AUDIT_WINDOW_S, ENDED, Job, Ledger, Transaction, compute_participations, is_proved


def settle(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.PROVING)
    took_part = {worker: len(compute_participations(job, worker)) for worker in job.seats}
    took_part = {worker: count for worker, count in took_part.items() if worker not in job.punished}
    waits = any(count and not is_proved(job, worker) for worker, count in took_part.items())
    require(not waits or tx.now_s >= job.deadline_s, "TooEarly")
    events: list[ChainEvent] = []
    for worker, count in took_part.items():
        if not count:
            continue
        if is_proved(job, worker):
            ledger, job, paid = _pay(ledger, job_id, job, worker, count)
            events += paid
        else:
            ledger, job = _slash(ledger, job, worker)
            events.append(WorkerSlashed(job_id, worker, job.terms.stake_wei))
    ledger, fee = pay_fee(ledger, tx, job_id, job)
    ledger, ended = _end(ledger, tx, job_id, JobState.SETTLED)
    return ledger, (*events, fee, ended)


def _pay(
    ledger: Ledger, job_id: JobId, job: Job, worker: Address, count: int
) -> tuple[Ledger, Job, tuple[WorkerPaid, ...]]:
    terms = job.terms
    amount = Wei(terms.budget_wei * count // (terms.seats * terms.rounds))
    if worker in job.forfeits:
        return ledger, job, ()
    ledger = owe(ledger, job, worker, amount)
    return ledger, replace(job, escrow_wei=Wei(job.escrow_wei - amount)), (WorkerPaid(job_id, worker, amount),)


def _slash(ledger: Ledger, job: Job, worker: Address) -> tuple[Ledger, Job]:
    stake = job.terms.stake_wei
    ledger = change_stake(ledger, worker, stake=-stake, locked=-stake)
    return replace(ledger, burnt_wei=Wei(ledger.burnt_wei + stake)), replace(
        job, locked=job.locked - {worker}, slashed=job.slashed | {worker}
    )


def cancel(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.OPEN)
    require(tx.sender == job.requester, "NotRequester")
    ledger, ended = _end(ledger, tx, job_id, JobState.CANCELLED)
    return ledger, (ended,)


def expire(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.OPEN, JobState.ASSIGNED)
    require(tx.now_s >= job.deadline_s, "TooEarly")
    if job.state is JobState.OPEN and len(job.applicants) >= job.terms.seats:
        # Anybody may still assign them; nobody did while there was time to get ready.
        require(tx.now_s >= job.deadline_s + job.terms.ready_window_s, "TooEarly")
    ledger, fee = pay_fee(ledger, tx, job_id, job)
    ledger, ended = _end(ledger, tx, job_id, JobState.EXPIRED)
    return ledger, (fee, ended)


def _end(ledger: Ledger, tx: Transaction, job_id: JobId, state: JobState) -> tuple[Ledger, JobEnded]:
    """What is left in escrow is the requester's."""
    job = ledger.jobs[job_id]
    refund = job.escrow_wei
    ledger = owe(ledger, job, job.requester, refund)
    ended = replace(job, state=state, escrow_wei=Wei(0), deadline_s=tx.now_s + AUDIT_WINDOW_S)
    return put_job(ledger, job_id, ended), JobEnded(job_id, state, refund)


def release(ledger: Ledger, job_id: JobId, worker: Address) -> Stepped:
    job = get_job(ledger, job_id, *JobState)
    # Before the draw anybody may still get a seat; a seat holds its stake until the end.
    ended = job.state in ENDED
    require(ended or (job.state is not JobState.OPEN and worker not in job.seats), "TooEarly")
    require(worker in job.locked, "NothingLocked")
    ledger = change_stake(ledger, worker, locked=-job.terms.stake_wei)
    return put_job(ledger, job_id, replace(job, locked=job.locked - {worker})), ()
