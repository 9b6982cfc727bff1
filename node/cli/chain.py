"""`skynet devchain`, and the wallet that pays on a chain of one's own."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import trio
from rich.console import Console

from node.adapters.evm import LocalSigner
from node.errors import ExitCode, KeyFileError
from node.localnet import open_devchain
from node.secret import Secret


async def devchain(options: argparse.Namespace) -> int:
    """Run a development chain until Ctrl-C."""
    console = Console()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_devchain(options.dir, port=options.port) as info:
            console.print(f"development chain {info.chain_id} at {info.url}, Jobs contract {info.jobs}", soft_wrap=True)
            console.print("its accounts are known to everybody, its beacon can be predicted: for trying out only")
            console.print(
                f"make a node:  skynet-node init --dir a --network local --chain {options.dir}", soft_wrap=True
            )
            console.print("Ctrl-C ends it; started again with the same --dir it goes on where it was")
            async for _ in signals:
                break
    return ExitCode.INTERRUPTED


def read_signer(path: Path) -> LocalSigner:
    """Read a wallet's key from a file: 32 bytes in hex. Raises KeyFileError."""
    try:
        return LocalSigner(Secret(bytes.fromhex(path.read_text().strip().removeprefix("0x"))))
    except (OSError, ValueError):
        raise KeyFileError(path, "holds no key of 32 bytes in hex", "name the paying wallet's file") from None
