"""`make bench-proofs`: what proving costs here, a child process a statement, and the engine that trains beside floats.

usage: python tests/bench/proofs [--only step-1210,step-4810,leaves,speed,agreement]

Prints a table and writes build/bench/proofs.json. Wall time is this machine's with whatever else runs on it, which is
why processor seconds stand beside it; on two idle cores proving takes a little over half of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine import measure_agreement, measure_leaves, measure_speed
from figure import Figure
from rich.console import Console
from rich.table import Table
from statements import FOUR_THOUSAND, ONE_THOUSAND, measure_step

OUT = Path("build/bench/proofs.json")
FIGURES: dict[str, Callable[[], list[Figure]]] = {
    "step-1210": lambda: measure_step(ONE_THOUSAND, max_s=15, max_mib=1500),
    "step-4810": lambda: measure_step(FOUR_THOUSAND, max_s=60, max_mib=3000),
    "leaves": measure_leaves,
    "speed": measure_speed,
    "agreement": measure_agreement,
}


def show(figures: list[Figure]) -> None:
    table = Table(title="Proofs: statement T and the engine under it")
    for name in ("figure", "value", "unit", "target", "beside", "its value", ""):
        table.add_column(name)
    for f in figures:
        peer = "" if f.peer_value is None else f"{f.peer_value:,.3f}"
        verdict = "" if not f.target else "ok" if f.ok else "MISSED"
        table.add_row(f.figure, f"{f.value:,.3f}", f.unit, f.target, f.peer, peer, verdict)
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FIGURES), help="comma-separated figures")
    found: list[Figure] = []
    for name in parser.parse_args().only.split(","):
        found += FIGURES[name]()
        print(f"{name}: done", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(f) for f in found], indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
