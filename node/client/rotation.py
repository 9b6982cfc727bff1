"""Leaving a wallet for another one: what it has is collected, and where it worked the new one is registered.

    keys written -> refused while jobs hold it -> collected -> new one registered -> files exchanged

The one rule: both keys are on disk before anything is sent, and each step finds out by the chain whether it is done:
broken off anywhere, the same command goes on. A stake takes two days to unbond; `sweep` fetches it then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.ports import Mined
from node import wallet_file
from node.adapters.evm import EvmChain, Journal, LocalSigner
from node.chain_link import connect_chain
from node.client.ledger import Ledger, require, require_mined
from node.config import Config, jobs_address, keys_folder
from node.errors import CallReverted
from node.identity import load_identity
from node.key_file import find_passphrase
from node.secret import Secret
from node.signer import require_key_file, wallet_of
from node.store import open_store
from protocols.chain import JobState, Register, Unbond, WithdrawStake
from protocols.chain_spending import ether
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.ids import Address, Wei
from protocols.keccak import keccak256

LATER_GAS = 500_000  # left where a stake unbonds: for taking it out, and sending it on
CAPABILITIES = keccak256(b"skynet worker 1")


@dataclass(frozen=True, slots=True)
class Collected:
    """What came out of a wallet, and what is still to come."""

    credit_wei: Wei
    stake_wei: Wei
    sent_wei: Wei
    """To the other wallet, credit and stake among it."""
    unbonding_wei: Wei
    unbonded_at_s: int


@dataclass(frozen=True, slots=True)
class Rotated:
    old: Address
    new: Address
    kept: Path
    """The old wallet's file."""
    registered: bool
    collected: Collected


async def rotate(config: Config, path: Path) -> Rotated:
    """Raises FolderLocked while a node runs here, CallReverted while jobs hold the wallet, ChainError, KeyFileError."""
    require_key_file(config, path)
    folder, passphrase = keys_folder(config), find_passphrase(config.keys.passphrase_file)
    jobs = jobs_address(config, path)
    with open_store(config.data_dir, blobs_mib=config.store.blobs_mib) as store:
        secret, old = wallet_file.read_wallet(folder / wallet_file.WALLET, passphrase)
        new_secret, new = wallet_file.prepare_next(folder, passphrase)
        async with connect_chain(config, jobs, LocalSigner(secret), Journal(store)) as chain:
            ledger = Ledger(chain, config.chain.first_block, config.chain.confirmations)
            await _require_idle(ledger)
            was_worker = await chain.worker_keys(old)
            collected = await collect(ledger, new)
        registered = False
        if isinstance(was_worker, tuple):
            async with connect_chain(config, jobs, LocalSigner(new_secret), Journal(store)) as chain:
                registered = await _register(chain, new_secret, folder)
        kept = wallet_file.put_next(folder)
    return Rotated(old, new, kept, registered, collected)


async def sweep(config: Config, path: Path, old: Path, passphrase: Secret | None) -> tuple[Address, Collected]:
    """Bring what an earlier wallet has to the present one. Raises KeyFileError, CallReverted or ChainError."""
    secret, wallet = wallet_file.read_wallet(old, passphrase)
    present = wallet_of(config)
    if wallet == present:
        raise CallReverted(f"wallet {wallet}", "is the present one", "name the file of an earlier one")
    async with connect_chain(config, jobs_address(config, path), LocalSigner(secret)) as chain:
        ledger = Ledger(chain, config.chain.first_block, config.chain.confirmations)
        return wallet, await collect(ledger, present)


async def collect(ledger: Ledger, to: Address) -> Collected:
    """Take out what the contracts owe and what stake may go, unbond the rest, and transfer all that can be spared."""
    chain, wallet = ledger.chain, ledger.chain.wallet
    credit_wei, stake_wei = Wei(0), Wei(0)
    unbonding_wei, unbonded_at_s = require(await chain.unbonding_stake(wallet))
    head = require(await chain.head())
    if unbonding_wei and unbonded_at_s <= head.timestamp_s:
        await ledger.send(WithdrawStake())
        stake_wei, unbonding_wei = unbonding_wei, Wei(0)
    credit_wei = await ledger.withdraw()
    free_wei = require(await chain.free_stake(wallet))
    if free_wei:
        await ledger.send(Unbond(free_wei))
        unbonding_wei, unbonded_at_s = require(await chain.unbonding_stake(wallet))
    sent = await chain.send_rest(to, LATER_GAS if unbonding_wei else 0)
    if sent is not None:
        require_mined("transfer", sent[0])
    return Collected(credit_wei, stake_wei, Wei(sent[1] if sent else 0), unbonding_wei, unbonded_at_s)


async def _require_idle(ledger: Ledger) -> None:
    wallet = ledger.chain.wallet
    locked_wei = require(await ledger.chain.locked_stake(wallet))
    if locked_wei:
        problem = f"{ether(locked_wei)} of its stake are locked in jobs"
        raise CallReverted(f"wallet {wallet}", problem, "rotate when they are over and their stake is released")
    ended = (JobState.SETTLED, JobState.CANCELLED, JobState.EXPIRED)
    for job in await ledger.jobs():
        if job.requester == wallet and job.state not in ended:
            problem = f"its job 0x{job.job.hex()} is {job.state.name.lower()}: the refund and the result are its own"
            raise CallReverted(f"wallet {wallet}", problem, "rotate when the job has ended, or cancel it")


async def _register(chain: EvmChain, secret: Secret, folder: Path) -> bool:
    """Without stake: the node deposits it at its next start. False where the new wallet can't pay for it yet."""
    identity, wallet = load_identity(folder), chain.wallet
    keys = (identity.node_key, identity.encryption_key)
    if await chain.worker_keys(wallet) == keys:
        return True
    digest = compute_digest(Domain(chain.chain_id, chain.addresses.workers), Binding(wallet, *keys, CAPABILITIES))
    call = Register(*keys, CAPABILITIES, LocalSigner(secret).sign_digest(digest), Wei(0))
    return isinstance(await chain.send(call), Mined)
