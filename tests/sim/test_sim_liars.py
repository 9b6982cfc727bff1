"""A worker that cheats in a proved job: what it loses by it, and that nobody else loses anything."""

from __future__ import annotations

import pytest
from sim_play import play

from protocols.chain import RoundCommitted
from sim.report import Report, WorkerLine
from sim.simulation import Simulation

SEED, SEATS, BUDGET_WEI = 1, 3, 240_000_000_000_000_000


@pytest.mark.parametrize("liar", ["idler", "cherrypicker"])
def test_steps_that_were_not_taken_cost_the_stake(liar: str) -> None:
    """It is voted for, since both ends fit; then it can't prove what it drew."""
    simulation, report = play(f"digits-{liar}", SEED, nodes=SEATS)
    cheat, honest = _split(simulation, report)
    assert report.state == "settled"
    assert cheat.rounds == 8
    assert cheat.proofs < simulation.order.samples
    assert (cheat.paid_wei, cheat.slashed_wei) == (0, simulation.order.stake_wei)
    assert [(w.proofs, w.paid_wei, w.slashed_wei) for w in honest] == [(8, BUDGET_WEI // SEATS, 0)] * 2
    assert report.balanced
    assert report.training == "not proved"  # its updates are in the model


@pytest.mark.parametrize("liar", ["stranger", "poisoner"])
def test_an_update_that_the_steps_do_not_lead_to_is_in_no_certificate(liar: str) -> None:
    simulation, report = play(f"digits-{liar}", SEED, nodes=SEATS)
    cheat, honest = _split(simulation, report)
    assert (report.state, report.training) == ("settled", "proved")
    assert (cheat.rounds, cheat.paid_wei, cheat.slashed_wei) == (0, 0, 0)
    assert [(w.rounds, w.proofs, w.paid_wei) for w in honest] == [(8, 8, BUDGET_WEI // SEATS)] * 2
    assert report.accuracy is not None
    assert report.accuracy > 0.9
    rounds = [event for event in simulation.chain.events if isinstance(event, RoundCommitted)]
    assert {event.participants.bit_count() for event in rounds} == {2}


def _split(simulation: Simulation, report: Report) -> tuple[WorkerLine, list[WorkerLine]]:
    cheat = next(worker for worker in report.workers if worker.node == "node-0")
    return cheat, [worker for worker in report.workers if worker is not cheat]
