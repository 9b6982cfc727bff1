"""`jax.export` artifacts of strangers: loaded, and refused unless they are plain functions of float32 arrays.

Loading is dangerous (an artifact may crash the parser or never end), which is why it happens in a child
that is killed on a deadline. What can be checked is checked first: signature, platform, and that nothing
outside of XLA is called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export

from node.compute.files import Unfit

Shape = tuple[int, ...]
Function = Callable[..., Any]
"""Over arrays of the shapes that were asked for."""


def load_artifact(path: str, *, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> Function:
    """Return its function if that maps float32 of these shapes to those, runs here and calls nothing foreign."""
    try:
        exported = jax.export.deserialize(bytearray(Path(path).read_bytes()))
        text = exported.mlir_module()
    except Exception as error:
        raise Unfit(f"not an artifact of jax.export: {type(error).__name__}: {error}") from error
    if jax.default_backend() not in exported.platforms:
        raise Unfit(f"the artifact is for {', '.join(exported.platforms)}, this is {jax.default_backend()}")
    for what, avals, shapes in (("takes", exported.in_avals, inputs), ("gives", exported.out_avals, outputs)):
        found = [(tuple(aval.shape), str(aval.dtype)) for aval in avals]
        if found != [(shape, "float32") for shape in shapes]:
            raise Unfit(f"the artifact {what} {found}, not float32 of {list(shapes)}")
    # The exporter's own check does not run at loading; one artifact that named a Python callback segfaulted.
    if "custom_call" in text or exported.nr_devices != 1:
        raise Unfit("the artifact calls foreign code or wants several devices")
    call: Function = exported.call
    return call
