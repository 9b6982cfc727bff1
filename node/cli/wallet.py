"""`skynet wallet`: what a configuration's wallet has and is owed, its stake, and development money for it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from node.cli.chain import read_signer
from node.cli.output import print_json
from node.cli.render import ether
from node.cli.wallet_keys import backup, restore, rotate, sweep
from node.client.jobspec import to_wei
from node.client.ledger import Ledger, open_ledger, require
from node.client.shop import open_shop
from node.config import load_config
from node.errors import CallReverted, ExitCode
from node.localnet import fund, read_chain_info
from node.signer import wallet_of
from protocols.chain import TopUp, Unbond, WithdrawStake
from protocols.ids import Address, Wei
from protocols.market import NATIVE


async def show(options: argparse.Namespace) -> int:
    async with open_ledger(load_config(options.config), options.config) as ledger:
        chain = ledger.chain
        unbonding_wei, unbonded_at_s = require(await chain.unbonding_stake(chain.wallet))
        amounts = {
            "balance_wei": require(await chain.balance(chain.wallet)),
            "free_stake_wei": require(await chain.free_stake(chain.wallet)),
            "locked_stake_wei": require(await chain.locked_stake(chain.wallet)),
            "unbonding_stake_wei": unbonding_wei,
            "credit_wei": require(await chain.credit(chain.wallet)),
        }
    if options.json:
        print_json({"address": chain.wallet, **amounts, "unbonded_at_s": unbonded_at_s if unbonding_wei else None})
        return ExitCode.OK
    print(chain.wallet)
    for name, amount_wei in amounts.items():
        print(f"  {name.removesuffix('_wei').replace('_', ' '):15} {ether(amount_wei)}")
    if unbonding_wei:
        print(f"  what is unbonding can be withdrawn from {_time(unbonded_at_s)} on")
    if amounts["credit_wei"]:
        print("  take the credit with `skynet wallet withdraw`; a running node does it by itself")
    return ExitCode.OK


async def withdraw(options: argparse.Namespace) -> int:
    """Pull what the contracts have for the wallet: pay, what a job did not spend, stake that has unbonded."""
    async with open_ledger(load_config(options.config), options.config, signs=True) as ledger:
        if options.token is not None:
            return await _withdraw_token(ledger, options)
        stake_wei = await _withdraw_stake(ledger)
        amount_wei = Wei(await ledger.withdraw() + await _withdraw_sales(ledger, options, NATIVE))
    if options.json:
        print_json({"address": ledger.chain.wallet, "amount_wei": amount_wei, "stake_wei": stake_wei})
        return ExitCode.OK
    print(f"{ether(amount_wei)} withdrawn to {ledger.chain.wallet}")
    if stake_wei:
        print(f"{ether(stake_wei)} of stake withdrawn")
    return ExitCode.OK


async def _withdraw_token(ledger: Ledger, options: argparse.Namespace) -> int:
    token = await ledger.token(options.token)
    amount = await ledger.withdraw(options.token) + await _withdraw_sales(ledger, options, options.token)
    if options.json:
        print_json({"address": ledger.chain.wallet, "token": options.token, "amount": amount})
    else:
        print(f"{token.text(amount)} withdrawn to {ledger.chain.wallet}")
    return ExitCode.OK


async def _withdraw_sales(ledger: Ledger, options: argparse.Namespace, token: Address) -> Wei:
    """What the market owes, where the configuration names one."""
    config = load_config(options.config)
    if config.chain.market is None:
        return Wei(0)
    async with open_shop(ledger, config, options.config) as shop:
        return await shop.withdraw(token)


async def _withdraw_stake(ledger: Ledger) -> Wei:
    """What has unbonded by now; the rest stays on its way."""
    unbonding_wei, unbonded_at_s = require(await ledger.chain.unbonding_stake(ledger.chain.wallet))
    if not unbonding_wei or require(await ledger.chain.head()).timestamp_s < unbonded_at_s:
        return Wei(0)
    await ledger.send(WithdrawStake())
    return unbonding_wei


async def stake(options: argparse.Namespace) -> int:
    """Add to the stake that jobs may lock."""
    amount_wei = to_wei(options.ether, "ETHER")
    async with open_ledger(load_config(options.config), options.config, signs=True) as ledger:
        await ledger.require_balance(amount_wei, "this stake")
        await ledger.send(TopUp(amount_wei))
        free_wei = require(await ledger.chain.free_stake(ledger.chain.wallet))
    if options.json:
        print_json({"address": ledger.chain.wallet, "amount_wei": amount_wei, "free_stake_wei": free_wei})
    else:
        print(f"{ether(amount_wei)} staked by {ledger.chain.wallet}; {ether(free_wei)} are free for jobs")
    return ExitCode.OK


async def unbond(options: argparse.Namespace) -> int:
    """Put free stake on its way out: all of it, or so much."""
    async with open_ledger(load_config(options.config), options.config, signs=True) as ledger:
        chain = ledger.chain
        free_wei = require(await chain.free_stake(chain.wallet))
        amount_wei = free_wei if options.ether == "all" else to_wei(options.ether, "ETHER")
        if not amount_wei:
            raise CallReverted(
                f"wallet {chain.wallet}", "has no free stake to unbond", "wait until jobs release theirs"
            )
        await ledger.send(Unbond(amount_wei))
        unbonding_wei, unbonded_at_s = require(await chain.unbonding_stake(chain.wallet))
    if options.json:
        print_json({"amount_wei": amount_wei, "unbonding_stake_wei": unbonding_wei, "unbonded_at_s": unbonded_at_s})
        return ExitCode.OK
    print(f"{ether(unbonding_wei)} unbonding; `skynet wallet withdraw` takes it from {_time(unbonded_at_s)} on")
    print("a node that starts tops its stake up again to work.max_stake_wei: lower that first")
    return ExitCode.OK


async def fund_wallet(options: argparse.Namespace) -> int:
    wallet = wallet_of(load_config(options.config))
    amount_wei = to_wei(options.ether, "--ether")
    payer = read_signer(options.key) if options.key else None
    await fund(read_chain_info(options.chain), [wallet], amount_wei, payer)
    if options.json:
        print_json({"address": wallet, "amount_wei": amount_wei})
    else:
        print(f"{ether(amount_wei)} sent to {wallet}")
    return ExitCode.OK


def _time(timestamp_s: int) -> str:
    return datetime.fromtimestamp(timestamp_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "show": show,
    "withdraw": withdraw,
    "stake": stake,
    "unbond": unbond,
    "fund": fund_wallet,
    "backup": backup,
    "restore": restore,
    "rotate": rotate,
    "sweep": sweep,
}
