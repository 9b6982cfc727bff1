"""`skynet wallet`: what a configuration's wallet has, what it is owed, and development money for it."""

from __future__ import annotations

import argparse

from actors.ports import Unreachable
from node.cli.chain import read_signer
from node.cli.output import print_json
from node.cli.render import ether
from node.client.jobspec import to_wei
from node.client.ledger import open_ledger
from node.config import keys_folder, load_config
from node.errors import ChainError, ExitCode
from node.identity import load_identity
from node.localnet import fund, read_chain_info


async def show(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    async with open_ledger(config, options.config) as ledger:
        chain = ledger.chain
        amounts = {
            "balance_wei": await chain.balance(chain.wallet),
            "free_stake_wei": await chain.free_stake(chain.wallet),
            "credit_wei": await chain.credit(chain.wallet),
        }
    for amount in amounts.values():
        if isinstance(amount, Unreachable):
            raise ChainError("chain", amount.reason, "check chain.rpc_urls")
    if options.json:
        print_json({"address": chain.wallet, **amounts})
        return ExitCode.OK
    print(chain.wallet)
    for name, amount in amounts.items():
        assert isinstance(amount, int)
        print(f"  {name.removesuffix('_wei').replace('_', ' '):12} {ether(amount)}")
    if amounts["credit_wei"]:
        print("  take the credit with `skynet wallet withdraw`; a running node does it by itself")
    return ExitCode.OK


async def withdraw(options: argparse.Namespace) -> int:
    """Pull what the contract owes the wallet: pay, or what a job did not spend."""
    async with open_ledger(load_config(options.config), options.config, signs=True) as ledger:
        amount_wei = await ledger.withdraw()
    if options.json:
        print_json({"address": ledger.chain.wallet, "amount_wei": amount_wei})
    else:
        print(f"{ether(amount_wei)} withdrawn to {ledger.chain.wallet}")
    return ExitCode.OK


async def fund_wallet(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    wallet = load_identity(keys_folder(config)).wallet
    amount_wei = to_wei(options.ether, "--ether")
    payer = read_signer(options.key) if options.key else None
    await fund(read_chain_info(options.chain), [wallet], amount_wei, payer)
    if options.json:
        print_json({"address": wallet, "amount_wei": amount_wei})
    else:
        print(f"{ether(amount_wei)} sent to {wallet}")
    return ExitCode.OK
