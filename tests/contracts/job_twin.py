"""The contracts and `protocols/job` side by side: every call goes to both, and they must agree.

`Twin.send` resolves what the pure ledger can't know (signatures, proofs, randomness), runs both and compares
the events or the name of the refusal; `Twin.audit` compares all that is stored and every balance.
The calls themselves are `job_author`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from contract_world import Done, Refused, World, make_account
from evm_backends import Account
from job_author import KEY_WORDS, WORD, Author, price_of

from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Call,
    ChainEvent,
    RegisterKey,
)
from protocols.evidence import (
    round_record,
)
from protocols.ids import Address, JobId, RoundNumber, Wei
from protocols.job import (
    Beacon,
    Job,
    Ledger,
    Revert,
    Transaction,
    compute_free_stake,
    compute_participations,
    step,
)


@dataclass
class Twin(Author):
    world: World = field(default_factory=World)
    requester: Account = field(default_factory=lambda: make_account("requester"))
    delegate: Account = field(default_factory=lambda: make_account("delegate"))
    crew: tuple[Account, ...] = field(default_factory=lambda: tuple(make_account(f"worker {i}") for i in range(5)))

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.world.chain_id, self.world.jobs, Beacon(genesis_s=0, period_s=1))
        self.chain_id, self.jobs, self.workers = self.world.chain_id, self.world.jobs, self.world.workers
        self.start = dict.fromkeys(self.accounts, self.world.backend.riches_wei)
        self.world.enrich(*self.accounts.values())
        self.log: list[Transaction] = []

    # -- Both sides --------------------------------------------------------------

    @property
    def now_s(self) -> int:  # type: ignore[override]  # the chain's clock is the one that counts
        return self.world.now_s

    def wait(self, seconds: int) -> None:
        self.world.pass_time(self.world.now_s + seconds)

    def send(self, sender: Account | Address, call: Call, value_wei: int | None = None) -> tuple[ChainEvent, ...] | str:
        """The events of both, or the name by which both refuse."""
        address = sender.address if isinstance(sender, Account) else sender
        value = price_of(call) if value_wei is None else value_wei
        tx = Transaction(address, Wei(value), self.now_s, call, self.compute_facts(address, call))
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

    def found(self, stake_wei: int = 100) -> None:
        """A registered key and registered workers: what every job needs."""
        self.do(self.requester, RegisterKey(KEY_WORDS))
        for worker in self.crew:
            self.do(worker, self.register(worker, stake_wei))


class Station:
    """A twin with one job in it, by its short name."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.job: JobId = twin.job_id()
