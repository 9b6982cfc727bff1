"""Limits, transactions and state of the ledger, and what follows from a state without changing it.

Spec: protocols/README.md, "Contracts".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.abi import ZERO_ADDRESS, encode_words
from protocols.chain import (
    Assign,
    Ballot,
    Call,
    CommitRound,
    JobState,
    ProofPolicy,
    ReportEquivocation,
    SubmitProof,
    Terms,
)
from protocols.eip712 import Domain, Vote, compute_digest
from protocols.evidence import EPOCH, hash_commitment
from protocols.ids import Address, Digest, JobId, RoundNumber, Wei
from protocols.keccak import keccak256
from protocols.merkle import ZERO_DIGEST

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

ENDED = (JobState.SETTLED, JobState.CANCELLED, JobState.EXPIRED)
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


STRANGER = Worker(bytes(32), bytes(32), ZERO_DIGEST, _NOTHING, _NOTHING)


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
