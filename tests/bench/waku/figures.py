"""The figures: each runs its processes, ours and stock's one after the other, and says what it measured."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import trio
from fleet import Died, Member, mesh, open_fleet
from idle import measure_idle

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figure:
    figure: str
    value: float
    unit: str
    target: str
    peer: str
    peer_value: float | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Options:
    folder: Path
    soak_s: float
    seed: int


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


# -- Connect, burst, CPU, latency ----------------------------------------------


async def connect(options: Options) -> list[Figure]:
    async def median_ms(kind: str) -> float:
        async with open_fleet(kind, 5, options.folder) as members:
            return 1000 * statistics.median(await mesh(members))

    ours, stock = await median_ms("relay"), await median_ms("stock")
    return [Figure("connect, median of 10", ours, "ms", "≤ 30", "py-libp2p", stock, ours <= 30)]


async def burst(options: Options) -> list[Figure]:
    async def delivered(kind: str) -> float:
        async with open_fleet(kind, 3, options.folder) as members:
            await mesh(members)
            await members[0].ask("publish", count=2000, rate=0, size=200)
            heard = [await m.ask("heard", count=2000, timeout_s=20) for m in members[1:]]
            return min(h["count"] for h in heard)

    ours, stock = await delivered("relay"), await delivered("stock")
    tuned = await delivered("tuned")
    return [
        Figure("burst of 2,000, delivered to each", ours, "messages", "2000", "py-libp2p", stock, ours == 2000),
        Figure(
            "burst of 2,000, delivered to each",
            ours,
            "messages",
            "2000",
            "py-libp2p, limits lifted",
            tuned,
            ours == 2000,
        ),
    ]


async def cpu(options: Options) -> list[Figure]:
    async def measure(kind: str, seconds: float = 20.0) -> tuple[float, float]:
        """CPU ms a delivered message, and the share that was delivered."""
        async with open_fleet(kind, 5, options.folder) as members:
            await mesh(members)
            if kind == "delivery":
                await _settle(members)
            await _publish_all(members, 30, 3.0)
            await trio.sleep(2)
            for member in members:
                await member.ask("forget")
            before = [await m.ask("usage") for m in members]
            await _publish_all(members, 30, seconds)
            count = int(30 * seconds) * (len(members) - 1)
            heard = [await m.ask("heard", count=count, timeout_s=10) for m in members]
            after = [await m.ask("usage") for m in members]
        used_s = sum(b["cpu_s"] - a["cpu_s"] for a, b in zip(before, after, strict=True))
        # Our own message comes back to us as to every subscriber: counted on both sides alike.
        got = sum(min(h["count"], count) for h in heard)
        return 1000 * used_s / max(got, 1), got / (count * len(members))

    ours, _ = await measure("relay")
    stock, _ = await measure("tuned")
    confirmed, _ = await measure("delivery")
    return [
        Figure(
            "CPU a delivered 200 B message, relay only", ours, "ms", "≤ 60 % of stock", "py-libp2p, limits lifted",
            stock, ours <= 0.6 * stock,
        ),
        Figure("CPU a delivered message, confirmed and kept on disk", confirmed, "ms", "reported", "", None, True),
    ]  # fmt: skip


async def latency(options: Options) -> list[Figure]:
    async def p99_ms(kind: str) -> float:
        async with open_fleet(kind, 2, options.folder) as members:
            await mesh(members)
            await members[0].ask("publish", count=2000, rate=100, size=200)
            heard = await members[1].ask("heard", count=2000, timeout_s=5)
            return 1000 * percentile(heard["latencies_s"], 0.99)

    ours, stock = await p99_ms("relay"), await p99_ms("tuned")
    good = ours <= 25
    return [Figure("p99 over one hop at 100 msg/s", ours, "ms", "≤ 25", "py-libp2p, limits lifted", stock, good)]


async def _publish_all(members: list[Member], rate: float, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        for member in members:
            nursery.start_soon(lambda m=member: m.ask("publish", count=int(rate * seconds), rate=rate, size=200))


# -- Confirmed delivery --------------------------------------------------------


async def loss(options: Options, seconds: float = 30.0) -> list[Figure]:
    async with open_fleet("lossy", 3, options.folder) as members:
        await mesh(members)
        await _settle(members)
        await _publish_all(members, 10, seconds)
        count = int(10 * seconds) * 2
        heard = [await m.ask("heard", count=count, timeout_s=60) for m in members]
        ended = await _wait_confirmed(members, 30)
    share = sum(min(h["count"], count) for h in heard) / (count * 3)
    p99 = percentile([s for h in heard for s in h["latencies_s"]], 0.99)
    confirmed = sum(c["acknowledged"] for c in ended) / max(1, sum(c["sent"] for c in ended))
    good = share == 1
    return [
        Figure("10 % of deliveries lost: arrived", 100 * share, "%", "100", "", None, good),
        Figure("10 % of deliveries lost: confirmed", 100 * confirmed, "%", "100", "", None, confirmed == 1),
        Figure("10 % of deliveries lost: p99 of arrival", p99, "s", "≤ 3", "", None, p99 <= 3),
    ]


async def soak(options: Options) -> list[Figure]:
    """150 messages/s among five processes, a random connection cut every 10 s."""
    ours = await _soak_one("delivery", options, options.soak_s)
    stock = await _soak_one("stock", options, min(options.soak_s, 150.0), cuts=False)
    return [
        Figure("soak: delivered", 100 * ours["delivered"], "%", "100", "py-libp2p, no cuts", 100 * stock["delivered"],
               ours["delivered"] == 1),
        Figure("soak: acknowledged", 100 * ours["confirmed"], "%", "100", "", None, ours["confirmed"] == 1),
        Figure("soak: p99 of arrival", ours["p99_s"], "s", "reported", "", None, True),
        Figure("soak: growth of the largest node", ours["growth_mib"], "MiB", "≤ 10", "py-libp2p, no cuts",
               stock["growth_mib"], ours["growth_mib"] <= 10),
        Figure("soak: connections cut", ours["cuts"], "", "reported", "", None, True),
    ]  # fmt: skip


async def _soak_one(kind: str, options: Options, seconds: float, *, cuts: bool = True) -> dict[str, float]:
    chance, killed = Random(options.seed), 0

    async def cut(members: list[Member]) -> None:
        nonlocal killed
        while True:
            await trio.sleep(10)
            chosen = members[chance.randrange(len(members))]
            killed += (await chosen.ask("kill", index=chance.randrange(100)))["killed"]

    async with open_fleet(kind, 5, options.folder) as members:
        await mesh(members)
        if kind == "delivery":
            await _settle(members)
        await _publish_all(members, 30, 20)  # warm: tables, pools and caches have their size
        count = (30 * 20) * 4
        before = [await m.ask("usage") for m in members]
        async with trio.open_nursery() as nursery:
            if cuts:
                nursery.start_soon(cut, members)
            await _publish_all(members, 30, seconds)
            nursery.cancel_scope.cancel()
        count += int(30 * seconds) * 4
        heard = [await m.ask("heard", count=count, timeout_s=60) for m in members]
        ended = await _wait_confirmed(members, 60) if kind == "delivery" else []
        after = [await m.ask("usage") for m in members]
    growth = max(b["rss_bytes"] - a["rss_bytes"] for a, b in zip(before, after, strict=True))
    latencies = [s for h in heard for s in h["latencies_s"]]
    return {
        "delivered": sum(min(h["count"], count) for h in heard) / (count * len(members)),
        "confirmed": sum(c["acknowledged"] for c in ended) / max(1, sum(c["sent"] for c in ended)),
        "growth_mib": growth / MIB,
        "p99_s": percentile(latencies, 0.99),
        "cuts": killed,
    }


async def _settle(members: list[Member]) -> None:
    """Discovery dials on its own; wait until a message of each reaches all."""
    for member in members:
        await member.ask("publish", count=1, rate=0, size=200)
    for member in members:
        await member.ask("heard", count=len(members) - 1, timeout_s=60)
    await trio.sleep(1)
    for member in members:
        await member.ask("forget")


async def _wait_confirmed(members: list[Member], timeout_s: float) -> list[dict[str, Any]]:
    """Wait until nothing is pending."""
    until_s = time.monotonic() + timeout_s
    while True:
        counts = [await m.ask("usage") for m in members]
        if time.monotonic() > until_s or all(c["acknowledged"] + c["given_up"] == c["sent"] for c in counts):
            return counts
        await trio.sleep(0.2)


# -- Idle ----------------------------------------------------------------------


async def idle(options: Options) -> list[Figure]:
    measured = await measure_idle(options.folder)
    rss, share = measured.rss_bytes / MIB, 100 * measured.cpu_share
    return [
        Figure(f"idle node, {measured.peers} peers, chain watched: RSS", rss, "MiB", "≤ 120", "", None, rss <= 120),
        Figure(
            f"idle node, {measured.peers} peers, chain watched: CPU", share, "% of a core", "≤ 2", "", None, share <= 2
        ),
    ]


FIGURES = {
    "connect": connect,
    "burst": burst,
    "cpu": cpu,
    "latency": latency,
    "loss": loss,
    "idle": idle,
    "soak": soak,
}

__all__ = ["FIGURES", "Died", "Figure", "Options"]
