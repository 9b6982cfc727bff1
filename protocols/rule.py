"""Rules: how many updates become one, by name, whatever up to a third of the workers sends.

A rule's name is a chain, `stage+…+base`. A stage turns the updates into as many or fewer mixtures of
them; the base makes one vector of what is left. Stages and most bases look only at inner products and
answer with integer weights, so that a vector of any length costs one pass to look and one to add up.
Ties go to the earlier row. Spec: protocols/README.md, "Aggregation".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from protocols.codec import Integers
from protocols.gram import Exact
from protocols.verdict import Reject

UNIT = 1 << 16  # a weight of one
WEISZFELD_STEPS = 8  # of a geometric median; the eighth moves it by a thousandth of the spread
CLIPPING_STEPS = 3
OUTLIER_LENGTHS = 3
SOFTENING = 16  # a point nearer to the median than a sixteenth of the usual distance weighs no more


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a chain has made of the updates so far: m mixtures of the k rows that came."""

    base: Exact
    """i[k, k] inner products; where there is a history, the last row is the momentum and no update."""
    mixing: Exact
    """i[m, k], in UNITs."""
    liars: int
    """How many of the m rows may be lies."""
    has_history: bool

    @property
    def gram(self) -> Exact:
        """i[m, m] inner products of the mixtures, in UNIT²."""
        product: Exact = self.mixing @ self.base @ self.mixing.T
        return product


Stage = Callable[[Cohort], Cohort]
Weigh = Callable[[Cohort], Exact]
"""Returns i[k] in UNITs: how much of each row goes into the result."""
Reduce = Callable[[Integers, int], Integers]
"""(i64[m, C], liars) -> i64[C], coordinate by coordinate."""


class Rule(NamedTuple):
    stages: tuple[Stage, ...]
    weigh: Weigh | None
    reduce: Reduce
    """Over the mixtures; over the one weighted sum where the rule weighs."""
    needs_dense: bool
    """Whether an absent coordinate, taken as zero, would outvote those that are there."""
    needs_history: bool
    """Whether it asks for the momentum of past updates."""

    @property
    def needs_gram(self) -> bool:
        return bool(self.stages) or self.weigh is not None


def find_rule(name: str) -> Rule | Reject:
    *stages, base = name.split("+")
    if base not in (*REDUCING, *WEIGHING):
        return Reject(f"unknown rule {base!r}: known are {', '.join((*REDUCING, *WEIGHING))}")
    for stage in stages:
        if stage not in STAGES:
            return Reject(f"unknown stage {stage!r} of a rule: known are {', '.join(STAGES)}")
    if len(set(stages)) < len(stages):
        return Reject(f"rule {name!r} has a stage twice")
    chain = tuple(STAGES[stage] for stage in stages)
    history = "history" in stages or base == "centered_clip"
    if base == "mean" and chain:  # a mean of mixtures is a mixture
        return Rule(chain, weigh_mean, _take_only, needs_dense=False, needs_history=history)
    if base in WEIGHING:
        return Rule(chain, WEIGHING[base], _take_only, needs_dense=False, needs_history=history)
    return Rule(chain, None, REDUCING[base], needs_dense=base != "mean", needs_history=history)


def begin_cohort(gram: Exact, *, liars: int, has_history: bool) -> Cohort:
    count = len(gram) - has_history
    mixing = np.zeros((count, len(gram)), object)
    np.fill_diagonal(mixing, UNIT)
    return Cohort(gram, mixing, liars, has_history)


# -- Stages --------------------------------------------------------------------


