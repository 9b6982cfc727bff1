"""Writes tests/vectors/job/sequences: what the ledger says of sequences of calls, honest, mistaken and hostile.

    python tests/contracts/job_sequences.py

A family has one opening and many sequences that go on from its end, each drawn by its own seed: about half of the calls
are what honest people would do next, the others are anything else. A step says what was sent, and what it changed or by
which error it was refused; `data` is a selector and the numbers of its words in `words`. Only the ledger is asked here:
test_job_sequences.py holds the contracts against the files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contract_world import World, make_account
from evm_backends import Account
from job_author import INVALID, KEY_WORDS, NONCE, TERMS, TRAINING, WORD, Author, price_of
from vector_format import Words, compute_changes, describe_call

from protocols.chain import (
    Apply,
    Assign,
    Call,
    Cancel,
    CommitRound,
    DeliverKeys,
    Dissent,
    Expire,
    JobState,
    NullRound,
    Post,
    Ready,
    RegisterKey,
    Release,
    Settle,
    Terms,
    TopUp,
    Unbond,
    Withdraw,
    WithdrawStake,
)
from protocols.ids import Address, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.job import Beacon, Job, Ledger, Revert, Transaction, compute_participations, step

FOLDER = Path(__file__).parents[1] / "vectors/job/sequences"
SEQUENCES, LENGTH = 34, 10  # 34 of each of 15 families: 510
START_S = 1_000

VARIANTS: dict[str, Terms] = {
    "evaluation": TERMS,
    "training": TRAINING,
    "first-step": replace(TRAINING, steps=1, samples=1),
}
STAGES = ("posted", "assigned", "training", "committed", "proving")


@dataclass
class Draft(Author):
    """A cast and its ledger, with a clock of its own; every call is written down."""

    chain_id: int
    jobs: Address
    workers: Address
    ledger: Ledger
    now_s: int = START_S
    requester: Account = field(default_factory=lambda: make_account("requester"))
    delegate: Account = field(default_factory=lambda: make_account("delegate"))
    crew: tuple[Account, ...] = field(default_factory=lambda: tuple(make_account(f"worker {i}") for i in range(5)))
    log: list[tuple[Transaction, Ledger, Ledger | str]] = field(default_factory=list)
    """Transaction, ledger before, and after or why not."""

    @property
    def job(self) -> Job:
        return self.ledger.jobs[self.job_id()]

    def send(self, sender: Account | Address, call: Call, value_wei: int | None = None) -> None:
        address = sender.address if isinstance(sender, Account) else sender
        value = price_of(call) if value_wei is None else Wei(value_wei)
        tx = Transaction(address, value, self.now_s, call, self.compute_facts(address, call))
        match step(self.ledger, tx):
            case Revert(name):
                self.log.append((tx, self.ledger, name))
            case (ledger, _):
                self.log.append((tx, self.ledger, ledger))
                self.ledger = ledger

    def wait_until(self, time_s: int) -> None:
        self.now_s = max(self.now_s, time_s)


# -- Honest moves ----------------------------------------------------------------------


def go_on(draft: Draft, rng: random.Random) -> None:
    """What honest people would do next."""
    job = draft.job
    match job.state:
        case JobState.OPEN:
            _join(draft, job)
        case JobState.ASSIGNED if not job.has_keys:
            draft.send(draft.requester, DeliverKeys(draft.job_id(), (b"wrap",) * len(job.seats)))
        case JobState.ASSIGNED:
            seat = next(seat for seat in range(len(job.seats)) if not job.ready >> seat & 1)
            draft.send(job.seats[seat], Ready(draft.job_id()))
        case JobState.TRAINING:
            draft.send(draft.delegate, draft.commit(draft.job_id(), rng.choice((0b111, 0b111, 0b101, 0b010))))
        case JobState.PROVING:
            _prove(draft, job, rng)
        case _:
            draft.send(rng.choice(draft.crew), rng.choice((Withdraw(), Release(draft.job_id(), job.applicants[0]))))


def _join(draft: Draft, job: Job) -> None:
    free = [worker for worker in draft.crew if worker.address not in job.applicants]
    if len(job.applicants) <= job.terms.seats and free and draft.now_s < job.deadline_s:
        draft.send(free[0], Apply(draft.job_id()))
        return
    draft.wait_until(job.deadline_s + 1)
    complete = len(job.applicants) >= job.terms.seats
    draft.send(draft.delegate, Assign(draft.job_id()) if complete else Expire(draft.job_id()))


def _prove(draft: Draft, job: Job, rng: random.Random) -> None:
    draft.wait_until(job.beacon_round)
    missing = [
        (worker, sample)
        for worker in job.seats
        for sample in range(job.terms.samples)
        if compute_participations(job, worker) and not job.accepted.get(worker, 0) >> sample & 1
    ]
    if not missing or draft.now_s >= job.deadline_s:
        draft.send(draft.delegate, Settle(draft.job_id()))
        return
    draft.send(draft.delegate, draft.prove(draft.job_id(), *rng.choice(missing), loss=rng.choice((7, 50, 51))))


# -- Anything else -----------------------------------------------------------------------


def stray(draft: Draft, rng: random.Random) -> None:
    """A call out of turn, by whomever; or a forged one where there is something to forge."""
    job, id_ = draft.job, draft.job_id()
    person = rng.choice(list(draft.accounts))
    anytime: list[Callable[[], Call]] = [
        *(lambda kind=kind: kind(id_) for kind in (Apply, Assign, Ready, Settle, Expire, Cancel)),  # type: ignore[misc]
        lambda: DeliverKeys(id_, (b"wrap",) * rng.randint(0, 3)),
        lambda: NullRound(id_, RoundNumber(job.next_round + rng.choice((0, 0, 1)))),
        lambda: Dissent(id_, RoundNumber(rng.randint(0, 2)), ContentId(WORD)),
        lambda: Release(id_, rng.choice(list(draft.accounts))),
        lambda: Release(JobId(WORD), person),
        Withdraw,
        lambda: Unbond(Wei(rng.randint(0, 120))),
        WithdrawStake,
        lambda: TopUp(Wei(rng.randint(0, 3))),
        lambda: Post(_bend_terms(job.terms, rng), rng.choice((NONCE, b"m" * 32))),
        lambda: _report(draft, rng),
    ]
    forged: list[Callable[[], Call]] = []
    if job.state is JobState.TRAINING:
        forged = [lambda: _bend_certificate(draft, rng)] * 3
    if job.state is JobState.PROVING:
        forged = [lambda: _bend_proof(draft, job, rng)] * 3
    call = rng.choice(rng.choice((anytime, forged or anytime)))()
    draft.send(person, call, rng.choice((None, None, None, 1)) if isinstance(call, Post | Cancel) else None)


def _bend_terms(terms: Terms, rng: random.Random) -> Terms:
    bent: tuple[dict[str, Any], ...] = (
        {},
        {"seats": 65},
        {"pages": 2},
        {"initial_commitment": Digest(WORD) if any(terms.initial_commitment) else Digest(b"c" * 32)},
        {"vk_digest": WORD},
        {"stake_wei": Wei(1)},
    )
    return replace(terms, **rng.choice(bent))


def _report(draft: Draft, rng: random.Random) -> Call:
    """Two votes for one round; or twice the same one, or another's signature."""
    worker = rng.choice(draft.job.seats or tuple(draft.accounts))
    call = draft.equivocate(draft.job_id(), worker, rng.randint(0, 1), by=rng.choice((None, None, draft.delegate)))
    return replace(call, votes=replace(call.votes, second=call.votes.first)) if rng.random() < 0.2 else call


