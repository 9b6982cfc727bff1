"""The digits as a job of many workers: split IID or by Dirichlet, trained all at once by one jitted loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from node.packing.digits import load_digits

SHAPES = ((64, 256), (256,), (256, 10), (10,))
PARAMETERS = sum(int(np.prod(shape)) for shape in SHAPES)  # 19,210
HELD_OUT = 360
SCALE = 2.0**16


@dataclass(frozen=True)
class Shards:
    x: NDArray[np.float32]
    """[workers, most rows, 64]; a worker's own are the first `rows`."""
    y: NDArray[np.float32]
    rows: list[int]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.float32]


def split(rng: np.random.Generator, workers: int, alpha: float | None) -> Shards:
    """Hold out a fifth and deal the rest: evenly, or class by class by a Dirichlet distribution of this alpha."""
    rows = load_digits()
    order = rng.permutation(len(rows.x))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    parts = (
        np.array_split(train, workers) if alpha is None else _deal(rng, train, rows.y[train].argmax(1), workers, alpha)
    )
    most = max(map(len, parts))
    x, y = np.zeros((workers, most, 64), np.float32), np.zeros((workers, most, 10), np.float32)
    for worker, part in enumerate(parts):
        x[worker, : len(part)], y[worker, : len(part)] = rows.x[part], rows.y[part]
    return Shards(x, y, [len(part) for part in parts], rows.x[test], rows.y[test])


def _deal(rng: np.random.Generator, train: Any, labels: Any, workers: int, alpha: float) -> list[Any]:
    parts: list[list[int]] = [[] for _ in range(workers)]
    for label in range(10):
        own = train[labels == label]
        cuts = (np.cumsum(rng.dirichlet([alpha] * workers)) * len(own)).astype(int)[:-1]
        for part, some in zip(parts, np.split(own, cuts), strict=True):
            part.extend(some)
    return [np.array(part, int) if part else rng.choice(train, 1) for part in parts]


def draw_weights(rng: np.random.Generator) -> NDArray[np.float32]:
    parts = [rng.normal(0, shape[0] ** -0.5, shape) if len(shape) == 2 else np.zeros(shape) for shape in SHAPES]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def predict(theta: jax.Array, x: jax.Array) -> jax.Array:
    parts, start = [], 0
    for shape in SHAPES:
        size = int(np.prod(shape))
        parts.append(theta[start : start + size].reshape(shape))
        start += size
    return jax.nn.relu(x @ parts[0] + parts[1]) @ parts[2] + parts[3]


def compute_loss(theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy(predict(theta, x), y).mean()


def make_trainer(optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """Return (theta f32[P], x, y, rows i[workers, H, B]) -> f32[workers, P]: what each worker moved in H steps."""

    def train(theta: jax.Array, x: jax.Array, y: jax.Array, rows: jax.Array) -> jax.Array:
        def step(carry: Any, batch: jax.Array) -> Any:
            weights, state = carry
            grad = jax.grad(compute_loss)(weights, x[batch], y[batch])
            updates, state = optimizer.update(grad, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        (weights, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), rows)
        return weights - theta

    return jax.jit(jax.vmap(train, (None, 0, 0, 0)))


@jax.jit
def compute_accuracy(theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return (jnp.argmax(predict(theta, x), 1) == jnp.argmax(y, 1)).mean()
