"""What a contract's refusal means to whoever made the call: a sentence, and what to do.

The one rule: every custom error of the contracts has one here, and a test holds the list against their ABI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from protocols.chain import JobState
from protocols.chain_spending import ether
from protocols.market import OrderState

Said = str | Callable[..., str]
"""A sentence, or what makes one of the error's arguments."""


def explain(name: str, arguments: tuple[Any, ...]) -> str:
    """A sentence without a final stop; for an error that is none of ours, its name."""
    said = SENTENCES.get(name)
    if said is None:
        return name
    return said if isinstance(said, str) else said(*arguments)


def _state(number: int) -> str:
    meaning = {
        JobState.NONE: "there is no such job at these contracts: check the id and chain.jobs",
        JobState.OPEN: "the job is still open for applications: wait until its seats are drawn",
        JobState.ASSIGNED: "the job has its workers and is no longer open: nothing to apply for or call off",
        JobState.TRAINING: "the job is training: this belongs before or after it",
        JobState.PROVING: "the job's rounds are over and it is being proved: wait until it is settled",
        JobState.SETTLED: "the job is settled: what it owes can be withdrawn; `skynet wallet show` says how much",
        JobState.CANCELLED: "its requester has called the job off: stakes are released and the budget is back",
        JobState.EXPIRED: "the job expired: stakes are released and the budget is back",
    }
    return meaning[JobState(number)]


