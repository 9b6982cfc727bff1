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
    """Return the index in range(pages) of the page of every inner step of a round, in order.

    Raises ValueError if there are fewer pages than workers.
    """
    owned = pages // workers
    if owned == 0:
        raise ValueError(f"{pages} pages can't be shared by {workers} workers")
    slope, offset = _permutation(seed, pages)
    digests = [keccak256(_words(seed, b"step", seat, number, t)) for t in range(steps)]
    drawn = (int.from_bytes(digest, "big") % owned for digest in digests)
    return tuple((slope * (seat + workers * k) + offset) % pages for k in drawn)


def _permutation(seed: Digest, pages: int) -> tuple[int, int]:
    slope = 1 + _draw(seed, b"slope") % pages
    while gcd(slope, pages) != 1:
        slope += 1
    return slope, _draw(seed, b"offset")


def _draw(seed: Digest, *parts: bytes | int) -> int:
    return int.from_bytes(keccak256(_words(seed, *parts)), "big")


def _words(seed: Digest, *parts: bytes | int) -> bytes:
    return seed + b"".join(p.to_bytes(32, "big") if isinstance(p, int) else p.ljust(32, b"\0") for p in parts)
