"""A stranger's model, compiled once, stepped by an optax optimizer over one flat vector."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from node.compute.artifact import Function, Shape, load_artifact
from node.compute.files import Rows, Unfit
from node.compute.inspection import check_memory
from node.sandbox.deadline import bounded
from protocols.package import OPTIMIZERS

COMPILE_S = 100.0
STEP_S = 60.0
"""Of one inner step or one verdict, however many the parent's deadline allows."""

Flat = NDArray[np.float32]


class Signature(NamedTuple):
    """What the package promises: P and the shapes of a page, batch axis first."""

    parameters: int
    x_shape: Shape
    y_shape: Shape


class Trained(NamedTuple):
    theta: Flat
    loss: float
    """Mean over the inner steps, each before its update."""


class Evaluated(NamedTuple):
    loss: float
    accuracy: float
    """Share of the rows whose largest output is where the largest target is."""


class Model:
    """Compiled and ready; holds no state between calls."""

    def __init__(
        self, signature: Signature, loss_and_grad: str, predict: str, optimizer: optax.GradientTransformation | None
    ) -> None:
        """Without an optimizer it can only judge."""
        theta, x, y = (signature.parameters,), signature.x_shape, signature.y_shape
        rows = x[0]
        self._signature = signature
        self._loss_and_grad = load_artifact(loss_and_grad, inputs=(theta, x, y), outputs=((), theta))
        self._predict = load_artifact(predict, inputs=(theta, x), outputs=((rows, *y[1:]),))
        self._optimizer = optimizer
        self._step = None if optimizer is None else self._compile_step(optimizer)
        self._judge: Function | None = None

    def train(self, theta: Flat, pages: list[Rows]) -> Trained:
        """Take one inner step a page, from a fresh optimizer state."""
        assert self._optimizer is not None
        assert self._step is not None
        weights = jnp.asarray(theta)
        state = self._optimizer.init(weights)
        losses = []
        with bounded(STEP_S) as renew:
            for page in pages:
                renew()
                weights, state, loss = self._step(weights, state, page.x, page.y)
                losses.append(loss)
            # Here the last steps are still under way.
            return Trained(np.asarray(weights), float(np.mean(np.asarray(losses))))

    def evaluate(self, theta: Flat, pages: list[Rows]) -> Evaluated:
        loss, accuracy = self._judge_each([theta] * len(pages), pages)
        return Evaluated(loss, accuracy)

    def compute_path_loss(self, path: Flat, pages: list[Rows]) -> float:
        """Return the mean loss of weights f32[steps, P], each on the page of its step."""
        loss, _ = self._judge_each(list(path), pages)
        return loss

    def _judge_each(self, thetas: list[Flat], pages: list[Rows]) -> tuple[float, float]:
        if self._judge is None:  # not every worker is asked: it compiles when one is
            self._judge = self._compile(jax.jit(self._compute_verdict), *self._samples())
        verdicts = []
        with bounded(STEP_S) as renew:
            for theta, page in zip(thetas, pages, strict=True):
                renew()
                verdicts.append(self._judge(theta, page.x, page.y))
            loss, accuracy = np.mean(np.asarray(verdicts, np.float64), axis=0)
        return float(loss), float(accuracy)

    def _compile_step(self, optimizer: optax.GradientTransformation) -> Function:
        def step(theta: jax.Array, state: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
            loss, grad = self._loss_and_grad(theta, x, y)
            updates, state = optimizer.update(grad, state, theta)
            return optax.apply_updates(theta, updates), state, loss

        theta, x, y = self._samples()
        state = jax.eval_shape(optimizer.init, theta)
        # Donated: the old weights and moments are overwritten, not copied.
        return self._compile(jax.jit(step, donate_argnums=(0, 1)), theta, state, x, y)

    def _samples(self) -> list[Any]:
        """Stand-ins for θ, x and y."""
        shapes = (self._signature.parameters,), self._signature.x_shape, self._signature.y_shape
        struct: Any = jax.ShapeDtypeStruct
        return [struct(shape, np.float32) for shape in shapes]

    def _compile(self, function: Any, *samples: Any) -> Function:
        """Unfit if XLA plans more memory than there is."""
        with bounded(COMPILE_S):
            compiled = function.lower(*samples).compile()
        check_memory(compiled)
        run: Function = compiled
        return run

    def _compute_verdict(self, theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, _ = self._loss_and_grad(theta, x, y)
        agrees = jnp.argmax(self._predict(theta, x), axis=-1) == jnp.argmax(y, axis=-1)
        return loss, agrees.mean()


def build_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """Return the optimizer; only names of the list: `getattr` on a stranger's word is a door."""
    if name not in OPTIMIZERS:
        raise Unfit(f"unknown optimizer {name!r}")
    return getattr(optax, name)(learning_rate)
