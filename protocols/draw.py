"""What chance decides: seats, challenges. And the quorum, which it doesn't.

The one rule: the same beacon randomness gives the same draw to everybody, and nobody knew it before the thing
it is drawn over was on chain. Spec: protocols/README.md, "Draws".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.abi import encode_words
from protocols.assignment import page_of_step
from protocols.chain import ProofPolicy, Terms
from protocols.ids import Address, Digest, JobId, RoundNumber, Seat
from protocols.keccak import keccak256

_CHALLENGE = keccak256(b"skynet challenge")
_SEATS = keccak256(b"skynet seats")


@dataclass(frozen=True, slots=True)
class Sample:
    """One drawn statement about a worker's own weights in a round."""

    round: RoundNumber
    step: int
    """T: the inner step t to prove. E: the terms' `steps`: the weights after the last are evaluated."""
    page: int
    """T: what step t trained on. E: the challenge page."""


def compute_quorum(seats: int) -> int:
    """⌈2n/3⌉: two quorums share more than a third, so one honest seat at least while f < n/3."""
    return (2 * seats + 2) // 3


def compute_challenge_seed(
    chain_id: int, jobs: Address, job: JobId, worker: Address, certificate: Digest, randomness: Digest
) -> Digest:
    """`certificate` is the digest of the job's last certificate, `randomness` that of its proving beacon round."""
    return keccak256(encode_words(_CHALLENGE, chain_id, jobs, job, worker, certificate, randomness))


def draw_sample(
    seed: Digest, sample: int, rounds: Sequence[RoundNumber], terms: Terms, job: JobId, seat: Seat
) -> Sample:
    """`rounds` are those in which the worker took part, ascending; ValueError where there are none."""
    if not rounds:
        raise ValueError("nothing to draw from")
    number = rounds[_draw(len(rounds), seed, sample, 0)]
    if terms.proof_policy is ProofPolicy.EVALUATION:
        return Sample(number, terms.steps, _draw(terms.pages, seed, sample, 1))
    step = _draw(terms.steps, seed, sample, 1)
    return Sample(number, step, page_of_step(Digest(job), terms.pages, terms.seats, seat, number, step))


def draw_seats(
    chain_id: int, jobs: Address, job: JobId, randomness: Digest, applicants: Sequence[Address], seats: int
) -> tuple[Address, ...]:
    """`seats` of the applicants (in order of application), in seat order: a partial Fisher-Yates shuffle."""
    if len(applicants) < seats:
        raise ValueError(f"{len(applicants)} applicants for {seats} seats")
    seed = keccak256(encode_words(_SEATS, chain_id, jobs, job, randomness))
    order = list(applicants)
    for i in range(seats):
        j = i + _draw(len(order) - i, seed, i)
        order[i], order[j] = order[j], order[i]
    return tuple(order[:seats])


def _draw(below: int, seed: Digest, *labels: int) -> int:
    # The bias of a 256-bit number modulo a small one is below 2**-240.
    return int.from_bytes(keccak256(encode_words(seed, *labels)), "big") % below
