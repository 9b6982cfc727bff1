"""`skynet demo`: start the chain first, and import all the rest while it starts."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from node.processes import open_chain


async def demo(options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    folder = (options.dir or Path(tempfile.mkdtemp(prefix="skynet-demo-"))).absolute()
    async with open_chain(folder / "chain") as chain:
        from node.cli.demo_view import show_demo  # two seconds

        status = await show_demo(options, folder, chain, began_s)
    if options.dir is None and not options.keep:
        _keep_results_only(folder)
    return status


def _keep_results_only(folder: Path) -> None:
    """Leave model and curve; keys, chains and logs of a network that is gone are of no use."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
