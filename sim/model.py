"""A small perceptron in numpy, 64-14-10 with ReLU and squared loss: the simulator's stand-in for JAX, trained for real.

Only sums and products in a fixed order (einsum without BLAS, float64), so that a run repeats bit by bit on a machine.
A package for the simulator names it by `MARK` where a real one has `jax.export` artifacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from protocols.aggregation import INT32, Vector
from protocols.package import Tensor

Floats = NDArray[np.float64]

MARK = b"skynet-sim: perceptron, relu, squared loss\n"
LITTLE_INT32 = np.dtype("<i4")
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # adam's, as optax has them

# -- Forms -----------------------------------------------------------------------


class Rows(NamedTuple):
    """One page: x f64[B, I], y f64[B, O]."""

    x: Floats
    y: Floats


class Sizes(NamedTuple):
    inputs: int
    hidden: int
    outputs: int

    @property
    def layout(self) -> tuple[Tensor, ...]:
        return (
            Tensor("hidden.kernel", (self.inputs, self.hidden)),
            Tensor("hidden.bias", (self.hidden,)),
            Tensor("output.kernel", (self.hidden, self.outputs)),
            Tensor("output.bias", (self.outputs,)),
        )


def read_sizes(layout: Sequence[Tensor]) -> Sizes | None:
    """Return what the layout of a perceptron says; None if it is no perceptron's."""
    if len(layout) != 4 or len(layout[0].shape) != 2 or len(layout[2].shape) != 2:
        return None
    sizes = Sizes(*layout[0].shape, layout[2].shape[1])
    return sizes if sizes.layout == tuple(layout) else None


def encode_page(rows: Rows) -> bytes:
    return bytes(save({"x": rows.x.astype(np.float32), "y": rows.y.astype(np.float32)}))


def decode_page(data: bytes) -> Rows | None:
    try:
        tensors = load(data)
        return Rows(tensors["x"].astype(np.float64), tensors["y"].astype(np.float64))
    except (SafetensorError, KeyError):
        return None


def encode_vector(vector: Vector) -> bytes:
    return vector.astype(LITTLE_INT32).tobytes()


def decode_vector(data: bytes) -> Vector:
    return np.frombuffer(data, LITTLE_INT32).astype(np.int32)


def to_grid(theta: Floats, scale_bits: int) -> Vector:
    vector: Vector = np.clip(np.rint(theta * 2.0**scale_bits), INT32.min, INT32.max).astype(np.int32)
    return vector


def from_grid(vector: Vector, scale_bits: int) -> Floats:
    return vector / 2.0**scale_bits


# -- Functions -------------------------------------------------------------------


class _Parts(NamedTuple):
    w1: Floats
    b1: Floats
    w2: Floats
    b2: Floats


def draw_initial(sizes: Sizes, rng: np.random.Generator) -> Floats:
    """Return θ_0 f64[P]: normal kernels of variance 1/fan-in, biases of zero."""
    w1 = rng.normal(size=(sizes.inputs, sizes.hidden)) / np.sqrt(sizes.inputs)
    w2 = rng.normal(size=(sizes.hidden, sizes.outputs)) / np.sqrt(sizes.hidden)
    return _join(_Parts(w1, np.zeros(sizes.hidden), w2, np.zeros(sizes.outputs)))


def predict(sizes: Sizes, theta: Floats, x: Floats) -> Floats:
    """Return the raw outputs f64[B, O]."""
    parts = _split(sizes, theta)
    hidden = np.maximum(np.einsum("bi,ih->bh", x, parts.w1) + parts.b1, 0.0)
    outputs: Floats = np.einsum("bh,ho->bo", hidden, parts.w2) + parts.b2
    return outputs


def compute_loss(sizes: Sizes, theta: Floats, rows: Rows) -> float:
    """Return the mean over the rows of the squared distance to the targets."""
    error = predict(sizes, theta, rows.x) - rows.y
    return float(np.einsum("bo,bo->", error, error)) / len(rows.x)


def compute_accuracy(sizes: Sizes, theta: Floats, rows: Rows) -> float:
    guessed = predict(sizes, theta, rows.x).argmax(axis=1)
    return float((guessed == rows.y.argmax(axis=1)).mean())


def compute_loss_and_grad(sizes: Sizes, theta: Floats, rows: Rows) -> tuple[float, Floats]:
    parts = _split(sizes, theta)
    before = np.einsum("bi,ih->bh", rows.x, parts.w1) + parts.b1
    hidden = np.maximum(before, 0.0)
    error = np.einsum("bh,ho->bo", hidden, parts.w2) + parts.b2 - rows.y
    loss = float(np.einsum("bo,bo->", error, error)) / len(rows.x)
    at_outputs = 2.0 * error / len(rows.x)
    at_hidden = np.einsum("bo,ho->bh", at_outputs, parts.w2) * (before > 0)
    grad = _Parts(
        np.einsum("bi,bh->ih", rows.x, at_hidden),
        at_hidden.sum(axis=0),
        np.einsum("bh,bo->ho", hidden, at_outputs),
        at_outputs.sum(axis=0),
    )
    return loss, _join(grad)


def train(sizes: Sizes, theta: Floats, pages: Sequence[Rows], learning_rate: float) -> tuple[Floats, float]:
    """Take one step of adam a page, from fresh moments; return θ and the mean loss before each step."""
    first, second, losses = np.zeros_like(theta), np.zeros_like(theta), 0.0
    for step, rows in enumerate(pages, start=1):
        loss, grad = compute_loss_and_grad(sizes, theta, rows)
        first = BETA1 * first + (1 - BETA1) * grad
        second = BETA2 * second + (1 - BETA2) * grad * grad
        momentum, spread = first / (1 - BETA1**step), second / (1 - BETA2**step)
        theta = theta - learning_rate * momentum / (np.sqrt(spread) + EPSILON)
        losses += loss
    return theta, losses / len(pages)


def _split(sizes: Sizes, theta: Floats) -> _Parts:
    parts, start = [], 0
    for tensor in sizes.layout:
        length = int(np.prod(tensor.shape))
        parts.append(theta[start : start + length].reshape(tensor.shape))
        start += length
    return _Parts(*parts)


def _join(parts: _Parts) -> Floats:
    return np.concatenate([part.ravel() for part in parts])
