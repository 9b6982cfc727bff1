"""The step in integers: close to floats, in range or refused, and with hints that leave no choice."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import training_step
from protocols.fixed_point import LIMIT, RANGE_BITS, Exact, compute_limb_widths
from protocols.training_step import (
    DELTA_BITS,
    MOMENT_BITS,
    VALUE_BITS,
    WEIGHT_BITS,
    X_BITS,
    Integers,
    Stepped,
    StepSpec,
    compute_step,
    validate_spec,
)
from protocols.verdict import Reject

SMALL = StepSpec((5, 4, 3), 4, "cross_entropy", "momentum", 1, 6, 230)
SPECS = [
    SMALL,
    StepSpec((6, 8, 8, 3), 8, "cross_entropy", "sgd", 3, 5),
    StepSpec((6, 5, 2), 2, "squared", "sgd", 1, 4),
    StepSpec((4, 3), 1, "squared", "momentum", 1, 2, 128),
]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def draw(spec: StepSpec, seed: int, largest_weight: int = 3000) -> tuple[Integers, Integers, Integers]:
    rng = np.random.default_rng(seed)
    targets = np.eye(spec.sizes[-1], dtype=np.int64)[rng.integers(0, spec.sizes[-1], spec.batch)]
    return (
        rng.integers(-largest_weight, largest_weight, spec.state_length),
        rng.integers(-(1 << X_BITS), 1 << X_BITS, spec.batch * spec.sizes[0]),
        targets.reshape(-1) << DELTA_BITS,
    )


def step_in_floats(spec: StepSpec, state: Floats, x: Floats, y: Floats) -> Floats:
    """The textbook's step, written without looking at the other."""
    weights, moments = state[: spec.parameters], state[spec.parameters :]
    layers, start = [], 0
    for inputs, outputs in itertools.pairwise(spec.sizes):
        matrix = weights[start : start + inputs * outputs].reshape(inputs, outputs)
        start += inputs * outputs
        layers.append((matrix, weights[start : start + outputs]))
        start += outputs
    activations = [x]
    for index, (matrix, bias) in enumerate(layers):
        z = activations[-1] @ matrix + bias
        activations.append(z if index == len(layers) - 1 else np.maximum(z, 0))
    logits = activations.pop()
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    delta = (exp / exp.sum(axis=1, keepdims=True) if spec.loss == "cross_entropy" else logits) - y
    parts: list[Floats] = []
    for index in reversed(range(len(layers))):
        parts = [(activations[index].T @ delta).reshape(-1), delta.sum(axis=0), *parts]
        if index:
            delta = (delta @ layers[index][0].T) * (activations[index] > 0)
    gradient = np.concatenate(parts) / spec.batch
    if spec.optimizer == "sgd":
        return weights - spec.learning_rate * gradient
    moments = spec.momentum / 256 * moments + gradient
    return np.concatenate([weights - spec.learning_rate * moments, moments])


@pytest.mark.parametrize("spec", SPECS)
def test_the_step_is_the_textbooks_up_to_its_roundings(spec: StepSpec) -> None:
    for seed in range(20):
        state, x, y = draw(spec, seed)
        found = compute_step(spec, state, x, y)
        assert isinstance(found, Stepped)
        grid = WEIGHT_BITS
        assert grid == MOMENT_BITS
        expected = step_in_floats(
            spec,
            np.ldexp(state.astype(np.float64), -grid),
            np.ldexp(x.reshape(spec.batch, -1).astype(np.float64), -X_BITS),
            np.ldexp(y.reshape(spec.batch, -1).astype(np.float64), -DELTA_BITS),
        )
        # Pre-activations round to 2**-9, which moves a gradient by a few parts in a thousand.
        assert np.abs(np.ldexp(found.state.astype(np.float64), -grid) - expected).max() < 0.01


@given(st.sampled_from(SPECS), st.integers(0, 2**32 - 1), st.sampled_from([1, 30, 3000, LIMIT]))
def test_a_step_is_in_range_or_there_is_none(spec: StepSpec, seed: int, largest: int) -> None:
    found = compute_step(spec, *draw(spec, seed, largest))
    if isinstance(found, Stepped):
        assert np.abs(found.state).max() < LIMIT
        assert np.abs(found.hints).max() < LIMIT
    else:
        assert largest > 30  # small weights on a page in range make no large value


def test_what_is_out_of_range_is_refused() -> None:
    state, x, y = draw(SMALL, 0)
    for bad in ((state + LIMIT, x, y), (state, x + LIMIT, y), (state, x, y - LIMIT)):
        assert isinstance(compute_step(SMALL, *bad), Reject)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": (5,)},
        {"sizes": (5, 0, 3)},
        {"sizes": (5, 5000, 3)},
        {"sizes": (5, 1)},
        {"batch": 6},
        {"batch": 128},
        {"loss": "hinge"},
        {"optimizer": "adam"},
        {"rate": 0},
        {"rate_bits": 17},
        {"momentum": 0},
        {"momentum": 256},
        {"optimizer": "sgd"},
    ],
)
def test_a_step_that_cannot_be_proved_is_refused(changes: dict[str, Any]) -> None:
    assert validate_spec(SMALL) is None
    assert isinstance(validate_spec(replace(SMALL, **changes)), Reject)


def test_softmax_is_within_two_quanta_of_the_real_one() -> None:
    spec = replace(SMALL, sizes=(1, 10), batch=64)
    rng = np.random.default_rng(1)
    for width in (1.0, 8.0, 31.0):
        logits = np.rint(rng.uniform(-width, width, (64, 10)) * (1 << VALUE_BITS)).astype(np.int64)
        ops = Exact(np)
        found = training_step._softmax(ops, spec, logits)
        exp = np.exp(np.ldexp(logits - logits.max(axis=1, keepdims=True), -VALUE_BITS))
        expected = np.ldexp(exp / exp.sum(axis=1, keepdims=True), DELTA_BITS)
        assert ops.fits
        assert np.abs(found - expected).max() < 4


@given(st.integers(1, 60), st.data())
def test_digits_are_those_of_the_number(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << bits) - 1))
    hints: list[Any] = []
    Exact(np, hints)._tell_limbs(np.array([value]), bits)
    widths = compute_limb_widths(bits)
    assert sum(widths) == bits
    assert len(hints) == len(widths)
    total, place = 0, 1
    for width, (hint,) in zip(widths, hints, strict=True):
        total += place * ((int(hint) // (1 << RANGE_BITS - width)) + (1 << width) - 1) // 2
        place <<= width
    assert total == value
