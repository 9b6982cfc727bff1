"""A benched process: one node of a kind, driven by JSON lines on standard input.

usage: peer.py KIND NUMBER FOLDER
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import trio
from kinds import KINDS, Heard, Kind, make_payload

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def read_usage() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"cpu_s": used.ru_utime + used.ru_stime, "rss_bytes": pages * PAGE_BYTES}


class Driver:
    def __init__(self, node: Kind, number: int, heard: Heard) -> None:
        self._node, self._number, self._heard = node, number, heard
        self._next = 0

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "dial":
                began_s = time.monotonic()
                await self._node.dial(order["address"])
                return {"took_s": time.monotonic() - began_s}
            case "publish":
                return await self._publish(order["count"], order["rate"], order["size"])
            case "heard":
                return await self._wait(order["count"], order["timeout_s"])
            case "forget":
                self._heard.forget()
                return {}
            case "usage":
                return {**read_usage(), **self._node.counts()}
            case "kill":
                return {"killed": self._node.kill_connection(order["index"])}
        raise ValueError(order)

    async def _publish(self, count: int, rate: float, size: int) -> dict[str, Any]:
        """At `rate` a second, evenly; 0 is as fast as it goes."""
        began_s = time.monotonic()
        for n in range(count):
            if rate:
                await trio.sleep(max(0.0, began_s + n / rate - time.monotonic()))
            await self._node.publish(make_payload(self._number, self._next, size))
            self._next += 1
        return {"took_s": time.monotonic() - began_s}

    async def _wait(self, count: int, timeout_s: float) -> dict[str, Any]:
        with trio.move_on_after(timeout_s):
            while len(self._heard.latencies_s) < count:
                await trio.sleep(0.02)
        found = sorted(self._heard.latencies_s)
        return {"count": len(found), "twice": self._heard.twice, "latencies_s": found if len(found) < 200_000 else []}


def log_to_stderr() -> None:
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def main(kind: str, number: int, folder: Path) -> None:
    if kind not in ("stock", "tuned"):
        log_to_stderr()
    heard = Heard()
    async with KINDS[kind](number, heard, folder) as node, trio.open_nursery() as nursery:
        say(address=node.address)
        driver = Driver(node, number, heard)

        async def answer(order: dict[str, Any]) -> None:
            try:
                say(id=order["id"], **await driver.do(order))
            except Exception as error:  # noqa: BLE001  the controller decides what a fault means
                say(id=order["id"], error=f"{type(error).__name__}: {error}")

        buffer = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as orders:
            while chunk := await orders.receive_some(65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    nursery.start_soon(answer, json.loads(line))
        os._exit(0)  # stock can't be relied upon to end


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
