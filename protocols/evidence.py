"""What is hashed into certificates and receipts, and the paths that lead back to it.

    certificate -- set root --> entry (worker, update, receipt root) -- leaf paths --> C(w_t ‖ s_t), C(w_t+1 ‖ s_t+1)
    terms ------- pages root --------------------------------------- page path ---> C(x), C(y)

`Jobs.sol` computes the same bytes. Spec: protocols/README.md, "Evidence"; DESIGN §6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from protocols.abi import encode_words
from protocols.chain import Entry, Evidence
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.keccak import keccak256
from protocols.merkle import ZERO_DIGEST, compute_next_path, compute_path, compute_root, is_member

EPOCH = 1  # the set of workers is fixed until membership changes are in the contract


def hash_commitment(commitment: Commitment) -> Digest:
    return Digest(keccak256(commitment))


def step_leaf(job: JobId, worker: Address, number: RoundNumber, step: int, state: Commitment) -> bytes:
    """Return the leaf data of the state after `step` inner steps: C(w_t ‖ s_t), in evaluation jobs C(w_H)."""
    return encode_words(job, worker, number, step, hash_commitment(state))


def last_leaf_root(job: JobId, worker: Address, number: RoundNumber, steps: int, weights: Commitment) -> Digest:
    """Return the receipt root of an evaluation job, whose one leaf is C(w_H)."""
    return compute_root([step_leaf(job, worker, number, steps, weights)])


def set_leaf(job: JobId, number: RoundNumber, entry: Entry) -> bytes:
    return encode_words(job, number, entry.worker, entry.update, entry.leaves)


def page_leaf(index: int, x: Commitment, y: Commitment) -> bytes:
    return encode_words(index, hash_commitment(x), hash_commitment(y))


def receipt_root(job: JobId, worker: Address, number: RoundNumber, states: Sequence[Commitment]) -> Digest:
    """Return the receipt root of a training job over C(w_0 ‖ s_0) … C(w_H ‖ s_H)."""
    return compute_root(_step_leaves(job, worker, number, states))


def receipt_ends(
    job: JobId, worker: Address, number: RoundNumber, states: Sequence[Commitment]
) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
    """Return the paths of a training job's first and last leaf: where the steps began and where they ended."""
    leaves = _step_leaves(job, worker, number, states)
    return compute_path(leaves, 0), compute_path(leaves, len(leaves) - 1)


def is_receipt_of(
    job: JobId,
    number: RoundNumber,
    entry: Entry,
    steps: int,
    start: Commitment,
    end: Commitment,
    paths: tuple[Sequence[Digest], Sequence[Digest]],
) -> bool:
    """Whether a training job's receipt begins with `start` and ends with `end`, `steps` steps later."""
    ends = ((0, start, paths[0]), (steps, end, paths[1]))
    return all(
        is_member(entry.leaves, step_leaf(job, entry.worker, number, at, state), at, steps + 1, path)
        for at, state, path in ends
    )


def round_record(set_root: Digest, start: Digest) -> Digest:
    """Return what `Jobs` keeps of a certified round; `start` is H(C(θ_r)), zero in evaluation jobs."""
    return keccak256(set_root + start)


def compute_job_id(chain_id: int, jobs: Address, requester: Address, nonce: bytes) -> JobId:
    return JobId(keccak256(encode_words(chain_id, jobs, requester, nonce)))


def set_root(job: JobId, number: RoundNumber, entries: Sequence[Entry]) -> Digest:
    """Return the root over a round's entries in seat order."""
    return compute_root(_set_leaves(job, number, entries))


def pages_root(pages: Sequence[tuple[Commitment, Commitment]]) -> Digest:
    return compute_root(_page_leaves(pages))


def certificate_digest(
    job: JobId, number: RoundNumber, set_root: Digest, state: ContentId, commitment: Commitment
) -> Digest:
    """Return what the next round's votes name as their parent."""
    return Digest(keccak256(encode_words(job, number, set_root, state, hash_commitment(commitment))))


def compute_rank(participants: int, seat: int) -> int | None:
    """Return the index of a seat's entry in a round's set, None if it has none."""
    if not participants >> seat & 1:
        return None
    return (participants & ((1 << seat) - 1)).bit_count()


def build_evidence(
    job: JobId,
    number: RoundNumber,
    entries: Sequence[Entry],
    worker: Address,
    steps: int,
    page: int,
    pages: Sequence[tuple[Commitment, Commitment]],
) -> Evidence:
    """Return the paths from a worker's last step leaf and a challenge page to what is on chain.

    An evaluation job's receipt has one leaf, that after the terms' `steps`, so its path is empty.
    Raises ValueError if the worker has no entry in the set.
    """
    index = [e.worker for e in entries].index(worker)
    return Evidence(
        round=number,
        start=ZERO_DIGEST,
        update=entries[index].update,
        leaves=entries[index].leaves,
        set_path=compute_path(_set_leaves(job, number, entries), index),
        step=steps,
        leaf_path=(),
        next_path=(),
        page=page,
        page_path=compute_path(_page_leaves(pages), page),
    )


def build_step_evidence(
    job: JobId,
    number: RoundNumber,
    entries: Sequence[Entry],
    worker: Address,
    states: Sequence[Commitment],
    step: int,
    page: int,
    pages: Sequence[tuple[Commitment, Commitment]],
) -> Evidence:
    """Return the paths from the states before and after inner step `step` and its training page to what is on chain.

    `states` are C(w_0 ‖ s_0) … C(w_H ‖ s_H): the leaves of the worker's receipt of that round, the first of which is
    the state that the round began with. Raises ValueError if the worker has no entry, or the receipt no such step.
    """
    leaves = _step_leaves(job, worker, number, states)
    return replace(
        build_evidence(job, number, entries, worker, step, page, pages),
        start=hash_commitment(states[0]),
        leaf_path=compute_path(leaves, step),
        next_path=compute_next_path(leaves, step),
    )


def _step_leaves(job: JobId, worker: Address, number: RoundNumber, states: Sequence[Commitment]) -> list[bytes]:
    return [step_leaf(job, worker, number, t, state) for t, state in enumerate(states)]


def _set_leaves(job: JobId, number: RoundNumber, entries: Sequence[Entry]) -> list[bytes]:
    return [set_leaf(job, number, e) for e in entries]


def _page_leaves(pages: Sequence[tuple[Commitment, Commitment]]) -> list[bytes]:
    return [page_leaf(i, x, y) for i, (x, y) in enumerate(pages)]
