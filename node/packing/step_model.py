"""A perceptron whose training steps can be proved, in floats: what is exported, drawn at random and shown.

The steps themselves are integers, see `protocols/training_step.py`; here is the same model in their layout.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from node.errors import ContentError
from node.packing.catalogue import BIAS, compute_cross_entropy
from node.packing.flat import Source
from node.packing.recipe import Recipe
from protocols.training_step import MAX_RATE_BITS, StepSpec, validate_spec

RATE_TOLERANCE = 1 / 64
"""Of the learning rate: few bits after its point make a cheaper circuit."""


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


def write_step(sizes: tuple[int, ...], loss: str, recipe: Recipe) -> StepSpec:
    """Return the step of a recipe. Raises ContentError for one that can't be proved."""
    rate, rate_bits = _round_rate(recipe.learning_rate)
    if recipe.optimizer != "sgd":
        raise ContentError("the recipe", f"steps of {recipe.optimizer} can't be proved", 'set optimizer = "sgd"')
    step = StepSpec(sizes, recipe.batch, loss, recipe.optimizer, rate, rate_bits)
    if fault := validate_spec(step):
        raise ContentError("the recipe", fault.reason, "change it")
    return step


def build_step_source(step: StepSpec) -> Source:
    """Return the model of a step, which starts and computes as the catalogue's perceptron does."""
    judge = compute_cross_entropy if step.loss == "cross_entropy" else compute_half_squares

    def initialise(key: jax.Array) -> list[Layer]:
        keys, layers = jax.random.split(key, len(step.sizes) - 1), list(pairwise(step.sizes))
        draw = jax.nn.initializers.lecun_normal()
        bias = [BIAS] * (len(layers) - 1) + [0.0]
        return [Layer(draw(keys[i], shape), jnp.full(shape[1], bias[i])) for i, shape in enumerate(layers)]

    return Source((initialise, predict), judge, step.sizes[:1], step.sizes[-1:])


def predict(layers: Any, x: jax.Array) -> jax.Array:
    *hidden, last = layers
    for layer in hidden:
        x = jax.nn.relu(x @ layer.kernel + layer.bias)
    output: jax.Array = x @ last.kernel + last.bias
    return output


def compute_half_squares(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """Half of the squared distance, the mean over the rows."""
    return 0.5 * jnp.sum((prediction - y) ** 2) / y.shape[0]


def _round_rate(learning_rate: float) -> tuple[int, int]:
    """Return (rate, bits), rate / 2**bits being near the learning rate."""
    for bits in range(MAX_RATE_BITS + 1):
        rate = round(learning_rate * (1 << bits))
        if rate and abs(rate / (1 << bits) - learning_rate) <= RATE_TOLERANCE * learning_rate:
            return rate, bits
    raise ContentError("the recipe", f"a learning rate of {learning_rate:g} is too small to prove", "raise it")
