"""Pages of steps: a permutation that no two workers share a page of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.assignment import page_of_step, pages_of_round
from protocols.ids import Digest, RoundNumber, Seat

SEED = Digest(b"s" * 32)
seeds = st.binary(min_size=32, max_size=32).map(Digest)


@given(seeds, st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_workers_own_disjoint_pages(seed: Digest, pages: int, workers: int, number: int) -> None:
    if workers > pages:
        with pytest.raises(ValueError, match="can't be shared"):
            pages_of_round(seed, pages, workers, Seat(0), RoundNumber(number), 1)
        return
    # So many steps that each worker meets nearly every page that it owns.
    drawn = [set(pages_of_round(seed, pages, workers, Seat(s), RoundNumber(number), 40)) for s in range(workers)]
    assert sum(map(len, drawn)) == len(set.union(*drawn))
    assert all(0 <= p < pages for own in drawn for p in own)
    assert all(len(own) <= pages // workers for own in drawn)


@given(seeds, st.integers(1, 40))
def test_pages_are_permuted(seed: Digest, pages: int) -> None:
    """One page each: together the workers own every page once."""
    drawn = [pages_of_round(seed, pages, pages, Seat(s), RoundNumber(0), 1)[0] for s in range(pages)]
    assert sorted(drawn) == list(range(pages))
    strides = {(b - a) % pages for a, b in pairwise(drawn)}
    assert len(strides) <= 1  # affine: the contract needs one multiplication


@given(seeds, st.integers(0, 100), st.integers(0, 3), st.integers(1, 20))
def test_a_draw_depends_on_its_step_alone(seed: Digest, number: int, seat: int, steps: int) -> None:
    args = (seed, 64, 4, Seat(seat), RoundNumber(number))
    assert pages_of_round(*args, steps) == pages_of_round(*args, steps + 5)[:steps]
    assert pages_of_round(*args, steps) == tuple(page_of_step(*args, t) for t in range(steps))


def test_rounds_seats_and_jobs_draw_apart() -> None:
    draws = {
        pages_of_round(seed, 640, 4, Seat(seat), RoundNumber(number), 8)
        for seed in (SEED, Digest(b"t" * 32))
        for seat in range(4)
        for number in range(3)
    }
    assert len(draws) == 24


def test_every_owned_page_is_drawn_in_the_long_run() -> None:
    drawn = pages_of_round(SEED, 32, 4, Seat(1), RoundNumber(0), 200)
    assert len(set(drawn)) == 8


def test_draws_are_what_they_always_were() -> None:
    """A change here would part old and new workers of one job."""
    assert pages_of_round(SEED, 48, 4, Seat(2), RoundNumber(5), 4) == (15, 23, 7, 3)
