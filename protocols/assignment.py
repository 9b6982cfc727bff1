"""Which page a worker trains on at each inner step: disjoint between workers, drawn by a seed.

Cheap enough for the contract to compute too. perm(k) = (a·k + b) mod pages with gcd(a, pages) = 1 is a
bijection, so worker i of n owns the pages perm(i + n·k) and no two workers share one.

Spec: protocols/README.md, "Assignment"; DESIGN §5.1.
"""

from __future__ import annotations

from math import gcd

from protocols.ids import Digest, RoundNumber, Seat
from protocols.keccak import keccak256


def pages_of_round(
    seed: Digest, pages: int, workers: int, seat: Seat, number: RoundNumber, steps: int
) -> tuple[int, ...]:
    """Return `page_of_step` of every inner step of a round, in order."""
    permutation = _permutation(seed, pages)
    return tuple(_page(seed, permutation, pages, workers, seat, number, t) for t in range(steps))


def page_of_step(seed: Digest, pages: int, workers: int, seat: Seat, number: RoundNumber, step: int) -> int:
    """Return the index in range(pages) of the page that a worker trains on at an inner step (0-based) of a round.

    Raises ValueError if there are fewer pages than workers. `Assignment.sol` computes the same.
    """
    return _page(seed, _permutation(seed, pages), pages, workers, seat, number, step)


def _page(
    seed: Digest,
    permutation: tuple[int, int],
    pages: int,
    workers: int,
    seat: Seat,
    number: RoundNumber,
    step: int,
) -> int:
    owned = pages // workers
    if owned == 0:
        raise ValueError(f"{pages} pages can't be shared by {workers} workers")
    slope, offset = permutation
    drawn = _draw(seed, b"step", seat, number, step) % owned
    return (slope * (seat + workers * drawn) + offset) % pages


def _permutation(seed: Digest, pages: int) -> tuple[int, int]:
    slope = 1 + _draw(seed, b"slope") % pages
    while gcd(slope, pages) != 1:
        slope += 1
    return slope, _draw(seed, b"offset")


def _draw(seed: Digest, *parts: bytes | int) -> int:
    return int.from_bytes(keccak256(_words(seed, *parts)), "big")


def _words(seed: Digest, *parts: bytes | int) -> bytes:
    return seed + b"".join(p.to_bytes(32, "big") if isinstance(p, int) else p.ljust(32, b"\0") for p in parts)
