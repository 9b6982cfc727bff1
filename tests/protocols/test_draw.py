from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.abi import ZERO_ADDRESS, checksum_address, encode_words
from protocols.assignment import page_of_step, pages_of_round
from protocols.chain import ProofPolicy, Terms
from protocols.draw import Sample, compute_challenge_seed, compute_quorum, draw_sample, draw_seats
from protocols.ids import Address, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.keccak import keccak256

JOBS = checksum_address(b"J" * 20)
JOB = JobId(b"j" * 32)
NOTHING, NAME, WEI = Digest(bytes(32)), ContentId(bytes(32)), Wei(1)
EVALUATED = Terms(
    NAME, NAME, NAME, NAME, bytes(32), NOTHING, NOTHING, NOTHING, ZERO_ADDRESS, 11, 3, 3, 8, 6, 2,
    ProofPolicy.EVALUATION, 10, 10, 10, 10, WEI, WEI, WEI, 0,
)  # fmt: skip
TRAINED = replace(EVALUATED, proof_policy=ProofPolicy.TRAINING)
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
    drawn = int.from_bytes(keccak256(encode_words(seed, 7, 1)), "big")
    seat = Seat(1)
    assert draw_sample(seed, 7, rounds, EVALUATED, JOB, seat) == Sample(rounds[number], 6, drawn % 11)
    page = page_of_step(Digest(JOB), 11, 3, seat, rounds[number], drawn % 6)
    assert draw_sample(seed, 7, rounds, TRAINED, JOB, seat) == Sample(rounds[number], drawn % 6, page)


def test_samples_of_a_step_are_of_the_pages_that_it_was_assigned() -> None:
    rounds = [RoundNumber(r) for r in range(4)]
    drawn = [draw_sample(keccak256(b"seed"), k, rounds, TRAINED, JOB, Seat(2)) for k in range(64)]
    assert {sample.step for sample in drawn} == set(range(6))
    for sample in drawn:
        assert sample.page == pages_of_round(Digest(JOB), 11, 3, Seat(2), sample.round, 6)[sample.step]


def test_everything_moves_the_challenge() -> None:
    base = (1, JOBS, JOB, people(2)[0], Digest(b"c" * 32), Digest(b"r" * 32))
    other = (2, people(2)[1], JobId(b"k" * 32), people(2)[1], Digest(b"d" * 32), Digest(b"s" * 32))
    seeds = {compute_challenge_seed(*(*base[:i], other[i], *base[i + 1 :])) for i in range(6)}  # type: ignore[arg-type]
    assert len(seeds | {compute_challenge_seed(*base)}) == 7


def test_nothing_to_draw_from() -> None:
    for terms in (EVALUATED, TRAINED):
        with pytest.raises(ValueError, match="nothing"):
            draw_sample(Digest(bytes(32)), 0, [], terms, JOB, Seat(0))
