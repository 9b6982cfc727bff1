"""Workers that cheat in a job whose training is proved, each in its own way; all else about them is honest."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation import Vector
from protocols.training_step import Integers, StepSpec
from protocols.verdict import Reject
from sim.compute import SimCompute
from sim.model import Rows


class Idler(SimCompute):
    """Takes every other step only, and commits to as many states as were asked for."""

    def take_steps(self, step: StepSpec, start: Vector, pages: Sequence[Rows]) -> list[Integers] | Reject:
        taken = super().take_steps(step, start, pages[::2])
        return taken if isinstance(taken, Reject) else [taken[(i + 1) // 2] for i in range(len(pages) + 1)]


class Cherrypicker(SimCompute):
    """Trains on one page that it likes instead of those that are its own."""

    def take_steps(self, step: StepSpec, start: Vector, pages: Sequence[Rows]) -> list[Integers] | Reject:
        return super().take_steps(step, start, [pages[0]] * len(pages))


class Stranger(SimCompute):
    """Begins from weights of its own, and sends what leads the others there."""

    def take_steps(self, step: StepSpec, start: Vector, pages: Sequence[Rows]) -> list[Integers] | Reject:
        return super().take_steps(step, start // 2, pages)


class Poisoner(SimCompute):
    """Trains honestly, and sends the opposite."""

    def choose_delta(self, start: Vector, weights: Vector) -> Integers:
        return -3 * super().choose_delta(start, weights)


LIARS: dict[str, type[SimCompute]] = {
    "idler": Idler,
    "cherrypicker": Cherrypicker,
    "stranger": Stranger,
    "poisoner": Poisoner,
}
