"""The contracts and `protocols/job` side by side: every call goes to both, and they must agree.

`Twin.send` resolves what the pure ledger can't know (signatures, proofs, randomness), runs both and compares
the events or the name of the refusal; `Twin.audit` compares all that is stored and every balance.
Also here: an honest job's calls, with real signatures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from contract_world import Done, Refused, World, make_account, recover, sign
from evm_backends import Account

from protocols.abi import ZERO_ADDRESS, encode_words
from protocols.chain import (
    Ballot,
    Call,
    Certificate,
    ChainEvent,
    CommitRound,
    Entry,
    Equivocation,
    Post,
    ProofPolicy,
    Register,
    RegisterKey,
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
    round_record,
    set_root,
    step_leaf,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.job import (
    Beacon,
    Facts,
    Job,
    Ledger,
    Revert,
    Transaction,
    compute_ballot_digest,
    compute_beacon_round,
    compute_free_stake,
    compute_key_digest,
    compute_participations,
    compute_value,
    compute_vote_digest,
    step,
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


@dataclass
class Twin:
    world: World = field(default_factory=World)
    requester: Account = field(default_factory=lambda: make_account("requester"))
    delegate: Account = field(default_factory=lambda: make_account("delegate"))
    crew: tuple[Account, ...] = field(default_factory=lambda: tuple(make_account(f"worker {i}") for i in range(5)))
    write_leaf: Callable[[JobId, Address, RoundNumber, int, Commitment], bytes] = step_leaf
    """How receipts are written; a liar's way is another."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.world.chain_id, self.world.jobs, Beacon(genesis_s=0, period_s=1))
        self.accounts = {a.address: a for a in (self.requester, self.delegate, *self.crew)}
        self.start = dict.fromkeys(self.accounts, self.world.backend.riches_wei)
        self.world.enrich(*self.accounts.values())
        self.log: list[Transaction] = []

    # -- Both sides --------------------------------------------------------------

    @property
    def now_s(self) -> int:
        return self.world.now_s

    def wait(self, seconds: int) -> None:
        self.world.pass_time(self.world.now_s + seconds)

    def send(self, sender: Account | Address, call: Call, value_wei: int | None = None) -> tuple[ChainEvent, ...] | str:
        """The events of both, or the name by which both refuse."""
        address = sender.address if isinstance(sender, Account) else sender
        value = price_of(call) if value_wei is None else value_wei
        tx = Transaction(address, Wei(value), self.now_s, call, self._facts(address, call))
        self.log.append(tx)
        expected, outcome = step(self.ledger, tx), self.world.send(address, call, value)
        match expected, outcome:
            case Revert(name), Refused(real):
                # A call that takes no money reverts without a word when it gets some.
                assert name == real or (name == "NotPayable" and real == ""), f"{call}: {name} or {real}?"
                return name
            case (ledger, events), Done(real_events):
                assert events == real_events
                self.ledger = ledger
                return events
            case Revert(name), Done():
                raise AssertionError(f"{call}: the ledger refuses ({name}), the contracts don't")
            case _:
                raise AssertionError(f"{call}: the contracts refuse, {outcome}, the ledger doesn't")

    def do(self, sender: Account | Address, call: Call) -> tuple[ChainEvent, ...]:
        events = self.send(sender, call)
        assert not isinstance(events, str), f"{call}: {events}"
        return events

    def refusal(self, sender: Account | Address, call: Call, value_wei: int | None = None) -> str:
        name = self.send(sender, call, value_wei)
        assert isinstance(name, str), f"{call}: {name}"
        return name

    def audit(self) -> None:
        """Nothing stored on chain differs from the ledger, and no wei is anywhere else."""
        ledger, world = self.ledger, self.world
        for address, riches in self.start.items():
            spent = ledger.paid_in.get(address, 0) - ledger.paid_out.get(address, 0)
            assert world.balance(address) == riches - spent
            assert world.credit(address) == ledger.credits.get(address, 0)
            worker = ledger.workers.get(address)
            assert world.stake(address) == (
                compute_free_stake(ledger, address),
                worker.locked_wei if worker else 0,
            )
            unbonding = (worker.unbonding_wei, worker.unbonded_at_s) if worker else (0, 0)
            assert world.unbonding(address) == unbonding
        escrows = sum(job.escrow_wei for job in ledger.jobs.values() if job.terms.token == ZERO_ADDRESS)
        assert world.balance(world.jobs) == escrows + sum(ledger.credits.values())
        stakes = sum(w.stake_wei + w.unbonding_wei for w in ledger.workers.values())
        assert world.balance(world.workers) == stakes
        for job_id, job in ledger.jobs.items():
            self._audit_job(job_id, job)

    def _audit_job(self, job_id: JobId, job: Job) -> None:
        summary = self.world.read("Jobs", "summaryOf", job_id)
        state, requester, has_keys, readies, next_round, deadline_s, beacon_round, escrow, parent = summary
        assert (state, requester.lower(), has_keys) == (job.state, job.requester.lower(), job.has_keys)
        assert (readies, next_round, deadline_s) == (job.ready.bit_count(), job.next_round, job.deadline_s)
        assert (beacon_round, escrow, parent) == (job.beacon_round, job.escrow_wei, job.parent)
        applicants = self.world.read("Jobs", "applicantsOf", job_id)
        assert [a.lower() for a in applicants] == [a.lower() for a in job.applicants]
        for worker in job.applicants:
            bond = 1 if worker in job.locked else 3 if worker in job.slashed else 2
            assert self.world.read("Jobs", "bondOf", job_id, worker) == bond
        seats = self.world.read("Jobs", "seatsOf", job_id)
        expected = [
            (
                worker.lower(),
                job.accepted.get(worker, 0),
                bool(job.ready >> seat & 1),
                worker in job.forfeits,
                worker in job.dissents,
                worker in job.punished,
            )
            for seat, worker in enumerate(job.seats)
        ]
        assert [(s[0].lower(), *s[1:]) for s in seats] == expected
        counts = tuple(len(compute_participations(job, worker)) for worker in job.seats)
        assert self.world.read("Jobs", "participationsOf", job_id) == counts
        for number in range(job.terms.rounds):
            found = job.rounds.get(RoundNumber(number))
            expected = (round_record(found.set_root, found.start), found.participants) if found else (WORD, 0)
            assert self.world.read("Jobs", "roundOf", job_id, number) == expected

    def _facts(self, sender: Address, call: Call) -> Facts:
        match call:
            case Register():
                binding = Binding(sender, call.node_key, call.encryption_key, call.capabilities)
                digest = compute_digest(Domain(self.world.chain_id, self.world.workers), binding)
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
        return Digest(self.world.read("TestBeacon", "randomness", number))

    # -- An honest job -------------------------------------------------------------

    def job_id(self, nonce: bytes = NONCE) -> JobId:
        return compute_job_id(self.world.chain_id, self.world.jobs, self.requester.address, nonce)

    def found(self, stake_wei: int = 100) -> None:
        """A registered key and registered workers: what every job needs."""
        self.do(self.requester, RegisterKey(KEY_WORDS))
        for worker in self.crew:
            self.do(worker, self.world.sign_registration(worker, stake_wei))

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
        randomness = keccak256(encode_words(keccak256(b"skynet test beacon"), job.beacon_round))
        seed = compute_challenge_seed(self.world.chain_id, self.world.jobs, job_id, worker, job.parent, randomness)
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


class Station:
    """A twin with one job in it, by its short name."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.job: JobId = twin.job_id()


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
