"""Our own programs as processes, each in a session of its own, and ended by its pid.

Imports nothing heavy: `skynet demo` starts its chain before it has imported the rest.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class ChainProcess:
    """A development chain that starts; its first line on stdout says where it listens."""

    process: trio.Process
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "devchain.log"


@asynccontextmanager
async def open_chain(folder: Path, *, port: int = 0) -> AsyncIterator[ChainProcess]:
    """Run a development chain in a folder, which is made if missing."""
    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
    command = ["-m", "node.devchain", "--port", str(port), "--dir", str(folder), "--with-parent"]
    async with open_process(command, folder / "devchain.log", stdout=subprocess.PIPE) as process:
        yield ChainProcess(process, folder)


@asynccontextmanager
async def open_process(command: Sequence[str], log: Path, *, stdout: int | None = None) -> AsyncIterator[trio.Process]:
    """Run one of our programs; SIGTERM and then SIGKILL to its pid at the end."""
    with log.open("ab") as sink:
        process = await trio.lowlevel.open_process(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            ask_to_stop(process)
            with trio.move_on_after(STOP_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def ask_to_stop(process: trio.Process) -> None:
    """Of several processes ask all, and then wait for each."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
