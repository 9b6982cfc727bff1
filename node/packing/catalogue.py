"""Models by description, with no Python of the requester's: perceptron, small convolutional net, GPT-style transformer.

A file names one of the tables below; `[recipe]` says how it is trained:

    [mlp]
    inputs = 64
    hidden = [32, 16]
    outputs = 10
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from node.errors import ConfigError
from node.packing.flat import Shape, Source
from node.packing.recipe import Recipe
from node.toml_table import Check, parse, read_text

BIAS = 0.1  # a rectifier that starts at zero may never open


def _from(low: int, high: int) -> Check:
    return lambda value: None if low <= value <= high else f"is {value}, not {low} … {high}"


def _widths(values: tuple[int, ...]) -> str | None:
    fits = 0 < len(values) <= 16 and all(0 < value <= 1 << 16 for value in values)
    return None if fits else "must be 1 … 16 widths of 1 … 65536"


Width = Annotated[int, _from(1, 1 << 16)]
Widths = Annotated[tuple[int, ...], _widths]

# -- What a file says ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MlpSpec:
    inputs: Width
    outputs: Width
    hidden: Widths


@dataclass(frozen=True, slots=True)
class CnnSpec:
    height: Width
    width: Width
    colours: Width
    outputs: Width
    channels: Widths
    """Of each 3 × 3 convolution; each is followed by a rectifier and halves height and width."""


@dataclass(frozen=True, slots=True)
class GptSpec:
    """x holds token numbers as float32 [context], y the next tokens one-hot [context, vocabulary]."""

    vocabulary: Width
    context: Width
    width: Width
    heads: Annotated[int, _from(1, 64)]
    layers: Annotated[int, _from(1, 64)]


@dataclass(frozen=True, slots=True)
class Spec:
    name: str
    license: str = "Apache-2.0"
    loss: Literal["squares", "cross_entropy"] = "squares"
    seed: Annotated[int, _from(0, 2**32 - 1)] = 1
    recipe: Recipe = field(default_factory=Recipe)
    mlp: MlpSpec | None = None
    cnn: CnnSpec | None = None
    gpt: GptSpec | None = None


def load_spec(path: Path) -> Spec:
    """Read a file. Raises ConfigError that names file and key."""
    spec = parse(Spec, read_text(path, missing="write one with a table [mlp], [cnn] or [gpt]"), path)
    if sum(table is not None for table in (spec.mlp, spec.cnn, spec.gpt)) != 1:
        raise ConfigError(path, "it does not have just one of [mlp], [cnn] and [gpt]", "describe one model")
    if spec.gpt is not None and spec.gpt.width % spec.gpt.heads:
        raise ConfigError(path, "gpt.width is no multiple of gpt.heads", "make it one")
    if spec.cnn is not None and min(spec.cnn.height, spec.cnn.width) >> len(spec.cnn.channels) == 0:
        raise ConfigError(path, "cnn.channels are more than the image can be halved", "leave some out")
    return spec


def build_source(spec: Spec) -> Source:
    """Return the model that a file describes."""
    build: Callable[[nnx.Rngs], Any]
    shapes: tuple[Shape, Shape]
    if spec.mlp is not None:
        mlp = spec.mlp
        build, shapes = (lambda rngs: Mlp(mlp, rngs)), ((mlp.inputs,), (mlp.outputs,))
    elif spec.cnn is not None:
        cnn = spec.cnn
        build, shapes = (lambda rngs: Cnn(cnn, rngs)), ((cnn.height, cnn.width, cnn.colours), (cnn.outputs,))
    else:
        gpt = spec.gpt
        assert gpt is not None  # `load_spec` saw to it
        build, shapes = (lambda rngs: Gpt(gpt, rngs)), ((gpt.context,), (gpt.context, gpt.vocabulary))
    return Source(build, None if spec.loss == "squares" else compute_cross_entropy, *shapes)


def find_perceptron(spec: Spec) -> tuple[tuple[int, ...], str] | None:
    """Return sizes and loss where training steps can be proved."""
    if spec.mlp is None:
        return None
    loss = "squared" if spec.loss == "squares" else "cross_entropy"
    return (spec.mlp.inputs, *spec.mlp.hidden, spec.mlp.outputs), loss


def compute_cross_entropy(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over the rows, in nats, of raw outputs against one-hot targets."""
    shifted = prediction - jnp.max(prediction, axis=-1, keepdims=True)
    normaliser = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))
    return jnp.mean(normaliser - jnp.sum(shifted * y, axis=-1))


