"""How a packed model is trained: names and bounds as in `protocols.package`. Free of jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from node.toml_table import Check
from protocols.package import MAX_BATCH, MAX_SCALE_BITS


def _from(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"is {value}, not {low} … {high}"


EVALUATION: Final = "evaluation"
TRAINING: Final = "training"


@dataclass(frozen=True, slots=True)
class Recipe:
    proves: Literal["evaluation", "training"] = EVALUATION
    """What a worker is paid for: drawn losses of its weights, or drawn steps of its training (perceptrons only)."""
    batch: Annotated[int, _from(1, MAX_BATCH)] = 4
    """Rows of a page."""
    optimizer: Literal["adam", "adamw", "lion", "rmsprop", "sgd"] = "adam"
    learning_rate: Annotated[float, _from(1e-12, 1e6)] = 0.005
    scale_bits: Annotated[int, _from(0, MAX_SCALE_BITS)] = 13
    """Of the weights. Where training is proved there is one grid, and this is not asked."""
    codec: str = "int8"
    """Where training is proved it is `exact`, and this is not asked."""
    rule: str = "clip+history+mean"
    """Holds against every attack of `make bench-training`, figure 5; the others were not all compared alike."""
    outer: str = "none"
