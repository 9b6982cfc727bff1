"""What may be said of a job's training, after what the chain has said of the job."""

from __future__ import annotations

from typing import Any, cast

import pytest

from node.client.outcome import FAILED, PENDING, PROVED, UNPROVED, WHY, describe_detection, judge_training
from protocols.chain import Assigned, ChainEvent, JobEnded, JobState, ProofAccepted, ProofPolicy, RoundCommitted, Terms
from protocols.ids import Address, JobId, RoundNumber, Wei

JOB = JobId(bytes(32))
A, B = Address("0x" + 40 * "a"), Address("0x" + 40 * "b")


def terms(policy: ProofPolicy) -> Terms:
    class _Terms:
        proof_policy = policy
        samples = 2

    return cast("Terms", _Terms())


def committed(participants: int) -> RoundCommitted:
    nothing: Any = bytes(32)
    return RoundCommitted(JOB, RoundNumber(0), 0, nothing, nothing, nothing, participants, nothing, 0)


def proof(worker: Address, sample: int) -> ProofAccepted:
    return ProofAccepted(JOB, worker, sample, RoundNumber(0), 3, 4, 0, True)


SEATED = Assigned(JOB, (A, B), 0)
END = JobEnded(JOB, JobState.SETTLED, Wei(0))
OF_A, OF_B = (proof(A, 0), proof(A, 1)), (proof(B, 0), proof(B, 1))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((), PENDING),
        ((SEATED, committed(0b11), *OF_A), PENDING),
        ((SEATED, committed(0b11), *OF_A, *OF_B), PROVED),
        ((SEATED, committed(0b11), *OF_A, OF_B[0], END), FAILED),
        ((SEATED, committed(0b01), *OF_A, END), PROVED),  # the other is in no certificate
        ((SEATED, END), PENDING),  # there is no model
    ],
)
def test_proved_is_said_where_every_proof_is_on_chain(events: tuple[ChainEvent, ...], said: str) -> None:
    assert judge_training(terms(ProofPolicy.TRAINING), events) == said
    assert judge_training(terms(ProofPolicy.EVALUATION), events) == UNPROVED
    assert WHY[said]


def test_what_a_number_of_proofs_is_good_for() -> None:
    assert "1 drawn step of each worker" in describe_detection(1)
    assert "10% of cheats in 10 %" in describe_detection(1)
    assert "52% of cheats in 10 %, 99% of cheats in half" in describe_detection(7)
