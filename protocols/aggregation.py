"""Aggregation: many updates to one state, in integers, so that every honest node computes the same bits.

    updates i64[n, P] --rule--> u i64[P] --outer optimizer--> θ_{r+1} i32[P], momentum i32[P] or none

`protocols/rule.py` has the rules. Rounding is to the nearest integer, halves away from zero.
Spec: protocols/README.md, "Aggregation".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.codec import CODECS, Integers
from protocols.gram import combine_rows, compute_gram, iterate_chunks
from protocols.rule import (
    MOMENTUM,
    MOMENTUM_UNIT,
    UNIT,
    Rule,
    begin_cohort,
    divide,
    find_outliers,
    find_rule,
    weigh_mean,
)
from protocols.verdict import Reject

Vector = NDArray[np.int32]

INT32 = np.iinfo(np.int32)
MAX_UPDATES = 64  # seats of a job; with the codecs' MAX_ABS < 2**34 every product here stays below 2**53


class Outer(NamedTuple):
    """An outer optimizer: applies the combined update to the global state."""

    advance: Callable[[Integers, Integers, Integers], Integers]
    """(θ, momentum', update) -> θ', all i64[P]; the caller clips to 32 bits."""
    has_momentum: bool


class State(NamedTuple):
    """All that the next state depends on besides the updates; as bytes, `weights` and then `momentum`."""

    weights: Vector
    momentum: Vector | None
    """m' = μ·m + u, of the updates that were applied; None where neither rule nor outer optimizer asks for it."""


class Outcome(NamedTuple):
    state: State
    outliers: tuple[int, ...]
    """Positions of the updates that a rule by distances found far off; empty with any other rule."""


# -- What goes together --------------------------------------------------------


def validate_recipe(codec: str, rule: str, outer: str) -> Reject | None:
    """Return why a job can't be packed with these names; None if it can."""
    for kind, name, known in (("codec", codec, CODECS), ("outer optimizer", outer, OUTERS)):
        if name not in known:
            return Reject(f"unknown {kind} {name!r}: known are {', '.join(known)}")
    found = find_rule(rule)
    if isinstance(found, Reject):
        return found
    if found.needs_dense and not CODECS[codec].is_dense:
        return Reject(f"rule {rule!r} over sparse {codec!r} updates learns nothing")
    return None


def compute_state_length(parameters: int, rule: str, outer: str) -> int:
    """Return how many integers a state blob holds: θ, and the momentum where there is one."""
    found = find_rule(rule)
    has_history = isinstance(found, Rule) and found.needs_history
    return parameters * (2 if has_history or OUTERS[outer].has_momentum else 1)


def begin_state(weights: Vector, rule: str, outer: str) -> State:
    """Return the state before the first round: at rest."""
    has_momentum = compute_state_length(len(weights), rule, outer) > len(weights)
    return State(weights, np.zeros_like(weights) if has_momentum else None)


def join_state(state: State) -> Vector:
    return state.weights if state.momentum is None else np.concatenate([state.weights, state.momentum])


def split_state(vector: Vector, parameters: int) -> State:
    """Undo `join_state`; the vector's length was checked."""
    return State(vector[:parameters], vector[parameters:] if len(vector) > parameters else None)


# -- Aggregate -----------------------------------------------------------------


def aggregate(state: State, updates: Sequence[Integers], *, rule: str, outer: str, seats: int = 0) -> Outcome:
    """Return the next global state.

    Updates are what a codec decoded: i64[P] within ±MAX_ABS, in seat order. Fewer than a third of `seats` workers
    may lie, and 0 seats means as many as there are updates. ValueError unless there are 1 … 64 updates, or for a
    rule of no such name.
    """
    found = find_rule(rule)
    if not 0 < len(updates) <= MAX_UPDATES or isinstance(found, Reject):
        raise ValueError(f"{len(updates)} updates by {rule!r}")
    liars = min((max(seats, len(updates)) - 1) // 3, (len(updates) - 1) // 2)
    history = [state.momentum.astype(np.int64)] if found.needs_history and state.momentum is not None else []
    rows = [*updates, *history]
    combine, outliers = _plan(found, rows, liars, has_history=bool(history))
    advance = OUTERS[outer].advance
    weights = np.empty_like(state.weights)
    momentum = None if state.momentum is None else np.empty_like(state.momentum)
    for part in iterate_chunks(len(weights)):
        combined = combine(np.stack([row[part] for row in rows]))
        gathered = combined
        if momentum is not None and state.momentum is not None:
            kept = divide(MOMENTUM * state.momentum[part].astype(np.int64), MOMENTUM_UNIT)
            momentum[part] = _to_int32(kept + combined)
            gathered = momentum[part].astype(np.int64)
        weights[part] = _to_int32(advance(state.weights[part].astype(np.int64), gathered, combined))
    return Outcome(State(weights, momentum), outliers)


Combine = Callable[[Integers], Integers]
"""(i64[k, C]) -> i64[C]: one chunk of the rows."""


def _plan(rule: Rule, rows: Sequence[Integers], liars: int, *, has_history: bool) -> tuple[Combine, tuple[int, ...]]:
    """Look at the rows once; return how any chunk of them is combined, and the outliers."""
    if not rule.needs_gram:
        return lambda block: rule.reduce(block, liars), ()
    began = begin_cohort(compute_gram(rows), liars=liars, has_history=has_history)
    cohort = reduce(lambda before, stage: stage(before), rule.stages, began)
    weights = (rule.weigh or weigh_mean)(cohort)
    mixing = (cohort.mixing if rule.weigh is None else weights[None, :]).astype(np.int64)

    def combine(block: Integers) -> Integers:
        return rule.reduce(divide(combine_rows(mixing, block), UNIT), cohort.liars)

    return combine, find_outliers(cohort, weights)


def _to_int32(values: Integers) -> Vector:
    return np.clip(values, INT32.min, INT32.max).astype(np.int32)


# -- Outer optimizers ----------------------------------------------------------

# DiLoCo's outer Nesterov (arXiv:2311.08105: learning rate 0.7, momentum 0.9) in 256ths.
OUTER_UNIT = 256
OUTER_LEARNING_RATE = 179


def _add(weights: Integers, momentum: Integers, update: Integers) -> Integers:
    return weights + update


def _nesterov(weights: Integers, momentum: Integers, update: Integers) -> Integers:
    """θ' = θ + η·(μ·m' + u)."""
    ahead = MOMENTUM * momentum + MOMENTUM_UNIT * update
    return weights + divide(OUTER_LEARNING_RATE * ahead, OUTER_UNIT * MOMENTUM_UNIT)


OUTERS: Mapping[str, Outer] = MappingProxyType(
    {"none": Outer(_add, has_momentum=False), "nesterov": Outer(_nesterov, has_momentum=True)}
)
