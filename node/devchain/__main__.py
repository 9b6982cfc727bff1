"""`python -m node.devchain --port 0 --dir DIR`: run a development chain until SIGTERM or Ctrl-C.

The first line on stdout is one JSON object: {"url": …, "chain_id": …, "accounts": PATH}; PATH is a file of
funded accounts with their private keys, which everybody knows: they are derived from their number.
Started again in the same folder, the chain goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio
from coincurve import PrivateKey

from node.devchain.chain import DevChain
from node.devchain.journal import Journal, open_journal
from node.devchain.rpc import Rpc
from node.devchain.server import Server
from node.errors import UserError
from protocols.abi import checksum_address, encode_words
from protocols.keccak import keccak256

CHAIN_ID = 31337  # what development chains are known by
ACCOUNTS = 32
BALANCE_WEI = 10**6 * 10**18


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m node.devchain", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=8545, help="on 127.0.0.1; 0 for any free one")
    parser.add_argument("--dir", type=Path, required=True, help="folder for the accounts file; made if missing")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds between empty blocks; 0 for none")
    parser.add_argument("--timestamp", type=int, help="of the first block, in seconds; its clock runs on from there")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one is gone")
    options = parser.parse_args()
    status = 0
    try:
        options.dir.mkdir(parents=True, exist_ok=True)
        with open_journal(options.dir, options.chain_id, lambda: options.timestamp or int(time.time())) as journal:
            trio.run(_run, options, journal)
    except* UserError as group:
        sys.stderr.write(f"error: {group.exceptions[0]}\n")
        status = 1
    except* OSError as group:
        reason = group.exceptions[0]
        sys.stderr.write(f"error: port {options.port} or folder {options.dir}: {reason}; choose another\n")
        status = 1
    except* KeyboardInterrupt:
        status = 130
    return status


async def _run(options: argparse.Namespace, journal: Journal) -> None:
    keys = [_development_key(number) for number in range(ACCOUNTS)]
    path = _write_accounts(options.dir, options.chain_id, keys)
    chain = DevChain(options.chain_id, {_address(key): BALANCE_WEI for key in keys}, journal)
    if options.timestamp and not journal.entries:
        chain.increase_time(options.timestamp - int(time.time()))
    rpc = Rpc(chain)
    listeners = await trio.open_tcp_listeners(options.port, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on, signals, nursery.cancel_scope)
            if options.with_parent:
                nursery.start_soon(_end_with, os.getppid(), nursery.cancel_scope)
            nursery.start_soon(Server(rpc.answer).serve, listeners)
            if options.block_time > 0:
                nursery.start_soon(_tick, rpc, options.block_time)
            ready = {"url": f"http://127.0.0.1:{port}", "chain_id": options.chain_id, "accounts": str(path.absolute())}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()


async def _tick(rpc: Rpc, period_s: float) -> None:
    """Without transactions the head's timestamp would stand still, and deadlines with it."""
    while True:
        await trio.sleep(period_s)
        await rpc.mine()


async def _end_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _end_with(parent: int, scope: trio.CancelScope) -> None:
    """A parent that was killed can't end us; an orphan is somebody else's child."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells us
        await trio.sleep(0.2)
    scope.cancel()


# -- Accounts ----------------------------------------------------------------------


def _development_key(number: int) -> PrivateKey:
    return PrivateKey(keccak256(encode_words(keccak256(b"skynet development account"), number)))


def _address(key: PrivateKey) -> bytes:
    return keccak256(key.public_key.format(compressed=False)[1:])[12:]


def _write_accounts(folder: Path, chain_id: int, keys: list[PrivateKey]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "accounts.json"
    accounts = [{"address": checksum_address(_address(key)), "private_key": "0x" + key.to_hex()} for key in keys]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"chain_id": chain_id, "accounts": accounts}, file, indent=1)
    return path


if __name__ == "__main__":
    sys.exit(main())
