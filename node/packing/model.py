"""A model to a package's blobs: `jax.export` artifacts, the circuit's ONNX, the initial state, a draft."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.export
import numpy as np
from numpy.typing import NDArray

from node.compute.artifact import Function, load_artifact
from node.errors import ContentError
from node.packing.circuit import TOLERANCE, export_circuit
from node.packing.flat import FlatModel, Shape
from node.packing.manifest import ModelDraft, blob_path, write_blob, write_draft
from node.packing.recipe import Recipe
from protocols.aggregation import INT32, begin_state, join_state, validate_recipe
from protocols.ids import ContentId
from protocols.training_step import WEIGHT_BITS, StepSpec

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""A worker's accelerator is not known here; an artifact for all four is 0.6 KB larger than for one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained."""

    name: str
    license: str
    model: FlatModel
    x_shape: Shape
    y_shape: Shape
    step: StepSpec | None = None
    """What its training steps are, where they are proved."""


def pack_model(subject: Subject, recipe: Recipe, folder: Path) -> ModelDraft:
    """Write blobs and draft into the folder. ContentError where the model or the recipe is unfit."""
    if subject.step is not None:
        recipe = replace(recipe, scale_bits=WEIGHT_BITS, learning_rate=subject.step.learning_rate, codec="exact")
    if refusal := validate_recipe(recipe.codec, recipe.rule, recipe.outer):
        raise ContentError("the recipe", refusal.reason, "choose others")
    model = subject.model
    shapes = (model.initial.shape, (recipe.batch, *subject.x_shape), (recipe.batch, *subject.y_shape))
    draft = ModelDraft(
        name=subject.name,
        license=subject.license,
        layout=model.layout,
        scale_bits=recipe.scale_bits,
        loss_and_grad=_export(folder, jax.jit(jax.value_and_grad(model.loss)), shapes, ((), shapes[0])),
        predict=_export(folder, jax.jit(model.predict), shapes[:2], (shapes[2],)),
        initial_state=write_blob(folder, _encode_initial(model.initial, recipe)),
        onnx=write_blob(folder, export_circuit(model.loss, shapes)) if subject.step is None else None,
        step=subject.step,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        batch=recipe.batch,
        x_shape=subject.x_shape,
        y_shape=subject.y_shape,
        codec=recipe.codec,
        rule=recipe.rule,
        outer=recipe.outer,
    )
    write_draft(folder, draft)
    return draft


def _export(
    folder: Path, function: jax.stages.Wrapped, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]
) -> ContentId:
    arguments = [np.zeros(shape, np.float32) for shape in inputs]
    exported = jax.export.export(function, platforms=PLATFORMS)(*arguments)
    content = write_blob(folder, bytes(exported.serialize()))
    # By the workers' own check: better refused here than by all of them.
    loaded = load_artifact(str(blob_path(folder, content)), inputs=inputs, outputs=outputs)
    _compare(function, loaded, inputs)
    return content


def _compare(function: jax.stages.Wrapped, loaded: Function, inputs: tuple[Shape, ...]) -> None:
    """Run both on drawn inputs. ContentError if what was written is not what was meant."""
    rng = np.random.default_rng(1)
    drawn = [rng.normal(0, 0.5, shape).astype(np.float32) for shape in inputs]
    for meant, written in zip(jax.tree.leaves(function(*drawn)), jax.tree.leaves(loaded(*drawn)), strict=True):
        if not np.allclose(meant, written, rtol=TOLERANCE, atol=TOLERANCE):
            raise ContentError("the model's artifact", "it computes something else than the model", "report this model")


def _encode_initial(initial: NDArray[np.float32], recipe: Recipe) -> bytes:
    """Round to the grid; an outer optimizer's momentum starts at zero and belongs to the state."""
    on_grid = np.rint(initial.astype(np.float64) * 2.0**recipe.scale_bits)
    weights = np.clip(on_grid, INT32.min, INT32.max).astype(np.int32)
    return join_state(begin_state(weights, recipe.rule, recipe.outer)).astype("<i4").tobytes()
