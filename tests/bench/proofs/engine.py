"""The engine of integers beside the same loop in floats: speed, accuracy, and what its leaves cost."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from figure import Figure

from node.compute.integer_model import IntegerModel
from node.packing.data import Rows
from node.packing.digits import load_digits
from node.prover.commitment import Committer, Point, multiply_sum
from protocols.training_step import DELTA_BITS, WEIGHT_BITS, X_BITS, StepSpec

TEN_THOUSAND = StepSpec((64, 133, 10), 16, "cross_entropy", "sgd", 1, 3)
RECIPES = (
    StepSpec((64, 16, 10), 8, "cross_entropy", "sgd", 1, 3),
    StepSpec((64, 16, 10), 8, "cross_entropy", "momentum", 1, 6, 230),
    StepSpec((64, 16, 10), 8, "squared", "sgd", 1, 4),
)
SEEDS = 5
STEPS = 3000
TEST_ROWS = 360
MAX_DELTA_LOSS = 1e-3
MAX_DELTA_ACCURACY = 0.005
COMMITTED_STEPS = 40
Floats = Any


def measure_leaves() -> list[Figure]:
    """A commitment a step, over real steps in the middle of training; the points of the basis are any points."""
    a_step_ms, whole_ms = _time_leaves(TEN_THOUSAND)
    name = f"leaf, {TEN_THOUSAND.state_length:,} parameters, amortised over {COMMITTED_STEPS} steps"
    return [Figure(name, a_step_ms, "ms", "≤ 25", "each from nothing", whole_ms, a_step_ms <= 25)]


def _time_leaves(spec: StepSpec) -> tuple[float, float]:
    """Return milliseconds of processor time a leaf: of a path's, and of one by itself."""
    states = _train(spec, 200 + COMMITTED_STEPS, 0)[0][200:]
    committer = Committer(_make_points(spec.state_length), (1, 2))
    start = time.process_time()
    committer.commit_path(states)
    a_step_ms = 1000 * (time.process_time() - start) / COMMITTED_STEPS
    start = time.process_time()
    committer.commit(states[0].tolist())
    return a_step_ms, 1000 * (time.process_time() - start)


def measure_speed() -> list[Figure]:
    spec = TEN_THOUSAND
    steps = 2000
    state, x, y = _draw(spec, steps, 0)
    model, floats = IntegerModel(spec), jax.jit(lambda w, pages: jax.lax.scan(_step_in_floats(spec), w, pages))
    arguments = (jnp.asarray(state, jnp.float32) / (1 << WEIGHT_BITS), _to_pages(spec, x, y))
    ours, theirs = [], []
    for repeat in range(4):  # the first compiles
        ours.append(_time(lambda: model.train(state, x, y)))
        theirs.append(_time(lambda: jax.block_until_ready(floats(*arguments))))
        if repeat == 0:
            ours.clear()
            theirs.clear()
    ratio, leaves_s = min(theirs) / min(ours), _time_leaves(spec)[0] / 1000
    whole = min(theirs) / (min(ours) + steps * leaves_s)
    name, unit = f"engine, {spec.parameters:,} parameters, leaves included", "% of the float loop's steps/s"
    return [
        Figure(name, 100 * whole, unit, "≥ 25", ok=whole >= 0.25),
        Figure("  without leaves", 100 * ratio, unit),
        Figure("  steps", steps / min(ours), "a second", "", "float32, same loop", steps / min(theirs)),
    ]


def measure_agreement() -> list[Figure]:
    """Same seeds, same pages, both from the same weights; the test rows are seen by neither."""
    found = []
    for spec in RECIPES:
        ours, theirs = [], []
        for seed in range(SEEDS):
            states, (state, x, y) = _train(spec, STEPS, seed)
            ours.append(_judge(spec, states[-1] / (1 << WEIGHT_BITS)))
            start = jnp.asarray(state, jnp.float32) / (1 << WEIGHT_BITS)
            final, _ = jax.jit(lambda w, pages, s=spec: jax.lax.scan(_step_in_floats(s), w, pages))(
                start, _to_pages(spec, x, y)
            )
            theirs.append(_judge(spec, np.asarray(final)))
        loss, accuracy = np.mean(ours, axis=0).tolist()
        float_loss, float_accuracy = np.mean(theirs, axis=0).tolist()
        name = f"digits, {spec.loss}, {spec.optimizer}, {STEPS} steps, mean of {SEEDS} seeds"
        off = abs(accuracy - float_accuracy)
        found += [
            Figure(f"{name}: accuracy", accuracy, "", "± 0.005", "float32", float_accuracy, off <= MAX_DELTA_ACCURACY),
            Figure("  loss", loss, "", "± 1e-3", "float32", float_loss, abs(loss - float_loss) <= MAX_DELTA_LOSS),
        ]
    return found


