"""Plays a scenario once and hands the outcome to every test that asks for it."""

from __future__ import annotations

from functools import lru_cache, partial

from sim.determinism import run
from sim.journal import Journal
from sim.report import Report, build_report
from sim.scenario import SCENARIOS
from sim.simulation import Plan, Simulation, simulate
from sim.trace import Trace


@lru_cache(maxsize=32)
def play(scenario: str, seed: int = 1, nodes: int = 4) -> tuple[Simulation, Report]:
    return play_plan(SCENARIOS[scenario].plan(nodes, seed), scenario)


def play_plan(plan: Plan, name: str) -> tuple[Simulation, Report]:
    journal = Journal()
    with journal.open():
        simulation = run(plan.seed, partial(simulate, plan, Trace()))
    return simulation, build_report(simulation, name, len(journal.faults))
