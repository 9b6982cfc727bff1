"""Jobs.sol: double votes, dissent, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract_world import BURN, make_account
from job_author import TERMS, WORD
from job_twin import Station
from test_jobs import drain, prove_all

from protocols.chain import (
    Apply,
    Dissent,
    Dissented,
    EquivocationProved,
    JobEnded,
    JobState,
    Post,
    ProvingStarted,
    Release,
    Settle,
    StakeAdded,
    TopUp,
    Unbond,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.ids import ContentId, JobId, RoundNumber, Wei
from protocols.job import AUDIT_WINDOW_S

OTHER = ContentId(b"o" * 32)

# -- Double votes --------------------------------------------------------------------


def test_two_votes_for_one_round_cost_stake_and_pay(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    liar, *honest = twin.seats(job)
    events = twin.do(twin.delegate, twin.equivocate(job, liar.address))
    assert events == (
        EquivocationProved(job, liar.address, RoundNumber(0), twin.delegate.address),
        StakeAdded(twin.delegate.address, Wei(10)),
        WorkerSlashed(job, liar.address, TERMS.stake_wei),
    )
    assert twin.world.balance(BURN) == 90
    twin.audit()
    prove_all(twin, job, 1, 2)
    events = twin.do(twin.delegate, Settle(job))  # nobody waits for the liar's proofs
    assert [e.worker for e in events if isinstance(e, WorkerPaid)] == [seat.address for seat in honest]
    assert twin.refusal(liar, Release(job, liar.address)) == "NothingLocked"
    assert twin.refusal(twin.crew[4], twin.equivocate(job, liar.address)) == "AlreadyPunished"
    drain(twin, job)


def test_what_is_no_double_vote(training: Station) -> None:
    twin, job = training.twin, training.job
    worker, other = twin.seats(job)[:2]
    good = twin.equivocate(job, worker.address)
    in_another_view = replace(good.votes.first, view=7)
    same = twin.sign_ballots(replace(good, votes=replace(good.votes, second=in_another_view)), worker)
    assert twin.refusal(other, same) == "SameVote"
    assert twin.refusal(other, twin.equivocate(job, worker.address, by=other)) == "BadSignature"
    half = replace(good, votes=replace(good.votes, second=replace(good.votes.second, signature=b"")))
    assert twin.refusal(other, half) == "BadSignature"
    for bent in (replace(good.votes, round=RoundNumber(1)), replace(good.votes, parent=b"p" * 32)):
        assert twin.refusal(other, replace(good, votes=bent)) == "BadSignature"
    outsider = next(worker for worker in twin.crew if worker not in twin.seats(job))
    assert twin.refusal(other, replace(good, worker=outsider.address)) == "NotSeated"
    assert twin.refusal(other, replace(good, job=JobId(WORD))) == "NotSeated"
    twin.audit()


@pytest.mark.parametrize("difference", ["set_root", "participants", "state", "commitment"])
def test_every_difference_counts(training: Station, difference: str) -> None:
    twin, job = training.twin, training.job
    worker = twin.seats(job)[0]
    good = twin.equivocate(job, worker.address)
    values = {"set_root": b"s" * 32, "participants": 0b101, "state": OTHER, "commitment": b"c" * 64}
    second = replace(good.votes.first, **{difference: values[difference]})
    call = twin.sign_ballots(replace(good, votes=replace(good.votes, second=second)), worker)
    assert isinstance(twin.do(twin.delegate, call)[0], EquivocationProved)
    twin.audit()


@pytest.mark.parametrize("locked_elsewhere", [False, True])
def test_after_the_end_what_is_left_of_the_stake_answers(proving: Station, locked_elsewhere: bool) -> None:
    """Unbonding takes longer than the audit window; only what another job holds is out of reach."""
    twin, job = proving.twin, proving.job
    liar = twin.seats(job)[0]
    prove_all(twin, job, 0, 1, 2)
    twin.do(twin.delegate, Settle(job))
    twin.do(liar, Release(job, liar.address))
    twin.do(liar, Unbond(Wei(70)))
    if locked_elsewhere:
        twin.do(liar, TopUp(Wei(70)))
        twin.do(twin.requester, Post(TERMS, b"2" * 32))
        twin.do(liar, Apply(twin.job_id(b"2" * 32)))
    *_, slashed = twin.do(twin.delegate, twin.equivocate(job, liar.address))
    assert slashed == WorkerSlashed(job, liar.address, Wei(70 if locked_elsewhere else 100))
    twin.audit()


def test_later_than_the_audit_window_nobody_asks(proving: Station) -> None:
    twin, job = proving.twin, proving.job
    prove_all(twin, job, 0, 1, 2)
    twin.do(twin.delegate, Settle(job))
    call = twin.equivocate(job, twin.seats(job)[0].address)
    twin.wait(AUDIT_WINDOW_S)
    assert twin.refusal(twin.delegate, call) == "TooLate"
    drain(twin, job)


# -- Dissent -------------------------------------------------------------------------


def test_a_third_in_dissent_frees_what_is_uncommitted(training: Station) -> None:
    twin, job = training.twin, training.job
    first = twin.seats(job)[0]
    twin.do(twin.delegate, twin.commit(job))
    dissented, proving = twin.do(first, Dissent(job, RoundNumber(0), OTHER))
    assert dissented == Dissented(job, first.address, RoundNumber(0), OTHER)
    assert isinstance(proving, ProvingStarted)
    assert twin.refusal(twin.delegate, twin.commit(job)) == "WrongState"
    twin.wait(2)
    prove_all(twin, job, 0, 1, 2)
    *paid, _, ended = twin.do(twin.delegate, Settle(job))
    assert sum(e.amount_wei for e in paid if isinstance(e, WorkerPaid)) == 3 * (TERMS.budget_wei // 6)
    assert ended == JobEnded(job, JobState.SETTLED, Wei(TERMS.budget_wei - 3 * (TERMS.budget_wei // 6)))
    drain(twin, job)


def test_dissent_is_a_seats_word_on_a_certified_round(training: Station) -> None:
    twin, job = training.twin, training.job
    seat = twin.seats(job)[0]
    assert twin.refusal(seat, Dissent(job, RoundNumber(0), OTHER)) == "WrongRound"
    twin.do(twin.delegate, twin.commit(job))
    outsider = next(worker for worker in twin.crew if worker not in twin.seats(job))
    for stranger in (outsider, twin.requester, make_account("nobody")):
        assert twin.refusal(stranger, Dissent(job, RoundNumber(0), OTHER)) == "NotSeated"
    assert twin.refusal(seat, Dissent(job, RoundNumber(1), OTHER)) == "WrongRound"
    assert twin.refusal(seat, Dissent(JobId(WORD), RoundNumber(0), OTHER)) == "WrongState"
    twin.do(seat, Dissent(job, RoundNumber(0), OTHER))
    assert twin.refusal(seat, Dissent(job, RoundNumber(0), OTHER)) == "WrongState"
    twin.audit()
