"""What the transitions share: refusing, and moving money, stakes and jobs from one ledger to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protocols.abi import ZERO_ADDRESS
from protocols.chain import ChainEvent, FeePaid, JobState, StakeAdded
from protocols.ids import Address, JobId, Wei
from protocols.job.ledger import STRANGER, Job, Ledger, Transaction

Stepped = tuple[Ledger, tuple[ChainEvent, ...]]
"""What a transaction makes of the ledger, and what it logs."""


class Abort(Exception):
    """Leaves a transaction half way, as `revert` does; never leaves `step`."""


def require(condition: object, name: str) -> None:
    if not condition:
        raise Abort(name)


def get_job(ledger: Ledger, job_id: JobId, *states: JobState) -> Job:
    job = ledger.jobs.get(job_id)
    if job is None or job.state not in states:
        raise Abort("WrongState")
    return job


def put_job(ledger: Ledger, job_id: JobId, job: Job) -> Ledger:
    return replace(ledger, jobs={**ledger.jobs, job_id: job})


def owe(ledger: Ledger, job: Job, account: Address, amount_wei: Wei) -> Ledger:
    """In the job's token."""
    if job.terms.token == ZERO_ADDRESS:
        return replace(ledger, credits=add_to(ledger.credits, account, amount_wei))
    owed = (job.terms.token, account)
    credits = {**ledger.token_credits, owed: Wei(ledger.token_credits.get(owed, 0) + amount_wei)}
    return replace(ledger, token_credits=credits)


def add_to(balances: Mapping[Address, Wei], address: Address, amount_wei: int) -> Mapping[Address, Wei]:
    return {**balances, address: Wei(balances.get(address, 0) + amount_wei)}


def pay_fee(ledger: Ledger, tx: Transaction, job_id: JobId, job: Job) -> tuple[Ledger, FeePaid]:
    """Whoever moves the job on is paid from its reserve."""
    fee = job.terms.move_fee_wei
    ledger = owe(ledger, job, tx.sender, fee)
    ledger = put_job(ledger, job_id, replace(job, escrow_wei=Wei(job.escrow_wei - fee)))
    return ledger, FeePaid(job_id, tx.sender, fee)


def add_stake(ledger: Ledger, address: Address, amount_wei: Wei) -> Stepped:
    return change_stake(ledger, address, stake=amount_wei), (StakeAdded(address, amount_wei),)


def change_stake(ledger: Ledger, address: Address, *, stake: int = 0, locked: int = 0, unbonding: int = 0) -> Ledger:
    old = ledger.workers.get(address, STRANGER)
    new = replace(
        old,
        stake_wei=Wei(old.stake_wei + stake),
        locked_wei=Wei(old.locked_wei + locked),
        unbonding_wei=Wei(old.unbonding_wei + unbonding),
    )
    return replace(ledger, workers={**ledger.workers, address: new})
