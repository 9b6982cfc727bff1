"""Proofs: of what the beacon drew, about what was committed before."""

from __future__ import annotations

from dataclasses import replace

from protocols.chain import Entry, Evidence, JobState, ProofAccepted, ProofPolicy, SubmitProof
from protocols.draw import Sample, compute_challenge_seed, draw_sample
from protocols.evidence import compute_rank, hash_commitment, page_leaf, set_leaf, step_leaf
from protocols.ids import Address, Commitment, Seat
from protocols.job.change import Abort, Stepped, get_job, put_job, require
from protocols.job.ledger import FIELD_MODULUS, Job, Ledger, Transaction, compute_participations
from protocols.merkle import are_neighbours, is_member


def submit_proof(ledger: Ledger, tx: Transaction, call: SubmitProof) -> Stepped:
    job = get_job(ledger, call.job, JobState.PROVING)
    require(tx.now_s < job.deadline_s, "TooLate")
    _require_drawn(ledger, tx, call, job)
    if job.terms.proof_policy is ProofPolicy.EVALUATION:
        _require_evaluation(call, job)
        loss = call.instances[0]
    else:
        _require_step(call, job)
        loss = 0
    require(tx.facts.proof_valid, "ProofInvalid")
    job, earns = _accept(job, call.worker, call.sample, loss)
    at = call.evidence
    event = ProofAccepted(call.job, call.worker, call.sample, at.round, at.step, at.page, loss, earns)
    return put_job(ledger, call.job, job), (event,)


def _require_drawn(ledger: Ledger, tx: Transaction, call: SubmitProof, job: Job) -> None:
    """The evidence must be about what the beacon drew, and not be there yet."""
    require(0 <= call.sample < job.terms.samples, "WrongSample")
    require(call.worker in job.seats, "NotSeated")
    require(not job.accepted.get(call.worker, 0) >> call.sample & 1, "AlreadyAccepted")
    rounds = compute_participations(job, call.worker)
    require(rounds, "NotSeated")
    randomness = tx.facts.randomness
    if randomness is None:
        raise Abort("BeaconNotOut")
    seed = compute_challenge_seed(ledger.chain_id, ledger.contract, call.job, call.worker, job.parent, randomness)
    seat = Seat(job.seats.index(call.worker))
    drawn = draw_sample(seed, call.sample, rounds, job.terms, call.job, seat)
    said = Sample(call.evidence.round, call.evidence.step, call.evidence.page)
    require(said == drawn, "WrongDraw")


def _require_evaluation(call: SubmitProof, job: Job) -> None:
    """Statement E: the proof is about the weights after the round's last step and the drawn challenge page."""
    theta, x, y = _split(call, 3)
    _require_in_set(call, job)
    leaf = step_leaf(call.job, call.worker, call.evidence.round, job.terms.steps, theta)
    require(is_member(call.evidence.leaves, leaf, 0, 1, call.evidence.leaf_path), "NotInReceipt")
    _require_page(call, job, x, y)
    require(len(call.instances) == 1 and 0 <= call.instances[0] < FIELD_MODULUS, "BadInstances")


def _require_step(call: SubmitProof, job: Job) -> None:
    """Statement T: the proof is about two neighbouring leaves of the receipt and the page assigned to the step."""
    before, x, y, after, _ = _split(call, 5)
    _require_in_set(call, job)
    at = call.evidence
    # A worker could begin anywhere: its first leaf is held against what the round began with on chain. Optimizer
    # state begins with zeros, which commitments don't see.
    require(at.step or hash_commitment(before) == at.start, "WrongStart")
    leaf, following = (
        step_leaf(call.job, call.worker, at.round, t, state) for t, state in ((at.step, before), (at.step + 1, after))
    )
    width = job.terms.steps + 1
    paths = (at.leaf_path, at.next_path)
    require(are_neighbours(at.leaves, leaf, following, at.step, width, *paths), "NotInReceipt")
    _require_page(call, job, x, y)
    require(call.instances and not any(call.instances), "StepUnproved")


def _split(call: SubmitProof, count: int) -> tuple[Commitment, ...]:
    """The commitments that the proof begins with."""
    require(len(call.proof) >= 64 * count, "ProofTooShort")
    return tuple(Commitment(call.proof[64 * i : 64 * i + 64]) for i in range(count))


def _require_in_set(call: SubmitProof, job: Job) -> None:
    evidence: Evidence = call.evidence
    certified = job.rounds[evidence.round]
    entry = set_leaf(call.job, evidence.round, Entry(call.worker, evidence.update, evidence.leaves))
    rank = compute_rank(certified.participants, job.seats.index(call.worker))
    width = certified.participants.bit_count()
    in_set = rank is not None and is_member(certified.set_root, entry, rank, width, evidence.set_path)
    require(in_set and evidence.start == certified.start, "NotInSet")


def _require_page(call: SubmitProof, job: Job, x: Commitment, y: Commitment) -> None:
    evidence, terms = call.evidence, job.terms
    page = page_leaf(evidence.page, x, y)
    require(is_member(terms.pages_root, page, evidence.page, terms.pages, evidence.page_path), "NotInPages")


def _accept(job: Job, worker: Address, sample: int, loss: int) -> tuple[Job, bool]:
    earns = job.terms.max_loss == 0 or loss <= job.terms.max_loss
    accepted = {**job.accepted, worker: job.accepted.get(worker, 0) | 1 << sample}
    return replace(job, accepted=accepted, forfeits=job.forfeits if earns else job.forfeits | {worker}), earns
