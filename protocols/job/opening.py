"""From post to training: terms, applications, seats, keys, readiness."""

from __future__ import annotations

from dataclasses import replace

from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Applied,
    Assigned,
    ChainEvent,
    DeliverKeys,
    JobPosted,
    JobState,
    JoinClosed,
    KeysDelivered,
    Post,
    ProofPolicy,
    TrainingStarted,
    WorkerReady,
)
from protocols.draw import compute_quorum, draw_seats
from protocols.evidence import compute_job_id
from protocols.ids import JobId
from protocols.job.change import Abort, Stepped, change_stake, get_job, pay_fee, put_job, require
from protocols.job.ledger import (
    STRANGER,
    Job,
    Ledger,
    Transaction,
    compute_free_stake,
    compute_price,
    compute_value,
    is_postable,
)


def post(ledger: Ledger, tx: Transaction, call: Post) -> Stepped:
    terms = call.terms
    job = compute_job_id(ledger.chain_id, ledger.contract, tx.sender, call.nonce)
    require(is_postable(terms), "BadTerms")
    require(job not in ledger.jobs, "JobExists")
    require(ledger.is_development or terms.proof_policy is not ProofPolicy.EVALUATION, "UnprovedTraining")
    require(terms.vk_digest in ledger.keys, "UnknownKey")
    require(tx.value_wei == compute_value(terms) and tx.facts.token_arrives, "WrongValue")
    deadline_s = tx.now_s + terms.join_window_s
    posted = Job(terms, tx.sender, JobState.OPEN, deadline_s, compute_price(terms), start=terms.initial_commitment)
    return put_job(ledger, job, posted), (JobPosted(job, tx.sender, terms, deadline_s),)


def apply(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.OPEN)
    require(tx.now_s < job.deadline_s, "TooLate")
    require(tx.sender not in job.applicants, "AlreadyApplied")
    require(ledger.workers.get(tx.sender, STRANGER).is_registered, "NotRegistered")
    require(compute_free_stake(ledger, tx.sender) >= job.terms.stake_wei, "StakeTooLow")
    ledger = change_stake(ledger, tx.sender, locked=job.terms.stake_wei)
    job = replace(job, applicants=(*job.applicants, tx.sender), locked=job.locked | {tx.sender})
    if len(job.applicants) < job.terms.max_applicants:
        return put_job(ledger, job_id, job), (Applied(job_id, tx.sender),)
    job = replace(job, deadline_s=tx.now_s)
    return put_job(ledger, job_id, job), (Applied(job_id, tx.sender), JoinClosed(job_id, tx.now_s))


def assign(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.OPEN)
    require(tx.now_s >= job.deadline_s, "TooEarly")
    require(len(job.applicants) >= job.terms.seats, "TooFewApplicants")
    randomness = tx.facts.randomness
    if randomness is None:
        raise Abort("BeaconNotOut")
    seats = draw_seats(ledger.chain_id, ledger.contract, job_id, randomness, job.applicants, job.terms.seats)
    deadline_s = tx.now_s + job.terms.ready_window_s
    job = replace(job, state=JobState.ASSIGNED, seats=seats, deadline_s=deadline_s)
    ledger, fee = pay_fee(ledger, tx, job_id, job)
    return ledger, (Assigned(job_id, seats, deadline_s), fee)


def deliver_keys(ledger: Ledger, tx: Transaction, call: DeliverKeys) -> Stepped:
    job = get_job(ledger, call.job, JobState.ASSIGNED)
    delegate = job.terms.delegate
    require(tx.sender == job.requester or tx.sender == delegate != ZERO_ADDRESS, "NotRequester")
    require(not job.has_keys, "KeysAlreadyDelivered")
    require(len(call.wraps) == len(job.seats), "WrongWraps")
    return put_job(ledger, call.job, replace(job, has_keys=True)), (KeysDelivered(call.job, call.wraps),)


def ready(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = get_job(ledger, job_id, JobState.ASSIGNED)
    require(tx.sender in job.seats, "NotSeated")
    require(job.has_keys, "KeysMissing")
    bit = 1 << job.seats.index(tx.sender)
    require(not job.ready & bit, "AlreadyReady")
    job = replace(job, ready=job.ready | bit)
    events: tuple[ChainEvent, ...] = (WorkerReady(job_id, tx.sender),)
    if job.ready.bit_count() >= compute_quorum(len(job.seats)):
        job = replace(job, state=JobState.TRAINING, deadline_s=tx.now_s + job.terms.round_timeout_s)
        events += (TrainingStarted(job_id, job.deadline_s),)
    return put_job(ledger, job_id, job), events
