"""Workers and their stakes, verifying keys, and taking out what is owed."""

from __future__ import annotations

from dataclasses import replace

from protocols.abi import ZERO_ADDRESS
from protocols.chain import Register, StakeUnbonding, StakeWithdrawn, WorkerRegistered
from protocols.ids import Address, Wei
from protocols.job.change import Stepped, add_stake, add_to, change_stake, require
from protocols.job.ledger import (
    MIN_KEY_WORDS,
    STRANGER,
    UNBONDING_S,
    Ledger,
    Transaction,
    compute_free_stake,
    compute_key_digest,
)


def register(ledger: Ledger, tx: Transaction, call: Register) -> Stepped:
    """Again is allowed: keys are replaced, stake is added."""
    require(any(call.node_key) and any(call.encryption_key), "EmptyKey")
    require(tx.facts.binding_valid, "BadBinding")
    old = ledger.workers.get(tx.sender, STRANGER)
    worker = replace(old, node_key=call.node_key, encryption_key=call.encryption_key, capabilities=call.capabilities)
    ledger = replace(ledger, workers={**ledger.workers, tx.sender: worker})
    registered = WorkerRegistered(tx.sender, call.node_key, call.encryption_key)
    if not tx.value_wei:
        return ledger, (registered,)
    ledger, added = add_stake(ledger, tx.sender, tx.value_wei)
    return ledger, (registered, *added)


def register_key(ledger: Ledger, words: tuple[int, ...]) -> Stepped:
    """Which ceremony a key comes from is not looked at here: these are a development network's rules."""
    require(len(words) >= MIN_KEY_WORDS, "MalformedKey")
    return replace(ledger, keys=ledger.keys | {compute_key_digest(words)}), ()


def unbond(ledger: Ledger, tx: Transaction, amount_wei: Wei) -> Stepped:
    """All that is on its way out waits for what joined it last."""
    require(0 < amount_wei <= compute_free_stake(ledger, tx.sender), "StakeTooLow")
    ledger = change_stake(ledger, tx.sender, stake=-amount_wei, unbonding=amount_wei)
    unbonded_at_s = tx.now_s + UNBONDING_S
    worker = replace(ledger.workers[tx.sender], unbonded_at_s=unbonded_at_s)
    ledger = replace(ledger, workers={**ledger.workers, tx.sender: worker})
    return ledger, (StakeUnbonding(tx.sender, amount_wei, unbonded_at_s),)


def withdraw_stake(ledger: Ledger, tx: Transaction) -> Stepped:
    worker = ledger.workers.get(tx.sender, STRANGER)
    require(worker.unbonding_wei, "NothingUnbonding")
    require(tx.now_s >= worker.unbonded_at_s, "StillUnbonding")
    ledger = change_stake(ledger, tx.sender, unbonding=-worker.unbonding_wei)
    paid = add_to(ledger.paid_out, tx.sender, worker.unbonding_wei)
    return replace(ledger, paid_out=paid), (StakeWithdrawn(tx.sender, worker.unbonding_wei),)


def withdraw(ledger: Ledger, tx: Transaction) -> Stepped:
    owed = ledger.credits.get(tx.sender, Wei(0))
    require(owed, "NothingOwed")
    paid = add_to(ledger.paid_out, tx.sender, owed)
    return replace(ledger, credits=add_to(ledger.credits, tx.sender, -owed), paid_out=paid), ()


def withdraw_in(ledger: Ledger, tx: Transaction, token: Address) -> Stepped:
    if token == ZERO_ADDRESS:
        return withdraw(ledger, tx)
    require(ledger.token_credits.get((token, tx.sender)), "NothingOwed")
    return replace(ledger, token_credits={**ledger.token_credits, (token, tx.sender): Wei(0)}), ()
