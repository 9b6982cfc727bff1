"""What the child reads and writes: flat int32 vectors and safetensors pages. Faults are `Unfit`.

The bytes were checked against their names by the node; what they hold was chosen by strangers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from protocols.aggregation import Vector
from protocols.statement import to_grid
from protocols.training_step import DELTA_BITS, X_BITS, StepSpec
from protocols.verdict import Reject

LITTLE_INT32 = np.dtype("<i4")
WORD_BYTES = LITTLE_INT32.itemsize


class Unfit(Exception):
    """An input can't be used; the message is the refusal."""


class Rows(NamedTuple):
    """One page."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]


class GridPage(NamedTuple):
    """One page on the grids of a proved step, flat."""

    x: Vector
    y: Vector


def read_vector(path: str, length: int) -> Vector:
    """Return the i32[length] in a file of exactly that size."""
    data = Path(path).read_bytes()
    if len(data) != length * WORD_BYTES:
        raise Unfit(f"a vector of {len(data)} bytes for {length} values")
    return np.frombuffer(data, LITTLE_INT32).astype(np.int32)


def write_vector(path: str, vector: Vector) -> None:
    Path(path).write_bytes(vector.astype(LITTLE_INT32).tobytes())


def read_spec(fields: Mapping[str, Any]) -> StepSpec:
    """Return the specification of a step that the parent sent; `StepSpec` as a map."""
    return StepSpec(**{**fields, "sizes": tuple(fields["sizes"])})


def read_grid_page(path: str, spec: StepSpec) -> GridPage:
    """Return the page as a proved step reads it."""
    rows = read_page(path, (spec.batch, spec.sizes[0]), (spec.batch, spec.sizes[-1]))
    x, y = to_grid(rows.x, X_BITS), to_grid(rows.y, DELTA_BITS)
    if isinstance(x, Reject) or isinstance(y, Reject):
        raise Unfit("the page does not fit the grid")
    return GridPage(x, y)


def read_page(path: str, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> Rows:
    """Return the page's rows: finite float32 of exactly these shapes, and nothing else in the file."""
    try:
        tensors = load(Path(path).read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Unfit(f"the page is not safetensors: {error}") from error
    if set(tensors) != {"x", "y"}:
        raise Unfit(f"the page holds {sorted(tensors)}, not x and y")
    for name, shape in (("x", x_shape), ("y", y_shape)):
        tensor = tensors[name]
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise Unfit(f"{name} of the page is {tensor.dtype}{list(tensor.shape)}, not float32{list(shape)}")
        if not np.isfinite(tensor).all():
            raise Unfit(f"{name} of the page is not finite")
    return Rows(tensors["x"], tensors["y"])