def _bend_certificate(draft: Draft, rng: random.Random) -> Call:
    call = draft.commit(draft.job_id(), rng.randint(0, 7), rng.randint(1, 7))
    c = call.certificate
    bent: tuple[dict[str, Any], ...] = (
        {},
        {"round": RoundNumber(c.round + 1)},
        {"parent": Digest(b"p" * 32)},
        {"signatures": c.signatures[::-1]},
        {"participants": c.participants ^ 8},
        {"signers": c.signers ^ 1},
        {"state": ContentId(b"s" * 32)},
        {"view": 1},
    )
    return CommitRound(call.job, replace(c, **rng.choice(bent)))


def _bend_proof(draft: Draft, job: Job, rng: random.Random) -> Call:
    able = [worker for worker in job.seats if compute_participations(job, worker)]
    if not able:
        return Settle(draft.job_id())
    good = draft.prove(draft.job_id(), rng.choice(able), rng.randrange(job.terms.samples))
    at, proof = good.evidence, good.proof
    place = rng.randrange(len(proof) - 1)
    bent: tuple[dict[str, Any], ...] = (
        {"proof": proof[:-1] + INVALID},
        {"proof": proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]},
        {"proof": proof[:64] + bytes(64) + proof[128:]},
        {"proof": proof[192:256] + proof[64:192] + proof[:64] + proof[256:]},
        {"proof": proof[:191]},
        {"evidence": replace(at, start=Digest(b"s" * 32))},
        {"evidence": replace(at, update=ContentId(b"u" * 32))},
        {"evidence": replace(at, step=at.step ^ 1)},
        {"evidence": replace(at, page=(at.page + 1) % job.terms.pages)},
        {"evidence": replace(at, leaf_path=at.next_path, next_path=at.leaf_path)},
        {"evidence": replace(at, page_path=at.page_path[:-1])},
        {"worker": rng.choice(list(draft.accounts))},
        {"sample": job.terms.samples},
        {"instances": (*good.instances, 1)},
        {"instances": ()},
    )
    return replace(good, **rng.choice(bent))


