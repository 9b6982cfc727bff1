"""`skynet wallet`: what a configuration's wallet has, and development money for it."""

from __future__ import annotations

import argparse

from actors.ports import Unreachable
from node.adapters.evm import connect
from node.cli.output import print_json
from node.cli.render import ether
from node.client.jobspec import to_wei
from node.config import jobs_address, keys_folder, load_config
from node.errors import ChainError, ExitCode
from node.identity import load_identity
from node.localnet import fund, read_chain_info
from protocols.ids import Address, Digest


class _ReadOnly:
    """A wallet that is only looked at: its key stays locked."""

    def __init__(self, wallet: Address) -> None:
        self.wallet = wallet

    def sign_digest(self, digest: Digest) -> bytes:
        raise AssertionError("showing a wallet signs nothing")


async def show(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    wallet = load_identity(keys_folder(config)).wallet
    url, jobs = config.chain.rpc_urls[0].reveal(), jobs_address(config, options.config)
    async with connect(url, jobs=jobs, signer=_ReadOnly(wallet), chain_id=config.chain.chain_id) as chain:
        amounts = {
            "balance_wei": await chain.balance(wallet),
            "free_stake_wei": await chain.free_stake(wallet),
            "credit_wei": await chain.credit(wallet),
        }
    for amount in amounts.values():
        if isinstance(amount, Unreachable):
            raise ChainError("chain", amount.reason, "check chain.rpc_urls")
    if options.json:
        print_json({"address": wallet, **amounts})
        return ExitCode.OK
    print(wallet)
    for name, amount in amounts.items():
        assert isinstance(amount, int)
        print(f"  {name.removesuffix('_wei').replace('_', ' '):12} {ether(amount)}")
    return ExitCode.OK


async def fund_wallet(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    wallet = load_identity(keys_folder(config)).wallet
    amount_wei = to_wei(options.ether, "--ether")
    await fund(read_chain_info(options.chain), [wallet], amount_wei)
    if options.json:
        print_json({"address": wallet, "amount_wei": amount_wei})
    else:
        print(f"{ether(amount_wei)} sent to {wallet}")
    return ExitCode.OK
