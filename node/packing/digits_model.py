"""The demo's model: a Flax perceptron of 64, 14 and 10 units; its raw outputs are compared with one-hot digits."""

from __future__ import annotations

import jax
from flax import nnx

X_SHAPE = (64,)
Y_SHAPE = (10,)
HIDDEN = 14  # 1,060 parameters
BIAS = 0.1  # a rectifier that starts at zero may never open


class DigitsModel(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(*X_SHAPE, HIDDEN, bias_init=nnx.initializers.constant(BIAS), rngs=rngs)
        self.output = nnx.Linear(HIDDEN, *Y_SHAPE, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        output: jax.Array = self.output(nnx.relu(self.hidden(x)))
        return output
