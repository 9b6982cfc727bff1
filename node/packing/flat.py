"""A Flax model as functions of one flat vector: layout, initial values, forward pass, loss.

Both NNX and Linen. A model must be a function of parameters and input alone: batch statistics, dropout
and other state have no place in a vector that strangers average.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from node.errors import ContentError
from protocols.package import Tensor

Shape = tuple[int, ...]


Predict = Callable[[Any, jax.Array], jax.Array]
"""(tree of parameters, x f32[B,…]) -> f32[B,…]."""
Judge = Callable[[jax.Array, jax.Array], jax.Array]
"""(prediction f32[B,…], y f32[B,…]) -> loss f32[]."""


class Source(NamedTuple):
    """What a requester gives, before it is flat."""

    model: Any
    """A Linen module; a callable that takes `nnx.Rngs`; or a pair (init, apply) of pure functions."""
    judge: Judge | None = None
    x_shape: Shape | None = None
    """Of one row."""
    y_shape: Shape | None = None


class FlatModel(NamedTuple):
    layout: tuple[Tensor, ...]
    initial: NDArray[np.float32]
    """f32[P]."""
    predict: Callable[[jax.Array, jax.Array], jax.Array]
    """(theta f32[P], x f32[B,…]) -> f32[B,…]."""
    judge: Judge

    def loss(self, theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.judge(self.predict(theta, x), y)


def compute_squares(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """Return Σ(prediction − y)² / B: squares, sums and a constant factor, so that a circuit can prove it."""
    # As a product of one row with itself: the circuit rescales once, where a sum of squares would for each element.
    difference = (prediction - y).reshape(1, -1)
    return (difference @ difference.T).reshape(()) * (1.0 / y.shape[0])


def find_source(spec: str) -> Source:
    """Return what `FILE.py:NAME` names, with the file's `loss`, `X_SHAPE` and `Y_SHAPE` where it defines them.

    The file is the requester's own and runs here; it never travels.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ContentError(f"model {spec}", "there is no such file", "write FILE.py:NAME, or `digits`")
    source = importlib.util.spec_from_file_location(path.stem, path)
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    try:
        source.loader.exec_module(module)
    except Exception as error:
        raise ContentError(f"model {spec}", f"its file fails: {type(error).__name__}: {error}", "correct it") from error
    if not hasattr(module, name):
        raise ContentError(f"model {spec}", f"the file defines no {name!r}", "write the name of a model in it")
    model = getattr(module, name)
    if inspect.isfunction(model) and not inspect.signature(model).parameters:
        model = model()
    return Source(model, *(getattr(module, each, None) for each in ("loss", "X_SHAPE", "Y_SHAPE")))


def flatten_model(source: Source, x_shape: Shape, seed: int) -> FlatModel:
    """Flatten the source's model; without a loss of its own it is judged by squares."""
    model, linen = source.model, sys.modules.get("flax.linen")  # 0.3 s to import: only if the model's file did
    if linen is not None and isinstance(model, linen.Module):
        flat = _flatten_linen(model, x_shape, seed)
    elif isinstance(model, tuple) and len(model) == 2:
        flat = _flatten_pure(*model, seed)
    else:
        flat = _flatten_nnx(model, seed)
    return flat if source.judge is None else flat._replace(judge=source.judge)


def _flatten_pure(init: Callable[[jax.Array], Any], apply: Predict, seed: int) -> FlatModel:
    """`init(key)` gives a tree of arrays, `apply(tree, x)` the prediction."""

    def initialise() -> Any:
        return init(jax.random.key(seed))

    return _flatten(jax.eval_shape(initialise), initialise, apply)


def _flatten_nnx(build: Callable[[nnx.Rngs], Any], seed: int) -> FlatModel:
    graph, parameters, rest = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(seed))), nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise ContentError("the model", "it keeps state besides its parameters", "remove batch statistics and dropout")

    def predict(tree: Any, x: jax.Array) -> jax.Array:
        output: jax.Array = nnx.merge(graph, tree, rest)(x)
        return output

    return _flatten(parameters, lambda: nnx.state(build(nnx.Rngs(seed)), nnx.Param), predict)


def _flatten_linen(module: Any, x_shape: Shape, seed: int) -> FlatModel:
    def initialise() -> Any:
        return module.init(jax.random.key(seed), jnp.zeros((1, *x_shape)))

    variables = jax.eval_shape(initialise)
    if set(variables) != {"params"}:
        raise ContentError("the model", f"it keeps {sorted(variables)}", "remove what is not a parameter")

    def predict(tree: Any, x: jax.Array) -> jax.Array:
        output: jax.Array = module.apply({"params": tree}, x)
        return output

    return _flatten(variables["params"], lambda: initialise()["params"], predict)


def _flatten(shapes: Any, initialise: Callable[[], Any], predict: Predict) -> FlatModel:
    """Join the leaves row-major in the tree's own order, which is sorted by name."""
    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)
    layout = tuple(Tensor(_name(path), tuple(leaf.shape)) for path, leaf in paths)
    sizes = [math.prod(tensor.shape) for tensor in layout]
    starts = np.cumsum([0, *sizes]).tolist()

    def unflatten(theta: jax.Array) -> Any:
        parts = zip(layout, starts, sizes, strict=False)
        return jax.tree.unflatten(structure, [theta[a : a + n].reshape(tensor.shape) for tensor, a, n in parts])

    # Not optimised: it runs once, and compiling the random numbers well takes two seconds.
    compiled = jax.jit(initialise).lower().compile(compiler_options={"xla_backend_optimization_level": "0"})
    initial = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(compiled())]).astype(np.float32)
    return FlatModel(layout, initial, lambda theta, x: predict(unflatten(theta), x), compute_squares)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
