"""Evidence: its paths lead from a proof to the roots on chain, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import evidence
from protocols.chain import Entry
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.merkle import are_neighbours, compute_root, is_member

JOB = JobId(b"j" * 32)
ROUND = RoundNumber(4)


def worker(seat: int) -> Address:
    return Address(f"0x{seat + 1:040x}")


def entry_of(seat: int) -> Entry:
    weights = Commitment(bytes([seat]) * 64)
    leaf = evidence.step_leaf(JOB, worker(seat), ROUND, 5, weights)
    return Entry(worker(seat), ContentId(bytes([seat]) * 32), compute_root([leaf]))


def pages_of(count: int) -> list[tuple[Commitment, Commitment]]:
    return [(Commitment(bytes([i]) * 64), Commitment(bytes([i, 1]) * 32)) for i in range(count)]


@given(st.sets(st.integers(0, 63), min_size=1, max_size=8), st.integers(1, 9), st.data())
def test_the_paths_end_in_the_roots(seats: set[int], pages: int, data: st.DataObject) -> None:
    order = sorted(seats)
    participants = sum(1 << s for s in order)
    seat, page = data.draw(st.sampled_from(order)), data.draw(st.integers(0, pages - 1))
    entries = [entry_of(s) for s in order]
    built = evidence.build_evidence(JOB, ROUND, entries, worker(seat), 5, page, pages_of(pages))
    rank = evidence.compute_rank(participants, seat)
    assert rank is not None
    entry = evidence.set_leaf(JOB, ROUND, Entry(worker(seat), built.update, built.leaves))
    assert is_member(evidence.set_root(JOB, ROUND, entries), entry, rank, len(order), built.set_path)
    leaf = evidence.step_leaf(JOB, worker(seat), ROUND, 5, Commitment(bytes([seat]) * 64))
    assert is_member(built.leaves, leaf, 0, 1, built.leaf_path)
    challenge = evidence.page_leaf(page, *pages_of(pages)[page])
    assert is_member(evidence.pages_root(pages_of(pages)), challenge, page, pages, built.page_path)


@given(st.integers(1, 3), st.integers(1, 9), st.data())
def test_the_paths_of_a_step_end_in_two_neighbouring_leaves(seats: int, steps: int, data: st.DataObject) -> None:
    states = [Commitment(bytes([t]) * 64) for t in range(steps + 1)]
    root = evidence.receipt_root(JOB, worker(0), ROUND, states)
    entries = [Entry(worker(0), ContentId(bytes(32)), root), *map(entry_of, range(1, seats))]
    step = data.draw(st.integers(0, steps - 1))
    built = evidence.build_step_evidence(JOB, ROUND, entries, worker(0), states, step, 1, pages_of(2))
    assert (built.step, built.leaves) == (step, root)
    assert built.start == evidence.hash_commitment(states[0])
    leaf, following = (evidence.step_leaf(JOB, worker(0), ROUND, t, states[t]) for t in (step, step + 1))
    assert are_neighbours(root, leaf, following, step, steps + 1, built.leaf_path, built.next_path)
    entry = evidence.set_leaf(JOB, ROUND, entries[0])
    assert is_member(evidence.set_root(JOB, ROUND, entries), entry, 0, seats, built.set_path)
    with pytest.raises(ValueError, match="no leaf"):
        evidence.build_step_evidence(JOB, ROUND, entries, worker(0), states, steps, 1, pages_of(2))


@given(st.integers(0, 2**64 - 1), st.integers(0, 63))
def test_a_rank_counts_the_seats_before(participants: int, seat: int) -> None:
    seats = [s for s in range(64) if participants >> s & 1]
    expected = seats.index(seat) if seat in seats else None
    assert evidence.compute_rank(participants, seat) == expected


def test_who_is_not_in_the_set_has_no_evidence() -> None:
    entries = [entry_of(s) for s in (0, 2)]
    with pytest.raises(ValueError, match="not in list"):
        evidence.build_evidence(JOB, ROUND, entries, worker(1), 5, 0, pages_of(2))
    with pytest.raises(ValueError, match="no leaf"):
        evidence.build_evidence(JOB, ROUND, entries, worker(2), 5, 2, pages_of(2))


def test_every_part_of_a_set_is_in_its_root() -> None:
    entries = [entry_of(s) for s in (0, 1, 2)]
    others = [
        evidence.set_root(JobId(b"i" * 32), ROUND, entries),
        evidence.set_root(JOB, RoundNumber(5), entries),
        evidence.set_root(JOB, ROUND, entries[:2]),
        evidence.set_root(JOB, ROUND, entries[::-1]),
        evidence.set_root(JOB, ROUND, [replace(entries[0], update=ContentId(b"u" * 32)), *entries[1:]]),
        evidence.set_root(JOB, ROUND, [replace(entries[0], leaves=Digest(bytes(32))), *entries[1:]]),
        evidence.set_root(JOB, ROUND, [replace(entries[0], worker=worker(9)), *entries[1:]]),
    ]
    assert len({*others, evidence.set_root(JOB, ROUND, entries)}) == 8


def test_every_part_of_a_certificate_is_in_its_digest() -> None:
    args = (JOB, ROUND, Digest(bytes(32)), ContentId(bytes(32)), Commitment(bytes(64)))
    changed = (JobId(b"i" * 32), RoundNumber(5), Digest(b"d" * 32), ContentId(b"c" * 32), Commitment(b"c" * 64))
    digests = {evidence.certificate_digest(*args)}
    for i in range(5):
        digests.add(evidence.certificate_digest(*args[:i], changed[i], *args[i + 1 :]))  # type: ignore[arg-type]
    assert len(digests) == 6
