"""Deterministic trio: the same seed gives the same run in every process.

The one file that touches trio's private names; a canary test (tests/sim/test_determinism.py) says when they move,
and trio's minor version is pinned for it. trio shuffles the tasks that are ready; here it shuffles them by our seed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TypeVar

import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

T = TypeVar("T")


def run(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` in virtual time: whenever every task waits, the clock jumps to the next deadline."""
    with _scheduling(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


def draws(seed: int, *labels: object) -> Random:
    """Return a stream of random numbers of its own for each use: one more draw here changes none there."""
    # A text is hashed by SHA-512, not by `hash`, which differs between processes.
    return Random("/".join(map(str, (seed, *labels))))  # noqa: S311 - a simulation must repeat


@contextmanager
def _scheduling(seed: int) -> Iterator[None]:
    was_allowed, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # Final, but trio's own tests set it
    trio_run._r.seed(f"skynet/{seed}")
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed  # type: ignore[misc]
        trio_run._r.setstate(state)
