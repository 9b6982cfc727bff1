"""The actors on a simulated world: a job to its end, in good weather and in bad."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_play import play, play_plan

from protocols.chain import JobEnded, ProvingStarted, RoundCommitted, WorkerPaid
from protocols.job import compute_price
from sim.network import Weather
from sim.report import Report
from sim.requester import Order
from sim.scenario import SCENARIOS, kill_worker
from sim.simulation import Simulation

SEATS, ROUNDS, BUDGET_WEI = 3, 8, 240_000_000_000_000_000


def check_books(simulation: Simulation, report: Report) -> None:
    """What holds however a job ends."""
    job = next(iter(simulation.chain.ledger.jobs.values()))
    assert report.state != "stuck"
    assert report.balanced
    assert report.square
    assert report.paid_wei + report.fees_wei + report.refund_wei == compute_price(job.terms)
    assert report.double_votes == 0
    assert report.faults == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_digits_are_learnt_and_every_wei_is_accounted_for(seed: int) -> None:
    simulation, report = play("digits", seed)
    check_books(simulation, report)
    assert report.state == "settled"
    assert report.accuracy is not None
    assert report.accuracy >= 0.93
    assert (report.rounds, report.nulled, report.views) == (ROUNDS, 0, 0)
    assert [w.paid_wei for w in report.workers] == [BUDGET_WEI // SEATS] * SEATS
    assert [w.proofs for w in report.workers] == [1] * SEATS
    assert report.refund_wei == 0
    assert report.training == "unproved"


def test_the_requester_overhears_a_learning_curve() -> None:
    simulation, _ = play("digits")
    assert simulation.delivery is not None
    curve = simulation.delivery.curve
    assert sorted(curve) == list(range(ROUNDS))
    assert curve[ROUNDS - 1] > curve[0]


def test_rounds_of_a_public_beacon_are_posted_once_and_settle_the_job() -> None:
    simulation, report = play("digits-drand")
    check_books(simulation, report)
    assert report.state == "settled"
    assert [w.proofs for w in report.workers] == [1] * SEATS
    (job,) = simulation.chain.ledger.jobs.values()
    assert simulation.chain.posted is not None
    assert len(simulation.chain.posted) == 2  # the draw's and the challenge's: nobody paid for one that was there
    assert simulation.chain.posted[1] == job.beacon_round


def test_a_killed_worker_comes_back_and_is_paid_for_the_rounds_it_was_in() -> None:
    simulation, report = play("digits-kill")
    check_books(simulation, report)
    victim = report.workers[1]
    assert report.state == "settled"
    assert 0 < victim.rounds < ROUNDS
    assert victim.proofs == 1
    assert victim.paid_wei == BUDGET_WEI * victim.rounds // (SEATS * ROUNDS)
    assert report.refund_wei == BUDGET_WEI - report.paid_wei
    assert report.slashed_wei == 0


def test_a_leader_that_dies_in_its_round_costs_a_view_and_no_round() -> None:
    simulation, report = play("digits-leader")
    check_books(simulation, report)
    assert report.state == "settled"
    assert (report.rounds, report.nulled) == (ROUNDS, 0)
    assert report.views >= 1
    assert report.slashed_wei == 0


def test_a_worker_that_is_cut_off_does_not_stop_the_others() -> None:
    simulation, report = play("digits-cut")
    check_books(simulation, report)
    assert report.state == "settled"
    assert [w.rounds for w in report.workers[:2]] == [ROUNDS, ROUNDS]
    assert report.workers[2].rounds < ROUNDS
    assert report.slashed_wei == 0


def test_without_a_quorum_every_round_is_nulled_and_the_budget_goes_back() -> None:
    simulation, report = play("digits-split")
    check_books(simulation, report)
    assert report.state == "settled"
    assert (report.rounds, report.nulled) == (0, ROUNDS)
    assert (report.paid_wei, report.refund_wei, report.slashed_wei) == (0, BUDGET_WEI, 0)
    assert report.accuracy is None


def test_drawn_steps_of_the_training_are_proved() -> None:
    simulation, report = play("digits-proved")
    check_books(simulation, report)
    assert (report.state, report.training) == ("settled", "proved")
    assert report.accuracy is not None
    assert report.accuracy > 0.9
    assert [worker.proofs for worker in report.workers] == [2, 2, 2]
    assert report.slashed_wei == 0


def test_lost_gossip_is_sent_again() -> None:
    simulation, report = play("digits-lossy")
    check_books(simulation, report)
    assert report.state == "settled"
    assert report.rounds == ROUNDS
    assert report.messages.resent > 0
    assert report.messages.given_up == 0


@pytest.mark.parametrize("seed", [13, 58])  # 58 once slashed an honest worker: it had no set to prove from
def test_a_storm_costs_time_but_no_stake(seed: int) -> None:
    simulation, report = play("digits-storm", seed)
    check_books(simulation, report)
    assert report.state == "settled"
    assert report.slashed_wei == 0


def test_more_nodes_than_seats() -> None:
    simulation, report = play("digits", nodes=9)
    check_books(simulation, report)
    assert report.state == "settled"
    assert sum(isinstance(e, WorkerPaid) for e in simulation.chain.events) == SEATS


async def cut_off_for_the_proofs(simulation: Simulation) -> None:
    """A worker never saw its rounds certified; later, when it must prove them, it reaches nobody but the chain."""
    victim = await simulation.wait_worker(1)
    await simulation.wait(RoundCommitted, round=2)
    victim.kill()
    victim.machine.disk.records.pop("set")
    victim.start()
    await simulation.wait(ProvingStarted)
    simulation.internet.cut([victim.machine.peer])
    await simulation.wait(JobEnded)
    simulation.internet.heal()


def test_a_worker_brings_its_sets_home_before_it_needs_them() -> None:
    plan = replace(SCENARIOS["digits"].plan(4, 1), trouble=cut_off_for_the_proofs, order=Order(samples=6))
    simulation, report = play_plan(plan, "cut-proof")
    check_books(simulation, report)
    assert report.slashed_wei == 0
    assert report.workers[1].proofs == 6


async def lose_a_disk(simulation: Simulation) -> None:
    """A worker comes back for the proofs without anything that it had written down."""
    victim = await simulation.wait_worker(1)
    await simulation.wait(ProvingStarted)
    victim.kill()
    victim.machine.disk.records.clear()
    victim.start()
    await simulation.wait(JobEnded)


def test_who_cannot_prove_its_work_loses_its_stake() -> None:
    plan = replace(SCENARIOS["digits"].plan(4, 1), trouble=lose_a_disk)
    simulation, report = play_plan(plan, "lost-disk")
    victim, others = report.workers[1], (report.workers[0], report.workers[2])
    assert report.balanced
    assert report.square
    assert (victim.proofs, victim.paid_wei) == (0, 0)
    assert victim.slashed_wei == report.slashed_wei == simulation.order.stake_wei
    assert [w.paid_wei for w in others] == [BUDGET_WEI // SEATS] * 2
    assert report.faults > 0  # its prover fell, was started again, and was given up


def test_a_kill_in_bad_weather() -> None:
    weather = Weather(latency_s=0.15, jitter_s=0.1, loss=0.1, upload_bytes_s=200_000)
    plan = replace(SCENARIOS["digits"].plan(4, 3), trouble=kill_worker, weather=weather)
    simulation, report = play_plan(plan, "slow-kill")
    check_books(simulation, report)
    assert report.state == "settled"
    assert report.slashed_wei == 0
