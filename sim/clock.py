"""Seconds since the epoch, in virtual time."""

from __future__ import annotations

import trio

EPOCH_S = 1_800_000_000  # when a simulation begins


def time_s() -> float:
    return EPOCH_S + trio.current_time()
