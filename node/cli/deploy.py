"""`skynet deploy`: the contracts on a network, at addresses that follow from their code.

Broken off at any point, the same command goes on where it stopped. The address file names what a node's
configuration needs: chain id, the block to read from, and `Jobs`, which names the others.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from node.adapters.evm import LocalSigner, open_endpoint
from node.adapters.evm.create2 import Plan, Step, deploy_plan, plan_deployment, read_gas_price, survey
from node.adapters.evm.rpc import Endpoint, read_quantity
from node.cli.chain import read_signer
from node.cli.output import print_json
from node.config import parse_config
from node.errors import ExitCode, KeyFileError
from node.initial import read_shipped
from node.localnet import CHAIN_FILE, ChainInfo

WEI_PER_ETHER = 10**18


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    chain_id: int
    rpc_url: str
    development: bool


async def deploy_contracts(options: argparse.Namespace) -> int:
    """Raises ConfigError, KeyFileError, ChainError or CallReverted."""
    network = _read_network(options)
    plan = plan_deployment(development=network.development)
    async with open_endpoint(network.rpc_url) as endpoint:
        if options.dry_run:
            return await _show_costs(endpoint, network, plan, as_json=options.json)
        signer = _read_signer(options.key)
        await survey(endpoint, plan, network.chain_id)  # a wrong chain is refused before the block is noted
        first_block = read_quantity(await endpoint.request("eth_blockNumber"))
        await deploy_plan(endpoint, signer, plan, network.chain_id, _quiet if options.json else _show)
    path = options.out or Path(f"deployment-{network.name}.json")
    deployed = await _write_addresses(path, network, plan, first_block)
    if options.dir:
        info = ChainInfo(network.rpc_url, network.chain_id, plan.address_of("Jobs"), "", plan.address_of("Market"))
        await trio.Path(options.dir).mkdir(parents=True, exist_ok=True)
        await trio.Path(options.dir / CHAIN_FILE).write_text(json.dumps(asdict(info)) + "\n")
    if options.json:
        print_json(deployed)
    else:
        print(f"Jobs {plan.address_of('Jobs')} on chain {network.chain_id}; addresses are in {path}")
        if network.development:
            print("marked as a development deployment: evaluation jobs are accepted (training: unproved)")
    return ExitCode.OK


def _read_network(options: argparse.Namespace) -> Network:
    chain = parse_config(read_shipped(options.network), Path(f"{options.network}.toml")).chain
    url = options.rpc or chain.rpc_urls[0].reveal()
    return Network(options.network, chain.chain_id, url, chain.development)


def _read_signer(path: Path | None) -> LocalSigner:
    if path is None:
        raise KeyFileError("--key", "is missing", "name the deploying wallet's file, or ask for --dry-run")
    return read_signer(path)


async def _show_costs(endpoint: Endpoint, network: Network, plan: Plan, *, as_json: bool) -> int:
    """Gas and cost of what is missing, without sending anything."""
    steps = await survey(endpoint, plan, network.chain_id)
    price_wei = await read_gas_price(endpoint)
    gas = sum(step.gas for step in steps)
    if as_json:
        contracts = [asdict(step) for step in steps]
        print_json({"gas": gas, "gas_price_wei": price_wei, "cost_wei": gas * price_wei, "contracts": contracts})
        return ExitCode.OK
    for step in steps:
        print(f"{step.name:22} {step.address}  {'is there' if step.is_there else f'{step.gas:>11,} gas'}")
    print(f"{'at most':22} {gas:,} gas at {price_wei / 10**9:g} gwei: {gas * price_wei / WEI_PER_ETHER:.6f} ether")
    print("a rollup's fee for data on its parent chain comes on top; nothing was sent")
    return ExitCode.OK


async def _show(step: Step) -> None:
    print(f"{step.name:22} {step.address}  {'is there' if step.is_there else f'{step.gas:>11,} gas'}", flush=True)


async def _quiet(_: Step) -> None:
    return


async def _write_addresses(path: Path, network: Network, plan: Plan, first_block: int) -> dict[str, object]:
    """A file that is there already keeps its first block: the deployment began then."""
    file = trio.Path(path)
    contracts = {planned.name: planned.address for planned in plan.contracts} | {"Workers": plan.workers}
    deployed: dict[str, object] = {
        "network": network.name,
        "chain_id": network.chain_id,
        "development": network.development,
        "first_block": first_block,
        "contracts": contracts,
    }
    if await file.exists():
        known = json.loads(await file.read_text())
        if isinstance(known, dict) and known.get("contracts") == contracts:
            deployed["first_block"] = min(first_block, int(known.get("first_block", first_block)))
    await file.write_text(json.dumps(deployed, indent=1) + "\n")
    return deployed
