"""Benched processes, seen from the controller."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

HERE = Path(__file__).parent


class Died(Exception):
    """A benched process ended, or said that it could not."""


@dataclass
class Member:
    process: trio.Process
    address: str = ""
    waiting: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = field(default_factory=dict)
    buffer: bytes = b""
    orders: int = 0
    ended: bool = False

    async def ask(self, do: str, **order: Any) -> dict[str, Any]:
        self.orders += 1
        number, event, box = self.orders, trio.Event(), []  # type: ignore[var-annotated]
        self.waiting[number] = (event, box)
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"id": number, "do": do, **order}).encode() + b"\n")
        await event.wait()
        del self.waiting[number]
        if not box or "error" in box[0]:
            raise Died(box[0]["error"] if box else "the process ended")
        return box[0]

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self.buffer:
            chunk = await self.process.stdout.receive_some(1 << 20)
            if not chunk:
                return b""
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    async def listen(self) -> None:
        while line := await self.line():
            answer = json.loads(line)
            event, box = self.waiting[answer.pop("id")]
            box.append(answer)
            event.set()
        self.ended = True
        for event, _ in self.waiting.values():
            event.set()


@asynccontextmanager
async def open_fleet(kind: str, count: int, folder: Path) -> AsyncIterator[list[Member]]:
    """Processes numbered from 1; they are ended with the block."""
    async with trio.open_nursery() as nursery:
        members = []
        for number in range(1, count + 1):
            home = folder / f"{kind}-{number}"
            log = (folder / f"{kind}-{number}.log").open("wb")
            process = await trio.lowlevel.open_process(
                [sys.executable, str(HERE / "peer.py"), kind, str(number), str(home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            members.append(Member(process))
        try:
            for member in members:
                with trio.fail_after(180):
                    first = await member.line()
                if not first:
                    raise Died(f"{kind} did not start, see {folder}")
                member.address = json.loads(first)["address"]
                nursery.start_soon(member.listen)
            yield members
        finally:
            for member in members:
                with suppress(ProcessLookupError):
                    member.process.kill()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                for member in members:
                    await member.process.wait()


async def mesh(members: list[Member]) -> list[float]:
    """Connect each with each; return what each dial took."""
    took = [
        (await member.ask("dial", address=other.address))["took_s"]
        for index, member in enumerate(members)
        for other in members[:index]
    ]
    await trio.sleep(3.0)  # heartbeats: stock grafts on them
    return took
