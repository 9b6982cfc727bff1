"""`skynet`: what requesters and testers type.

    skynet demo                        a whole network on this machine, one job through it
    skynet devchain --dir DIR          a development chain with the contracts on it
    skynet deploy --network NAME --key FILE   the contracts on a network, or go on with it (--dry-run: the costs)
    skynet job submit|watch|result|list|show|cancel
    skynet model pack FILE.py:NAME|--spec FILE.toml --out DIR
    skynet model|data publish|list|buy|deliver|refund|delist
    skynet peers                       whom the node of a configuration knows, and whether it can be reached
    skynet wallet show|fund|withdraw|stake|unbond|backup|restore|rotate|sweep

`--config` (or SKYNET_CONFIG) is the requester's own node.toml: `skynet-node init --dir me --network local`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from node.cli.output import chain_address, fail, hex_id, hex_job, peer_address, run
from node.errors import exit_code_table

CONFIG_VARIABLE = "SKYNET_CONFIG"

Group: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # the library has no public name for it
Command = Callable[[argparse.Namespace], Awaitable[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return run(_command(options), options)
    except BaseException as error:  # noqa: BLE001 - becomes a line and a status
        return fail(error)


def _command(options: argparse.Namespace) -> Command:
    """Import only what the command needs: `--help` must not wait for libp2p."""
    match options.command, getattr(options, "what", None):
        case "demo", _:
            from node.cli.demo import demo

            return demo
        case "peers", _:
            from node.cli.peers import peers

            return peers
        case "devchain", _:
            from node.cli.chain import devchain

            return devchain
        case "deploy", _:
            from node.cli.deploy import deploy_contracts

            return deploy_contracts
        case "wallet", what:
            from node.cli.wallet import COMMANDS as WALLET

            return WALLET[str(what)]
        case "model", "pack":
            from node.cli.model import pack

            return pack
        case (("model" | "data"), what):
            from node.cli.market import COMMANDS as TRADE

            return TRADE[str(what)]
        case _, ("show" | "list" | "cancel") as what:
            from node.cli.ledger import COMMANDS as READING

            return READING[what]
        case _, what:
            from node.cli.job import COMMANDS

            return COMMANDS[str(what)]


# -- Arguments -----------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    epilog = "exit statuses:\n\n" + exit_code_table()
    parser = argparse.ArgumentParser(prog="skynet", description=__doc__, epilog=epilog, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands.add_parser("demo", help="four nodes, one job, proved and paid"))
    devchain = commands.add_parser("devchain", help="a development chain with the contracts on it")
    devchain.add_argument("--dir", type=Path, required=True)
    devchain.add_argument("--port", type=int, default=0)
    deploy = commands.add_parser("deploy", help="deploy the contracts, or go on with a deployment that was broken off")
    deploy.add_argument("--network", required=True, help="local, scroll, scroll-sepolia, arbitrum or arbitrum-sepolia")
    deploy.add_argument("--rpc", help="JSON-RPC URL; default: the network's public one")
    deploy.add_argument("--key", type=Path, help="file of the paying wallet's key, in hex, mode 0600")
    deploy.add_argument("--dry-run", action="store_true", help="show what is missing, its gas and cost; send nothing")
    deploy.add_argument("--out", type=Path, help="address file; default deployment-NETWORK.json")
    deploy.add_argument("--dir", type=Path, help="write chain.json there, for `skynet-node init --chain`")
    _add_job(commands.add_parser("job", help="submit, watch and fetch jobs"))
    model = commands.add_parser("model", help="make a model's package; sell and buy models").add_subparsers(
        dest="what", required=True
    )
    _add_pack(model)
    _add_trade(model, "a model")
    data = commands.add_parser("data", help="sell and buy data").add_subparsers(dest="what", required=True)
    _add_trade(data, "data")
    _add_common(commands.add_parser("peers", help="whom a node knows, and whether others can reach it"))
    _add_wallet(commands.add_parser("wallet", help="the wallet of a configuration"))
    _add_json(deploy)
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--dir", type=Path, help="folder for everything; default: a temporary one")
    demo.add_argument("--keep", action="store_true", help="keep the folder")
    demo.add_argument("--proved", action="store_true", help="workers prove steps of their training")
    demo.add_argument("--permute-labels", action="store_true", help="a control: nothing can be learnt")
    _add_json(demo)


def _add_job(job: argparse.ArgumentParser) -> None:
    commands = job.add_subparsers(dest="what", required=True)
    submit = commands.add_parser("submit", help="pack, upload and post a job; returns when its keys are delivered")
    submit.add_argument("file", type=Path, metavar="job.toml")
    _add_peers(submit, required=True)
    _add_common(submit)
    for name, text in (
        ("watch", "follow a job until it ends"),
        ("result", "fetch, open and save the model"),
        ("show", "what the chain says of a job"),
        ("cancel", "call off a job that has no workers yet"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("job", type=hex_job, metavar="ID")
        if name in ("watch", "result"):
            _add_peers(command, required=False)
        if name == "result":
            command.add_argument("--out", type=Path, required=True, metavar="model.safetensors")
            command.add_argument("--force", action="store_true", help="overwrite it")
        _add_common(command)
    _add_common(commands.add_parser("list", help="jobs on the chain"))


def _add_trade(group: Group, ware: str) -> None:
    publish = group.add_parser("publish", help=f"seal {ware}, leave it with a peer, and list its key on the market")
    publish.add_argument("file", type=Path, metavar="FILE")
    publish.add_argument("--price", required=True, help="in ether, or in whole tokens with --token")
    publish.add_argument("--token", type=chain_address, help="be paid in this ERC-20")
    publish.add_argument("--license", metavar="TEXT", help="what buyers agree to, or a file with it")
    publish.add_argument("--window-s", type=int, default=86_400, help="seconds that you take to deliver a key")
    publish.add_argument("--royalty", type=float, default=0.0, help="per cent of each price for the --creator")
    publish.add_argument("--creator", type=chain_address, help="who made what this was made from")
    _add_peers(publish, required=True)
    buy = group.add_parser("buy", help=f"buy {ware}; begun again it goes on, and pays only once")
    buy.add_argument("listing", type=hex_id, metavar="LISTING")
    buy.add_argument("--out", type=Path, required=True, metavar="FILE")
    buy.add_argument("--wait", type=float, default=3600.0, metavar="S", help="for the seller's key, at most")
    _add_peers(buy, required=False)
    deliver = group.add_parser("deliver", help="hand out the keys of what was paid for")
    deliver.add_argument("--watch", action="store_true", help="and go on until Ctrl-C")
    refund = group.add_parser("refund", help="take back the money of an order whose seller did not deliver")
    refund.add_argument("order", type=hex_id, metavar="ORDER")
    delist = group.add_parser("delist", help="take no more orders")
    delist.add_argument("listing", type=hex_id, metavar="LISTING")
    for command in (group.add_parser("list", help="what is for sale"), publish, buy, deliver, refund, delist):
        _add_common(command)


def _add_pack(group: Group) -> None:
    pack = group.add_parser(
        "pack", help="artifacts, circuit and initial state of a model; its code runs here and never travels"
    )
    source = pack.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", metavar="FILE.py:NAME", help="a Flax module, or what makes one")
    source.add_argument("--spec", type=Path, help="a TOML file that describes a perceptron, CNN or transformer")
    pack.add_argument("--out", type=Path, required=True, metavar="DIR")
    shapes = (("x-shape", "of one row, such as 28,28,1"), ("y-shape", "of one row, such as 10"))
    recipe = (
        ("batch", "rows of a page"),
        ("seed", "of the initial weights"),
        ("optimizer", "inner optimizer: adam, adamw, lion, rmsprop, sgd"),
        ("learning-rate", "its learning rate"),
        ("proves", "what workers are paid for: evaluation (of their weights), training (a perceptron's steps)"),
        ("scale-bits", "fractional bits of the weights' grid"),
        ("codec", "update codec: int8, int8z, top2, exact"),
        ("rule", "aggregation rule, such as clip+history+mean"),
        ("outer", "outer optimizer: none, nesterov"),
    )
    for name, text in (("name", "default: the model's"), ("license", "default: Apache-2.0"), *shapes, *recipe):
        pack.add_argument(f"--{name}", help=text)
    _add_json(pack)


def _add_wallet(wallet: argparse.ArgumentParser) -> None:
    commands = wallet.add_subparsers(dest="what", required=True)
    made = {
        name: commands.add_parser(name, help=text)
        for name, text in (
            ("show", "address, balance, stake and credit"),
            ("fund", "development money"),
            ("withdraw", "take what the contracts have for it: pay, what a job did not spend, stake that has unbonded"),
            ("stake", "more stake for jobs to lock"),
            ("unbond", "put free stake on its way out; two days later it can be withdrawn"),
            ("backup", "write its key as an Ethereum keystore, under a passphrase of its own"),
            ("restore", "make a backed-up key the wallet of this configuration"),
            ("rotate", "a new wallet in its place: money follows, stake unbonds, the worker is registered anew"),
            ("sweep", "fetch what an earlier wallet has: stake that has unbonded, pay that came late"),
        )
    }
    fund = made["fund"]
    fund.add_argument("--chain", type=Path, required=True, help="folder of `skynet devchain` or `skynet deploy`")
    fund.add_argument(
        "--key", type=Path, metavar="FILE", help="key of who pays, in hex, instead of a development account"
    )
    fund.add_argument("--ether", default="5")
    made["withdraw"].add_argument("--token", type=chain_address, help="what is owed in this ERC-20 instead")
    made["stake"].add_argument("ether", metavar="ETHER")
    made["unbond"].add_argument("ether", metavar="ETHER", help="an amount, or `all`")
    made["backup"].add_argument("--out", type=Path, required=True, metavar="FILE")
    made["restore"].add_argument("backup", type=Path, metavar="FILE")
    made["restore"].add_argument("--replace", action="store_true", help="put it in place of a wallet that is there")
    made["sweep"].add_argument("file", type=Path, metavar="FILE", help="key file of the earlier wallet")
    for name in ("backup", "restore", "sweep"):
        made[name].add_argument("--passphrase-file", type=Path, metavar="FILE", help="of that file; mode 0600")
    for command in made.values():
        _add_common(command)


def _add_peers(command: argparse.ArgumentParser, *, required: bool) -> None:
    help_text = "multiaddr of a node, ending in /p2p/PEER (its addresses.json has it)"
    command.add_argument(
        "--peer", action="append", type=peer_address, default=[], required=required, metavar="MULTIADDR", help=help_text
    )


def _add_common(command: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get(CONFIG_VARIABLE, "node.toml"))
    command.add_argument("--config", type=Path, default=default, metavar="FILE")
    _add_json(command)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="the last line is one JSON object")


if __name__ == "__main__":
    sys.exit(main())
