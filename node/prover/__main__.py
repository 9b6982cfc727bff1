"""The prover child: one process a job, started by `node/adapters/prover.py`, limited before ezkl is imported."""

from __future__ import annotations

import os
import sys

from node import sandbox


def main() -> None:
    channel = sandbox.enter(sys.argv[1:])
    # Only now: what ezkl maps and opens counts against the limits.
    from node.prover.program import Program

    sandbox.serve(channel, Program().answer)
    sys.stderr.flush()
    os._exit(0)  # ezkl's threads sometimes crash the interpreter's own way out


if __name__ == "__main__":
    main()
