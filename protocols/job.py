"""The ledger: `Jobs` and `Workers` as one pure machine, the twin of `contracts/src/Jobs.sol`.

The one rule: `step` accepts exactly the transactions that the contracts accept, and emits the same events.

    OPEN -assign-> ASSIGNED -quorum ready-> TRAINING -last round-> PROVING -settle-> SETTLED
      |-cancel-> CANCELLED  |-expire-> EXPIRED  (money can be taken out of every end)

What needs a curve, a proof system or a beacon comes resolved, as `Facts`. A rule that a transaction breaks is a
`Revert` by the name of the contract's custom error. One file because one transaction touches most of it.
Spec: protocols/README.md, "Contracts".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.abi import ZERO_ADDRESS, encode_words
from protocols.chain import (
    Applied,
    Apply,
    Assign,
    Assigned,
    Ballot,
    Call,
    Cancel,
    ChainEvent,
    CommitRound,
    DeliverKeys,
    Dissent,
    Dissented,
    Entry,
    EquivocationProved,
    Evidence,
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
    ProofPolicy,
    ProvingStarted,
    Ready,
    Register,
    RegisterKey,
    Release,
    ReportEquivocation,
    RoundCommitted,
    RoundNulled,
    Settle,
    StakeAdded,
    StakeUnbonding,
    StakeWithdrawn,
    SubmitProof,
    Terms,
    TopUp,
    TrainingStarted,
    Unbond,
    Withdraw,
    WithdrawIn,
    WithdrawStake,
    WorkerPaid,
    WorkerReady,
    WorkerRegistered,
    WorkerSlashed,
)
from protocols.draw import Sample, compute_challenge_seed, compute_quorum, draw_sample, draw_seats
from protocols.eip712 import Domain, Vote, compute_digest
from protocols.evidence import (
    EPOCH,
    certificate_digest,
    compute_job_id,
    compute_rank,
    hash_commitment,
    page_leaf,
    set_leaf,
    step_leaf,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.keccak import keccak256
from protocols.merkle import ZERO_DIGEST, are_neighbours, is_member

# -- Limits (constants of the contract) ------------------------------------------

MAX_SEATS = 64  # a bit each in one word; settlement walks them in one transaction
MAX_ROUNDS = 1024  # a challenge walks them to find the worker's own
MAX_SAMPLES = 32  # a bit each
MAX_APPLICANTS = 256  # the draw reads them all
MAX_NULLED = 8  # rounds in a row: the training of a dead job ends by itself
AUDIT_WINDOW_S = 86_400  # after a job's end its workers still answer for double votes
UNBONDING_S = 2 * 86_400  # longer than the audit window, or a liar would be gone with its stake
BOUNTY = 10  # a reporter gets a tenth: a liar that reports itself loses the rest
MIN_KEY_WORDS = 24  # a verifying key names its SRS in words 14 … 23
BEACON_MARGIN_S = 1  # the challenge's randomness must not be out when the last certificate is built
FIELD_MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617

_ENDED = (JobState.SETTLED, JobState.CANCELLED, JobState.EXPIRED)
_FIRST, _NOTHING, _UINT32 = RoundNumber(0), Wei(0), 2**32 - 1

# -- Transactions ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What the contracts find out by cryptography, resolved by the caller."""

    binding_valid: bool = False
    """Register: the binding is the sender's signature over its keys."""
    signers: tuple[Address | None, ...] = ()
    """CommitRound: who signed `compute_vote_digest`, in the order of the signatures."""
    proof_valid: bool = False
    """SubmitProof: what `Verifiers.verify` says under the terms' verifying key."""
    ballot_signers: tuple[Address | None, Address | None] = (None, None)
    """ReportEquivocation: who signed the first and the second ballot's `compute_ballot_digest`."""
    token_arrives: bool = True
    """Post: the terms' token leaves exactly the price here."""
    randomness: Digest | None = None
    """Assign, SubmitProof: of the beacon round `compute_beacon_round`; None before it is out."""


@dataclass(frozen=True, slots=True)
class Transaction:
    sender: Address
    value_wei: Wei
    now_s: int
    """Timestamp of its block."""
    call: Call
    facts: Facts = Facts()


@dataclass(frozen=True, slots=True)
class Revert:
    name: str


