"""A simulated public beacon: rounds that servers tell and somebody has to post, and servers that lie or are down."""

from __future__ import annotations

from functools import cache

from actors.ports import NoAnswer
from protocols.beacon import BASE_FIELD
from protocols.job import DRAND_EVMNET
from protocols.keccak import keccak256
from sim.clock import time_s

LIE = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
"""On the curve, and no round's signature."""


@cache
def sign_round(number: int) -> bytes:
    """The one signature of a round: a point of the curve, as nodes check."""
    x = int.from_bytes(keccak256(b"skynet-sim drand" + number.to_bytes(8, "big")), "big") % BASE_FIELD
    while True:
        square = (x * x * x + 3) % BASE_FIELD
        y = pow(square, (BASE_FIELD + 1) // 4, BASE_FIELD)  # the field's order is 3 mod 4
        if y * y % BASE_FIELD == square:
            return x.to_bytes(32, "big") + y.to_bytes(32, "big")
        x = (x + 1) % BASE_FIELD


class HonestServer:
    name = "honest"

    async def fetch(self, number: int) -> bytes | NoAnswer:
        return sign_round(number) if time_s() >= DRAND_EVMNET.time_of(number) else NoAnswer("too early")


class LyingServer:
    name = "lying"

    async def fetch(self, number: int) -> bytes | NoAnswer:
        return LIE


class DeadServer:
    name = "dead"

    async def fetch(self, number: int) -> bytes | NoAnswer:
        return NoAnswer("no connection")


SERVERS = (DeadServer(), LyingServer(), HonestServer())
