"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    figure: str
    value: float
    unit: str
    target: str = ""
    """Empty for what is shown beside a figure."""
    peer: str = ""
    peer_value: float | None = None
    ok: bool = True
