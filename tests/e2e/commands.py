"""The programs as processes, as somebody types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

PROGRAMS = {"skynet": "node.cli.main", "skynet-node": "node.cli.node"}


@dataclass(frozen=True)
class Done:
    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output.strip().splitlines()[-1])


class Shell:
    """A working folder and an environment."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._environment: Mapping[str, str] = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}

    def command(self, line: str) -> list[str]:
        program, *words = line.split()
        return [sys.executable, "-m", PROGRAMS[program], *words]

    async def run(self, line: str, status: int = 0) -> Done:
        """Run a command to its end, which must be of this status and without a traceback."""
        with trio.fail_after(240):
            done = await trio.run_process(
                self.command(line),
                check=False,
                capture_stdout=True,
                capture_stderr=True,
                cwd=self.folder,
                env=self._environment,
            )
        found = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert found.status == status, (line, found)
        assert "Traceback" not in found.errors, found.errors
        return found

    @asynccontextmanager
    async def running(self, line: str, log: str) -> AsyncIterator[Running]:
        """Start a command; it is killed when the block ends."""
        path = self.folder / log
        with path.open("ab") as sink:
            process = await trio.lowlevel.open_process(
                self.command(line),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        running = Running(process, path)
        try:
            yield running
        finally:
            await running.kill()


@dataclass(frozen=True)
class Running:
    process: trio.Process
    log: Path

    async def wait_said(self, words: str, timeout_s: float = 120) -> str:
        """Return the log once it has the words."""
        with trio.move_on_after(timeout_s):
            while words not in (said := self.log.read_text()):
                assert self.process.returncode is None, said
                await trio.sleep(0.05)
            return said
        raise AssertionError(f"{words!r} not in {self.log.read_text()[-3000:]}")

    async def kill(self) -> None:
        """As a power cut does it: with its children, and without a word."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await self.process.wait()


def read_address(folder: Path) -> str:
    """Of the node that runs in this folder."""
    address: str = json.loads((folder / "addresses.json").read_text())["addresses"][0]
    return address
