"""`skynet-node`: run a node, make its folder, check it.

skynet-node init --dir DIR --network NAME      keys and node.toml
skynet-node check --config FILE                what works and what doesn't, without starting
skynet-node --config FILE                      run
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import trio

from node.cli.output import fail, run
from node.config import Config, load_config
from node.errors import ExitCode, exit_code_table
from node.initial import Setting, shipped_networks, write_initial
from node.key_file import find_passphrase


def main(arguments: list[str] | None = None) -> int:
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        match options.command:
            case "init":
                return _init(options)
            case "check":
                return run(_check, options.config)
            case _:
                return _run(options.config)
    except BaseException as error:  # noqa: BLE001 - becomes a line and a status
        return fail(error)


def _parse(arguments: list[str]) -> argparse.Namespace:
    epilog = "exit statuses:\n\n" + exit_code_table()
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="skynet-node", description=__doc__, epilog=epilog, formatter_class=raw)
    parser.add_argument("--config", type=Path, metavar="FILE")
    commands = parser.add_subparsers(dest="command")
    init = commands.add_parser("init", help="make a node's folder: keys and node.toml")
    init.add_argument("--dir", type=Path, required=True)
    init.add_argument("--network", required=True, help=f"one of {', '.join(shipped_networks())}")
    init.add_argument("--rpc", help="JSON-RPC URL, instead of the network's")
    init.add_argument("--jobs", help="address of the Jobs contract")
    init.add_argument("--bootstrap", action="append", default=[], metavar="MULTIADDR")
    init.add_argument("--chain", type=Path, metavar="DIR", help="folder of `skynet devchain`: its URL and contracts")
    check = commands.add_parser("check", help="say what works, without starting")
    check.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.command is None and options.config is None:
        parser.error("give --config FILE, or the command init")
    return options


def _init(options: argparse.Namespace) -> int:
    values: dict[str, Setting] = {}
    if options.chain:
        from node.localnet import read_chain_info

        info = read_chain_info(options.chain)
        values |= {"chain.rpc_urls": (info.url,), "chain.jobs": info.jobs, "chain.chain_id": info.chain_id}
        if info.market:
            values["chain.market"] = info.market
    if options.rpc:
        values["chain.rpc_urls"] = (options.rpc,)
    if options.jobs:
        values["chain.jobs"] = options.jobs
    if options.bootstrap:
        values["p2p.bootstrap"] = tuple(options.bootstrap)
    wallet = write_initial(options.dir, options.network, values, passphrase=find_passphrase(None)).identity.wallet
    print(f"made {options.dir / 'node.toml'}")
    print(f"wallet {wallet}: send it the stake and some gas, then run")
    print(f"  skynet-node --config {options.dir / 'node.toml'}")
    return ExitCode.OK


def _run(path: Path) -> int:
    from node.telemetry import configure_logs

    config = load_config(path)
    configure_logs(config.log)
    return run(_serve, config, path)


async def _serve(config: Config, path: Path) -> int:
    """Run until SIGTERM or Ctrl-C; both end in order."""
    from node.program import run_node

    status = ExitCode.OK
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def watch_signals() -> None:
                nonlocal status
                async for number in signals:
                    status = ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch_signals)
            await run_node(config, path)
    return status


async def _check(path: Path) -> int:
    from node.program import check_node

    async for line in check_node(load_config(path), path):
        print(line)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
