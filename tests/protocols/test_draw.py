from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.abi import checksum_address, encode_words
from protocols.draw import Sample, compute_challenge_seed, compute_quorum, draw_sample, draw_seats
from protocols.ids import Address, Digest, JobId, RoundNumber
from protocols.keccak import keccak256

JOBS = checksum_address(b"J" * 20)
JOB = JobId(b"j" * 32)
words = st.binary(min_size=32, max_size=32).map(Digest)


def people(count: int) -> list[Address]:
    return [checksum_address(bytes([i]) * 20) for i in range(count)]


def test_quorum() -> None:
    assert [compute_quorum(n) for n in (1, 2, 3, 4, 5, 6, 7, 64)] == [1, 2, 2, 3, 4, 4, 5, 43]


@given(words, st.integers(1, 64), st.data())
def test_seats_are_distinct_applicants(randomness: Digest, seats: int, data: st.DataObject) -> None:
    applicants = people(data.draw(st.integers(seats, 80)))
    drawn = draw_seats(31337, JOBS, JOB, randomness, applicants, seats)
    assert len(drawn) == len(set(drawn)) == seats
    assert set(drawn) <= set(applicants)


def test_seats_of_as_many_applicants_are_a_permutation() -> None:
    applicants = people(4)
    counts = Counter(draw_seats(1, JOBS, JOB, keccak256(bytes([i])), applicants, 4) for i in range(240))
    assert len(counts) == 24  # all orders come up, none far too often
    assert max(counts.values()) < 40


def test_too_few_applicants() -> None:
    with pytest.raises(ValueError, match="2 applicants for 3 seats"):
        draw_seats(1, JOBS, JOB, Digest(bytes(32)), people(2), 3)


def test_sample_by_hand() -> None:
    seed = compute_challenge_seed(1, JOBS, JOB, people(1)[0], Digest(b"c" * 32), Digest(b"r" * 32))
    rounds = [RoundNumber(r) for r in (0, 2, 5)]
    number = int.from_bytes(keccak256(encode_words(seed, 7, 0)), "big") % 3
    page = int.from_bytes(keccak256(encode_words(seed, 7, 1)), "big") % 11
    assert draw_sample(seed, 7, rounds, 11) == Sample(rounds[number], page)


def test_everything_moves_the_challenge() -> None:
    base = (1, JOBS, JOB, people(2)[0], Digest(b"c" * 32), Digest(b"r" * 32))
    other = (2, people(2)[1], JobId(b"k" * 32), people(2)[1], Digest(b"d" * 32), Digest(b"s" * 32))
    seeds = {compute_challenge_seed(*(*base[:i], other[i], *base[i + 1 :])) for i in range(6)}  # type: ignore[arg-type]
    assert len(seeds | {compute_challenge_seed(*base)}) == 7


def test_nothing_to_draw_from() -> None:
    for rounds, pages in (([], 4), ([RoundNumber(0)], 0)):
        with pytest.raises(ValueError, match="nothing"):
            draw_sample(Digest(bytes(32)), 0, rounds, pages)
