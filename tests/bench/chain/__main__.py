"""`make bench-chain`: what the chain watcher and the outbox do on a real anvil. A table, and build/bench/chain.json.

python tests/bench/chain [--schedules 200] [--seed 1] [--only faults,latency,throughput,sync]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

import structlog
import trio

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "node" / "adapters" / "evm")]

from chain_figures import FIGURES, Figure, Options  # noqa: E402 - found by the line above
from faults import PROGRAM  # noqa: E402

OUT = ROOT / "build" / "bench" / "chain.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(FIGURES), help="comma-separated: " + ", ".join(FIGURES))
    given = parser.parse_args()
    if not PROGRAM:
        print(
            "no anvil: `make tools` fetches it for Linux on x86-64; elsewhere SKYNET_ANVIL names one", file=sys.stderr
        )
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures: list[Figure] = []
    for name in given.only.split(","):
        measured = trio.run(FIGURES[name], Options(given.schedules, given.seed))
        figures += measured
        for figure in measured:
            verdict = "ok" if figure.ok else "MISSED"
            print(f"{figure.figure:48} {figure.value:10,.1f} {figure.unit:10} {figure.target:10} {verdict}", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    print(OUT.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
