"""Rules by distances: their inner products are exact, their choices the papers', their liars without effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols.aggregation import State, aggregate, begin_state
from protocols.codec import MAX_ABS, Integers
from protocols.gram import CHUNK, compute_gram
from protocols.rule import Rule, begin_cohort, find_rule, mix_neighbours

VECTORS = Path(__file__).parents[1] / "vectors" / "aggregate"

stacks = st.tuples(st.integers(1, 7), st.integers(1, 5)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(-MAX_ABS, MAX_ABS) | st.integers(-300, 300))
)


def combine(rule: str, updates: Integers, momentum: Integers | None = None) -> Integers:
    state = begin_state(np.zeros(updates.shape[1], np.int32), rule, "none")
    if momentum is not None:
        state = state._replace(momentum=momentum.astype(np.int32))
    return aggregate(state, list(updates), rule=rule, outer="none").state.weights.astype(np.int64)


def draw_updates(seed: int, honest: int = 7, length: int = 40) -> Integers:
    """Noise around a common direction, as of workers with data of their own."""
    rng = np.random.default_rng(seed)
    return np.rint(1000 * rng.normal(1, 0.5, length) + 400 * rng.normal(0, 1, (honest, length))).astype(np.int64)


# -- Inner products ------------------------------------------------------------


@given(stacks)
def test_inner_products_are_exact(rows: Integers) -> None:
    expected = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows.tolist()] for x in rows.tolist()]
    assert compute_gram(list(rows)).tolist() == expected


def test_long_extremes_are_exact() -> None:
    length = 2 * CHUNK + 7
    rows = [np.full(length, MAX_ABS), np.full(length, -MAX_ABS), np.arange(length)]
    gram = compute_gram(rows)
    assert gram[0, 0] == -gram[0, 1] == length * MAX_ABS**2
    assert gram[0, 2] == MAX_ABS * sum(range(length))


# -- Against the papers --------------------------------------------------------


@given(st.integers(0, 10**6))
def test_multi_krum_is_the_papers(seed: int) -> None:
    updates = draw_updates(seed).astype(float)
    squares = ((updates[:, None] - updates[None]) ** 2).sum(axis=2)
    scores = np.sort(squares, axis=1)[:, 1:4].sum(axis=1)  # m − f − 2 = 3 others
    chosen = updates[np.argsort(scores, kind="stable")[:5]]
    np.testing.assert_allclose(combine("multi_krum", updates.astype(np.int64)), chosen.mean(axis=0), atol=0.6)


@given(st.integers(0, 10**6))
def test_the_geometric_median_is_nearly_the_nearest_to_all(seed: int) -> None:
    updates = draw_updates(seed).astype(float)
    point = updates.mean(axis=0)
    for _ in range(100):
        weights = 1 / np.linalg.norm(updates - point, axis=1)
        point = weights @ updates / weights.sum()
    found = combine("geometric_median", updates.astype(np.int64))
    spread = np.linalg.norm(updates - point, axis=1).mean()
    assert np.linalg.norm(found - point) < 0.01 * spread


@given(st.integers(0, 10**6))
def test_neighbours_are_mixed_as_in_the_paper(seed: int) -> None:
    updates = draw_updates(seed)
    squares = ((updates[:, None] - updates[None]) ** 2).sum(axis=2)
    expected = [updates[np.argsort(row, kind="stable")[:5]].mean(axis=0) for row in squares]
    cohort = mix_neighbours(begin_cohort(compute_gram(list(updates)), liars=2, has_history=False))
    np.testing.assert_allclose(cohort.mixing.astype(float) / 65536 @ updates, expected, atol=0.3)


def test_centered_clipping_starts_from_the_history() -> None:
    updates = np.array([[100, 0], [110, 0], [90, 10], [100, -10], [-90000, 0]])
    steady = np.array([[1000, 0]])[0]  # about 100 / (1 − 230/256)
    assert np.linalg.norm(combine("centered_clip", updates, steady) - [100, 0]) < 10


# -- Liars ---------------------------------------------------------------------

ROBUST = (
    "multi_krum",
    "geometric_median",
    "neighbours+median",
    "neighbours+geometric_median",
    "clip+neighbours+trimmed_mean",
)


@given(st.integers(0, 10**6), st.sampled_from(ROBUST), st.sampled_from([-100, -10, 30, 10**5]))
def test_liars_far_off_hardly_count(seed: int, rule: str, factor: int) -> None:
    honest = draw_updates(seed)
    middle = honest.mean(axis=0)
    lies = np.rint(factor * np.stack([middle, middle * 1.01, middle * 0.99])).astype(np.int64)
    spread = np.linalg.norm(honest - middle, axis=1).max()
    assert np.linalg.norm(combine(rule, np.vstack([honest, lies])) - middle) < spread


@given(st.integers(0, 10**6))
def test_history_sees_what_hides_in_the_middle(seed: int) -> None:
    """Inner-product manipulation by half: closer to everyone than the honest are to each other."""
    honest = draw_updates(seed)
    middle = honest.mean(axis=0)
    lies = np.rint(np.stack([-middle / 2] * 3)).astype(np.int64)
    updates = np.vstack([honest, lies])
    history = np.rint(10 * draw_updates(seed, honest=1)[0])
    np.testing.assert_allclose(combine("history+mean", updates, history), middle, atol=1)
    state = State(np.zeros(40, np.int32), history.astype(np.int32))
    assert aggregate(state, list(updates), rule="history+mean", outer="none").outliers == (7, 8, 9)


def test_history_drops_no_more_than_may_lie() -> None:
    updates = np.array([[-1, 0], [-2, 0], [-3, 0], [-4, 0]])
    assert combine("history+mean", updates, np.array([1, 0])).tolist() == [-3, 0]


def test_a_set_without_some_seats_still_counts_their_liars() -> None:
    """A liar that leads may leave honest updates out: of ten seats three may lie, whoever is in the set."""
    updates = [np.array([v]) for v in (1, 2, 3, 4, 900, 901, 902)]
    state = begin_state(np.zeros(1, np.int32), "trimmed_mean", "none")
    of_seven = aggregate(state, updates, rule="trimmed_mean", outer="none").state.weights[0]
    of_ten = aggregate(state, updates, rule="trimmed_mean", outer="none", seats=10).state.weights[0]
    assert (of_seven, of_ten) == (302, 4)


@given(stacks, st.sampled_from([*ROBUST, "centered_clip", "clip+history+mean"]))
def test_any_updates_give_a_state(updates: Integers, rule: str) -> None:
    assert combine(rule, updates).shape == updates.shape[1:]


@given(st.integers(0, 10**6), st.sampled_from(ROBUST))
def test_where_nothing_ties_order_changes_little(seed: int, rule: str) -> None:
    updates = draw_updates(seed)
    np.testing.assert_allclose(combine(rule, updates), combine(rule, updates[::-1]), atol=1)


# -- Vectors -------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_vectors(path: Path) -> None:
    """The same integers on every machine; `rule` names and results are part of the protocol."""
    vector: dict[str, Any] = json.loads(path.read_text())
    updates = [np.array(u, np.int64) for u in vector["updates"]]
    for case in vector["cases"]:
        weights, momentum = (np.array(vector[name], np.int32) for name in ("weights", "momentum"))
        has_momentum = begin_state(weights, case["rule"], case["outer"]).momentum is not None
        state = State(weights, momentum if has_momentum else None)
        outcome = aggregate(state, updates, rule=case["rule"], outer=case["outer"], seats=vector["seats"])
        found = [outcome.state.weights.tolist(), outcome.outliers]
        assert found == [case["next_weights"], tuple(case["outliers"])], case["rule"]
        if outcome.state.momentum is not None:
            assert outcome.state.momentum.tolist() == case["next_momentum"]


def test_the_vectors_name_every_rule() -> None:
    rules = {case["rule"] for path in VECTORS.glob("*.json") for case in json.loads(path.read_text())["cases"]}
    assert all(isinstance(find_rule(rule), Rule) for rule in rules)
    assert rules >= {"mean", "median", "trimmed_mean", "multi_krum", "geometric_median", "centered_clip"}
