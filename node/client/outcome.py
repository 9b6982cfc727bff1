"""What came of a job: who was paid what for which proof, and what may be said of its training.

The one rule: training is `proved` only where every proof is on chain.

Statement E proves the quality of committed weights and nothing about the work, so an evaluation job is `unproved` for
ever. A T job is `proved` once each worker that a certificate counts has all its drawn steps proved, and `not proved`
if it ends before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.client.progress import Happened
from protocols.chain import (
    Assigned,
    ChainEvent,
    JobEnded,
    ProofAccepted,
    ProofPolicy,
    RoundCommitted,
    Terms,
    WorkerPaid,
)
from protocols.ids import Address

# -- Training ------------------------------------------------------------------

UNPROVED, PENDING, PROVED, FAILED = "unproved", "not yet proved", "proved", "not proved"

WHY = {
    UNPROVED: "the proofs show how good committed weights are on drawn held-out pages, not that the work was done",
    PENDING: "each worker has still to prove steps of its training, which a beacon draws",
    FAILED: "the model holds updates of workers who did not prove the steps drawn of them, and lost their stakes",
    PROVED: "each worker proved drawn steps of its training, all of which it had committed to; two thirds of the seats "
    "checked that its steps begin with the certified state and end with the update that it sent",
}


def judge_training(terms: Terms, events: Iterable[ChainEvent]) -> str:
    """Return what may be said after all that the chain has said of a job."""
    if terms.proof_policy is not ProofPolicy.TRAINING:
        return UNPROVED
    seated: tuple[str, ...] = ()
    counted, proofs, has_ended = 0, Counter[str](), False
    for event in events:
        match event:
            case Assigned(_, workers):
                seated = workers
            case RoundCommitted():
                counted |= event.participants
            case ProofAccepted(_, worker):
                proofs[worker] += 1
            case JobEnded():
                has_ended = True
            case _:
                pass
    owing = [worker for seat, worker in enumerate(seated) if counted >> seat & 1]
    if owing and all(proofs[worker] == terms.samples for worker in owing):
        return PROVED
    return FAILED if owing and has_ended else PENDING


def describe_training(training: str) -> str:
    return f"training: {training}"


def describe_detection(samples: int) -> str:
    """Say what the drawn steps of a worker are good for: a cheat in a share φ escapes with (1 − φ)**samples."""
    found = [f"{1 - (1 - share) ** samples:.0%} of cheats in {name}" for share, name in CHEATS]
    steps = "step" if samples == 1 else "steps"
    return f"{samples} drawn {steps} of each worker will be proved: that finds {', '.join(found)}"


CHEATS = ((0.01, "1 % of the steps"), (0.1, "10 %"), (0.5, "half"), (1.0, "all of them"))

# -- Workers -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PaidWorker:
    address: Address
    proofs: tuple[ProofAccepted, ...]
    """On chain, in their order there."""
    wanted: int
    """How many of them there should be."""
    gas: int
    """Of the last."""
    paid_wei: int

    @property
    def proof_verified(self) -> bool:
        return len(self.proofs) == self.wanted


def find_paid(terms: Terms, happened: Sequence[Happened]) -> list[PaidWorker]:
    """Return who sat in a job, in seat order, and what each of them earned for which proofs."""
    seated = [worker for h in happened if isinstance(h.event, Assigned) for worker in h.event.workers]
    paid_wei = {h.event.worker: h.event.amount_wei for h in happened if isinstance(h.event, WorkerPaid)}
    proofs = [(h.event, h.gas_used) for h in happened if isinstance(h.event, ProofAccepted)]
    found = []
    for worker in seated:
        mine = [(event, gas_used) for event, gas_used in proofs if event.worker == worker]
        gas_used = mine[-1][1] if mine else 0
        verified = tuple(event for event, _ in mine)
        found.append(PaidWorker(worker, verified, terms.samples, gas_used, paid_wei.get(worker, 0)))
    return found
