"""Rounds by certificate or by time, and what is done about those who lie in them."""

from __future__ import annotations

from dataclasses import replace

from protocols.chain import (
    Ballot,
    ChainEvent,
    CommitRound,
    Dissent,
    Dissented,
    EquivocationProved,
    JobState,
    ProofPolicy,
    ProvingStarted,
    ReportEquivocation,
    RoundCommitted,
    RoundNulled,
    WorkerSlashed,
)
from protocols.draw import compute_quorum
from protocols.evidence import certificate_digest, hash_commitment
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.job.change import Abort, Stepped, add_stake, change_stake, get_job, put_job, require
from protocols.job.ledger import (
    BEACON_MARGIN_S,
    BOUNTY,
    ENDED,
    MAX_NULLED,
    Job,
    Ledger,
    Round,
    Transaction,
    compute_free_stake,
)

# -- Rounds ----------------------------------------------------------------------


def commit_round(ledger: Ledger, tx: Transaction, call: CommitRound) -> Stepped:
    job = get_job(ledger, call.job, JobState.TRAINING)
    c = call.certificate
    require(c.round == job.next_round, "WrongRound")
    require(c.parent == job.parent, "WrongParent")
    require(len(c.commitment) == 64, "BadCommitment")
    require(0 < c.participants < 1 << len(job.seats), "WrongParticipants")
    _require_quorum(job, c.signers, len(c.signatures), tx.facts.signers)
    digest = certificate_digest(call.job, c.round, c.set_root, c.state, c.commitment)
    rounds = {**job.rounds, c.round: Round(c.set_root, c.participants, job.start)}
    start = job.start
    if job.terms.proof_policy is ProofPolicy.TRAINING:
        start = hash_commitment(c.commitment)
    job = replace(job, parent=digest, start=start, rounds=rounds, nulled=0)
    job, proving = _next_round(ledger, tx, call.job, job)
    deadline_s = 0 if proving else job.deadline_s
    committed = RoundCommitted(
        call.job, c.round, c.view, c.set_root, c.state, c.commitment, c.participants, digest, deadline_s
    )
    return put_job(ledger, call.job, job), (committed, *proving)


def _require_quorum(job: Job, signers: int, signatures: int, recovered: tuple[Address | None, ...]) -> None:
    require(0 <= signers < 1 << len(job.seats), "WrongSigners")
    require(signers.bit_count() == signatures, "WrongSigners")
    require(signatures >= compute_quorum(len(job.seats)), "NoQuorum")
    expected = tuple(wallet for seat, wallet in enumerate(job.seats) if signers >> seat & 1)
    require(recovered == expected, "BadSignature")


def null_round(ledger: Ledger, tx: Transaction, job_id: JobId, number: RoundNumber) -> Stepped:
    job = get_job(ledger, job_id, JobState.TRAINING)
    require(number == job.next_round, "WrongRound")
    require(tx.now_s >= job.deadline_s, "TooEarly")
    job, proving = _next_round(ledger, tx, job_id, replace(job, nulled=job.nulled + 1))
    nulled = RoundNulled(job_id, number, 0 if proving else job.deadline_s)
    return put_job(ledger, job_id, job), (nulled, *proving)


def _next_round(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Job, tuple[ProvingStarted, ...]]:
    job = replace(job, next_round=RoundNumber(job.next_round + 1))
    if job.next_round < job.terms.rounds and job.nulled < MAX_NULLED:
        return replace(job, deadline_s=tx.now_s + job.terms.round_timeout_s), ()
    return start_proving(ledger, tx, job_id, job)


def start_proving(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Job, tuple[ProvingStarted, ...]]:
    number = ledger.beacon.round_at(tx.now_s + BEACON_MARGIN_S)
    deadline_s = ledger.beacon.time_of(number) + job.terms.proof_window_s
    job = replace(job, state=JobState.PROVING, beacon_round=number, deadline_s=deadline_s)
    return job, (ProvingStarted(job_id, number, deadline_s),)


# -- Liars ----------------------------------------------------------------------


def dissent(ledger: Ledger, tx: Transaction, call: Dissent) -> Stepped:
    """A third of the seats against a certificate: nothing that follows can be relied on."""
    job = get_job(ledger, call.job, JobState.TRAINING)
    require(tx.sender in job.seats, "NotSeated")
    require(call.round in job.rounds, "WrongRound")
    require(tx.sender not in job.dissents, "AlreadyDissented")
    job = replace(job, dissents=job.dissents | {tx.sender})
    proving: tuple[ProvingStarted, ...] = ()
    if len(job.dissents) * 3 >= len(job.seats):
        job, proving = start_proving(ledger, tx, call.job, job)
    return put_job(ledger, call.job, job), (Dissented(call.job, tx.sender, call.round, call.state), *proving)


def report_equivocation(ledger: Ledger, tx: Transaction, call: ReportEquivocation) -> Stepped:
    job, first, second = ledger.jobs.get(call.job), call.votes.first, call.votes.second
    if job is None or call.worker not in job.seats:
        raise Abort("NotSeated")
    require(job.state not in ENDED or tx.now_s < job.deadline_s, "TooLate")
    require(call.worker not in job.slashed, "AlreadyPunished")
    require(_choice_of(first) != _choice_of(second), "SameVote")
    require(tx.facts.ballot_signers == (call.worker, call.worker), "BadSignature")
    punished = replace(
        job,
        punished=job.punished | {call.worker},
        slashed=job.slashed | {call.worker},
        locked=job.locked - {call.worker},
    )
    ledger = put_job(ledger, call.job, punished)
    ledger, taken, added = _punish(ledger, job, call.worker, tx.sender)
    proved = EquivocationProved(call.job, call.worker, call.votes.round, tx.sender)
    return ledger, (proved, *added, WorkerSlashed(call.job, call.worker, taken))


def _choice_of(ballot: Ballot) -> tuple[Digest, int, ContentId, Commitment]:
    """What a ballot votes for: the same in every view."""
    return ballot.set_root, ballot.participants, ballot.state, ballot.commitment


def _punish(ledger: Ledger, job: Job, worker: Address, reporter: Address) -> tuple[Ledger, Wei, tuple[ChainEvent, ...]]:
    """Stake that is no longer locked answers as far as it is still here: what is leaving first."""
    stake = job.terms.stake_wei
    if worker in job.locked:
        ledger, taken = change_stake(ledger, worker, stake=-stake, locked=-stake), stake
    else:
        leaving = min(stake, ledger.workers[worker].unbonding_wei)
        resting = min(stake - leaving, compute_free_stake(ledger, worker))
        ledger = change_stake(ledger, worker, stake=-resting, unbonding=-leaving)
        taken = Wei(leaving + resting)
    bounty = Wei(taken // BOUNTY)
    ledger = replace(ledger, burnt_wei=Wei(ledger.burnt_wei + taken - bounty))
    if not bounty:
        return ledger, taken, ()
    ledger, added = add_stake(ledger, reporter, bounty)
    return ledger, taken, added