# -- State -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beacon:
    """Round n is out at genesis_s + n · period_s."""

    genesis_s: int
    period_s: int
    margin_s: int = 0
    """By how much the chain's clock may be slow."""
    first: int = 0
    """There is no round before it."""

    def round_at(self, timestamp_s: int) -> int:
        """The first round that nobody knows at the timestamp: it is out after (not at) it and the margin."""
        return max(self.first, (timestamp_s + self.margin_s - self.genesis_s) // self.period_s + 1)

    def time_of(self, number: int) -> int:
        return self.genesis_s + number * self.period_s


DRAND_EVMNET = Beacon(genesis_s=1_727_521_072, period_s=3, margin_s=30, first=1)
"""`Beacon.sol`: round 1 came out at 1,727,521,075."""


@dataclass(frozen=True, slots=True)
class Worker:
    node_key: bytes
    encryption_key: bytes
    capabilities: Digest
    stake_wei: Wei
    """Free and locked."""
    locked_wei: Wei
    unbonding_wei: Wei = _NOTHING
    unbonded_at_s: int = 0

    @property
    def is_registered(self) -> bool:
        """A wallet may hold stake, a bounty for one, without keys."""
        return any(self.node_key)


_STRANGER = Worker(bytes(32), bytes(32), ZERO_DIGEST, _NOTHING, _NOTHING)


@dataclass(frozen=True, slots=True)
class Round:
    """A certified round; a nulled one leaves nothing."""

    set_root: Digest
    participants: int
    start: Digest = ZERO_DIGEST
    """H(C(θ_r)) of the state that it began with; zero in evaluation jobs."""


@dataclass(frozen=True, slots=True)
class Job:
    terms: Terms
    requester: Address
    state: JobState
    deadline_s: int
    """Of what the state waits for: applications, readiness, the round, the proofs; at the end, reports."""
    escrow_wei: Wei
    applicants: tuple[Address, ...] = ()
    locked: frozenset[Address] = frozenset()
    """Whose stake this job still holds."""
    seats: tuple[Address, ...] = ()
    has_keys: bool = False
    ready: int = 0
    """Bit i set: seat i is ready."""
    next_round: RoundNumber = _FIRST
    parent: Digest = ZERO_DIGEST
    """Digest of the last certificate."""
    start: Digest = ZERO_DIGEST
    """H(C(θ)) of the state that the next round begins with; zero in evaluation jobs: no proof there goes back to it."""
    rounds: Mapping[RoundNumber, Round] = field(default_factory=dict)
    beacon_round: int = 0
    accepted: Mapping[Address, int] = field(default_factory=dict)
    """Bit k set: the worker's sample k is proved."""
    nulled: int = 0
    """Rounds in a row without a certificate."""
    dissents: frozenset[Address] = frozenset()
    punished: frozenset[Address] = frozenset()
    """Have voted twice: neither pay nor anything to prove."""
    slashed: frozenset[Address] = frozenset()
    """Whose stake is gone, for double votes or missing proofs."""
    forfeits: frozenset[Address] = frozenset()
    """Workers with a proved loss above the terms' bound: no pay."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of both contracts' storage, and the wei that went in and out of them. Mappings are never changed."""

    chain_id: int
    contract: Address
    """Of `Jobs`; its name is in every id and draw."""
    beacon: Beacon
    is_development: bool = True
    """Whether jobs may be paid on evaluation proofs alone."""
    keys: frozenset[Digest] = frozenset()
    """Registered verifying keys."""
    workers: Mapping[Address, Worker] = field(default_factory=dict)
    jobs: Mapping[JobId, Job] = field(default_factory=dict)
    credits: Mapping[Address, Wei] = field(default_factory=dict)
    """In the native token."""
    token_credits: Mapping[tuple[Address, Address], Wei] = field(default_factory=dict)
    """By token and account."""
    paid_in: Mapping[Address, Wei] = field(default_factory=dict)
    paid_out: Mapping[Address, Wei] = field(default_factory=dict)
    burnt_wei: Wei = _NOTHING


# -- Derived -----------------------------------------------------------------------


def compute_liabilities(ledger: Ledger) -> Wei:
    """What the contracts owe in the native token: escrow, credits and stakes. It equals what they hold."""
    escrow = sum(job.escrow_wei for job in ledger.jobs.values() if job.terms.token == ZERO_ADDRESS)
    stakes = sum(worker.stake_wei + worker.unbonding_wei for worker in ledger.workers.values())
    return Wei(escrow + stakes + sum(ledger.credits.values()))


def compute_token_liabilities(ledger: Ledger, token: Address) -> Wei:
    """What `Jobs` owes in an ERC-20: it holds exactly that."""
    escrow = sum(job.escrow_wei for job in ledger.jobs.values() if job.terms.token == token)
    return Wei(escrow + sum(wei for (owed, _), wei in ledger.token_credits.items() if owed == token))


def compute_holdings(ledger: Ledger) -> Wei:
    """The contracts' balance: what came in less what left and what was burnt."""
    return Wei(sum(ledger.paid_in.values()) - sum(ledger.paid_out.values()) - ledger.burnt_wei)


def compute_free_stake(ledger: Ledger, worker: Address) -> Wei:
    found = ledger.workers.get(worker)
    return Wei(found.stake_wei - found.locked_wei) if found else Wei(0)


def compute_price(terms: Terms) -> Wei:
    """What posting costs: the budget, and two moves (assign, settle)."""
    return Wei(terms.budget_wei + 2 * terms.move_fee_wei)


def compute_value(terms: Terms) -> Wei:
    """What is sent along when posting: nothing where the price is paid in a token."""
    return compute_price(terms) if terms.token == ZERO_ADDRESS else Wei(0)


def is_postable(terms: Terms) -> bool:
    """Whether every count lies within the contract's bounds, and the initial commitment is there where it is needed."""
    counts = (
        (terms.seats, MAX_SEATS),
        (terms.max_applicants, MAX_APPLICANTS),
        (terms.rounds, MAX_ROUNDS),
        (terms.samples, MAX_SAMPLES),
        (terms.pages, _UINT32),
        (terms.steps, _UINT32),
        (terms.join_window_s, _UINT32),
        (terms.ready_window_s, _UINT32),
        (terms.round_timeout_s, _UINT32),
        (terms.proof_window_s, _UINT32),
    )
    if not all(1 <= value <= most for value, most in counts) or terms.seats > terms.max_applicants:
        return False
    if terms.proof_policy is ProofPolicy.EVALUATION:
        return terms.initial_commitment == ZERO_DIGEST
    return terms.pages >= terms.seats and terms.initial_commitment != ZERO_DIGEST


def compute_key_digest(words: tuple[int, ...]) -> Digest:
    """The name of a verifying key in a job's terms."""
    return keccak256(encode_words(*words))


def compute_beacon_round(ledger: Ledger, call: Call) -> int | None:
    """The beacon round that decides the call, None where none does."""
    match call:
        case Assign(job_id) if job_id in ledger.jobs:
            return ledger.beacon.round_at(ledger.jobs[job_id].deadline_s)
        case SubmitProof(job=job_id) if job_id in ledger.jobs:
            return ledger.jobs[job_id].beacon_round
        case _:
            return None


def compute_vote_digest(ledger: Ledger, call: CommitRound) -> Digest:
    """What each signature of the certificate signs."""
    c = call.certificate
    commitment = hash_commitment(c.commitment)
    vote = Vote(call.job, EPOCH, c.round, c.view, c.parent, c.set_root, c.participants, c.state, commitment)
    return compute_digest(Domain(ledger.chain_id, ledger.contract), vote)


def compute_ballot_digest(ledger: Ledger, call: ReportEquivocation, ballot: Ballot) -> Digest:
    """What a ballot's signature signs."""
    said = hash_commitment(ballot.commitment)
    common = (call.job, EPOCH, call.votes.round, ballot.view, call.votes.parent)
    vote = Vote(*common, ballot.set_root, ballot.participants, ballot.state, said)
    return compute_digest(Domain(ledger.chain_id, ledger.contract), vote)


def compute_participations(job: Job, worker: Address) -> tuple[RoundNumber, ...]:
    """The certified rounds that count the worker in, ascending."""
    if worker not in job.seats:
        return ()
    seat = job.seats.index(worker)
    return tuple(number for number in sorted(job.rounds) if job.rounds[number].participants >> seat & 1)


def is_proved(job: Job, worker: Address) -> bool:
    return job.accepted.get(worker, 0) == (1 << job.terms.samples) - 1


# -- Transition ----------------------------------------------------------------------

Stepped = tuple[Ledger, tuple[ChainEvent, ...]]


class _Abort(Exception):
    """Leaves a transaction half way, as `revert` does; never leaves `step`."""


def _require(condition: object, name: str) -> None:
    if not condition:
        raise _Abort(name)


def step(ledger: Ledger, transaction: Transaction) -> Stepped | Revert:
    """Apply one transaction, or say by name why the contracts refuse it."""
    try:
        return _dispatch(_take_value(ledger, transaction), transaction)
    except _Abort as abort:
        return Revert(str(abort))


def _dispatch(ledger: Ledger, tx: Transaction) -> Stepped:
    match tx.call:
        case Register():
            return _register(ledger, tx, tx.call)
        case RegisterKey(words):
            return _register_key(ledger, words)
        case Post():
            return _post(ledger, tx, tx.call)
        case Apply(job):
            return _apply(ledger, tx, job)
        case Assign(job):
            return _assign(ledger, tx, job)
        case DeliverKeys():
            return _deliver_keys(ledger, tx, tx.call)
        case Ready(job):
            return _ready(ledger, tx, job)
        case CommitRound():
            return _commit_round(ledger, tx, tx.call)
        case NullRound(job, number):
            return _null_round(ledger, tx, job, number)
        case Dissent():
            return _dissent(ledger, tx, tx.call)
        case ReportEquivocation():
            return _report_equivocation(ledger, tx, tx.call)
        case SubmitProof():
            return _submit_proof(ledger, tx, tx.call)
        case Settle(job):
            return _settle(ledger, tx, job)
        case Cancel(job):
            return _cancel(ledger, tx, job)
        case Expire(job):
            return _expire(ledger, tx, job)
        case Release(job, worker):
            return _release(ledger, job, worker)
        case Withdraw():
            return _withdraw(ledger, tx)
        case WithdrawIn(token):
            return _withdraw_in(ledger, tx, token)
        case TopUp():
            _require(tx.value_wei, "NothingSent")
            return _add_stake(ledger, tx.sender, tx.value_wei)
        case Unbond(amount):
            return _unbond(ledger, tx, amount)
        case WithdrawStake():
            return _withdraw_stake(ledger, tx)


def _take_value(ledger: Ledger, tx: Transaction) -> Ledger:
    """Only these are payable; what is too much or too little of it is their own business."""
    _require(isinstance(tx.call, Post | Register | TopUp) or tx.value_wei == 0, "NotPayable")
    return replace(ledger, paid_in=_add(ledger.paid_in, tx.sender, tx.value_wei))


# -- Workers and keys ------------------------------------------------------------------


def _register(ledger: Ledger, tx: Transaction, call: Register) -> Stepped:
    """Again is allowed: keys are replaced, stake is added."""
    _require(any(call.node_key) and any(call.encryption_key), "EmptyKey")
    _require(tx.facts.binding_valid, "BadBinding")
    old = ledger.workers.get(tx.sender, _STRANGER)
    worker = replace(old, node_key=call.node_key, encryption_key=call.encryption_key, capabilities=call.capabilities)
    ledger = replace(ledger, workers={**ledger.workers, tx.sender: worker})
    registered = WorkerRegistered(tx.sender, call.node_key, call.encryption_key)
    if not tx.value_wei:
        return ledger, (registered,)
    ledger, added = _add_stake(ledger, tx.sender, tx.value_wei)
    return ledger, (registered, *added)


def _register_key(ledger: Ledger, words: tuple[int, ...]) -> Stepped:
    """Which ceremony a key comes from is not looked at here: these are a development network's rules."""
    _require(len(words) >= MIN_KEY_WORDS, "MalformedKey")
    return replace(ledger, keys=ledger.keys | {compute_key_digest(words)}), ()


def _add_stake(ledger: Ledger, address: Address, amount_wei: Wei) -> Stepped:
    return _change_stake(ledger, address, stake=amount_wei), (StakeAdded(address, amount_wei),)


def _unbond(ledger: Ledger, tx: Transaction, amount_wei: Wei) -> Stepped:
    """All that is on its way out waits for what joined it last."""
    _require(0 < amount_wei <= compute_free_stake(ledger, tx.sender), "StakeTooLow")
    ledger = _change_stake(ledger, tx.sender, stake=-amount_wei, unbonding=amount_wei)
    unbonded_at_s = tx.now_s + UNBONDING_S
    worker = replace(ledger.workers[tx.sender], unbonded_at_s=unbonded_at_s)
    ledger = replace(ledger, workers={**ledger.workers, tx.sender: worker})
    return ledger, (StakeUnbonding(tx.sender, amount_wei, unbonded_at_s),)


def _withdraw_stake(ledger: Ledger, tx: Transaction) -> Stepped:
    worker = ledger.workers.get(tx.sender, _STRANGER)
    _require(worker.unbonding_wei, "NothingUnbonding")
    _require(tx.now_s >= worker.unbonded_at_s, "StillUnbonding")
    ledger = _change_stake(ledger, tx.sender, unbonding=-worker.unbonding_wei)
    paid = _add(ledger.paid_out, tx.sender, worker.unbonding_wei)
    return replace(ledger, paid_out=paid), (StakeWithdrawn(tx.sender, worker.unbonding_wei),)


def _change_stake(ledger: Ledger, address: Address, *, stake: int = 0, locked: int = 0, unbonding: int = 0) -> Ledger:
    old = ledger.workers.get(address, _STRANGER)
    new = replace(
        old,
        stake_wei=Wei(old.stake_wei + stake),
        locked_wei=Wei(old.locked_wei + locked),
        unbonding_wei=Wei(old.unbonding_wei + unbonding),
    )
    return replace(ledger, workers={**ledger.workers, address: new})


# -- From post to training -------------------------------------------------------------


def _post(ledger: Ledger, tx: Transaction, call: Post) -> Stepped:
    terms = call.terms
    job = compute_job_id(ledger.chain_id, ledger.contract, tx.sender, call.nonce)
    _require(is_postable(terms), "BadTerms")
    _require(job not in ledger.jobs, "JobExists")
    _require(ledger.is_development or terms.proof_policy is not ProofPolicy.EVALUATION, "UnprovedTraining")
    _require(terms.vk_digest in ledger.keys, "UnknownKey")
    _require(tx.value_wei == compute_value(terms) and tx.facts.token_arrives, "WrongValue")
    deadline_s = tx.now_s + terms.join_window_s
    posted = Job(terms, tx.sender, JobState.OPEN, deadline_s, compute_price(terms), start=terms.initial_commitment)
    return _put(ledger, job, posted), (JobPosted(job, tx.sender, terms, deadline_s),)


def _apply(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.OPEN)
    _require(tx.now_s < job.deadline_s, "TooLate")
    _require(tx.sender not in job.applicants, "AlreadyApplied")
    _require(ledger.workers.get(tx.sender, _STRANGER).is_registered, "NotRegistered")
    _require(compute_free_stake(ledger, tx.sender) >= job.terms.stake_wei, "StakeTooLow")
    ledger = _change_stake(ledger, tx.sender, locked=job.terms.stake_wei)
    job = replace(job, applicants=(*job.applicants, tx.sender), locked=job.locked | {tx.sender})
    if len(job.applicants) < job.terms.max_applicants:
        return _put(ledger, job_id, job), (Applied(job_id, tx.sender),)
    job = replace(job, deadline_s=tx.now_s)
    return _put(ledger, job_id, job), (Applied(job_id, tx.sender), JoinClosed(job_id, tx.now_s))


def _assign(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.OPEN)
    _require(tx.now_s >= job.deadline_s, "TooEarly")
    _require(len(job.applicants) >= job.terms.seats, "TooFewApplicants")
    randomness = tx.facts.randomness
    if randomness is None:
        raise _Abort("BeaconNotOut")
    seats = draw_seats(ledger.chain_id, ledger.contract, job_id, randomness, job.applicants, job.terms.seats)
    deadline_s = tx.now_s + job.terms.ready_window_s
    job = replace(job, state=JobState.ASSIGNED, seats=seats, deadline_s=deadline_s)
    ledger, fee = _pay_fee(ledger, tx, job_id, job)
    return ledger, (Assigned(job_id, seats, deadline_s), fee)


def _deliver_keys(ledger: Ledger, tx: Transaction, call: DeliverKeys) -> Stepped:
    job = _get(ledger, call.job, JobState.ASSIGNED)
    delegate = job.terms.delegate
    _require(tx.sender == job.requester or tx.sender == delegate != ZERO_ADDRESS, "NotRequester")
    _require(not job.has_keys, "KeysAlreadyDelivered")
    _require(len(call.wraps) == len(job.seats), "WrongWraps")
    return _put(ledger, call.job, replace(job, has_keys=True)), (KeysDelivered(call.job, call.wraps),)


def _ready(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.ASSIGNED)
    _require(tx.sender in job.seats, "NotSeated")
    _require(job.has_keys, "KeysMissing")
    bit = 1 << job.seats.index(tx.sender)
    _require(not job.ready & bit, "AlreadyReady")
    job = replace(job, ready=job.ready | bit)
    events: tuple[ChainEvent, ...] = (WorkerReady(job_id, tx.sender),)
    if job.ready.bit_count() >= compute_quorum(len(job.seats)):
        job = replace(job, state=JobState.TRAINING, deadline_s=tx.now_s + job.terms.round_timeout_s)
        events += (TrainingStarted(job_id, job.deadline_s),)
    return _put(ledger, job_id, job), events


# -- Rounds ----------------------------------------------------------------------------


def _commit_round(ledger: Ledger, tx: Transaction, call: CommitRound) -> Stepped:
    job = _get(ledger, call.job, JobState.TRAINING)
    c = call.certificate
    _require(c.round == job.next_round, "WrongRound")
    _require(c.parent == job.parent, "WrongParent")
    _require(len(c.commitment) == 64, "BadCommitment")
    _require(0 < c.participants < 1 << len(job.seats), "WrongParticipants")
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
    return _put(ledger, call.job, job), (committed, *proving)


def _require_quorum(job: Job, signers: int, signatures: int, recovered: tuple[Address | None, ...]) -> None:
    _require(0 <= signers < 1 << len(job.seats), "WrongSigners")
    _require(signers.bit_count() == signatures, "WrongSigners")
    _require(signatures >= compute_quorum(len(job.seats)), "NoQuorum")
    expected = tuple(wallet for seat, wallet in enumerate(job.seats) if signers >> seat & 1)
    _require(recovered == expected, "BadSignature")


def _null_round(ledger: Ledger, tx: Transaction, job_id: JobId, number: RoundNumber) -> Stepped:
    job = _get(ledger, job_id, JobState.TRAINING)
    _require(number == job.next_round, "WrongRound")
    _require(tx.now_s >= job.deadline_s, "TooEarly")
    job, proving = _next_round(ledger, tx, job_id, replace(job, nulled=job.nulled + 1))
    nulled = RoundNulled(job_id, number, 0 if proving else job.deadline_s)
    return _put(ledger, job_id, job), (nulled, *proving)


def _next_round(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Job, tuple[ProvingStarted, ...]]:
    job = replace(job, next_round=RoundNumber(job.next_round + 1))
    if job.next_round < job.terms.rounds and job.nulled < MAX_NULLED:
        return replace(job, deadline_s=tx.now_s + job.terms.round_timeout_s), ()
    return _start_proving(ledger, tx, job_id, job)


def _start_proving(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Job, tuple[ProvingStarted, ...]]:
    number = ledger.beacon.round_at(tx.now_s + BEACON_MARGIN_S)
    deadline_s = ledger.beacon.time_of(number) + job.terms.proof_window_s
    job = replace(job, state=JobState.PROVING, beacon_round=number, deadline_s=deadline_s)
    return job, (ProvingStarted(job_id, number, deadline_s),)


# -- Liars -----------------------------------------------------------------------------


def _dissent(ledger: Ledger, tx: Transaction, call: Dissent) -> Stepped:
    """A third of the seats against a certificate: nothing that follows can be relied on."""
    job = _get(ledger, call.job, JobState.TRAINING)
    _require(tx.sender in job.seats, "NotSeated")
    _require(call.round in job.rounds, "WrongRound")
    _require(tx.sender not in job.dissents, "AlreadyDissented")
    job = replace(job, dissents=job.dissents | {tx.sender})
    proving: tuple[ProvingStarted, ...] = ()
    if len(job.dissents) * 3 >= len(job.seats):
        job, proving = _start_proving(ledger, tx, call.job, job)
    return _put(ledger, call.job, job), (Dissented(call.job, tx.sender, call.round, call.state), *proving)


def _report_equivocation(ledger: Ledger, tx: Transaction, call: ReportEquivocation) -> Stepped:
    job, first, second = ledger.jobs.get(call.job), call.votes.first, call.votes.second
    if job is None or call.worker not in job.seats:
        raise _Abort("NotSeated")
    _require(job.state not in _ENDED or tx.now_s < job.deadline_s, "TooLate")
    _require(call.worker not in job.slashed, "AlreadyPunished")
    _require(_choice_of(first) != _choice_of(second), "SameVote")
    _require(tx.facts.ballot_signers == (call.worker, call.worker), "BadSignature")
    punished = replace(
        job,
        punished=job.punished | {call.worker},
        slashed=job.slashed | {call.worker},
        locked=job.locked - {call.worker},
    )
    ledger = _put(ledger, call.job, punished)
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
        ledger, taken = _change_stake(ledger, worker, stake=-stake, locked=-stake), stake
    else:
        leaving = min(stake, ledger.workers[worker].unbonding_wei)
        resting = min(stake - leaving, compute_free_stake(ledger, worker))
        ledger = _change_stake(ledger, worker, stake=-resting, unbonding=-leaving)
        taken = Wei(leaving + resting)
    bounty = Wei(taken // BOUNTY)
    ledger = replace(ledger, burnt_wei=Wei(ledger.burnt_wei + taken - bounty))
    if not bounty:
        return ledger, taken, ()
    ledger, added = _add_stake(ledger, reporter, bounty)
    return ledger, taken, added


# -- Proofs ----------------------------------------------------------------------------


def _submit_proof(ledger: Ledger, tx: Transaction, call: SubmitProof) -> Stepped:
    job = _get(ledger, call.job, JobState.PROVING)
    _require(tx.now_s < job.deadline_s, "TooLate")
    _require_drawn(ledger, tx, call, job)
    if job.terms.proof_policy is ProofPolicy.EVALUATION:
        _require_evaluation(call, job)
        loss = call.instances[0]
    else:
        _require_step(call, job)
        loss = 0
    _require(tx.facts.proof_valid, "ProofInvalid")
    job, earns = _accept(job, call.worker, call.sample, loss)
    at = call.evidence
    event = ProofAccepted(call.job, call.worker, call.sample, at.round, at.step, at.page, loss, earns)
    return _put(ledger, call.job, job), (event,)


def _require_drawn(ledger: Ledger, tx: Transaction, call: SubmitProof, job: Job) -> None:
    """The evidence must be about what the beacon drew, and not be there yet."""
    _require(0 <= call.sample < job.terms.samples, "WrongSample")
    _require(call.worker in job.seats, "NotSeated")
    _require(not job.accepted.get(call.worker, 0) >> call.sample & 1, "AlreadyAccepted")
    rounds = compute_participations(job, call.worker)
    _require(rounds, "NotSeated")
    randomness = tx.facts.randomness
    if randomness is None:
        raise _Abort("BeaconNotOut")
    seed = compute_challenge_seed(ledger.chain_id, ledger.contract, call.job, call.worker, job.parent, randomness)
    seat = Seat(job.seats.index(call.worker))
    drawn = draw_sample(seed, call.sample, rounds, job.terms, call.job, seat)
    said = Sample(call.evidence.round, call.evidence.step, call.evidence.page)
    _require(said == drawn, "WrongDraw")


def _require_evaluation(call: SubmitProof, job: Job) -> None:
    """Statement E: the proof is about the weights after the round's last step and the drawn challenge page."""
    theta, x, y = _split(call, 3)
    _require_in_set(call, job)
    leaf = step_leaf(call.job, call.worker, call.evidence.round, job.terms.steps, theta)
    _require(is_member(call.evidence.leaves, leaf, 0, 1, call.evidence.leaf_path), "NotInReceipt")
    _require_page(call, job, x, y)
    _require(len(call.instances) == 1 and 0 <= call.instances[0] < FIELD_MODULUS, "BadInstances")


def _require_step(call: SubmitProof, job: Job) -> None:
    """Statement T: the proof is about two neighbouring leaves of the receipt and the page assigned to the step."""
    before, x, y, after, _ = _split(call, 5)
    _require_in_set(call, job)
    at = call.evidence
    # A worker could begin anywhere: its first leaf is held against what the round began with on chain. Optimizer
    # state begins with zeros, which commitments don't see.
    _require(at.step or hash_commitment(before) == at.start, "WrongStart")
    leaf, following = (
        step_leaf(call.job, call.worker, at.round, t, state) for t, state in ((at.step, before), (at.step + 1, after))
    )
    width = job.terms.steps + 1
    paths = (at.leaf_path, at.next_path)
    _require(are_neighbours(at.leaves, leaf, following, at.step, width, *paths), "NotInReceipt")
    _require_page(call, job, x, y)
    _require(call.instances and not any(call.instances), "StepUnproved")


def _split(call: SubmitProof, count: int) -> tuple[Commitment, ...]:
    """The commitments that the proof begins with."""
    _require(len(call.proof) >= 64 * count, "ProofTooShort")
    return tuple(Commitment(call.proof[64 * i : 64 * i + 64]) for i in range(count))


def _require_in_set(call: SubmitProof, job: Job) -> None:
    evidence: Evidence = call.evidence
    certified = job.rounds[evidence.round]
    entry = set_leaf(call.job, evidence.round, Entry(call.worker, evidence.update, evidence.leaves))
    rank = compute_rank(certified.participants, job.seats.index(call.worker))
    width = certified.participants.bit_count()
    in_set = rank is not None and is_member(certified.set_root, entry, rank, width, evidence.set_path)
    _require(in_set and evidence.start == certified.start, "NotInSet")


def _require_page(call: SubmitProof, job: Job, x: Commitment, y: Commitment) -> None:
    evidence, terms = call.evidence, job.terms
    page = page_leaf(evidence.page, x, y)
    _require(is_member(terms.pages_root, page, evidence.page, terms.pages, evidence.page_path), "NotInPages")


def _accept(job: Job, worker: Address, sample: int, loss: int) -> tuple[Job, bool]:
    earns = job.terms.max_loss == 0 or loss <= job.terms.max_loss
    accepted = {**job.accepted, worker: job.accepted.get(worker, 0) | 1 << sample}
    return replace(job, accepted=accepted, forfeits=job.forfeits if earns else job.forfeits | {worker}), earns


# -- Ends ------------------------------------------------------------------------------


def _settle(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.PROVING)
    took_part = {worker: len(compute_participations(job, worker)) for worker in job.seats}
    took_part = {worker: count for worker, count in took_part.items() if worker not in job.punished}
    waits = any(count and not is_proved(job, worker) for worker, count in took_part.items())
    _require(not waits or tx.now_s >= job.deadline_s, "TooEarly")
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
    ledger, fee = _pay_fee(ledger, tx, job_id, job)
    ledger, ended = _end(ledger, tx, job_id, JobState.SETTLED)
    return ledger, (*events, fee, ended)


def _pay(
    ledger: Ledger, job_id: JobId, job: Job, worker: Address, count: int
) -> tuple[Ledger, Job, tuple[WorkerPaid, ...]]:
    terms = job.terms
    amount = Wei(terms.budget_wei * count // (terms.seats * terms.rounds))
    if worker in job.forfeits:
        return ledger, job, ()
    ledger = _owe(ledger, job, worker, amount)
    return ledger, replace(job, escrow_wei=Wei(job.escrow_wei - amount)), (WorkerPaid(job_id, worker, amount),)


def _slash(ledger: Ledger, job: Job, worker: Address) -> tuple[Ledger, Job]:
    stake = job.terms.stake_wei
    ledger = _change_stake(ledger, worker, stake=-stake, locked=-stake)
    return replace(ledger, burnt_wei=Wei(ledger.burnt_wei + stake)), replace(
        job, locked=job.locked - {worker}, slashed=job.slashed | {worker}
    )


def _cancel(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.OPEN)
    _require(tx.sender == job.requester, "NotRequester")
    ledger, ended = _end(ledger, tx, job_id, JobState.CANCELLED)
    return ledger, (ended,)


def _expire(ledger: Ledger, tx: Transaction, job_id: JobId) -> Stepped:
    job = _get(ledger, job_id, JobState.OPEN, JobState.ASSIGNED)
    _require(tx.now_s >= job.deadline_s, "TooEarly")
    if job.state is JobState.OPEN and len(job.applicants) >= job.terms.seats:
        # Anybody may still assign them; nobody did while there was time to get ready.
        _require(tx.now_s >= job.deadline_s + job.terms.ready_window_s, "TooEarly")
    ledger, fee = _pay_fee(ledger, tx, job_id, job)
    ledger, ended = _end(ledger, tx, job_id, JobState.EXPIRED)
    return ledger, (fee, ended)


def _end(ledger: Ledger, tx: Transaction, job_id: JobId, state: JobState) -> tuple[Ledger, JobEnded]:
    """What is left in escrow is the requester's."""
    job = ledger.jobs[job_id]
    refund = job.escrow_wei
    ledger = _owe(ledger, job, job.requester, refund)
    ended = replace(job, state=state, escrow_wei=Wei(0), deadline_s=tx.now_s + AUDIT_WINDOW_S)
    return _put(ledger, job_id, ended), JobEnded(job_id, state, refund)


def _release(ledger: Ledger, job_id: JobId, worker: Address) -> Stepped:
    job = _get(ledger, job_id, *JobState)
    # Before the draw anybody may still get a seat; a seat holds its stake until the end.
    ended = job.state in _ENDED
    _require(ended or (job.state is not JobState.OPEN and worker not in job.seats), "TooEarly")
    _require(worker in job.locked, "NothingLocked")
    ledger = _change_stake(ledger, worker, locked=-job.terms.stake_wei)
    return _put(ledger, job_id, replace(job, locked=job.locked - {worker})), ()


def _withdraw(ledger: Ledger, tx: Transaction) -> Stepped:
    owed = ledger.credits.get(tx.sender, Wei(0))
    _require(owed, "NothingOwed")
    paid = _add(ledger.paid_out, tx.sender, owed)
    return replace(ledger, credits=_add(ledger.credits, tx.sender, -owed), paid_out=paid), ()


def _withdraw_in(ledger: Ledger, tx: Transaction, token: Address) -> Stepped:
    if token == ZERO_ADDRESS:
        return _withdraw(ledger, tx)
    _require(ledger.token_credits.get((token, tx.sender)), "NothingOwed")
    return replace(ledger, token_credits={**ledger.token_credits, (token, tx.sender): Wei(0)}), ()


# -- Small change ------------------------------------------------------------------------


def _get(ledger: Ledger, job_id: JobId, *states: JobState) -> Job:
    job = ledger.jobs.get(job_id)
    if job is None or job.state not in states:
        raise _Abort("WrongState")
    return job


def _put(ledger: Ledger, job_id: JobId, job: Job) -> Ledger:
    return replace(ledger, jobs={**ledger.jobs, job_id: job})


def _owe(ledger: Ledger, job: Job, account: Address, amount_wei: Wei) -> Ledger:
    """In the job's token."""
    if job.terms.token == ZERO_ADDRESS:
        return replace(ledger, credits=_add(ledger.credits, account, amount_wei))
    owed = (job.terms.token, account)
    credits = {**ledger.token_credits, owed: Wei(ledger.token_credits.get(owed, 0) + amount_wei)}
    return replace(ledger, token_credits=credits)


def _add(balances: Mapping[Address, Wei], address: Address, amount_wei: int) -> Mapping[Address, Wei]:
    return {**balances, address: Wei(balances.get(address, 0) + amount_wei)}


def _pay_fee(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Ledger, FeePaid]:
    """Whoever moves the job on is paid from its reserve."""
    fee = job.terms.move_fee_wei
    ledger = _owe(ledger, job, tx.sender, fee)
    ledger = _put(ledger, job_id, replace(job, escrow_wei=Wei(job.escrow_wei - fee)))
    return ledger, FeePaid(job_id, tx.sender, fee)
