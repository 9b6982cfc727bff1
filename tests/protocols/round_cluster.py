"""A job's workers in memory: the round machine of each, a network that a schedule of numbers plays with, disks.

What the shell of the machine does is done here too: effects are performed, the lock and own proposals are on
disk before they are sent, and what was sent or received survives a crash (outbox and kept mail).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from protocols import round as rounds
from protocols.chain import Certificate, Entry
from protocols.evidence import set_root
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat
from protocols.message import Proposal, ViewChanged, VoteCast
from protocols.round import Committee, Round, SetComputed

JOB = JobId(b"j" * 32)
NUMBER = RoundNumber(3)
PARENT = Digest(b"p" * 32)

Announced = tuple[Seat, Entry]
Body = Announced | Proposal | VoteCast | ViewChanged


def workers_of(n: int) -> tuple[Address, ...]:
    return tuple(Address(f"0x{i + 1:040x}") for i in range(n))


def entry_of(seat: int, variant: int = 0) -> Entry:
    fill = bytes([seat + 1, variant])
    return Entry(Address(f"0x{seat + 1:040x}"), ContentId(fill * 16), Digest(fill[::-1] * 16))


@lru_cache(maxsize=4096)
def compute(entries: tuple[Entry, ...]) -> SetComputed:
    """What every honest node computes from a set."""
    root = set_root(JOB, NUMBER, entries)
    return SetComputed(root, ContentId(root[::-1]), Commitment(root + root))


def vote_for(committee: Committee, view: int, entries: tuple[Entry, ...], seat: int) -> VoteCast:
    result = compute(entries)
    bits = committee.bits(entries)
    signed = b"%d %d " % (seat, view) + result.set_root
    return VoteCast(NUMBER, view, PARENT, result.set_root, bits, result.state, result.commitment, signed)


@dataclass
class Disk:
    locked: tuple[Entry, ...] = ()
    proposals: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    outbox: list[Body] = field(default_factory=list)
    mail: list[tuple[Seat, Body]] = field(default_factory=list)


@dataclass
class Worker:
    """One honest seat."""

    committee: Committee
    disk: Disk = field(default_factory=Disk)
    state: Round | None = None
    """None while it is down."""
    computing: list[tuple[Entry, ...]] = field(default_factory=list)
    certificate: Certificate | None = None


@dataclass
class Cluster:
    n: int
    liars: frozenset[int] = frozenset()
    now_s: float = 0.0
    workers: dict[int, Worker] = field(default_factory=dict)
    """The honest seats."""
    flight: list[tuple[int, Seat, Body]] = field(default_factory=list)
    """(to, from, what)."""
    certified: set[Digest] = field(default_factory=set)
    """Set roots of every certificate that anybody made."""

    def __post_init__(self) -> None:
        for seat in range(self.n):
            if seat not in self.liars:
                self.workers[seat] = Worker(Committee(JOB, workers_of(self.n), Seat(seat)))
                self.start(seat)

    # -- Life and death

    def start(self, seat: int) -> None:
        worker = self.workers[seat]
        if worker.state is not None:
            return
        disk = worker.disk
        worker.state = Round(
            worker.committee, NUMBER, PARENT, self.now_s, True, disk.locked, proposals=dict(disk.proposals)
        )
        for body in tuple(disk.outbox):
            self.send(seat, body, keep=False)
        for sender, body in tuple(disk.mail):
            self.hand(seat, sender, body)

    def train(self, seat: int) -> None:
        """The trainer announces again what it has announced before."""
        if self.workers[seat].state is None:
            return
        own = Seat(seat), entry_of(seat)
        self.send(seat, own, keep=own not in self.workers[seat].disk.outbox)
        self.step(seat, rounds.UpdateHeld(Seat(seat), entry_of(seat), self.now_s))

    def crash(self, seat: int) -> None:
        self.workers[seat].state = None
        self.workers[seat].computing = []

    # -- Network

    def send(self, seat: int, body: Body, *, keep: bool = True) -> None:
        if keep:
            self.workers[seat].disk.outbox.append(body)
        self.flight += [(to, Seat(seat), body) for to in self.workers if to != seat]

    def resend(self) -> None:
        """What delivery does in the end: every message of everybody reaches everybody."""
        for seat, worker in self.workers.items():
            for body in tuple(worker.disk.outbox):
                self.send(seat, body, keep=False)

    def deliver(self, index: int, *, again: bool = False) -> None:
        to, sender, body = self.flight[index] if again else self.flight.pop(index)
        if self.workers[to].state is not None:
            self.workers[to].disk.mail.append((sender, body))
            self.hand(to, sender, body)

    def hand(self, to: int, sender: Seat, body: Body) -> None:
        match body:
            case Proposal():
                self.step(to, rounds.ProposalReceived(sender, body))
            case VoteCast():
                self.step(to, rounds.VoteReceived(sender, body))
            case ViewChanged():
                self.step(to, rounds.ViewChangeReceived(sender, body, self.now_s))
            case (seat, entry):
                self.step(to, rounds.UpdateHeld(seat, entry, self.now_s))

    # -- Events and effects

    def step(self, seat: int, event: rounds.Event) -> None:
        worker = self.workers[seat]
        if worker.state is None:
            return
        worker.state, effects = rounds.step(worker.state, event)
        for effect in effects:
            self.perform(seat, worker, effect)

    def perform(self, seat: int, worker: Worker, effect: rounds.Effect) -> None:
        match effect:
            case rounds.SendProposal(proposal):
                assert proposal.view not in worker.disk.proposals, "a leader proposes once a view"
                worker.disk.proposals[proposal.view] = proposal.entries
                self.send(seat, proposal)
            case rounds.SendViewChange(change):
                self.send(seat, change)
            case rounds.ComputeSet(entries):
                worker.computing.append(entries)
            case rounds.CastVote(view, entries, result):
                assert worker.disk.locked in ((), entries), "an honest worker signs one set a round"
                worker.disk.locked = entries
                vote = vote_for(worker.committee, view, entries, seat)
                assert (vote.set_root, vote.state) == (result.set_root, result.state)
                self.send(seat, vote)
                self.step(seat, rounds.VoteReceived(Seat(seat), vote))
            case rounds.Certify(certificate, entries):
                self.check(certificate, entries)
                worker.certificate = certificate

    def check(self, certificate: Certificate, entries: tuple[Entry, ...]) -> None:
        """As the contract does."""
        committee = Committee(JOB, workers_of(self.n), Seat(0))
        signers = [s for s in range(self.n) if certificate.signers >> s & 1]
        assert len(signers) == len(certificate.signatures) >= committee.quorum
        expected = [vote_for(committee, certificate.view, entries, s).signature for s in signers]
        assert list(certificate.signatures) == expected
        assert certificate.participants == committee.bits(entries)
        assert certificate.set_root == compute(entries).set_root
        self.certified.add(certificate.set_root)

    def finish_computing(self, seat: int) -> None:
        worker = self.workers[seat]
        if worker.computing:
            self.step(seat, compute(worker.computing.pop(0)))

    # -- Time

    def settle(self) -> None:
        """Deliver and compute until nothing is under way."""
        while self.flight or any(w.computing for w in self.workers.values()):
            while self.flight:
                self.deliver(0)
            for seat in self.workers:
                self.finish_computing(seat)

    def advance(self) -> bool:
        """Go to the next deadline of a live worker; False if there is none."""
        dues = {s: rounds.next_deadline_s(w.state) for s, w in self.workers.items() if w.state is not None}
        known = {s: due for s, due in dues.items() if due is not None}
        if not known:
            return False
        due_s = min(known.values())
        self.now_s = max(self.now_s, due_s)
        for seat in [s for s, d in known.items() if d <= self.now_s]:
            self.step(seat, rounds.TimePassed(self.now_s))
            state = self.workers[seat].state
            later_s = None if state is None else rounds.next_deadline_s(state)
            assert later_s is None or later_s > self.now_s, "a deadline that has passed is asked for again"
        return True

    def flow(self, *, views: int = 12) -> None:
        """Messages flow from now on: everything arrives before the next deadline."""
        self.resend()
        self.settle()
        for _ in range(views * self.n):
            if all(w.certificate for w in self.live()) or not self.advance():
                return
            self.settle()

    def live(self) -> list[Worker]:
        return [w for w in self.workers.values() if w.state is not None]

    # -- Mischief

    def lie(self, liar: int, choice: int) -> None:
        """One of all that a member can say to one honest worker."""
        committee = replace(next(iter(self.workers.values())).committee, me=Seat(liar))
        sets = self.imaginable(committee)
        to = sorted(self.workers)[choice % len(self.workers)]
        view, entries = choice // 7 % 6, sets[choice // 5 % len(sets)]
        lies: Sequence[Body] = (
            (Seat(liar), entry_of(liar, choice // 11 % 3)),
            Proposal(NUMBER, view, PARENT, entries),
            vote_for(committee, view, entries, liar),
            ViewChanged(NUMBER, PARENT, view, entries if choice % 3 else ()),
        )
        self.flight.append((to, Seat(liar), lies[choice // 3 % len(lies)]))

    def imaginable(self, committee: Committee) -> list[tuple[Entry, ...]]:
        """Sets that lies are about: proposed ones, ones that leave somebody out, ones of nobody's updates."""
        everybody = [entry_of(s) for s in range(self.n)]
        proposed = [e for w in self.workers.values() for e in w.disk.proposals.values()]
        dropped = [tuple(e for e in everybody if e is not out) for out in everybody]
        forged = [tuple(entry_of(s, 1 if s in self.liars else 0) for s in range(self.n)), tuple(everybody)]
        invented = [tuple(entry_of(s, 9) for s in range(self.n))]
        sets = [*proposed, *dropped, *forged, *invented]
        return [s for s in sets if rounds.is_well_formed(committee, s)]
