"""Jobs.sol, transition by transition, each call judged by the ledger of `protocols/job` too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract_world import BURN, Refused, make_account, sign
from evm_backends import Account
from job_author import INVALID, KEY_WORDS, NONCE, TERMS, WORD
from job_twin import Station, Twin

from protocols.chain import (
    Applied,
    Apply,
    Assign,
    Assigned,
    Call,
    Cancel,
    CommitRound,
    DeliverKeys,
    Expire,
    FeePaid,
    JobEnded,
    JobPosted,
    JobState,
    JoinClosed,
    KeysDelivered,
    NullRound,
    Post,
    ProofAccepted,
    ProvingStarted,
    Ready,
    Release,
    RoundCommitted,
    RoundNulled,
    Settle,
    TrainingStarted,
    Unbond,
    Withdraw,
    WithdrawStake,
    WorkerPaid,
    WorkerReady,
    WorkerSlashed,
)
from protocols.ids import Commitment, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.job import FIELD_MODULUS, UNBONDING_S, compute_price

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def prove_all(twin: Twin, job: JobId, *seats: int, loss: int = 7) -> None:
    """Anybody may submit: here the requester."""
    for seat in seats:
        for sample in range(TERMS.samples):
            (event,) = twin.do(twin.requester, twin.prove(job, twin.ledger.jobs[job].seats[seat], sample, loss))
            assert isinstance(event, ProofAccepted)


def drain(twin: Twin, job: JobId) -> None:
    """Everybody takes out all they can; then the contracts must be empty."""
    for account in twin.crew:
        twin.send(account, Release(job, account.address))
    for account in twin.accounts.values():
        twin.send(account, Withdraw())
        free, _ = twin.world.stake(account.address)
        if free:
            twin.do(account, Unbond(Wei(free)))
    twin.wait(UNBONDING_S)
    for address, worker in tuple(twin.ledger.workers.items()):
        if worker.unbonding_wei:
            twin.do(address, WithdrawStake())
    twin.audit()
    assert twin.world.balance(twin.world.jobs) == 0
    assert twin.world.balance(twin.world.workers) == 0


# -- The ways through ----------------------------------------------------------------


def test_posting_logs_the_terms_and_takes_the_price(twin: Twin) -> None:
    (posted,) = twin.do(twin.requester, Post(TERMS, NONCE))
    assert posted == JobPosted(twin.job_id(), twin.requester.address, TERMS, twin.now_s + TERMS.join_window_s)
    assert twin.world.balance(twin.world.jobs) == compute_price(TERMS) == 1001 + 2 * 5
    twin.audit()


def test_seats_are_drawn_and_whoever_assigns_is_paid(opened: Station) -> None:
    twin = opened.twin
    twin.wait(11)
    drawn, fee = twin.do(twin.crew[4], Assign(opened.job))
    assert isinstance(drawn, Assigned)
    assert len(set(drawn.workers)) == 3
    assert set(drawn.workers) <= {worker.address for worker in twin.crew[:4]}
    assert fee == FeePaid(opened.job, twin.crew[4].address, Wei(5))
    twin.audit()


def test_a_quorum_of_ready_workers_starts_training(assigned: Station) -> None:
    twin, job = assigned.twin, assigned.job
    assert twin.do(twin.delegate, DeliverKeys(job, (b"a", b"", b"c" * 80))) == (
        KeysDelivered(job, (b"a", b"", b"c" * 80)),
    )
    first, second, third = twin.seats(job)
    assert twin.do(third, Ready(job)) == (WorkerReady(job, third.address),)
    started = TrainingStarted(job, twin.now_s + TERMS.round_timeout_s)
    assert twin.do(first, Ready(job)) == (WorkerReady(job, first.address), started)
    assert twin.refusal(second, Ready(job)) == "WrongState"
    twin.audit()


def test_rounds_and_the_start_of_proving(training: Station) -> None:
    twin, job = training.twin, training.job
    committed, *more = twin.do(twin.delegate, twin.commit(job, participants=0b101, signers=0b110, view=3))
    assert isinstance(committed, RoundCommitted)
    assert (committed.round, committed.view, committed.participants) == (0, 3, 0b101)
    assert committed.round_deadline_s == twin.now_s + TERMS.round_timeout_s
    assert not more
    last, started = twin.do(twin.delegate, twin.commit(job))
    assert isinstance(last, RoundCommitted)
    assert last.round_deadline_s == 0
    beacon_round = twin.now_s + 2  # a second of margin, then the next of one a second
    assert started == ProvingStarted(job, beacon_round, beacon_round + TERMS.proof_window_s)
    twin.audit()


def test_who_proves_is_paid_by_share(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 0, 1, 2)
    events = twin.do(twin.crew[4], Settle(job))
    seats = twin.ledger.jobs[job].seats
    shares = [1001 * 2 // 6, 1001 * 2 // 6, 1001 // 6]
    paid = tuple(WorkerPaid(job, worker, Wei(share)) for worker, share in zip(seats, shares, strict=True))
    refund = Wei(1001 - sum(shares))
    fee = FeePaid(job, twin.crew[4].address, Wei(5))
    assert events == (*paid, fee, JobEnded(job, JobState.SETTLED, refund))
    drain(twin, job)
    assert twin.world.balance(BURN) == 0


def test_who_does_not_prove_is_slashed(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 0, 2)
    honest, liar, _ = twin.seats(job)
    assert twin.refusal(honest, Settle(job)) == "TooEarly"
    twin.wait(TERMS.proof_window_s)
    events = twin.do(honest, Settle(job))
    assert WorkerSlashed(job, liar.address, Wei(100)) in events
    assert twin.world.balance(BURN) == 100
    assert twin.world.stake(liar.address) == (0, 0)
    assert twin.refusal(liar, Release(job, liar.address)) == "NothingLocked"
    drain(twin, job)


def test_half_the_proofs_are_none(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 1, 2)
    lazy = twin.seats(job)[0]
    twin.do(lazy, twin.prove(job, lazy.address, 1))
    twin.wait(TERMS.proof_window_s)
    assert WorkerSlashed(job, lazy.address, Wei(100)) in twin.do(lazy, Settle(job))


def test_a_loss_above_the_bound_earns_nothing_and_costs_nothing(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 0, 1)
    prove_all(twin, job, 2, loss=51)
    events = twin.do(twin.requester, Settle(job))
    assert [e.worker for e in events if isinstance(e, WorkerPaid)] == list(twin.ledger.jobs[job].seats[:2])
    assert not any(isinstance(e, WorkerSlashed) for e in events)
    drain(twin, job)


def test_without_a_bound_every_loss_earns(twin: Twin) -> None:
    job = twin.job_id()
    twin.do(twin.requester, Post(replace(TERMS, max_loss=0, seats=1, rounds=1, samples=1), NONCE))
    worker = twin.crew[0]
    twin.do(worker, Apply(job))
    twin.wait(11)
    twin.do(worker, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"k",)))
    twin.do(worker, Ready(job))
    twin.do(worker, twin.commit(job, participants=1, signers=1))
    twin.wait(2)
    (event,) = twin.do(worker, twin.prove(job, worker.address, 0, loss=FIELD_MODULUS - 1))
    assert isinstance(event, ProofAccepted)
    assert event.earns
    assert twin.do(worker, Settle(job))[0] == WorkerPaid(job, worker.address, Wei(1001))
    drain(twin, job)


def test_a_job_without_a_certified_round_settles_at_once(training: Station) -> None:
    twin, job = training.twin, training.job
    assert twin.refusal(twin.delegate, NullRound(job, RoundNumber(0))) == "TooEarly"
    twin.wait(TERMS.round_timeout_s)
    deadline_s = twin.now_s + TERMS.round_timeout_s
    assert twin.do(twin.delegate, NullRound(job, RoundNumber(0))) == (RoundNulled(job, RoundNumber(0), deadline_s),)
    twin.wait(TERMS.round_timeout_s)
    assert twin.refusal(twin.delegate, NullRound(job, RoundNumber(0))) == "WrongRound"
    nulled, started = twin.do(twin.delegate, NullRound(job, RoundNumber(1)))
    assert nulled == RoundNulled(job, RoundNumber(1), 0)
    assert isinstance(started, ProvingStarted)
    fee, ended = twin.do(twin.delegate, Settle(job))
    assert (fee, ended) == (FeePaid(job, twin.delegate.address, Wei(5)), JobEnded(job, JobState.SETTLED, Wei(1001)))
    drain(twin, job)


def test_a_nulled_round_is_never_drawn(training: Station) -> None:
    twin, job = training.twin, training.job
    twin.wait(TERMS.round_timeout_s)
    twin.do(twin.delegate, NullRound(job, RoundNumber(0)))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    for seat in twin.seats(job):
        for sample in range(TERMS.samples):
            drawn, step, page = twin.world.read("Jobs", "sampleOf", job, seat.address, sample)
            call = twin.prove(job, seat.address, sample)
            assert (drawn, step, page) == (1, TERMS.steps, call.evidence.page)
            twin.do(seat, call)
    twin.do(twin.delegate, Settle(job))
    drain(twin, job)


def test_a_certificate_is_taken_until_the_round_is_nulled(training: Station) -> None:
    twin, job = training.twin, training.job
    twin.wait(10 * TERMS.round_timeout_s)
    assert twin.do(twin.delegate, twin.commit(job))


@pytest.mark.parametrize("wait_s", [0, 5, 30])
def test_cancelling_gives_everything_back(opened: Station, wait_s: int) -> None:
    twin, job = opened.twin, opened.job
    twin.wait(wait_s)
    assert twin.refusal(twin.delegate, Cancel(job)) == "NotRequester"
    assert twin.do(twin.requester, Cancel(job)) == (JobEnded(job, JobState.CANCELLED, compute_price(TERMS)),)
    assert twin.refusal(twin.requester, Cancel(job)) == "WrongState"
    drain(twin, job)


def test_too_few_applicants_expire_the_job(twin: Twin) -> None:
    job = twin.job_id()
    twin.do(twin.requester, Post(TERMS, NONCE))
    twin.do(twin.crew[0], Apply(job))
    twin.wait(9)
    assert twin.refusal(twin.crew[0], Expire(job)) == "TooEarly"
    twin.wait(2)
    assert twin.refusal(twin.crew[0], Assign(job)) == "TooFewApplicants"
    assert twin.do(twin.crew[0], Expire(job)) == (
        FeePaid(job, twin.crew[0].address, TERMS.move_fee_wei),
        JobEnded(job, JobState.EXPIRED, Wei(compute_price(TERMS) - TERMS.move_fee_wei)),
    )
    drain(twin, job)


def test_a_job_that_nobody_assigns_expires(opened: Station) -> None:
    twin, job = opened.twin, opened.job
    twin.wait(TERMS.join_window_s + TERMS.ready_window_s - 1)
    assert twin.refusal(twin.crew[0], Expire(job)) == "TooEarly"
    twin.wait(1)
    twin.do(twin.crew[0], Expire(job))
    drain(twin, job)


def test_undelivered_keys_expire_the_job_without_anyones_fault(assigned: Station) -> None:
    twin, job = assigned.twin, assigned.job
    assert twin.refusal(twin.crew[0], Expire(job)) == "TooEarly"
    twin.wait(TERMS.ready_window_s)
    price_less_fee = Wei(compute_price(TERMS) - TERMS.move_fee_wei)
    fee, ended = twin.do(twin.crew[0], Expire(job))
    assert fee == FeePaid(job, twin.crew[0].address, TERMS.move_fee_wei)
    assert ended == JobEnded(job, JobState.EXPIRED, Wei(price_less_fee - TERMS.move_fee_wei))
    drain(twin, job)


def test_the_unlucky_are_released_at_once_and_the_seated_at_the_end(assigned: Station) -> None:
    twin, job = assigned.twin, assigned.job
    seats = {account.address for account in twin.seats(job)}
    (unlucky,) = (a for a in twin.crew[:4] if a.address not in seats)
    assert twin.world.stake(unlucky.address) == (0, 100)
    twin.do(twin.requester, Release(job, unlucky.address))  # anybody may
    assert twin.world.stake(unlucky.address) == (100, 0)
    assert twin.refusal(unlucky, Release(job, unlucky.address)) == "NothingLocked"
    assert twin.refusal(unlucky, Apply(job)) == "WrongState"
    for seat in seats:
        assert twin.refusal(twin.requester, Release(job, seat)) == "TooEarly"
    assert twin.refusal(twin.requester, Release(JobId(WORD), unlucky.address)) == "WrongState"


# -- Posting and applying, refused -----------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in ("pages", "seats", "rounds", "steps", "samples")),
        *((name, 0) for name in ("join_window_s", "ready_window_s", "round_timeout_s", "proof_window_s")),
        ("seats", 65),
        ("max_applicants", TERMS.seats - 1),
        ("max_applicants", 257),
        ("rounds", 1025),
        ("samples", 33),
    ],
)
def test_terms_out_of_bounds(twin: Twin, field: str, value: int) -> None:
    call = Post(replace(TERMS, **{field: value}), NONCE)
    assert twin.refusal(twin.requester, call) == "BadTerms"
    again = twin.world.send(twin.requester.address, call, compute_price(TERMS))
    assert again == Refused("BadTerms", (field,))


def test_the_window_closes_with_the_last_applicant_the_terms_allow(twin: Twin) -> None:
    twin.found()
    job = twin.job_id()
    twin.do(twin.requester, Post(replace(TERMS, max_applicants=TERMS.seats, join_window_s=1000), NONCE))
    *early, last = twin.crew[: TERMS.seats]
    for worker in early:
        assert twin.do(worker, Apply(job)) == (Applied(job, worker.address),)
    assert twin.refusal(last, Assign(job)) == "TooEarly"
    assert twin.do(last, Apply(job)) == (Applied(job, last.address), JoinClosed(job, twin.now_s))
    assert twin.refusal(twin.crew[TERMS.seats], Apply(job)) == "TooLate"
    twin.wait(1)
    (assigned, _) = twin.do(last, Assign(job))
    assert isinstance(assigned, Assigned)
    assert set(assigned.workers) == {worker.address for worker in twin.crew[: TERMS.seats]}


def test_posting_refused(opened: Station) -> None:
    twin = opened.twin
    fresh = Post(TERMS, b"m" * 32)
    price = compute_price(TERMS)
    assert twin.refusal(twin.requester, Post(TERMS, NONCE)) == "JobExists"
    assert twin.refusal(twin.requester, fresh, price - 1) == "WrongValue"
    assert twin.refusal(twin.requester, fresh, price + 1) == "WrongValue"
    assert twin.refusal(twin.requester, replace(fresh, terms=replace(TERMS, vk_digest=Digest(WORD)))) == "UnknownKey"
    twin.do(twin.delegate, Post(TERMS, NONCE))  # a nonce is its requester's own
    twin.audit()


def test_applying_refused(opened: Station) -> None:
    twin, job = opened.twin, opened.job
    assert twin.refusal(twin.crew[0], Apply(job)) == "AlreadyApplied"
    assert twin.refusal(twin.requester, Apply(job)) == "NotRegistered"
    assert twin.refusal(twin.crew[4], Apply(JobId(WORD))) == "WrongState"
    twin.do(twin.crew[4], Unbond(Wei(1)))
    assert twin.refusal(twin.crew[4], Apply(job)) == "StakeTooLow"
    assert twin.refusal(twin.crew[0], Unbond(Wei(1))) == "StakeTooLow"
    twin.wait(10)
    assert twin.refusal(twin.crew[4], Apply(job)) == "TooLate"


def test_a_stake_answers_for_one_job_at_a_time(opened: Station) -> None:
    twin = opened.twin
    twin.do(twin.requester, Post(TERMS, b"m" * 32))
    assert twin.refusal(twin.crew[0], Apply(twin.job_id(b"m" * 32))) == "StakeTooLow"


def test_assigning_waits_for_the_beacon_after_the_deadline(opened: Station) -> None:
    twin, job = opened.twin, opened.job
    twin.wait(9)
    assert twin.refusal(twin.delegate, Assign(job)) == "TooEarly"
    twin.wait(1)
    assert twin.refusal(twin.delegate, Assign(job)) == "BeaconNotOut"
    twin.wait(1)
    twin.do(twin.delegate, Assign(job))
    assert twin.refusal(twin.delegate, Assign(job)) == "WrongState"
    assert twin.refusal(twin.requester, Cancel(job)) == "WrongState"


def test_delivering_and_readiness_refused(assigned: Station) -> None:
    twin, job = assigned.twin, assigned.job
    keys = DeliverKeys(job, (b"a", b"b", b"c"))
    seat = twin.seats(job)[0]
    assert twin.refusal(seat, keys) == "NotRequester"
    assert twin.refusal(twin.requester, DeliverKeys(job, (b"a", b"b"))) == "WrongWraps"
    assert twin.refusal(seat, Ready(job)) == "KeysMissing"
    assert twin.refusal(seat, twin.commit(job)) == "WrongState"
    twin.do(twin.requester, keys)
    assert twin.refusal(twin.delegate, keys) == "KeysAlreadyDelivered"
    assert twin.refusal(twin.requester, Ready(job)) == "NotSeated"
    twin.do(seat, Ready(job))
    assert twin.refusal(seat, Ready(job)) == "AlreadyReady"


# -- Certificates, refused -------------------------------------------------------------


def test_certificates_refused(training: Station) -> None:
    twin, job = training.twin, training.job
    call = twin.commit(job, signers=0b110)
    c = call.certificate
    wrong = {
        "WrongRound": replace(c, round=RoundNumber(1)),
        "WrongParent": replace(c, parent=Digest(b"p" * 32)),
        "WrongParticipants": replace(c, participants=0b1011),
        "WrongSigners": replace(c, signers=0b1110, signatures=c.signatures + c.signatures[:1]),
        "NoQuorum": replace(c, signers=0b010, signatures=c.signatures[:1]),
        "BadSignature": replace(c, signatures=c.signatures[::-1]),
    }
    for name, certificate in wrong.items():
        assert twin.refusal(twin.delegate, CommitRound(job, certificate)) == name
    nobody = replace(c, participants=0)
    assert twin.refusal(twin.delegate, CommitRound(job, nobody)) == "WrongParticipants"
    missing = replace(c, signatures=c.signatures[:1])
    assert twin.refusal(twin.delegate, CommitRound(job, missing)) == "WrongSigners"
    short = CommitRound(job, replace(c, commitment=Commitment(b"c" * 63)))
    assert twin.world.send(twin.delegate.address, short) == Refused("BadCommitment")
    twin.do(twin.delegate, call)
    assert twin.refusal(twin.delegate, call) == "WrongRound"


@pytest.mark.parametrize(
    "change",
    [
        {"view": 1},
        {"set_root": Digest(b"s" * 32)},
        {"participants": 0b011},
        {"state": ContentId(b"s" * 32)},
        {"commitment": Commitment(b"c" * 64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_vote_binds_every_field(training: Station, change: dict[str, object]) -> None:
    twin, job = training.twin, training.job
    call = twin.commit(job)
    forged = CommitRound(job, replace(call.certificate, **change))  # type: ignore[arg-type]
    assert twin.refusal(twin.delegate, forged) == "BadSignature"


@pytest.mark.parametrize("flaw", ["high s", "v 0", "short", "empty", "zero", "other job", "outsider"])
def test_bad_signatures(training: Station, flaw: str) -> None:
    twin, job = training.twin, training.job
    call = twin.commit(job)
    good = call.certificate.signatures[1]
    s = int.from_bytes(good[32:64], "big")
    bad = {
        "high s": good[:32] + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - good[64]]),
        "v 0": good[:64] + bytes([good[64] - 27]),
        "short": good[:64],
        "empty": b"",
        "zero": bytes(65),
        "other job": sign(twin.seats(job)[1], Digest(b"o" * 32)),
        "outsider": sign(make_account("outsider"), Digest(b"o" * 32)),
    }[flaw]
    first, _, third = call.certificate.signatures
    forged = CommitRound(job, replace(call.certificate, signatures=(first, bad, third)))
    answer = twin.world.send(twin.delegate.address, forged)
    assert answer == Refused("BadSignature", (1,))


# -- Proofs, refused -------------------------------------------------------------------


def test_proofs_refused(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    (unlucky,) = {a.address for a in twin.crew[:4]} - set(twin.ledger.jobs[job].seats)
    good = twin.prove(job, twin.ledger.jobs[job].seats[1], 0)
    evidence, proof = good.evidence, good.proof
    other_page = (evidence.page + 1) % TERMS.pages
    wrong: dict[str, list[Call]] = {
        "WrongSample": [replace(good, sample=2), replace(good, sample=2**32 - 1)],
        "NotSeated": [replace(good, worker=twin.requester.address), replace(good, worker=unlucky)],
        "WrongDraw": [
            replace(good, evidence=replace(evidence, page=other_page)),
            replace(good, evidence=replace(evidence, round=RoundNumber(1 - evidence.round))),
        ],
        "NotInSet": [
            replace(good, evidence=replace(evidence, update=ContentId(b"u" * 32))),
            replace(good, evidence=replace(evidence, leaves=Digest(b"l" * 32))),
            replace(good, evidence=replace(evidence, set_path=())),
            replace(good, evidence=replace(evidence, set_path=(*evidence.set_path, Digest(WORD)))),
        ],
        "NotInReceipt": [
            replace(good, proof=bytes([proof[0] ^ 1]) + proof[1:]),
            replace(good, evidence=replace(evidence, leaf_path=(Digest(WORD),))),
        ],
        "NotInPages": [
            replace(good, proof=proof[:64] + bytes([proof[64] ^ 1]) + proof[65:]),
            replace(good, proof=proof[:191] + bytes([proof[191] ^ 1]) + proof[192:]),
            replace(good, evidence=replace(evidence, page_path=evidence.page_path[:-1])),
        ],
        "ProofTooShort": [replace(good, proof=proof[:191]), replace(good, proof=b"")],
        "BadInstances": [
            replace(good, instances=()),
            replace(good, instances=(1, 2)),
            replace(good, instances=(FIELD_MODULUS,)),
        ],
        "ProofInvalid": [replace(good, proof=proof[:-1] + INVALID)],
    }
    for name, calls in wrong.items():
        for call in calls:
            assert twin.refusal(twin.requester, call) == name
    twin.do(twin.requester, good)
    twin.audit()


def test_a_proof_counts_once_whatever_trails_it(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    good = twin.prove(job, twin.ledger.jobs[job].seats[0], 1)
    twin.do(twin.requester, good)
    assert twin.refusal(twin.requester, good) == "AlreadyAccepted"
    assert twin.refusal(twin.requester, replace(good, proof=good.proof + b"\x01")) == "AlreadyAccepted"


def test_proofs_come_between_beacon_and_deadline(training: Station) -> None:
    twin, job = training.twin, training.job
    worker = twin.ledger.jobs[job].seats[0]
    twin.do(twin.delegate, twin.commit(job))
    twin.do(twin.delegate, twin.commit(job))
    good = twin.prove(job, worker, 0)
    twin.wait(1)
    assert twin.refusal(twin.requester, good) == "BeaconNotOut"
    twin.wait(1)
    twin.do(twin.requester, good)
    twin.wait(TERMS.proof_window_s)
    assert twin.refusal(twin.requester, twin.prove(job, worker, 1)) == "TooLate"
    twin.do(twin.requester, Settle(job))
    assert twin.refusal(twin.requester, twin.prove(job, worker, 1)) == "WrongState"
    assert twin.refusal(twin.requester, Settle(job)) == "WrongState"


def test_weights_of_another_worker_do_not_count(proving: Station) -> None:
    """Credit goes to the worker named in the receipt, whoever copies the proof."""
    twin, job = proving.twin, proving.job
    first, second, _ = twin.ledger.jobs[job].seats
    copied = replace(twin.prove(job, first, 0), worker=second)
    assert twin.refusal(twin.requester, copied) in ("WrongDraw", "NotInSet")


# -- Money -----------------------------------------------------------------------------


def test_withdrawing(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 0, 1, 2)
    twin.do(twin.crew[4], Settle(job))
    worker = twin.seats(job)[0]
    before = twin.world.balance(worker.address)
    twin.do(worker, Withdraw())
    assert twin.world.balance(worker.address) == before + 333
    assert twin.refusal(worker, Withdraw()) == "NothingOwed"
    assert twin.refusal(make_account("nobody").address, Withdraw()) == "NothingOwed"


def test_nothing_but_post_takes_money(opened: Station) -> None:
    twin, job = opened.twin, opened.job
    for call in (Apply(job), Assign(job), Cancel(job), Expire(job), Withdraw(), Release(job, twin.crew[0].address)):
        assert twin.refusal(twin.requester, call, 1) in ("NotPayable", "WrongValue")
    plain = twin.world.transact(twin.requester.address, twin.world.jobs, b"", 1)
    assert plain == Refused("")


@pytest.mark.parametrize("sender", ["requester", "delegate", "worker"])
def test_money_comes_out_of_every_state(opened: Station, sender: str) -> None:
    """No caller is needed: anybody can move the job to an end by waiting."""
    twin, job = opened.twin, opened.job
    mover: Account = {"requester": twin.requester, "delegate": twin.delegate, "worker": twin.crew[4]}[sender]
    twin.wait(11)
    twin.do(mover, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"a", b"b", b"c")))
    for seat in twin.seats(job)[:2]:
        twin.do(seat, Ready(job))
    for number in range(TERMS.rounds):
        twin.wait(TERMS.round_timeout_s)
        twin.do(mover, NullRound(job, RoundNumber(number)))
    twin.do(mover, Settle(job))
    drain(twin, job)


def test_key_words_are_looked_up_by_their_digest(proving: Station) -> None:
    assert proving.twin.ledger.jobs[proving.job].terms.vk_digest in proving.twin.ledger.keys
    assert len(KEY_WORDS) == 24
