"""Aggregation: many updates to one state, in integers, so that every honest node computes the same bits.

    updates i64[n, P] --rule--> u i64[P] --outer optimizer--> θ_{r+1} i32[P], momentum i32[P] or none

No order of the updates changes the result. Rounding is to the nearest integer, halves away from zero.
Spec: protocols/README.md, "Aggregation".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.codec import CODECS, Integers
from protocols.verdict import Reject

Vector = NDArray[np.int32]

INT32 = np.iinfo(np.int32)
MAX_UPDATES = 64  # seats of a job; with the codecs' MAX_ABS < 2**34 every product here stays below 2**52
CHUNK = 1 << 16  # columns at a time: n · 64 Ki · 8 bytes stay near the cache, and memory does not grow by n


class Rule(NamedTuple):
    combine: Callable[[Integers], Integers]
    """(i64[n, P]) -> i64[P]."""
    needs_dense: bool
    """Whether an absent coordinate, taken as zero, would outvote those that are there."""


class Outer(NamedTuple):
    """An outer optimizer: applies the combined update to the global state."""

    step: Callable[[Integers, Integers, Integers], tuple[Integers, Integers]]
    """(θ, momentum, update) -> (θ', momentum'), all i64[P]; the caller clips to 32 bits."""
    has_momentum: bool


class State(NamedTuple):
    """All that the next state depends on besides the updates; as bytes, `weights` and then `momentum`."""

    weights: Vector
    momentum: Vector | None
    """None for an outer optimizer that has none."""


# -- What goes together --------------------------------------------------------


def validate_recipe(codec: str, rule: str, outer: str) -> Reject | None:
    """Return why a job can't be packed with these names; None if it can."""
    for kind, name, known in (("codec", codec, CODECS), ("rule", rule, RULES), ("outer optimizer", outer, OUTERS)):
        if name not in known:
            return Reject(f"unknown {kind} {name!r}: known are {', '.join(known)}")
    if RULES[rule].needs_dense and not CODECS[codec].is_dense:
        return Reject(f"rule {rule!r} over sparse {codec!r} updates learns nothing")
    return None


def compute_state_length(parameters: int, outer: str) -> int:
    """Return how many integers a state blob holds: θ, and the momentum where the outer optimizer has one."""
    return parameters * (2 if OUTERS[outer].has_momentum else 1)


def join_state(state: State) -> Vector:
    return state.weights if state.momentum is None else np.concatenate([state.weights, state.momentum])


def split_state(vector: Vector, parameters: int) -> State:
    """Undo `join_state`; the vector's length was checked."""
    return State(vector[:parameters], vector[parameters:] if len(vector) > parameters else None)


def aggregate(state: State, updates: Sequence[Integers], *, rule: str, outer: str) -> State:
    """Return the next global state.

    Updates are what a codec decoded: i64[P] within ±MAX_ABS. ValueError unless there are 1 … 64 of them.
    """
    if not 0 < len(updates) <= MAX_UPDATES:
        raise ValueError(f"{len(updates)} updates")
    combine, (advance, has_momentum) = RULES[rule].combine, OUTERS[outer]
    weights = np.empty_like(state.weights)
    momentum = np.zeros_like(state.weights) if state.momentum is None else state.momentum.copy()
    for start in range(0, len(weights), CHUNK):
        part = slice(start, start + CHUNK)
        combined = combine(np.stack([update[part] for update in updates]))
        next_weights, next_momentum = advance(
            state.weights[part].astype(np.int64), momentum[part].astype(np.int64), combined
        )
        weights[part], momentum[part] = _to_int32(next_weights), _to_int32(next_momentum)
    return State(weights, momentum if has_momentum else None)


def _to_int32(values: Integers) -> Vector:
    return np.clip(values, INT32.min, INT32.max).astype(np.int32)


# -- Rules ---------------------------------------------------------------------


def compute_mean(updates: Integers) -> Integers:
    return _divide(updates.sum(axis=0), len(updates))


def compute_median(updates: Integers) -> Integers:
    """Coordinate-wise; of an even number the mean of the middle two."""
    middle = (len(updates) - 1) // 2
    ordered = np.sort(updates, axis=0)
    return compute_mean(ordered[middle : len(updates) - middle])


def compute_trimmed_mean(updates: Integers) -> Integers:
    """Coordinate-wise mean without the ⌊(n−1)/3⌋ largest and smallest: as many as a certificate's quorum lets lie."""
    trimmed = (len(updates) - 1) // 3
    ordered = np.sort(updates, axis=0)
    return compute_mean(ordered[trimmed : len(updates) - trimmed])


def _divide(values: Integers, divisor: int) -> Integers:
    """Divide by a positive integer, to the nearest, halves away from zero."""
    quotient: Integers = np.sign(values) * ((2 * np.abs(values) + divisor) // (2 * divisor))
    return quotient


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "mean": Rule(compute_mean, needs_dense=False),
        "median": Rule(compute_median, needs_dense=True),
        "trimmed_mean": Rule(compute_trimmed_mean, needs_dense=True),
    }
)

# -- Outer optimizers ----------------------------------------------------------

# DiLoCo's outer Nesterov (arXiv:2311.08105: learning rate 0.7, momentum 0.9) in 256ths.
OUTER_UNIT = 256
OUTER_LEARNING_RATE = 179
OUTER_MOMENTUM = 230


def _add(weights: Integers, momentum: Integers, update: Integers) -> tuple[Integers, Integers]:
    return weights + update, momentum


def _nesterov(weights: Integers, momentum: Integers, update: Integers) -> tuple[Integers, Integers]:
    """m' = μ·m + u; θ' = θ + η·(μ·m' + u)."""
    gathered = np.clip(_divide(OUTER_MOMENTUM * momentum, OUTER_UNIT) + update, INT32.min, INT32.max)
    ahead = OUTER_MOMENTUM * gathered + OUTER_UNIT * update
    return weights + _divide(OUTER_LEARNING_RATE * ahead, OUTER_UNIT * OUTER_UNIT), gathered


OUTERS: Mapping[str, Outer] = MappingProxyType(
    {"none": Outer(_add, has_momentum=False), "nesterov": Outer(_nesterov, has_momentum=True)}
)