# -- Runs ----------------------------------------------------------------------


def _train(spec: StepSpec, steps: int, seed: int) -> tuple[Any, tuple[Any, Any, Any]]:
    drawn = _draw(spec, steps, seed)
    return IntegerModel(spec).train(*drawn), drawn


def _draw(spec: StepSpec, steps: int, seed: int) -> tuple[Any, Any, Any]:
    """Return the first state and the pages, as integers."""
    rows, rng = _load_rows(), np.random.default_rng(seed)
    parts = []
    for inputs, outputs in itertools.pairwise(spec.sizes):
        parts += [rng.normal(0, inputs**-0.5, inputs * outputs), np.zeros(outputs)]
    weights = np.rint(np.concatenate(parts) * (1 << WEIGHT_BITS))
    state = np.concatenate([weights, np.zeros(spec.state_length - len(weights))]).astype(np.int32)
    chosen = rng.integers(0, len(rows.x) - TEST_ROWS, (steps, spec.batch))
    x, y = np.rint(rows.x[chosen] * (1 << X_BITS)), rows.y[chosen] * (1 << DELTA_BITS)
    return state, x.astype(np.int32).reshape(steps, -1), y.astype(np.int32).reshape(steps, -1)


def _load_rows() -> Rows:
    """The digits in one order that is nobody's: the file's last are of other hands than its first."""
    rows = load_digits()
    order = np.random.default_rng(0).permutation(len(rows.x))
    return replace(rows, x=rows.x[order], y=rows.y[order])


def _to_pages(spec: StepSpec, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    return (
        jnp.asarray(x.reshape(-1, spec.batch, spec.sizes[0]), jnp.float32) / (1 << X_BITS),
        jnp.asarray(y.reshape(-1, spec.batch, spec.sizes[-1]), jnp.float32) / (1 << DELTA_BITS),
    )


def _predict(spec: StepSpec, weights: Floats, x: Floats) -> Floats:
    start = 0
    for inputs, outputs in itertools.pairwise(spec.sizes):
        x = jnp.maximum(x, 0) if start else x
        matrix = weights[start : start + inputs * outputs].reshape(inputs, outputs)
        start += inputs * outputs
        x = x @ matrix + weights[start : start + outputs]
        start += outputs
    return x


def _compute_loss(spec: StepSpec, weights: Floats, x: Floats, y: Floats) -> Floats:
    logits = _predict(spec, weights, x)
    if spec.loss == "squared":
        return ((logits - y) ** 2).sum(axis=-1).mean() / 2
    return -(jax.nn.log_softmax(logits) * y).sum(axis=-1).mean()


def _step_in_floats(spec: StepSpec) -> Any:
    def step(state: Floats, page: tuple[Floats, Floats]) -> tuple[Floats, None]:
        weights, moments = state[: spec.parameters], state[spec.parameters :]
        direction = jax.grad(lambda w: _compute_loss(spec, w, *page))(weights)
        if spec.optimizer == "momentum":
            direction = moments = spec.momentum / 256 * moments + direction
        return jnp.concatenate([weights - spec.learning_rate * direction, moments]), None

    return step


def _judge(spec: StepSpec, state: Floats) -> tuple[float, float]:
    """Return loss and accuracy on the rows that nobody trained on."""
    rows = _load_rows()
    x, y = rows.x[-TEST_ROWS:], rows.y[-TEST_ROWS:]
    weights = jnp.asarray(state[: spec.parameters], jnp.float32)
    accuracy = (jnp.argmax(_predict(spec, weights, x), axis=-1) == y.argmax(axis=-1)).mean()
    return float(_compute_loss(spec, weights, x, y)), float(accuracy)


def _make_points(count: int) -> list[Point]:
    points: list[Point] = [(1, 2)]
    while len(points) < count:
        total = multiply_sum([1, 1], [points[-1], points[len(points) // 2]])
        points.append(total if total is not None else (1, 2))
    return points


def _time(call: Any) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start