# -- Models --------------------------------------------------------------------


class Mlp(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    def __init__(self, spec: MlpSpec, rngs: nnx.Rngs) -> None:
        widths = (spec.inputs, *spec.hidden)
        bias = nnx.initializers.constant(BIAS)
        self.hidden = nnx.List([nnx.Linear(a, b, bias_init=bias, rngs=rngs) for a, b in pairwise(widths)])
        self.output = nnx.Linear(widths[-1], spec.outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> Any:
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


class Cnn(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    def __init__(self, spec: CnnSpec, rngs: nnx.Rngs) -> None:
        channels = (spec.colours, *spec.channels)
        halved = len(spec.channels)
        self.convolutions = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in pairwise(channels)])
        pixels = (spec.height >> halved) * (spec.width >> halved)
        self.output = nnx.Linear(pixels * channels[-1], spec.outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> Any:
        for convolution in self.convolutions:
            x = nnx.avg_pool(nnx.relu(convolution(x)), window_shape=(2, 2), strides=(2, 2))
        return self.output(x.reshape(x.shape[0], -1))


class Gpt(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    def __init__(self, spec: GptSpec, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal(0.02)
        self.tokens = nnx.Param(normal(rngs.params(), (spec.vocabulary, spec.width)))
        self.places = nnx.Param(normal(rngs.params(), (spec.context, spec.width)))
        self.blocks = nnx.List([Block(spec, rngs) for _ in range(spec.layers)])
        self.norm = nnx.LayerNorm(spec.width, rngs=rngs)
        self.output = nnx.Linear(spec.width, spec.vocabulary, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> Any:
        flow = jnp.take(self.tokens[...], x.astype(jnp.int32), axis=0, mode="clip") + self.places[...]
        for block in self.blocks:
            flow = block(flow)
        return self.output(self.norm(flow))


class Block(nnx.Module):  # type: ignore[misc]  # flax publishes no types
    """Causal attention and a perceptron four times as wide, each behind a norm and added to what came in."""

    def __init__(self, spec: GptSpec, rngs: nnx.Rngs) -> None:
        self._heads = spec.heads
        width = spec.width
        self.first_norm, self.second_norm = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
        self.attention = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mixed = nnx.Linear(width, width, rngs=rngs)
        self.wide, self.narrow = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, flow: jax.Array) -> Any:
        flow = flow + self.mixed(self._attend(self.attention(self.first_norm(flow))))
        return flow + self.narrow(nnx.gelu(self.wide(self.second_norm(flow))))

    def _attend(self, projected: jax.Array) -> jax.Array:
        rows, context, width = (*projected.shape[:2], projected.shape[2] // 3)
        parts = projected.reshape(rows, context, 3, self._heads, width // self._heads)
        query, key, value = (parts[:, :, which].transpose(0, 2, 1, 3) for which in range(3))
        scores = query @ key.transpose(0, 1, 3, 2) * (width // self._heads) ** -0.5
        # Added, not selected: a constant of the graph, and no `Where` that the exporter types wrongly.
        scores = scores + jnp.triu(jnp.full((context, context), -1e9, jnp.float32), 1)
        mixed: jax.Array = nnx.softmax(scores, axis=-1) @ value
        return mixed.transpose(0, 2, 1, 3).reshape(rows, context, width)