def _time(deadline_s: int) -> str:
    return datetime.fromtimestamp(deadline_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _too_few(applicants: int) -> str:
    return f"only {applicants} applied, fewer than the job wants: let it expire, or post it again with better pay"


def _stake(free: int, needed: int) -> str:
    return f"{ether(free)} of stake are free and {ether(needed)} are needed: top up, or wait until jobs release theirs"


def _terms(field: str) -> str:
    return f"the contract does not take these terms: {field} is out of its bounds; correct it in job.toml"


def _order(number: int) -> str:
    meaning = {
        OrderState.NONE: "there is no such order at this market: check its id and chain.jobs",
        OrderState.PAID: "the order is paid and open: wait for its seller, or until it can be refunded",
        OrderState.FILLED: "the order is filled and its seller is paid: nothing is left to do",
        OrderState.REFUNDED: "the order was given up and its buyer has the money back: order again",
    }
    return meaning[OrderState(number)]


_NO_POINT = "the signature is no point of the beacon's curve: ask another source of drand"

SENTENCES: Mapping[str, Said] = {
    "AlreadyAccepted": "this proof was accepted before: nothing is left to do",
    "AlreadyApplied": "this wallet has applied to the job before: wait for the seats to be drawn",
    "AlreadyDissented": "this seat's dissent is counted already: nothing is left to do",
    "AlreadyPunished": "this double vote was punished before: nothing is left to do",
    "AlreadyReady": "this worker is counted as ready already: nothing is left to do",
    "BNAddFailed": lambda _: _NO_POINT,
    "BadBeacon": lambda number: f"this is not drand's signature of round {number}: ask another source",
    "BadBinding": "the statement that binds wallet and keys is not signed by the wallet: check the key files",
    "BadCommitment": "the commitment is no point of the curve: the certificate is damaged, ask a peer for another",
    "BadInstances": "the proof's public values are not those of the statement: prove again from the certified weights",
    "BadRoyalty": "the royalty is more than the price, or goes to nobody: give at most 10000 and name its creator",
    "BadSignature": lambda seat: f"seat {seat}'s signature in the certificate is not its own: collect votes again",
    "BadTerms": _terms,
    "BeaconNotOut": lambda number: f"the beacon's round {number} is not out yet: try again in a few seconds",
    "EmptyKey": "a key or an input is empty: give 32 bytes; `skynet-node init` makes a node's keys",
    "ForeignSrs": "the verifying key is of another setup than the ceremony's: this network takes no others; pack the"
    " model again with the ceremony's SRS",
    "InvalidDSTLength": lambda _: _NO_POINT,
    "InvalidFieldElement": lambda _: _NO_POINT,
    "InvalidShortString": "the contract was deployed with a wrong name: use another deployment",
    "JobExists": "a job of this requester and number is there already: it was posted before; see `skynet job list`",
    "KeysAlreadyDelivered": "the job's keys were delivered before: nothing is left to do",
    "KeysMissing": "the requester has not delivered the job's keys yet: wait for them",
    "ListingExists": "a listing of this seller and number is there already: see `skynet model list`",
    "MalformedKey": "the verifying key is malformed: pack the model again",
    "MapToPointFailed": lambda _: _NO_POINT,
    "ModExpFailed": lambda *_: _NO_POINT,
    "NoContent": "the listing names no content: give the hash of what is sold",
    "NoOutputs": "the model has no outputs: a proof of it would say nothing; pack it again",
    "NoQuorum": lambda needed: f"the certificate has too few votes: {needed} are needed; wait for more workers",
    "NoWindow": "the listing leaves no time to deliver in: give a window of a second or more",
    "NotForSale": "the listing does not offer this, or is withdrawn: see `skynet model list`",
    "NotInPages": "the page is not under the job's root: fetch the dataset again",
    "NotInReceipt": "the weights are not those that the worker committed to: this proof can't be paid",
    "NotInSet": "the round's certified set does not hold this update: prove a round that has it",
    "NotRegistered": "this wallet is not registered as a worker: start its node once with work.offered = true",
    "NotRequester": "only the job's requester, or the delegate it named, may do this: use that wallet's configuration",
    "NotSeated": "this wallet has no seat in the job: nothing is to be done with it",
    "NotSeller": "only the listing's seller may do this: use that wallet's configuration",
    "NothingForSale": "the listing asks no price for anything: give one for the key or for an inference",
    "NothingLocked": "no stake is locked here any more: it was released before",
    "NothingOwed": "the contract owes this wallet nothing: it was withdrawn before, or is still to be earned",
    "NothingSent": "no money came with the call: send what the stake shall grow by",
    "NothingUnbonding": "no stake is being unbonded: ask for it first",
    "OnlyJobs": "only the Jobs contract may do this: stakes move through jobs",
    "OrderExists": "an order of this buyer and number is there already: nothing is left to do",
    "PredictableBeacon": "this beacon can be predicted, and only a development network takes it: deploy with drand's",
    "ProofInvalid": "the proof does not verify: it is of other weights, another page or another key; prove again",
    "ProofTooShort": "the proof is cut off: prove again",
    "ReentrancyGuardReentrantCall": "the contract was called while it was paying: pay out to a plain wallet",
    "SafeERC20FailedOperation": lambda token: f"the token {token} refused the transfer: see balance and allowance",
    "SameVote": "both votes are the same: only two different votes of one seat are evidence",
    "StakeTooLow": _stake,
    "StepUnproved": "the proof's public values are not all zero: it does not prove the step; prove again",
    "StillUnbonding": lambda unbonded_at: f"the stake is free from {_time(unbonded_at)} on: wait",
    "StringTooLong": "the contract was deployed with a name that is too long: use another deployment",
    "TooEarly": lambda deadline: f"it is too early: this may be done from {_time(deadline)} on; wait",
    "TooFewApplicants": _too_few,
    "TooLate": lambda deadline: f"it is too late: this was to be done before {_time(deadline)}",
    "TransferFailed": "the receiver refuses the money: withdraw to a wallet that takes it",
    "UnknownKey": "the verifying key is not registered: register it first; `skynet job submit` does",
    "UnknownListing": "there is no such listing at this market: check its id (`skynet model list`)",
    "UnknownModel": "the model's verifier was not made by Models, or proves no inference: fix the model first",
    "UnknownVerifier": "this is not ezkl's verifier as it is pinned: deploy it with `skynet deploy`",
    "UnprovedTraining": "this network takes no job that is paid on evaluation alone: choose another proof policy, or a"
    " development network",
    "WrongDraw": lambda number, step, page: (
        f"the draw asks for round {number}, step {step} and page {page}: prove that"
    ),
    "WrongOrder": _order,
    "WrongParent": "the certificate builds on another round than the chain's last: read the chain and vote again",
    "WrongParticipants": "the certificate names seats that the job does not have: collect the votes again",
    "WrongRound": lambda expected: f"the chain is at round {expected}: this one is decided or not due",
    "WrongSample": lambda samples: f"the job wants {samples} proofs of each worker: there is no such sample",
    "WrongSigners": "the certificate's signers and signatures don't match: collect the votes again",
    "WrongStart": "the worker's first leaf is not the state that the round began with: this proof can't be paid",
    "WrongState": _state,
    "WrongValue": lambda due: f"the payment is wrong: {ether(due)} are due, and a token has to arrive whole",
    "WrongWraps": lambda expected: f"{expected} wrapped keys are due, one a seat: fetch the seats again",
}