def clip_norms(cohort: Cohort) -> Cohort:
    """Shorten what is longer than the median length to that length."""
    lengths = [isqrt(v) for v in np.diag(cohort.gram)]
    limit = _median(lengths)
    factors = [UNIT if length <= limit else limit * UNIT // length for length in lengths]
    return replace(cohort, mixing=_round(_column(factors) * cohort.mixing, UNIT))


def follow_history(cohort: Cohort) -> Cohort:
    """Drop those that point most against the momentum: as many as may be lies, and none that points along it."""
    along = (cohort.mixing @ cohort.base[:, -1]).tolist()
    lengths = np.diag(cohort.gram).tolist()
    against = {row: Fraction(a * a, lengths[row]) for row, a in enumerate(along) if a < 0}
    dropped = sorted(against, key=lambda row: (-against[row], row))[: cohort.liars]
    kept = [row for row in range(len(along)) if row not in dropped]
    return replace(cohort, mixing=cohort.mixing[kept], liars=cohort.liars - len(dropped))


def mix_neighbours(cohort: Cohort) -> Cohort:
    """Replace each row by the mean of its m − f nearest, itself among them (Allouah et al., arXiv:2302.01772)."""
    nearest = _order_by_distance(cohort)[:, : len(cohort.mixing) - cohort.liars]
    mixtures = np.stack([cohort.mixing[rows].sum(axis=0) for rows in nearest])
    return replace(cohort, mixing=_round(mixtures, nearest.shape[1]))


def find_outliers(cohort: Cohort, weights: Exact) -> tuple[int, ...]:
    """Return which of the rows that came point against the result, or are longer than OUTLIER_LENGTHS usual ones."""
    count = len(cohort.base) - cohort.has_history
    along = (cohort.base @ weights)[:count].tolist()
    lengths = [isqrt(v) for v in np.diag(cohort.base)[:count]]
    limit = OUTLIER_LENGTHS * _median(lengths)
    return tuple(row for row in range(count) if along[row] < 0 or lengths[row] > limit)


# -- Bases that weigh ----------------------------------------------------------


def weigh_mean(cohort: Cohort) -> Exact:
    return _average(cohort.mixing, [UNIT] * len(cohort.mixing))


def weigh_krum(cohort: Cohort) -> Exact:
    """Mean of the m − f rows whose m − f − 2 nearest others are closest (multi-Krum, arXiv:1703.02757)."""
    count = len(cohort.mixing)
    distances = np.sort(_square_distances(cohort), axis=1)
    scores = distances[:, 1 : max(count - cohort.liars - 1, 2)].sum(axis=1).tolist()
    chosen = sorted(range(count), key=lambda row: (scores[row], row))[: count - cohort.liars]
    return _average(cohort.mixing, [UNIT * (row in chosen) for row in range(count)])


def weigh_geometric_median(cohort: Cohort) -> Exact:
    """The point whose distances to the rows sum to the least, by Weiszfeld's steps from the most central row."""
    gram, count = cohort.gram, len(cohort.mixing)
    sums = [sum(map(isqrt, row)) for row in _square_distances(cohort).tolist()]
    shares = [UNIT * (row == sums.index(min(sums))) for row in range(count)]
    for _ in range(WEISZFELD_STEPS):
        distances = _distances_from(gram, shares)
        nearest = max(_median(distances) // SOFTENING, 1)
        shares = [nearest * UNIT // max(distance, nearest) for distance in distances]
    return _average(cohort.mixing, shares)


def weigh_centered_clip(cohort: Cohort) -> Exact:
    """Steps from the usual update towards the mean, each pull no longer than the median one (arXiv:2012.10333)."""
    count, width = cohort.mixing.shape
    centre = np.zeros(width, object)
    if cohort.has_history:  # the momentum of a steady update u is u / (1 − μ): this scales it back
        centre[-1] = UNIT * (MOMENTUM_UNIT - MOMENTUM) // MOMENTUM_UNIT
    for _ in range(CLIPPING_STEPS):
        pulls = cohort.mixing - centre
        lengths = [isqrt(pull @ cohort.base @ pull) for pull in pulls]
        limit = _median(lengths)
        factors = [UNIT if length <= limit else limit * UNIT // length for length in lengths]
        centre = centre + _round((_column(factors) * pulls).sum(axis=0), UNIT * count)
    return centre


# -- Bases by coordinate -------------------------------------------------------


def _take_only(rows: Integers, liars: int = 0) -> Integers:
    only: Integers = rows[0]
    return only


def compute_mean(updates: Integers, liars: int = 0) -> Integers:
    return divide(updates.sum(axis=0), len(updates))


def compute_median(updates: Integers, liars: int = 0) -> Integers:
    """Of an even number the mean of the middle two."""
    return _mean_of_middle(updates, (len(updates) - 1) // 2)


def compute_trimmed_mean(updates: Integers, liars: int) -> Integers:
    """Mean without as many of the largest and of the smallest as may be lies."""
    return _mean_of_middle(updates, min(liars, (len(updates) - 1) // 2))


def _mean_of_middle(updates: Integers, trimmed: int) -> Integers:
    ordered = np.sort(updates, axis=0)
    return compute_mean(ordered[trimmed : len(updates) - trimmed])


def divide(values: Integers, divisor: int) -> Integers:
    """Divide by a positive integer, to the nearest, halves away from zero."""
    quotient: Integers = np.sign(values) * ((2 * np.abs(values) + divisor) // (2 * divisor))
    return quotient


# -- The names -----------------------------------------------------------------

# The momentum m' = μ·m + u of what was applied, in 256ths: history for rules, and DiLoCo's for the outer optimizer.
MOMENTUM_UNIT = 256
MOMENTUM = 230

STAGES: Mapping[str, Stage] = MappingProxyType(
    {"clip": clip_norms, "history": follow_history, "neighbours": mix_neighbours}
)
WEIGHING: Mapping[str, Weigh] = MappingProxyType(
    {
        "multi_krum": weigh_krum,
        "geometric_median": weigh_geometric_median,
        "centered_clip": weigh_centered_clip,
    }
)
REDUCING: Mapping[str, Reduce] = MappingProxyType(
    {"mean": compute_mean, "median": compute_median, "trimmed_mean": compute_trimmed_mean}
)

# -- Exact arithmetic ----------------------------------------------------------


def _square_distances(cohort: Cohort) -> Exact:
    gram = cohort.gram
    lengths = np.diag(gram)
    distances: Exact = lengths[:, None] + lengths[None, :] - 2 * gram
    return distances


def _order_by_distance(cohort: Cohort) -> Integers:
    """Return i64[m, m]: for each row all rows, nearest first, itself the first of all."""
    distances = _square_distances(cohort)
    count = len(distances)
    return np.array([sorted(range(count), key=lambda j: (distances[i, j], j != i, j)) for i in range(count)])


def _distances_from(gram: Exact, shares: list[int]) -> list[int]:
    """Return how far each row is from the mean weighted by shares, in units that they have in common."""
    weights, whole = np.array(shares, object), sum(shares)
    towards = gram @ weights
    middle = weights @ towards
    return [isqrt(middle - 2 * whole * t + whole * whole * v) for t, v in zip(towards, np.diag(gram), strict=True)]


def _average(mixing: Exact, shares: list[int]) -> Exact:
    return _round(np.array(shares, object) @ mixing, sum(shares))


def _round(values: Exact, divisor: int) -> Exact:
    """Divide by a positive integer, to the nearest, halves up."""
    rounded: Exact = (2 * values + divisor) // (2 * divisor)
    return rounded


def _median(values: list[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def _column(values: list[int]) -> Exact:
    return np.array(values, object)[:, None]
