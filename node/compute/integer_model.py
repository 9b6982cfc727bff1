"""The training step of statement T, compiled: `protocols.training_step` read with jax.numpy, many steps a call.

It is not another implementation but the same text, and integers have no order of summation: states equal those of
numpy to the bit, on any device. Products of matrices run in float64, where these sums are exact.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from node.compute.files import Unfit
from protocols.fixed_point import LIMIT, Exact
from protocols.training_step import StepSpec, take_step, validate_spec

Vectors = NDArray[np.int32]


class IntegerModel:
    """Compiled for one specification and any number of steps; holds no state between calls."""

    def __init__(self, spec: StepSpec) -> None:
        if fault := validate_spec(spec):
            raise Unfit(fault.reason)
        self.spec = spec
        self._run = jax.jit(self._scan)

    def train(self, state: Vectors, x: Vectors, y: Vectors) -> Vectors:
        """Take a step a page and return the state after each, i32[steps, S]; x is i32[steps, B · n0], y alike.

        Unfit if a value leaves its range: such a step has no proof.
        """
        spec = self.spec
        if any(np.abs(part.astype(np.int64)).max(initial=0) >= LIMIT for part in (state, x, y)):
            raise Unfit("the weights or a page are out of range")
        pages = (
            x.astype(np.int64).reshape(-1, spec.batch, spec.sizes[0]),
            y.astype(np.int64).reshape(-1, spec.batch, spec.sizes[-1]),
        )
        with jax.enable_x64(True):
            states, fits = self._run(jnp.asarray(state, jnp.int64), pages)
            found, is_fit = np.asarray(states), np.asarray(fits)
        if not is_fit.all():
            raise Unfit(f"step {int(np.argmin(is_fit))}: a value is out of range; the learning rate is too high")
        return found

    def _scan(self, state: jax.Array, pages: tuple[jax.Array, jax.Array]) -> Any:
        def step(before: jax.Array, page: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
            ops = Exact(jnp)
            after = jnp.concatenate(take_step(ops, self.spec, before, *page))
            return after, (after.astype(jnp.int32), ops.fits)

        _, results = jax.lax.scan(step, state, pages)
        return results
