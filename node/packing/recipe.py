"""How a packed model is trained: names and bounds as in `protocols.package`. Free of jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from node.toml_table import Check
from protocols.package import MAX_BATCH, MAX_SCALE_BITS


def _from(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"is {value}, not {low} … {high}"


@dataclass(frozen=True, slots=True)
class Recipe:
    batch: Annotated[int, _from(1, MAX_BATCH)] = 4
    """Rows of a page."""
    optimizer: Literal["adam", "adamw", "lion", "rmsprop", "sgd"] = "adam"
    learning_rate: Annotated[float, _from(1e-12, 1e6)] = 0.005
    scale_bits: Annotated[int, _from(0, MAX_SCALE_BITS)] = 13
    codec: str = "int8"
    rule: str = "clip+history+mean"
    """Holds against every attack of `make bench-training`, figure 5; the others were not all compared alike."""
    outer: str = "none"
