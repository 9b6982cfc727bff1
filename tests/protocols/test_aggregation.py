"""Aggregation: exact, blind to order, unmoved by fewer liars than a third."""

from fractions import Fraction
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols import aggregation
from protocols.aggregation import INT32, OUTERS, State, aggregate, begin_state, validate_recipe
from protocols.codec import MAX_ABS, Integers
from protocols.gram import CHUNK
from protocols.verdict import Reject

stacks = st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(-MAX_ABS, MAX_ABS))
)
small = st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(-20, 20))
)


REDUCING = ("mean", "median", "trimmed_mean")
RULES = (
    *REDUCING,
    "multi_krum",
    "geometric_median",
    "centered_clip",
    "clip+history+neighbours+mean",
    "neighbours+median",
)


def zeros(count: int, rule: str = "mean", outer: str = "none") -> State:
    return begin_state(np.zeros(count, np.int32), rule, outer)


def combine(rule: str, updates: Integers) -> Integers:
    """What the rule makes of the updates: the step of a state at zero."""
    return aggregate(zeros(updates.shape[1]), list(updates), rule=rule, outer="none").state.weights.astype(np.int64)


def cut(value: int) -> int:
    return min(max(value, INT32.min), INT32.max)


def to_nearest(value: Fraction) -> int:
    """Halves away from zero, by exact fractions."""
    magnitude = int(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


@given(stacks | small)
def test_rules_are_the_textbook_ones(updates: Integers) -> None:
    trimmed = (len(updates) - 1) // 3
    for column, (mean, middle, inner) in enumerate(zip(*(combine(r, updates) for r in REDUCING), strict=True)):
        values = sorted(int(v) for v in updates[:, column])
        kept = values[trimmed : len(values) - trimmed]
        assert mean == cut(to_nearest(Fraction(sum(values), len(values))))
        assert middle == cut(to_nearest(Fraction(median(map(Fraction, values)))))
        assert inner == cut(to_nearest(Fraction(sum(kept), len(kept))))


@given(stacks, st.randoms(use_true_random=False), st.sampled_from(REDUCING), st.sampled_from(sorted(OUTERS)))
def test_order_changes_nothing(updates: Integers, random: object, rule: str, outer: str) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    state = zeros(updates.shape[1], rule, outer)
    one, two = (aggregate(state, order, rule=rule, outer=outer).state for order in (list(updates), shuffled))
    np.testing.assert_array_equal(aggregation.join_state(one), aggregation.join_state(two))
    assert (one.momentum is None) == (outer == "none")


@given(stacks, st.sampled_from(sorted(OUTERS)), st.sampled_from(RULES))
def test_32_bits_are_never_left(updates: Integers, outer: str, rule: str) -> None:
    state = State(np.full(updates.shape[1], INT32.max, np.int32), np.full(updates.shape[1], INT32.min, np.int32))
    after = aggregate(state, list(updates), rule=rule, outer=outer).state
    assert after.weights.dtype == np.int32
    assert after.momentum is not None
    assert after.momentum.dtype == np.int32


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("lie", [MAX_ABS, -MAX_ABS])
def test_a_third_of_liars_moves_a_robust_rule_within_the_honest(rule: str, lie: int) -> None:
    honest = np.array([[1], [2], [3]])
    combined = combine(rule, np.vstack([honest, [[lie]]]))
    assert 1 <= combined[0] <= 3


def test_a_long_vector_goes_in_chunks() -> None:
    updates = [np.arange(2 * CHUNK + 3, dtype=np.int64) * factor for factor in (1, 2, 6)]
    after = aggregate(zeros(2 * CHUNK + 3), updates, rule="mean", outer="none").state
    np.testing.assert_array_equal(after.weights, np.arange(2 * CHUNK + 3) * 3)


def test_nesterov_by_hand() -> None:
    """m' = μ·m + u; θ' = θ + η·(μ·m' + u) with μ = 230/256, η = 179/256."""
    state = State(np.array([1000], np.int32), np.array([512], np.int32))
    after = aggregate(state, [np.array([100])], rule="mean", outer="nesterov").state
    assert after.momentum is not None
    assert after.momentum.tolist() == [560]
    assert after.weights.tolist() == [1000 + to_nearest(Fraction(179 * (230 * 560 + 256 * 100), 256 * 256))]


def test_nesterov_starts_from_rest_and_keeps_its_arguments() -> None:
    state = zeros(1, outer="nesterov")
    after = aggregate(state, [np.array([256])], rule="mean", outer="nesterov").state
    again = aggregate(after, [np.array([0])], rule="mean", outer="nesterov").state
    assert state.weights.tolist() == [0]
    assert after.momentum is not None
    assert after.momentum.tolist() == [256]
    assert again.weights[0] > after.weights[0]


@pytest.mark.parametrize("outer", sorted(OUTERS))
def test_a_state_is_weights_and_what_the_outer_optimizer_keeps(outer: str) -> None:
    after = aggregate(zeros(3, outer=outer), [np.array([5, 6, 7])], rule="mean", outer=outer).state
    joined = aggregation.join_state(after)
    assert len(joined) == aggregation.compute_state_length(3, "mean", outer)
    again = aggregation.split_state(joined, 3)
    np.testing.assert_array_equal(again.weights, after.weights)
    assert (again.momentum is None) == (after.momentum is None)


@pytest.mark.parametrize("count", [0, 65])
def test_too_few_and_too_many_are_our_fault(count: int) -> None:
    with pytest.raises(ValueError, match="updates"):
        aggregate(zeros(1), [np.array([1])] * count, rule="mean", outer="none")


def test_recipes() -> None:
    for rule in RULES:
        for outer in OUTERS:
            assert validate_recipe("int8", rule, outer) is None
    wrong = ("mode", "median+mean", "history+history+mean", "+mean", "mean+", "")
    for names in (("gzip", "mean", "none"), ("int8", "mean", "adam"), *(("int8", rule, "none") for rule in wrong)):
        assert isinstance(validate_recipe(*names), Reject)
    assert validate_recipe("top2", "mean", "none") is None
    assert validate_recipe("top2", "history+multi_krum", "none") is None
    for rule in ("median", "trimmed_mean", "neighbours+median"):
        assert isinstance(validate_recipe("top2", rule, "none"), Reject)
