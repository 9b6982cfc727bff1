"""The demo's models: a Flax perceptron of 64, 14 and 10 units whose raw outputs are compared with one-hot digits,
and one of 64, 16 and 10 whose training is proved.
"""

from __future__ import annotations

import jax
from flax import nnx

from node.packing.recipe import TRAINING, Recipe

X_SHAPE = (64,)
Y_SHAPE = (10,)
HIDDEN = 14  # 1,060 parameters
BIAS = 0.1  # a rectifier that starts at zero may never open


PERCEPTRON = ((64, 16, 10), "cross_entropy")  # 1,210 parameters
PROVED = Recipe(proves=TRAINING, batch=8, optimizer="sgd", learning_rate=0.25)


class DigitsModel(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(*X_SHAPE, HIDDEN, bias_init=nnx.initializers.constant(BIAS), rngs=rngs)
        self.output = nnx.Linear(HIDDEN, *Y_SHAPE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        output: jax.Array = self.output(nnx.relu(self.hidden(x)))
        return output
