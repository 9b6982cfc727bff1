"""One honest job's calls, and lies about it, written over the pure ledger with real signatures; nothing is run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from contract_world import make_account, recover, sign, sign_registration
from evm_backends import Account

from protocols.abi import encode_words
from protocols.chain import (
    Ballot,
    Call,
    Certificate,
    CommitRound,
    Entry,
    Equivocation,
    Post,
    ProofPolicy,
    Register,
    ReportEquivocation,
    SubmitProof,
    Terms,
    TopUp,
)
from protocols.draw import compute_challenge_seed, draw_sample
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.evidence import (
    build_evidence,
    build_step_evidence,
    compute_job_id,
    hash_commitment,
    pages_root,
    set_root,
    step_leaf,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.job import (
    Facts,
    Ledger,
    compute_ballot_digest,
    compute_beacon_round,
    compute_key_digest,
    compute_participations,
    compute_value,
    compute_vote_digest,
)
from protocols.keccak import keccak256
from protocols.merkle import compute_next_path, compute_path, compute_root

VALID, INVALID = b"\x01", b"\x00"
"""Last byte of a proof, as `VerifiersDouble` reads it."""

NONCE = b"n" * 32
WORD = Digest(bytes(32))
KEY_WORDS = tuple(range(24))
PAGES = tuple((Commitment(bytes([i + 1]) * 64), Commitment(bytes([i + 100]) * 64)) for i in range(5))

TERMS = Terms(
    package=ContentId(keccak256(b"package")),
    data=ContentId(keccak256(b"data")),
    initial_state=ContentId(keccak256(b"initial state")),
    srs=ContentId(keccak256(b"srs")),
    requester_key=b"r" * 32,
    initial_commitment=Digest(bytes(32)),
    pages_root=pages_root(PAGES),
    vk_digest=compute_key_digest(KEY_WORDS),
    delegate=make_account("delegate").address,
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


TRAINED_PAGES = tuple((Commitment(bytes([i + 1]) * 64), Commitment(bytes([i + 100]) * 64)) for i in range(8))
MANY_PAGES = tuple((Commitment(keccak256(bytes([i % 256, i >> 8])) * 2), Commitment(bytes(64))) for i in range(1024))
BEGINNING = Commitment(b"0" * 64)
"""C(θ_0)."""

TRAINING = replace(
    TERMS,
    proof_policy=ProofPolicy.TRAINING,
    initial_commitment=hash_commitment(BEGINNING),
    pages=len(TRAINED_PAGES),
    pages_root=pages_root(TRAINED_PAGES),
)


def weights_of(worker: Address, number: int, step: int = 0) -> Commitment:
    """Stands for C(w_t ‖ s_t): which point it is matters to the proof system only."""
    return Commitment(keccak256(f"{worker} {number} {step}".encode()) * 2)


class Author:
    """Writes the calls of one cast over a ledger. Who runs them says where and when that is."""

    chain_id: int
    jobs: Address
    workers: Address
    now_s: int
    ledger: Ledger
    requester: Account
    delegate: Account
    crew: tuple[Account, ...]
    write_leaf: Callable[[JobId, Address, RoundNumber, int, Commitment], bytes] = staticmethod(step_leaf)
    """How receipts are written; a liar's way is another."""

    @property
    def accounts(self) -> dict[Address, Account]:
        return {a.address: a for a in (self.requester, self.delegate, *self.crew)}

    def compute_facts(self, sender: Address, call: Call) -> Facts:
        """What the contracts will find out by cryptography."""
        match call:
            case Register():
                binding = Binding(sender, call.node_key, call.encryption_key, call.capabilities)
                digest = compute_digest(Domain(self.chain_id, self.workers), binding)
                return Facts(binding_valid=recover(digest, call.binding) == sender)
            case CommitRound() if len(call.certificate.commitment) == 64:
                digest = compute_vote_digest(self.ledger, call)
                return Facts(signers=tuple(recover(digest, s) for s in call.certificate.signatures))
            case ReportEquivocation(votes=votes):
                ballots = (votes.first, votes.second)
                digests = (compute_ballot_digest(self.ledger, call, ballot) for ballot in ballots)
                first, second = (recover(d, b.signature) for d, b in zip(digests, ballots, strict=True))
                return Facts(ballot_signers=(first, second))
            case SubmitProof():
                return Facts(proof_valid=call.proof[-1:] == VALID, randomness=self._randomness(call))
            case _:
                return Facts(randomness=self._randomness(call))

    def _randomness(self, call: Call) -> Digest | None:
        number = compute_beacon_round(self.ledger, call)
        if number is None or self.now_s < number:
            return None
        return draw_randomness(number)

    # -- An honest job -------------------------------------------------------------

    def job_id(self, nonce: bytes = NONCE) -> JobId:
        return compute_job_id(self.chain_id, self.jobs, self.requester.address, nonce)

    def register(self, account: Account, stake_wei: int) -> Register:
        return sign_registration(self.chain_id, self.workers, account, stake_wei)

    def seats(self, job_id: JobId) -> tuple[Account, ...]:
        return tuple(self.accounts[a] for a in self.ledger.jobs[job_id].seats)

    def entries(self, job_id: JobId, number: RoundNumber, participants: int) -> list[Entry]:
        job = self.ledger.jobs[job_id]
        seated = [worker for seat, worker in enumerate(job.seats) if participants >> seat & 1]
        roots = {w: compute_root(self.leaves_of(job_id, w, number)) for w in seated}
        return [Entry(w, ContentId(keccak256(root)), root) for w, root in roots.items()]

    def leaves_of(self, job_id: JobId, worker: Address, number: RoundNumber) -> list[bytes]:
        """What is under the receipt's root."""
        states = self.states_of(job_id, worker, number)
        last = self.ledger.jobs[job_id].terms.steps
        return [self.write_leaf(job_id, worker, number, last + 1 - len(states) + i, c) for i, c in enumerate(states)]

    def states_of(self, job_id: JobId, worker: Address, number: RoundNumber) -> list[Commitment]:
        """The commitments that a worker's receipt is about: of the last step, in a training job of every one."""
        job = self.ledger.jobs[job_id]
        if job.terms.proof_policy is ProofPolicy.EVALUATION:
            return [weights_of(worker, number)]
        before = max((n for n in job.rounds if n < number), default=None)
        start = BEGINNING if before is None else point_of(job.rounds[before].set_root)
        return [start, *(weights_of(worker, number, t) for t in range(1, job.terms.steps + 1))]

    def commit(self, job_id: JobId, participants: int = 0b111, signers: int = 0b111, view: int = 0) -> CommitRound:
        """The next round's certificate, signed by `signers`."""
        job = self.ledger.jobs[job_id]
        number = job.next_round
        entries = self.entries(job_id, number, participants)
        root = set_root(job_id, number, entries) if entries else Digest(WORD)
        state = ContentId(keccak256(root))
        certificate = Certificate(number, view, job.parent, root, state, point_of(root), participants, signers, ())
        return self.sign(CommitRound(job_id, certificate), signers)

    def sign(self, call: CommitRound, signers: int) -> CommitRound:
        """Have the seats in `signers` sign the certificate as it is."""
        digest = compute_vote_digest(self.ledger, call)
        signed = [a for seat, a in enumerate(self.seats(call.job)) if signers >> seat & 1]
        signatures = tuple(sign(account, digest) for account in signed)
        return CommitRound(call.job, replace(call.certificate, signatures=signatures))

    def equivocate(
        self,
        job_id: JobId,
        worker: Address,
        number: int = 0,
        *,
        by: Account | None = None,
    ) -> ReportEquivocation:
        """Two votes for one round, signed by the worker (or `by`)."""
        parent, state, point = Digest(WORD), ContentId(WORD), Commitment(WORD * 2)
        first = Ballot(0, Digest(b"1" * 32), 0b011, state, point, b"")
        second = Ballot(1, Digest(b"2" * 32), 0b011, state, point, b"")
        call = ReportEquivocation(job_id, worker, Equivocation(RoundNumber(number), parent, first, second))
        return self.sign_ballots(call, by or self.accounts[worker])

    def sign_ballots(self, call: ReportEquivocation, account: Account) -> ReportEquivocation:
        def signed(ballot: Ballot) -> Ballot:
            return replace(ballot, signature=sign(account, compute_ballot_digest(self.ledger, call, ballot)))

        votes = replace(call.votes, first=signed(call.votes.first), second=signed(call.votes.second))
        return replace(call, votes=votes)

    def prove(self, job_id: JobId, worker: Address, sample: int, loss: int = 7) -> SubmitProof:
        job = self.ledger.jobs[job_id]
        randomness = draw_randomness(job.beacon_round)
        seed = compute_challenge_seed(self.chain_id, self.jobs, job_id, worker, job.parent, randomness)
        drawn = draw_sample(
            seed, sample, compute_participations(job, worker), job.terms, job_id, Seat(job.seats.index(worker))
        )
        entries = self.entries(job_id, drawn.round, job.rounds[drawn.round].participants)
        states = self.states_of(job_id, worker, drawn.round)
        if job.terms.proof_policy is ProofPolicy.EVALUATION:
            evidence = build_evidence(job_id, drawn.round, entries, worker, drawn.step, drawn.page, PAGES)
            proof = states[0] + b"".join(PAGES[drawn.page]) + b"the rest" + VALID
            return SubmitProof(job_id, worker, sample, evidence, proof, (loss,), KEY_WORDS)
        pages = TRAINED_PAGES if job.terms.pages <= len(TRAINED_PAGES) else MANY_PAGES
        t, leaves = drawn.step, self.leaves_of(job_id, worker, drawn.round)
        evidence = build_step_evidence(job_id, drawn.round, entries, worker, states, t, drawn.page, pages)
        evidence = replace(evidence, leaf_path=compute_path(leaves, t), next_path=compute_next_path(leaves, t))
        prefix = (states[t], *pages[drawn.page], states[t + 1], Commitment(b"hints" * 12 + b"hint"))
        return SubmitProof(job_id, worker, sample, evidence, b"".join(prefix) + b"the rest" + VALID, (0, 0), KEY_WORDS)


def point_of(set_root: Digest) -> Commitment:
    """Stands for C(θ_{r+1}) of the round with this set."""
    return Commitment(set_root * 2)


def draw_randomness(number: int) -> Digest:
    """Of `TestBeacon`."""
    return keccak256(encode_words(keccak256(b"skynet test beacon"), number))


def price_of(call: Call) -> Wei:
    """What an honest sender pays."""
    match call:
        case Register(stake_wei=stake):
            return stake
        case TopUp(amount):
            return amount
        case Post(terms):
            return compute_value(terms)
        case _:
            return Wei(0)
