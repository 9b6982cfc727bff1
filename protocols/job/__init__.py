"""The ledger: `Jobs` and `Workers` as one pure machine, the twin of `contracts/src/Jobs.sol`.

The one rule: `step` accepts exactly the transactions that the contracts accept, and emits the same events.

    OPEN -assign-> ASSIGNED -quorum ready-> TRAINING -last round-> PROVING -settle-> SETTLED
      |-cancel-> CANCELLED  |-expire-> EXPIRED  (money can be taken out of every end)

What needs a curve, a proof system or a beacon comes resolved, as `Facts`. A rule that a transaction breaks is a
`Revert` by the name of the contract's custom error. State and what follows from it are in `ledger`; the transactions
in `worker`, `opening`, `training`, `proving` and `ending`, in the order of a job's life, over what `change` has.
Spec: protocols/README.md, "Contracts".
"""

from __future__ import annotations

from dataclasses import replace

from protocols.chain import (
    Apply,
    Assign,
    Cancel,
    CommitRound,
    DeliverKeys,
    Dissent,
    Expire,
    NullRound,
    Post,
    Ready,
    Register,
    RegisterKey,
    Release,
    ReportEquivocation,
    Settle,
    SubmitProof,
    TopUp,
    Unbond,
    Withdraw,
    WithdrawIn,
    WithdrawStake,
)
from protocols.job.change import Abort, Stepped, add_stake, add_to, require
from protocols.job.ending import cancel, expire, release, settle
from protocols.job.ledger import (
    AUDIT_WINDOW_S,
    BEACON_MARGIN_S,
    BOUNTY,
    DRAND_EVMNET,
    FIELD_MODULUS,
    MAX_APPLICANTS,
    MAX_NULLED,
    MAX_ROUNDS,
    MAX_SAMPLES,
    MAX_SEATS,
    MIN_KEY_WORDS,
    UNBONDING_S,
    Beacon,
    Facts,
    Job,
    Ledger,
    Revert,
    Round,
    Transaction,
    Worker,
    compute_ballot_digest,
    compute_beacon_round,
    compute_free_stake,
    compute_holdings,
    compute_key_digest,
    compute_liabilities,
    compute_participations,
    compute_price,
    compute_token_liabilities,
    compute_value,
    compute_vote_digest,
    is_postable,
    is_proved,
)
from protocols.job.opening import apply, assign, deliver_keys, post, ready
from protocols.job.proving import submit_proof
from protocols.job.training import commit_round, dissent, null_round, report_equivocation
from protocols.job.worker import register, register_key, unbond, withdraw, withdraw_in, withdraw_stake

__all__ = [
    "AUDIT_WINDOW_S",
    "BEACON_MARGIN_S",
    "BOUNTY",
    "DRAND_EVMNET",
    "FIELD_MODULUS",
    "MAX_APPLICANTS",
    "MAX_NULLED",
    "MAX_ROUNDS",
    "MAX_SAMPLES",
    "MAX_SEATS",
    "MIN_KEY_WORDS",
    "UNBONDING_S",
    "Beacon",
    "Facts",
    "Job",
    "Ledger",
    "Revert",
    "Round",
    "Stepped",
    "Transaction",
    "Worker",
    "compute_ballot_digest",
    "compute_beacon_round",
    "compute_free_stake",
    "compute_holdings",
    "compute_key_digest",
    "compute_liabilities",
    "compute_participations",
    "compute_price",
    "compute_token_liabilities",
    "compute_value",
    "compute_vote_digest",
    "is_postable",
    "is_proved",
    "step",
]


def step(ledger: Ledger, transaction: Transaction) -> Stepped | Revert:
    """Apply one transaction, or say by name why the contracts refuse it."""
    try:
        return _dispatch(_take_value(ledger, transaction), transaction)
    except Abort as abort:
        return Revert(str(abort))


def _dispatch(ledger: Ledger, tx: Transaction) -> Stepped:
    match tx.call:
        case Register():
            return register(ledger, tx, tx.call)
        case RegisterKey(words):
            return register_key(ledger, words)
        case Post():
            return post(ledger, tx, tx.call)
        case Apply(job):
            return apply(ledger, tx, job)
        case Assign(job):
            return assign(ledger, tx, job)
        case DeliverKeys():
            return deliver_keys(ledger, tx, tx.call)
        case Ready(job):
            return ready(ledger, tx, job)
        case CommitRound():
            return commit_round(ledger, tx, tx.call)
        case NullRound(job, number):
            return null_round(ledger, tx, job, number)
        case Dissent():
            return dissent(ledger, tx, tx.call)
        case ReportEquivocation():
            return report_equivocation(ledger, tx, tx.call)
        case SubmitProof():
            return submit_proof(ledger, tx, tx.call)
        case Settle(job):
            return settle(ledger, tx, job)
        case Cancel(job):
            return cancel(ledger, tx, job)
        case Expire(job):
            return expire(ledger, tx, job)
        case Release(job, worker):
            return release(ledger, job, worker)
        case Withdraw():
            return withdraw(ledger, tx)
        case WithdrawIn(token):
            return withdraw_in(ledger, tx, token)
        case TopUp():
            require(tx.value_wei, "NothingSent")
            return add_stake(ledger, tx.sender, tx.value_wei)
        case Unbond(amount):
            return unbond(ledger, tx, amount)
        case WithdrawStake():
            return withdraw_stake(ledger, tx)


def _take_value(ledger: Ledger, tx: Transaction) -> Ledger:
    """Only these are payable; what is too much or too little of it is their own business."""
    require(isinstance(tx.call, Post | Register | TopUp) or tx.value_wei == 0, "NotPayable")
    return replace(ledger, paid_in=add_to(ledger.paid_in, tx.sender, tx.value_wei))