# -- Families ------------------------------------------------------------------------------


def open_family(variant: str, stage: str, world: World) -> Draft:
    """From nothing to the stage."""
    draft = Draft(
        world.chain_id, world.jobs, world.workers, Ledger(world.chain_id, world.jobs, Beacon(genesis_s=0, period_s=1))
    )
    draft.send(draft.requester, RegisterKey(KEY_WORDS))
    for worker in draft.crew:
        draft.send(worker, draft.register(worker, 100))
    draft.send(draft.requester, Post(VARIANTS[variant], NONCE))
    reached: dict[str, Callable[[Job], bool]] = {
        "posted": lambda job: bool(job.applicants),
        "assigned": lambda job: job.state is JobState.ASSIGNED,
        "training": lambda job: job.state is JobState.TRAINING,
        "committed": lambda job: job.next_round == 1,
        "proving": lambda job: job.state is JobState.PROVING,
    }
    rng = random.Random(f"{variant} {stage}")
    while not reached[stage](draft.job):
        go_on(draft, rng)
    return draft


def play(opened: Draft, seed: str) -> Draft:
    """One sequence that goes on from there."""
    draft, rng = replace(opened, log=[]), random.Random(seed)
    while len(draft.log) < LENGTH:
        if rng.random() < 0.25:
            draft.now_s += rng.randint(1, 12)
        elif rng.random() < 0.5:
            go_on(draft, rng)
        else:
            stray(draft, rng)
    return draft


def write_family(variant: str, stage: str, world: World) -> str:
    opened, words = open_family(variant, stage, world), Words()
    opening = _write_steps(opened, world, words)
    played = (play(opened, f"{variant} {stage} {number}") for number in range(SEQUENCES))
    sequences = [_write_steps(draft, world, words) for draft in played]
    contracts = {name: world.addresses[name] for name in ("Jobs", "Workers", "Verifiers")}
    lines = [
        "{",
        f' "about": "{variant} job, from {stage} on",',
        f' "chain_id": {world.chain_id},',
        f' "contracts": {json.dumps(contracts)},',
        f' "words": {json.dumps(list(words.numbers), indent=2)},',
        f' "opening": {opening},',
        ' "sequences": [',
    ]
    return "\n".join([*lines, "  " + ",\n  ".join(sequences), " ]", "}", ""])


def _write_steps(draft: Draft, world: World, words: Words) -> str:
    """A line a step."""
    steps = []
    for transaction, before, after in draft.log:
        described = describe_call(world, transaction)
        described["data"] = words.shorten(described["data"])
        outcome = {"reverts": after} if isinstance(after, str) else {"changes": compute_changes(before, after)}
        steps.append(json.dumps({**described, **outcome}))
    return "[\n   " + ",\n   ".join(steps) + "]"


def families() -> list[tuple[str, str]]:
    return [(variant, stage) for variant in VARIANTS for stage in STAGES]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    world = World()
    for variant, stage in families():
        (FOLDER / f"{variant}-{stage}.json").write_text(write_family(variant, stage, world))
