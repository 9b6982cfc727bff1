"""`make bench-waku`: our Waku node beside stock py-libp2p, in the same run, on this machine.

usage: python tests/bench/waku [--only connect,burst,cpu,latency,loss,idle,soak] [--soak-s 600] [--seed 1]

Prints a table and writes build/bench/waku.json. The absolute figures are the machine's; trust the ratios.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import trio
from figures import FIGURES, Figure, Options
from rich.console import Console
from rich.table import Table

OUT = Path("build/bench/waku.json")


def show(figures: list[Figure]) -> None:
    table = Table(title="Waku: ours beside py-libp2p")
    for name in ("figure", "ours", "unit", "target", "beside", "its value", ""):
        table.add_column(name)
    for f in figures:
        value = "" if f.peer_value is None else f"{f.peer_value:,.2f}"
        table.add_row(f.figure, f"{f.value:,.2f}", f.unit, f.target, f.peer, value, "ok" if f.ok else "MISSED")
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FIGURES), help="comma-separated figures")
    parser.add_argument("--soak-s", type=float, default=600.0, help="length of the soak, seconds")
    parser.add_argument("--seed", type=int, default=1, help="of the connections that are cut")
    chosen = parser.parse_args()
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="skynet-bench-") as folder:
        for name in chosen.only.split(","):
            home = Path(folder) / name
            home.mkdir()
            found += trio.run(FIGURES[name], Options(home, chosen.soak_s, chosen.seed))
            print(f"{name}: done", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(f) for f in found], indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
