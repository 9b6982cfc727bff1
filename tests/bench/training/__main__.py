"""`make bench-training`: the figures of training, a table and build/bench/training.json.

python tests/bench/training [--only byzantine,…] [--seeds 5] [--rules NAME,…]
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
PARTS = ("byzantine", "overhead")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-training", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rules", default="", help="rules to compare in figure 5; default: the default rule")
    parser.add_argument("--out", type=Path, default=Path("build/bench/training.json"))
    options = parser.parse_args()
    from figures import write

    write([f for part in options.only.split(",") for f in import_module(part).measure(options)], options.out)


if __name__ == "__main__":
    main()
