"""Random sequences of calls: the contracts and the ledger agree on each, and no wei is ever lost or locked up.

Two jobs share the workers' stakes. Honest moves bring them forward, bent and stray calls come in between and at any
time. At the end of each walk strangers bring the jobs to an end and everybody takes out all they can.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from job_author import INVALID, TERMS, TRAINING, WORD
from job_twin import Twin

from protocols.chain import (
    Apply,
    Assign,
    Call,
    Cancel,
    CommitRound,
    DeliverKeys,
    Dissent,
    Evidence,
    Expire,
    JobState,
    NullRound,
    Post,
    Ready,
    Release,
    Settle,
    SubmitProof,
    Terms,
    Unbond,
    Withdraw,
    WithdrawStake,
)
from protocols.ids import Address, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.job import UNBONDING_S, Job, compute_free_stake, compute_participations

NONCES = (b"1" * 32, b"2" * 32)
PROFILE = os.environ.get("SKYNET_PROFILE", "")
EXAMPLES, STEPS = {"ci": (150, 60), "long": (2_000, 100)}.get(PROFILE, (30, 40))

any_seats = st.integers(0, 0b1111)
everybody = st.one_of(st.just(0b111), st.integers(1, 0b111))
jobs = st.sampled_from(NONCES)
people = st.integers(0, 6)


class Walk(RuleBasedStateMachine):
    @initialize(
        stake=st.sampled_from((0, 60, 100)),
        seats=st.integers(1, 3),
        budget=st.integers(0, 2000),
        fee=st.integers(0, 9),
        depths=st.tuples(st.integers(0, 20), st.integers(0, 20)),
        terms=st.sampled_from((TERMS, TRAINING, replace(TRAINING, steps=1))),
    )
    def found(self, stake: int, seats: int, budget: int, fee: int, depths: tuple[int, int], terms: Terms) -> None:
        self.twin = Twin()
        self.twin.found(stake_wei=150)  # not always enough for both jobs
        money = {"stake_wei": Wei(stake), "budget_wei": Wei(budget), "move_fee_wei": Wei(fee)}
        self.terms: Terms = replace(terms, seats=seats, **money)
        for nonce in NONCES:
            self.twin.do(self.twin.requester, Post(self.terms, nonce))
        for nonce, depth in zip(NONCES, depths, strict=True):
            self.go_on(nonce, depth, 0b111, 7)

    # -- Who and what --------------------------------------------------------------

    def who(self, person: int) -> Address:
        return list(self.twin.accounts)[person]

    def send(self, person: int, call: Call) -> None:
        self.twin.send(self.who(person), call)

    def wait_until(self, time_s: int) -> None:
        self.twin.wait(max(0, time_s - self.twin.now_s))

    def is_any(self, state: JobState) -> bool:
        return any(job.state is state for job in self.twin.ledger.jobs.values())

    # -- Honest moves ----------------------------------------------------------------

    @rule(nonce=jobs, moves=st.integers(1, 6), participants=everybody, loss=st.sampled_from((0, 7, 7, 7, 50, 51)))
    def go_on(self, nonce: bytes, moves: int, participants: int, loss: int) -> None:
        """What honest people would do next in this job."""
        job_id = self.twin.job_id(nonce)
        for _ in range(moves):
            job = self.twin.ledger.jobs[job_id]
            match job.state:
                case JobState.OPEN:
                    self._join(job_id, job)
                case JobState.ASSIGNED:
                    self._get_ready(job_id, job)
                case JobState.TRAINING:
                    everyone = (1 << len(job.seats)) - 1
                    call = self.twin.commit(job_id, participants & everyone or 1, everyone)
                    self.twin.do(self.twin.delegate, call)
                case JobState.PROVING:
                    self._prove(job_id, job, loss)
                case _:
                    return

    def _join(self, job_id: JobId, job: Job) -> None:
        free = [w.address for w in self.twin.crew if w.address not in job.applicants]
        if len(job.applicants) < self.terms.seats + 1 and free and self.twin.now_s < job.deadline_s:
            self.twin.send(free[0], Apply(job_id))
            return
        self.wait_until(job.deadline_s + 1)
        complete = len(job.applicants) >= self.terms.seats
        self.twin.do(self.twin.delegate, Assign(job_id) if complete else Expire(job_id))

    def _get_ready(self, job_id: JobId, job: Job) -> None:
        if not job.has_keys:
            self.twin.do(self.twin.requester, DeliverKeys(job_id, (b"wrap",) * len(job.seats)))
            return
        seat = next(seat for seat in range(len(job.seats)) if not job.ready >> seat & 1)
        self.twin.do(job.seats[seat], Ready(job_id))

    def _prove(self, job_id: JobId, job: Job, loss: int) -> None:
        self.wait_until(job.beacon_round)
        missing = [
            (worker, sample)
            for worker in job.seats
            for sample in range(self.terms.samples)
            if compute_participations(job, worker) and not job.accepted.get(worker, 0) >> sample & 1
        ]
        if not missing or self.twin.now_s >= job.deadline_s:
            self.twin.do(self.twin.delegate, Settle(job_id))
            return
        worker, sample = missing[0]
        self.twin.do(self.twin.delegate, self.twin.prove(job_id, worker, sample, loss))

    # -- Anything else -----------------------------------------------------------------

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        self.twin.wait(seconds)

    @rule(nonce=jobs, person=people, kind=st.sampled_from((Apply, Assign, Ready, Settle, Expire, Expire)))
    def stray(self, nonce: bytes, person: int, kind: Callable[[JobId], Call]) -> None:
        self.send(person, kind(self.twin.job_id(nonce)))

    @rule(nonce=jobs, person=people, count=st.integers(0, 3))
    def stray_keys(self, nonce: bytes, person: int, count: int) -> None:
        self.send(person, DeliverKeys(self.twin.job_id(nonce), (b"wrap",) * count))

    @precondition(lambda self: self.is_any(JobState.TRAINING))
    @rule(nonce=jobs, person=people, participants=any_seats, signers=any_seats, bend=st.integers(0, 5))
    def bent_certificate(self, nonce: bytes, person: int, participants: int, signers: int, bend: int) -> None:
        job = self.twin.job_id(nonce)
        call = self.twin.commit(job, participants, signers)
        bent: dict[int, dict[str, Any]] = {
            0: {"round": RoundNumber(call.certificate.round + 1)},
            1: {"parent": Digest(b"p" * 32)},
            2: {"signatures": call.certificate.signatures[::-1]},
            3: {"participants": participants ^ 1},
        }
        self.send(person, CommitRound(job, replace(call.certificate, **bent.get(bend, {}))))

    @precondition(lambda self: self.is_any(JobState.TRAINING))
    @rule(nonce=jobs, person=people, ahead=st.sampled_from((0, 0, 0, 1)), wait=st.booleans())
    def null(self, nonce: bytes, person: int, ahead: int, wait: bool) -> None:
        job = self.twin.ledger.jobs[self.twin.job_id(nonce)]
        if wait and job.state is JobState.TRAINING:
            self.wait_until(job.deadline_s)
        self.send(person, NullRound(self.twin.job_id(nonce), RoundNumber(job.next_round + ahead)))

    @precondition(lambda self: self.is_any(JobState.PROVING))
    @rule(nonce=jobs, person=people, bend=st.integers(0, 12))
    def bent_proof(self, nonce: bytes, person: int, bend: int) -> None:
        job_id, worker = self.twin.job_id(nonce), self.who(person)
        job = self.twin.ledger.jobs[job_id]
        if job.state is not JobState.PROVING or not compute_participations(job, worker):
            nothing = Evidence(RoundNumber(0), WORD, ContentId(WORD), WORD, (), 0, (), (), 0, ())
            self.send(person, SubmitProof(job_id, worker, 0, nothing, bytes(193), (0,), ()))
            return
        good = self.twin.prove(job_id, worker, 1)
        evidence = good.evidence
        bent: dict[int, dict[str, Any]] = {
            0: {"proof": good.proof[:-1] + INVALID},
            1: {"evidence": replace(evidence, page=(evidence.page + 1) % self.terms.pages)},
            2: {"evidence": replace(evidence, set_path=(*evidence.set_path, Digest(bytes(32))))},
            3: {"sample": self.terms.samples},
            4: {"instances": (7, 7)},
            5: {"proof": good.proof[1:]},
            6: {"evidence": replace(evidence, start=Digest(b"s" * 32))},
            7: {"evidence": replace(evidence, step=evidence.step ^ 1)},
            8: {"evidence": replace(evidence, leaf_path=(*evidence.leaf_path, WORD))},
            9: {"evidence": replace(evidence, leaf_path=evidence.next_path, next_path=evidence.leaf_path)},
            10: {"proof": good.proof[192:256] + good.proof[64:192] + good.proof[:64] + good.proof[256:]},
            11: {"instances": (*good.instances, 1)},
        }
        self.send(person, replace(good, **bent.get(bend, {})))

    @precondition(lambda self: self.is_any(JobState.PROVING))
    @rule(nonce=jobs)
    def give_up_proving(self, nonce: bytes) -> None:
        job_id = self.twin.job_id(nonce)
        if self.twin.ledger.jobs[job_id].state is JobState.PROVING:
            self.wait_until(self.twin.ledger.jobs[job_id].deadline_s)
            self.twin.do(self.twin.delegate, Settle(job_id))

    @rule(nonce=jobs, person=people, rare=st.integers(0, 5))
    def cancel(self, nonce: bytes, person: int, rare: int) -> None:
        if rare == 0:
            self.send(person, Cancel(self.twin.job_id(nonce)))

    @rule(nonce=jobs, person=people, worker=people, honest=st.integers(0, 3), at=st.integers(0, 1))
    def report(self, nonce: bytes, person: int, worker: int, honest: int, at: int) -> None:
        """Two votes for one round; or twice the same one, or another's signature."""
        job_id, address = self.twin.job_id(nonce), self.who(worker)
        by = self.twin.delegate if honest == 1 else None
        call = self.twin.equivocate(job_id, address, at, by=by)
        if honest == 2:
            call = replace(call, votes=replace(call.votes, second=call.votes.first))
        if honest:
            self.send(person, call)
        elif at == 0:
            self.send(person, self.twin.equivocate(job_id, address))

    @rule(nonce=jobs, person=people, at=st.integers(0, 3))
    def dissent(self, nonce: bytes, person: int, at: int) -> None:
        self.send(person, Dissent(self.twin.job_id(nonce), RoundNumber(at), ContentId(bytes(32))))

    @rule(nonce=jobs, person=people, worker=people)
    def release(self, nonce: bytes, person: int, worker: int) -> None:
        self.send(person, Release(self.twin.job_id(nonce), self.who(worker)))

    @rule(person=people, amount=st.integers(0, 120))
    def take_out(self, person: int, amount: int) -> None:
        self.send(person, Withdraw())
        self.send(person, Unbond(Wei(amount)))
        self.send(person, WithdrawStake())

    # -- What always holds -------------------------------------------------------------

    @invariant()
    def both_hold_the_same(self) -> None:
        if hasattr(self, "twin"):
            self.twin.audit()

    def teardown(self) -> None:
        if not hasattr(self, "twin"):
            return
        for nonce in NONCES:
            self._finish(self.twin.job_id(nonce))
        for account in self.twin.accounts.values():
            self.twin.send(account, Withdraw())
            free = compute_free_stake(self.twin.ledger, account.address)
            if free:
                self.twin.do(account, Unbond(free))
        self.twin.wait(UNBONDING_S)
        for address, worker in tuple(self.twin.ledger.workers.items()):
            if worker.unbonding_wei:
                self.twin.do(address, WithdrawStake())
        self.twin.audit()
        assert self.twin.world.balance(self.twin.world.jobs) == 0
        assert self.twin.world.balance(self.twin.world.workers) == 0

    def _finish(self, job: JobId) -> None:
        """Strangers alone bring any job to its end; only waiting is needed."""
        stranger = self.twin.delegate
        while (state := self.twin.ledger.jobs[job].state) < JobState.SETTLED:
            self.twin.wait(60)
            match state:
                case JobState.OPEN | JobState.ASSIGNED:
                    self.twin.do(stranger, Expire(job))
                case JobState.TRAINING:
                    self.twin.do(stranger, NullRound(job, self.twin.ledger.jobs[job].next_round))
                case _:
                    self.twin.do(stranger, Settle(job))
        for worker in sorted(self.twin.ledger.jobs[job].locked):
            self.twin.do(stranger, Release(job, worker))


def test_any_sequence_of_calls() -> None:
    bounds = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking a walk takes longer than a test may
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(Walk, settings=bounds)
