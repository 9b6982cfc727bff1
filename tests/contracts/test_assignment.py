"""Assignment.sol computes the pages of `protocols/assignment.py`, and no number of pages makes that dear."""

from __future__ import annotations

from math import gcd

import pytest
from contract_world import Done, World
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.assignment import page_of_step
from protocols.ids import Digest, RoundNumber, Seat
from protocols.keccak import keccak256

MOST = 2**32 - 1
PRIMORIAL = 2 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * 23  # of all numbers below 2**32 it has the widest gaps between coprimes
WIDEST = 40
UNLUCKY = 19644  # found by trying

counts = st.one_of(st.integers(1, 70), st.integers(1, MOST), st.sampled_from((PRIMORIAL, MOST, 2**31, 2**31 - 1)))
uint32s = st.one_of(st.sampled_from((0, MOST)), st.integers(0, MOST))


@pytest.fixture(scope="module")
def probe() -> World:
    world = World()
    world.deploy("AssignmentProbe")
    return world


@given(st.binary(min_size=32, max_size=32), counts, st.integers(1, 64), st.integers(0, 63), uint32s, uint32s)
@example(bytes(32), 1, 1, 0, 0, 0)
@example(b"\xff" * 32, MOST, 64, 63, MOST, MOST)
@example(b"\xff" * 32, 64, 64, 63, MOST, MOST)
def test_both_compute_the_same_page(
    probe: World, seed: bytes, pages: int, seats: int, seat: int, number: int, step: int
) -> None:
    pages, seat = max(pages, seats), seat % seats
    expected = page_of_step(Digest(seed), pages, seats, Seat(seat), RoundNumber(number), step)
    assert probe.read("AssignmentProbe", "page", seed, pages, seats, seat, number, step) == expected


def test_the_worst_number_of_pages_costs_little(probe: World) -> None:
    """A seed whose slope is drawn at the foot of a wide gap between coprimes."""
    seed, pages = Digest(UNLUCKY.to_bytes(32, "big")), PRIMORIAL // (19 * 23)
    drawn = 1 + int.from_bytes(keccak256(seed + b"slope".ljust(32, b"\0")), "big") % pages
    tried = next(k for k in range(100) if gcd(drawn + k, pages) == 1) + 1
    data = probe.interfaces["AssignmentProbe"].encode("page", (seed, pages, 64, 63, 1023, MOST))
    outcome = probe.transact(probe.deployer, probe.addresses["AssignmentProbe"], data)
    assert isinstance(outcome, Done)
    each = (outcome.gas_used - 21_000) / tried
    assert (tried, each * WIDEST < 60_000) == (24, True)
