"""A figure: what was measured beside what was asked and what a peer does."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    figure: str
    value: float | None
    """None where it could not be measured: a missing peer."""
    unit: str
    target: float
    peer: str | None
    peer_value: float | None
    ok: bool


def write(figures: Sequence[Figure], out: Path) -> None:
    """Write JSON and print a table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    for f in figures:
        value = "–" if f.value is None else f"{f.value:.4g}"
        peer = "" if f.peer is None else f"   {f.peer}: {'–' if f.peer_value is None else f'{f.peer_value:.4g}'}"
        print(f"{'ok  ' if f.ok else 'MISS'} {f.figure}: {value} {f.unit} (asked {f.target:.4g}){peer}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
