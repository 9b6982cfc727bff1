"""`jax.export` artifacts of strangers: loaded, and refused unless they are plain functions of float32 arrays.

Loading is dangerous (an artifact may crash the parser or never end), which is why it happens in a child
that is killed on a deadline. What can be checked before anything is compiled is: signature, platform, and what
`inspection.py` reads from the module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export

from node.compute.files import Unfit
from node.compute.inspection import find_free_memory, inspect
from node.sandbox.deadline import bounded

PARSE_S = 30.0
"""To deserialise an artifact, and again to walk over its module: tens of milliseconds each; mutated ones hung."""

Shape = tuple[int, ...]
Function = Callable[..., Any]
"""Over arrays of the shapes that were asked for."""


def load_artifact(path: str, *, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Function:
    """Return its function if that maps float32 of these shapes to those, runs here and calls nothing foreign."""
    try:
        with bounded(PARSE_S):
            exported = jax.export.deserialize(bytearray(Path(path).read_bytes()))
    except Exception as error:
        raise Unfit(f"not an artifact of jax.export: {type(error).__name__}: {error}") from error
    if jax.default_backend() not in exported.platforms:
        raise Unfit(f"the artifact is for {', '.join(exported.platforms)}, this is {jax.default_backend()}")
    for what, avals, shapes in (("takes", exported.in_avals, inputs), ("gives", exported.out_avals, outputs)):
        found = [(tuple(aval.shape), str(aval.dtype)) for aval in avals]
        if found != [(shape, "float32") for shape in shapes]:
            raise Unfit(f"the artifact {what} {found}, not float32 of {list(shapes)}")
    if exported.nr_devices != 1 or exported.ordered_effects or exported.unordered_effects:
        raise Unfit("the artifact wants several devices or has effects")
    # The exporter's own check does not run at loading; one artifact that named a Python callback segfaulted.
    with bounded(PARSE_S):
        inspect(exported.mlir_module_serialized, memory_bytes=find_free_memory())
    call: Function = exported.call
    return call
