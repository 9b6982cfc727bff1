"""The ledger machine: single rules by hand, and random walks that must neither lose a wei nor lock one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols.abi import checksum_address, encode_words
from protocols.chain import (
    Apply,
    Assign,
    Assigned,
    Call,
    Cancel,
    Certificate,
    ChainEvent,
    CommitRound,
    DeliverKeys,
    Entry,
    Expire,
    FeePaid,
    JobEnded,
    JobState,
    NullRound,
    Post,
    ProofAccepted,
    ProofPolicy,
    ProvingStarted,
    Ready,
    Register,
    RegisterKey,
    Release,
    Settle,
    SubmitProof,
    Terms,
    TrainingStarted,
    Unbond,
    Withdraw,
    WithdrawStake,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.draw import compute_challenge_seed, compute_quorum, draw_sample
from protocols.evidence import build_evidence, compute_job_id, pages_root, set_root, step_leaf
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.job import (
    UNBONDING_S,
    Beacon,
    Facts,
    Job,
    Ledger,
    Revert,
    Transaction,
    compute_beacon_round,
    compute_free_stake,
    compute_holdings,
    compute_key_digest,
    compute_liabilities,
    compute_participations,
    compute_price,
    step,
)
from protocols.keccak import keccak256
from protocols.merkle import compute_root

PEOPLE = tuple(checksum_address(bytes([i]) * 20) for i in range(1, 7))
REQUESTER, *WORKERS = PEOPLE
KEY_WORDS = tuple(range(24))
VK_DIGEST = compute_key_digest(KEY_WORDS)
EMPTY = Ledger(31337, checksum_address(b"J" * 20), Beacon(genesis_s=0, period_s=1), keys=frozenset({VK_DIGEST}))
PAGES = tuple((Commitment(bytes([i]) * 64), Commitment(bytes([i + 100]) * 64)) for i in range(5))
WORD = bytes(32)
NONCE = b"n" * 32
JOB = compute_job_id(EMPTY.chain_id, EMPTY.contract, REQUESTER, NONCE)
TERMS = Terms(
    package=ContentId(WORD),
    data=ContentId(WORD),
    initial_state=ContentId(WORD),
    srs=ContentId(WORD),
    requester_key=WORD,
    initial_commitment=Digest(bytes(32)),
    pages_root=pages_root(PAGES),
    vk_digest=VK_DIGEST,
    delegate=WORKERS[-1],
    pages=len(PAGES),
    seats=3,
    rounds=2,
    steps=4,
    samples=2,
    proof_policy=ProofPolicy.EVALUATION,
    max_applicants=256,
    join_window_s=10,
    ready_window_s=10,
    round_timeout_s=10,
    proof_window_s=30,
    stake_wei=Wei(100),
    budget_wei=Wei(1001),
    move_fee_wei=Wei(5),
    max_loss=50,
)

# -- An honest world ---------------------------------------------------------------


def randomness(ledger: Ledger, number: int | None, now_s: int) -> Digest | None:
    if number is None or now_s < ledger.beacon.time_of(number):
        return None
    return keccak256(encode_words(keccak256(b"skynet test beacon"), number))


def value_of(call: Call) -> Wei:
    match call:
        case Register(stake_wei=stake):
            return stake
        case Post(terms):
            return compute_price(terms)
        case _:
            return Wei(0)


def transaction(ledger: Ledger, sender: Address, call: Call, now_s: int, **facts: Any) -> Transaction:
    drawn = randomness(ledger, compute_beacon_round(ledger, call), now_s)
    defaults: dict[str, Any] = {"binding_valid": True, "proof_valid": True, "randomness": drawn}
    return Transaction(sender, value_of(call), now_s, call, Facts(**(defaults | facts)))


def send(
    ledger: Ledger, sender: Address, call: Call, now_s: int, **facts: Any
) -> tuple[Ledger, tuple[ChainEvent, ...]]:
    result = step(ledger, transaction(ledger, sender, call, now_s, **facts))
    assert not isinstance(result, Revert), result
    return result


def refusal(ledger: Ledger, sender: Address, call: Call, now_s: int, **facts: Any) -> str:
    result = step(ledger, transaction(ledger, sender, call, now_s, **facts))
    assert isinstance(result, Revert), result
    return result.name


def register(stake_wei: int = 100) -> Register:
    return Register(b"n" * 32, b"e" * 32, Digest(WORD), b"s" * 65, Wei(stake_wei))


def weights_of(worker: Address, number: int) -> Commitment:
    return Commitment(keccak256(f"{worker} {number}".encode()) * 2)


def entries_of(job_id: JobId, job: Job, number: RoundNumber, participants: int) -> list[Entry]:
    seated = [worker for seat, worker in enumerate(job.seats) if participants >> seat & 1]
    leaves = {w: step_leaf(job_id, w, number, job.terms.steps, weights_of(w, number)) for w in seated}
    return [Entry(w, ContentId(keccak256(leaves[w])), compute_root([leaves[w]])) for w in seated]


def commit(ledger: Ledger, job_id: JobId, participants: int, signers: int) -> tuple[CommitRound, dict[str, Any]]:
    """The call and the fact of who signed it."""
    job = ledger.jobs[job_id]
    number = job.next_round
    signed = tuple(worker for seat, worker in enumerate(job.seats) if signers >> seat & 1)
    entries = entries_of(job_id, job, number, participants)
    root = set_root(job_id, number, entries) if entries else Digest(WORD)
    state, point = ContentId(keccak256(root)), Commitment(root * 2)
    signatures = tuple(b"s" * 65 for _ in signed)
    c = Certificate(number, 0, job.parent, root, state, point, participants, signers, signatures)
    return CommitRound(job_id, c), {"signers": signed}


def prove(ledger: Ledger, job_id: JobId, worker: Address, sample: int, loss: int = 7) -> SubmitProof:
    job = ledger.jobs[job_id]
    out = keccak256(encode_words(keccak256(b"skynet test beacon"), job.beacon_round))
    seed = compute_challenge_seed(ledger.chain_id, ledger.contract, job_id, worker, job.parent, out)
    drawn = draw_sample(
        seed, sample, compute_participations(job, worker), job.terms, job_id, Seat(job.seats.index(worker))
    )
    entries = entries_of(job_id, job, drawn.round, job.rounds[drawn.round].participants)
    theta = weights_of(worker, drawn.round)
    evidence = build_evidence(job_id, drawn.round, entries, worker, drawn.step, drawn.page, PAGES)
    proof = theta + b"".join(PAGES[drawn.page]) + b"rest of the proof"
    return SubmitProof(job_id, worker, sample, evidence, proof, (loss,), ())


# -- Stations of a job -----------------------------------------------------------------


@pytest.fixture
def opened() -> Ledger:
    """Posted at 0, all five workers registered, four applied."""
    ledger = EMPTY
    for worker in WORKERS:
        ledger, _ = send(ledger, worker, register(), 0)
    ledger, _ = send(ledger, REQUESTER, Post(TERMS, NONCE), 0)
    for worker in WORKERS[:4]:
        ledger, _ = send(ledger, worker, Apply(JOB), 1)
    return ledger


@pytest.fixture
def assigned(opened: Ledger) -> Ledger:
    ledger, (drawn, fee) = send(opened, WORKERS[4], Assign(JOB), 11)
    assert isinstance(drawn, Assigned)
    assert len(drawn.workers) == 3
    assert fee == FeePaid(JOB, WORKERS[4], Wei(5))
    return ledger


@pytest.fixture
def training(assigned: Ledger) -> Ledger:
    ledger, _ = send(assigned, REQUESTER, DeliverKeys(JOB, (b"a", b"b", b"c")), 12)
    seats = ledger.jobs[JOB].seats
    ledger, _ = send(ledger, seats[0], Ready(JOB), 13)
    ledger, events = send(ledger, seats[2], Ready(JOB), 13)
    assert events[-1] == TrainingStarted(JOB, 23)
    return ledger


@pytest.fixture
def proving(training: Ledger) -> Ledger:
    """Seat 2 took part in the second round only."""
    call, facts = commit(training, JOB, 0b011, 0b011)
    ledger, _ = send(training, WORKERS[4], call, 14, **facts)
    call, facts = commit(ledger, JOB, 0b111, 0b111)
    ledger, (_, started) = send(ledger, WORKERS[4], call, 15, **facts)
    assert started == ProvingStarted(JOB, 17, 47)
    return ledger


def proved_by(ledger: Ledger, *seats: int, loss: int = 7) -> Ledger:
    for seat in seats:
        for sample in range(TERMS.samples):
            worker = ledger.jobs[JOB].seats[seat]
            ledger, (event,) = send(ledger, REQUESTER, prove(ledger, JOB, worker, sample, loss), 20)
            assert isinstance(event, ProofAccepted)
    return ledger


def test_the_whole_way(proving: Ledger) -> None:
    ledger = proved_by(proving, 0, 1, 2)
    ledger, events = send(ledger, WORKERS[4], Settle(JOB), 21)
    seats = ledger.jobs[JOB].seats
    shares = [1001 * 2 // 6, 1001 * 2 // 6, 1001 // 6]
    paid = tuple(WorkerPaid(JOB, worker, Wei(share)) for worker, share in zip(seats, shares, strict=True))
    refund = 1001 - sum(shares)
    assert events == (*paid, FeePaid(JOB, WORKERS[4], Wei(5)), JobEnded(JOB, JobState.SETTLED, Wei(refund)))
    assert is_drained(drain(ledger, 22))


def test_who_does_not_prove_loses_the_stake(proving: Ledger) -> None:
    ledger = proved_by(proving, 0, 2)
    assert refusal(ledger, REQUESTER, Settle(JOB), 46) == "TooEarly"
    ledger, events = send(ledger, REQUESTER, Settle(JOB), 47)
    liar = ledger.jobs[JOB].seats[1]
    assert WorkerSlashed(JOB, liar, Wei(100)) in events
    assert not any(isinstance(e, WorkerPaid) and e.worker == liar for e in events)
    assert ledger.burnt_wei == 100
    assert compute_free_stake(ledger, liar) == 0
    assert refusal(ledger, liar, Release(JOB, liar), 48) == "NothingLocked"
    assert is_drained(drain(ledger, 48))


def test_a_bad_loss_earns_nothing_and_costs_nothing(proving: Ledger) -> None:
    ledger = proved_by(proved_by(proving, 0, 1), 2, loss=51)
    ledger, events = send(ledger, REQUESTER, Settle(JOB), 21)
    assert [e.worker for e in events if isinstance(e, WorkerPaid)] == list(ledger.jobs[JOB].seats[:2])
    assert ledger.burnt_wei == 0


def test_no_certified_round_settles_at_once(training: Ledger) -> None:
    assert refusal(training, REQUESTER, NullRound(JOB, RoundNumber(0)), 22) == "TooEarly"
    ledger, _ = send(training, REQUESTER, NullRound(JOB, RoundNumber(0)), 23)
    ledger, _ = send(ledger, REQUESTER, NullRound(JOB, RoundNumber(1)), 33)
    ledger, events = send(ledger, REQUESTER, Settle(JOB), 33)
    assert events == (FeePaid(JOB, REQUESTER, Wei(5)), JobEnded(JOB, JobState.SETTLED, Wei(1001)))
    assert is_drained(drain(ledger, 34))


# -- Refusals ------------------------------------------------------------------------------


def test_posting(opened: Ledger) -> None:
    assert refusal(opened, REQUESTER, Post(TERMS, NONCE), 1) == "JobExists"
    again = Post(TERMS, b"m" * 32)
    for field in ("seats", "rounds", "samples", "pages", "steps", "join_window_s", "proof_window_s"):
        assert refusal(opened, REQUESTER, replace(again, terms=replace(TERMS, **{field: 0})), 1) == "BadTerms"
    for beyond in (replace(TERMS, seats=65), replace(TERMS, max_applicants=257), replace(TERMS, max_applicants=1)):
        assert refusal(opened, REQUESTER, replace(again, terms=beyond), 1) == "BadTerms"
    short = replace(transaction(opened, REQUESTER, again, 1), value_wei=Wei(1010))
    assert step(opened, short) == Revert("WrongValue")
    unknown = replace(again, terms=replace(TERMS, vk_digest=Digest(WORD)))
    assert refusal(opened, REQUESTER, unknown, 1) == "UnknownKey"
    public = replace(opened, is_development=False)
    assert refusal(public, REQUESTER, again, 1) == "UnprovedTraining"
    paying = replace(transaction(opened, WORKERS[4], Apply(JOB), 1), value_wei=Wei(1))
    assert step(opened, paying) == Revert("NotPayable")


def test_registering(opened: Ledger) -> None:
    worker = WORKERS[0]
    assert refusal(opened, worker, replace(register(), node_key=WORD), 1) == "EmptyKey"
    assert refusal(opened, worker, register(), 1, binding_valid=False) == "BadBinding"
    ledger, _ = send(opened, worker, replace(register(50), node_key=b"m" * 32), 1)
    assert compute_free_stake(ledger, worker) == 50  # the first hundred is locked
    assert ledger.workers[worker].node_key == b"m" * 32
    assert refusal(EMPTY, worker, RegisterKey((1,) * 23), 1) == "MalformedKey"
    ledger, _ = send(EMPTY, worker, RegisterKey((1,) * 24), 1)
    assert compute_key_digest((1,) * 24) in ledger.keys


def test_applying(opened: Ledger) -> None:
    last = WORKERS[4]
    assert refusal(opened, WORKERS[0], Apply(JOB), 2) == "AlreadyApplied"
    assert refusal(opened, REQUESTER, Apply(JOB), 2) == "NotRegistered"
    assert refusal(opened, last, Apply(JOB), 10) == "TooLate"
    assert refusal(opened, last, Apply(JobId(WORD)), 2) == "WrongState"
    poor, _ = send(opened, last, Unbond(Wei(1)), 2)
    assert refusal(poor, last, Apply(JOB), 2) == "StakeTooLow"
    assert refusal(opened, WORKERS[0], Unbond(Wei(1)), 2) == "StakeTooLow"
    assert refusal(opened, WORKERS[0], Release(JOB, WORKERS[0]), 2) == "TooEarly"


def test_assigning(opened: Ledger) -> None:
    assert refusal(opened, REQUESTER, Assign(JOB), 9) == "TooEarly"
    assert refusal(opened, REQUESTER, Assign(JOB), 10) == "BeaconNotOut"
    lonely, _ = send(opened, REQUESTER, Post(TERMS, b"m" * 32), 1)
    second = compute_job_id(EMPTY.chain_id, EMPTY.contract, REQUESTER, b"m" * 32)
    assert refusal(lonely, REQUESTER, Assign(second), 12) == "TooFewApplicants"
    ended, _ = send(lonely, WORKERS[0], Expire(second), 11)
    assert ended.credits[REQUESTER] == 1006  # less the fee
    assert refusal(opened, REQUESTER, Expire(JOB), 19) == "TooEarly"
    assert ended.jobs[JOB].state is JobState.OPEN
    ended, _ = send(ended, REQUESTER, Expire(JOB), 20)
    assert is_drained(drain(ended, 21))


def test_cancelling(opened: Ledger, assigned: Ledger) -> None:
    assert refusal(opened, WORKERS[0], Cancel(JOB), 2) == "NotRequester"
    assert refusal(assigned, REQUESTER, Cancel(JOB), 12) == "WrongState"
    ledger, events = send(opened, REQUESTER, Cancel(JOB), 12)
    assert events == (JobEnded(JOB, JobState.CANCELLED, Wei(1011)),)
    assert is_drained(drain(ledger, 12))


def test_delivering_and_readiness(assigned: Ledger) -> None:
    seats = assigned.jobs[JOB].seats
    keys = DeliverKeys(JOB, (b"a", b"b", b"c"))
    assert refusal(assigned, seats[0], keys, 12) == "NotRequester"
    assert refusal(assigned, REQUESTER, DeliverKeys(JOB, (b"a",)), 12) == "WrongWraps"
    assert refusal(assigned, seats[0], Ready(JOB), 12) == "KeysMissing"
    ledger, _ = send(assigned, TERMS.delegate, keys, 12)
    assert refusal(ledger, REQUESTER, keys, 12) == "KeysAlreadyDelivered"
    assert refusal(ledger, REQUESTER, Ready(JOB), 12) == "NotSeated"
    ledger, _ = send(ledger, seats[0], Ready(JOB), 12)
    assert refusal(ledger, seats[0], Ready(JOB), 12) == "AlreadyReady"
    send(ledger, seats[1], Ready(JOB), 21)  # late is good enough until somebody expires the job
    assert refusal(ledger, REQUESTER, Expire(JOB), 20) == "TooEarly"
    ledger, events = send(ledger, REQUESTER, Expire(JOB), 21)
    assert events == (FeePaid(JOB, REQUESTER, Wei(5)), JobEnded(JOB, JobState.EXPIRED, Wei(1001)))
    assert is_drained(drain(ledger, 22))


def test_a_loser_of_the_draw_is_released_at_once(assigned: Ledger) -> None:
    job = assigned.jobs[JOB]
    (loser,) = set(job.applicants) - set(job.seats)
    assert refusal(assigned, REQUESTER, Release(JOB, job.seats[0]), 12) == "TooEarly"
    ledger, _ = send(assigned, REQUESTER, Release(JOB, loser), 12)
    assert compute_free_stake(ledger, loser) == 100
    assert refusal(ledger, REQUESTER, Release(JOB, loser), 12) == "NothingLocked"


def test_certificates(training: Ledger) -> None:
    call, facts = commit(training, JOB, 0b011, 0b110)
    c = call.certificate
    wrong = {
        "WrongRound": replace(c, round=RoundNumber(1)),
        "WrongParent": replace(c, parent=Digest(b"p" * 32)),
        "WrongParticipants": replace(c, participants=0b1011),
        "BadCommitment": replace(c, commitment=Commitment(b"c" * 63)),
        "WrongSigners": replace(c, signers=0b1110),
        "BadSignature": replace(c, signers=0b011),
        "NoQuorum": replace(c, signers=0b010, signatures=c.signatures[:1]),
    }
    for name, certificate in wrong.items():
        assert refusal(training, REQUESTER, CommitRound(JOB, certificate), 14, **facts) == name
    nobody = replace(c, participants=0)
    assert refusal(training, REQUESTER, CommitRound(JOB, nobody), 14, **facts) == "WrongParticipants"
    assert refusal(training, REQUESTER, call, 14, signers=(None, facts["signers"][1])) == "BadSignature"
    assert refusal(training, REQUESTER, call, 14, signers=facts["signers"][::-1]) == "BadSignature"
    ledger, _ = send(training, REQUESTER, call, 14, **facts)
    assert refusal(ledger, REQUESTER, call, 14, **facts) == "WrongRound"


def test_proofs(proving: Ledger) -> None:
    worker = proving.jobs[JOB].seats[1]
    good = prove(proving, JOB, worker, 0)
    evidence, proof = good.evidence, good.proof
    wrong = {
        "WrongSample": replace(good, sample=2),
        "NotSeated": replace(good, worker=REQUESTER),
        "WrongDraw": replace(good, evidence=replace(evidence, page=(evidence.page + 1) % 5)),
        "NotInSet": replace(good, evidence=replace(evidence, update=ContentId(b"u" * 32))),
        "NotInReceipt": replace(good, proof=bytes([proof[0] ^ 1]) + proof[1:]),
        "NotInPages": replace(good, proof=proof[:128] + bytes([proof[128] ^ 1]) + proof[129:]),
        "ProofTooShort": replace(good, proof=proof[:191]),
        "BadInstances": replace(good, instances=(1, 2)),
    }
    for name, call in wrong.items():
        assert refusal(proving, REQUESTER, call, 18) == name
    unreduced = replace(good, instances=(2**255,))
    assert refusal(proving, REQUESTER, unreduced, 18) == "BadInstances"
    assert refusal(proving, REQUESTER, good, 16) == "BeaconNotOut"
    assert refusal(proving, REQUESTER, good, 47) == "TooLate"
    assert refusal(proving, REQUESTER, good, 18, proof_valid=False) == "ProofInvalid"
    ledger, _ = send(proving, REQUESTER, good, 46)
    trailing = replace(good, proof=proof + b"x")
    assert refusal(ledger, REQUESTER, trailing, 46) == "AlreadyAccepted"


def test_a_beacon_with_a_period() -> None:
    drand = Beacon(genesis_s=1000, period_s=3)
    assert [drand.round_at(t) for t in (10, 999, 1000, 1002, 1003)] == [0, 0, 1, 1, 2]
    assert all(drand.time_of(drand.round_at(t)) > t >= drand.time_of(drand.round_at(t) - 1) for t in range(1000, 1020))


# -- Random walks ------------------------------------------------------------------------


def drain(ledger: Ledger, now_s: int) -> Ledger:
    """Let time pass and take out everything by the calls that anybody or its owner can make."""
    for job_id in ledger.jobs:
        for _ in range(TERMS.rounds + 2):
            job = ledger.jobs[job_id]
            now_s = max(now_s, job.deadline_s) + TERMS.ready_window_s
            calls: dict[JobState, Call] = {
                JobState.OPEN: Expire(job_id),
                JobState.ASSIGNED: Expire(job_id),
                JobState.TRAINING: NullRound(job_id, job.next_round),
                JobState.PROVING: Settle(job_id),
            }
            if job.state in calls:
                ledger, _ = send(ledger, WORKERS[0], calls[job.state], now_s)
        for worker in sorted(ledger.jobs[job_id].locked):
            ledger, _ = send(ledger, WORKERS[0], Release(job_id, worker), now_s)
    for person in PEOPLE:
        if ledger.credits.get(person):
            ledger, _ = send(ledger, person, Withdraw(), now_s)
        if compute_free_stake(ledger, person):
            ledger, _ = send(ledger, person, Unbond(compute_free_stake(ledger, person)), now_s)
    now_s += UNBONDING_S
    for person, worker in sorted(ledger.workers.items()):
        if worker.unbonding_wei:
            ledger, _ = send(ledger, person, WithdrawStake(), now_s)
    return ledger


def is_drained(ledger: Ledger) -> bool:
    return compute_liabilities(ledger) == compute_holdings(ledger) == 0


people = st.sampled_from(PEOPLE)
which = st.integers(0, 1)
bits = st.integers(0, 8)  # three seats, and one bit too many


class Walk(RuleBasedStateMachine):
    """Anybody tries anything at any time; `advance` does what an honest network would do next."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = EMPTY
        self.now_s = 0
        for person in PEOPLE[:4]:
            self.attempt(person, register(250))
        self.post(REQUESTER, 0, 3, 5, 1001)

    @initialize(stations=st.integers(0, 7), participants=st.integers(1, 7))
    def start(self, stations: int, participants: int) -> None:
        """Random calls alone seldom get past the draw."""
        for _ in range(stations):
            self.advance(0, 4, participants)

    def attempt(self, sender: Address, call: Call, **facts: Any) -> None:
        result = step(self.ledger, transaction(self.ledger, sender, call, self.now_s, **facts))
        if not isinstance(result, Revert):
            self.ledger, _ = result

    def some_job(self, index: int) -> JobId:
        return sorted(self.ledger.jobs)[index % len(self.ledger.jobs)]

    @rule(seconds=st.sampled_from([0, 1, 3, 11, 40]))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(person=people, stake=st.sampled_from([0, 99, 250]))
    def enrol(self, person: Address, stake: int) -> None:
        self.attempt(person, register(stake))

    @rule(
        person=st.sampled_from(PEOPLE[:2]),
        nonce=st.integers(0, 1),
        seats=st.integers(1, 3),
        fee=st.integers(0, 5),
        budget=st.sampled_from([0, 1, 1001]),
    )
    def post(self, person: Address, nonce: int, seats: int, fee: int, budget: int) -> None:
        terms = replace(TERMS, seats=seats, move_fee_wei=Wei(fee), budget_wei=Wei(budget))
        self.attempt(person, Post(terms, bytes([nonce]) * 32))

    @rule(person=people)
    def take_out(self, person: Address) -> None:
        self.attempt(person, Withdraw())
        self.attempt(person, Unbond(compute_free_stake(self.ledger, person)))
        self.attempt(person, WithdrawStake())

    @rule(index=which, person=people, kind=st.sampled_from([Apply, Assign, Ready, Settle, Cancel, Expire]))
    def move(self, index: int, person: Address, kind: Any) -> None:
        self.attempt(person, kind(self.some_job(index)))

    @rule(index=which, participants=bits, signers=bits)
    def certify(self, index: int, participants: int, signers: int) -> None:
        call, facts = commit(self.ledger, self.some_job(index), participants, signers)
        self.attempt(REQUESTER, call, **facts)
        self.attempt(REQUESTER, NullRound(self.some_job(index), call.certificate.round))

    @rule(index=which, seat=st.integers(0, 2), sample=st.integers(0, 2), loss=st.sampled_from([0, 50, 51]))
    def prove(self, index: int, seat: int, sample: int, loss: int) -> None:
        job_id = self.some_job(index)
        job = self.ledger.jobs[job_id]
        if job.state is JobState.PROVING and compute_participations(job, job.seats[seat % len(job.seats)]):
            self.attempt(REQUESTER, prove(self.ledger, job_id, job.seats[seat % len(job.seats)], sample, loss))

    @rule(index=which, person=people)
    def release(self, index: int, person: Address) -> None:
        self.attempt(REQUESTER, Release(self.some_job(index), person))

    @rule(index=which, how_many=st.integers(1, 4), participants=st.integers(1, 7))
    def advance(self, index: int, how_many: int, participants: int) -> None:
        job_id = self.some_job(index)
        job = self.ledger.jobs[job_id]
        match job.state:
            case JobState.OPEN:
                for person in PEOPLE[:how_many]:
                    self.attempt(person, Apply(job_id))
                self.now_s = max(self.now_s, job.deadline_s + 1)
                self.attempt(WORKERS[0], Assign(job_id))
            case JobState.ASSIGNED:
                self.attempt(job.requester, DeliverKeys(job_id, tuple(b"w" for _ in job.seats)))
                for worker in job.seats[:how_many]:
                    self.attempt(worker, Ready(job_id))
            case JobState.TRAINING:
                everybody = (1 << len(job.seats)) - 1
                self.certify(index, participants & everybody, everybody)
            case JobState.PROVING:
                self.now_s = max(self.now_s, self.ledger.beacon.time_of(job.beacon_round))
                for seat in range(how_many):
                    for sample in range(TERMS.samples):
                        self.prove(index, seat, sample, 7)
            case _:
                for worker in sorted(job.locked):
                    self.attempt(WORKERS[0], Release(job_id, worker))

    @invariant()
    def owes_exactly_what_it_holds(self) -> None:
        assert compute_liabilities(self.ledger) == compute_holdings(self.ledger)

    @invariant()
    def nothing_is_negative(self) -> None:
        ledger = self.ledger
        assert all(0 <= w.locked_wei <= w.stake_wei for w in ledger.workers.values())
        assert all(j.escrow_wei >= 0 for j in ledger.jobs.values())
        assert all(c >= 0 for c in ledger.credits.values())

    @invariant()
    def locks_are_those_of_jobs(self) -> None:
        for address, worker in self.ledger.workers.items():
            held = sum(j.terms.stake_wei for j in self.ledger.jobs.values() if address in j.locked)
            assert worker.locked_wei == held

    def teardown(self) -> None:
        assert is_drained(drain(self.ledger, self.now_s))


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_quorum_of_three_is_two() -> None:
    assert compute_quorum(TERMS.seats) == 2
