"""The compute child: one process a job, started by `node/adapters/compute.py`, limited before jax is imported."""

from __future__ import annotations

import sys

from node import sandbox


def main() -> None:
    channel = sandbox.enter(sys.argv[1:])
    # Only now: what jax maps and opens counts against the limits.
    from node.compute.program import Program

    sandbox.serve(channel, Program().answer)


if __name__ == "__main__":
    main()
