"""What is hashed into certificates and receipts, and the paths that lead back to it.

    certificate -- set root --> entry (worker, update, receipt root) -- leaf path --> C(w_t)
    terms ------- pages root --------------------------------------- page path --> C(x), C(y)

`Jobs.sol` computes the same bytes. Spec: protocols/README.md, "Evidence"; DESIGN §6.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.abi import encode_words
from protocols.chain import Entry, Evidence
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.keccak import keccak256
from protocols.merkle import ZERO_DIGEST, compute_path, compute_root

EPOCH = 1  # the set of workers is fixed until membership changes are in the contract


def hash_commitment(commitment: Commitment) -> Digest:
    return Digest(keccak256(commitment))


def step_leaf(
    job: JobId, worker: Address, number: RoundNumber, step: int, weights: Commitment, page: bytes = ZERO_DIGEST
) -> bytes:
    """Return the leaf data of the weights after inner step `step`; evaluation jobs bind no page."""
    return encode_words(job, worker, number, step, hash_commitment(weights), page)


def set_leaf(job: JobId, number: RoundNumber, entry: Entry) -> bytes:
    return encode_words(job, number, entry.worker, entry.update, entry.leaves)


def page_leaf(index: int, x: Commitment, y: Commitment) -> bytes:
    return encode_words(index, hash_commitment(x), hash_commitment(y))


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
    page: int,
    pages: Sequence[tuple[Commitment, Commitment]],
) -> Evidence:
    """Return the paths from a worker's last step leaf and a challenge page to what is on chain.

    An evaluation job's receipt has one leaf, so its path is empty.
    Raises ValueError if the worker has no entry in the set.
    """
    index = [e.worker for e in entries].index(worker)
    return Evidence(
        round=number,
        update=entries[index].update,
        leaves=entries[index].leaves,
        set_path=compute_path(_set_leaves(job, number, entries), index),
        leaf_path=(),
        page=page,
        page_path=compute_path(_page_leaves(pages), page),
    )


def _set_leaves(job: JobId, number: RoundNumber, entries: Sequence[Entry]) -> list[bytes]:
    return [set_leaf(job, number, e) for e in entries]


def _page_leaves(pages: Sequence[tuple[Commitment, Commitment]]) -> list[bytes]:
    return [page_leaf(i, x, y) for i, (x, y) in enumerate(pages)]
