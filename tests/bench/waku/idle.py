"""An idle node process: chain watcher connected, 20 peers, no job."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio
from fleet import open_fleet

from node.initial import write_initial
from node.localnet import open_devchain

PEERS = 20
SETTLE_S, MEASURE_S = 20.0, 30.0


@dataclass(frozen=True, slots=True)
class Idle:
    rss_bytes: int
    cpu_share: float
    peers: int


async def measure_idle(folder: Path) -> Idle:
    async with open_devchain(folder / "chain") as chain:
        settings = {
            "chain.rpc_urls": (chain.url,),
            "chain.jobs": chain.jobs,
            "work.offered": False,
            "log.format": "json",
        }
        home = folder / "idle-node"
        initial = write_initial(home, "local", settings)
        with (folder / "idle-node.log").open("wb") as log:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "node.cli.node", "--config", str(initial.path)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            address = await _wait_address(home, process)
            async with open_fleet("relay", PEERS, folder) as members:
                for member in members:
                    await member.ask("dial", address=address)
                await trio.sleep(SETTLE_S)
                before_s = _cpu_s(process.pid)
                began_s = trio.current_time()
                await trio.sleep(MEASURE_S)
                share = (_cpu_s(process.pid) - before_s) / (trio.current_time() - began_s)
                return Idle(_rss_bytes(process.pid), share, _connections(process.pid))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def _wait_address(home: Path, process: trio.Process) -> str:
    path = home / "addresses.json"
    with trio.fail_after(60):
        while not path.exists():
            if process.poll() is not None:
                raise RuntimeError(f"the node ended with {process.returncode}, see {home}.log")
            await trio.sleep(0.1)
    return str(json.loads(path.read_text())["addresses"][0])


def _cpu_s(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _connections(pid: int) -> int:
    """Established TCP connections on the port that the process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    own = [row for row in rows if row[9] in inodes]
    ports = {row[1].split(":")[1] for row in own if row[3] == "0A"}
    return sum(row[3] == "01" and row[1].split(":")[1] in ports for row in own)
