"""Transport that loses, and chains that change their mind: what the outbox and the follower must survive.

Shared by the tests on anvil and by `make bench-chain`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import trio

from actors.ports import Mined, Record
from node.adapters.evm.outbox import Journal
from node.adapters.evm.pool import Pool
from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, open_endpoint
from node.adapters.evm.sending import Sender
from node.adapters.evm.signing import LocalSigner, Transaction, sign_transaction
from node.secret import Secret
from protocols.chain_outbox import Intent, Policy
from protocols.ids import Address

PROGRAM = os.environ.get("SKYNET_ANVIL") or shutil.which("anvil") or ""
CHAIN_ID = 31338
MARK_WEI = 7
MAX_DEPTH = 12


@contextmanager
def open_anvil(*options: str) -> Iterator[str]:
    """An anvil of our own on a free port; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PROGRAM, "--port", str(port), "--chain-id", str(CHAIN_ID), "--quiet", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    httpx.post(url, json={"id": 1, "jsonrpc": "2.0", "method": "eth_chainId", "params": []})
                    break
                time.sleep(0.05)
            yield url
        finally:
            process.kill()


class MemoryRecords:
    """Records that outlive a killed sender: what a disk would have."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes], bytes] = {}
        self.kill: trio.CancelScope | None = None
        """Cancelled after the next write: a kill between record and send."""

    async def write(self, *records: Record) -> None:
        for record in records:
            if record.value is None:
                self.rows.pop((record.kind, record.key), None)
            else:
                self.rows[record.kind, record.key] = record.value
        if self.kill is not None:
            self.kill.cancel()
            self.kill = None

    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        return sorted((k, v) for (found, k), v in self.rows.items() if found == kind and k.startswith(prefix))


class Faulty(Endpoint):
    """An endpoint whose network drops requests and answers at random."""

    def __init__(self, inner: Endpoint, rng: Random, share: float) -> None:
        self.inner, self.rng, self.share = inner, rng, share

    @property
    def name(self) -> str:
        return self.inner.name

    async def request(self, method: str, *params: Any) -> Any:
        if self.rng.random() < self.share:
            raise Unavailable("the request was lost")
        answer = await self.inner.request(method, *params)
        if self.rng.random() < self.share:
            raise Unavailable("the answer was lost")
        return answer

    request_once = request


@dataclass
class Schedule:
    """One random history of faults around a few transfers, each to an address of its own."""

    endpoint: Endpoint
    seed: int
    transfers: int = 4
    records: MemoryRecords = field(default_factory=MemoryRecords)
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        key = Random(f"wallet {self.seed}").randbytes(32)
        self.signer = LocalSigner(Secret(key))
        self.targets = [Address("0x" + Random(f"{self.seed} {n}").randbytes(20).hex()) for n in range(self.transfers)]
        self.recorded: set[int] = set()

    async def run(self) -> tuple[int, int]:
        """(lost, doubled) of the transfers that were recorded."""
        await self.endpoint.request("anvil_setBalance", self.signer.wallet, hex(10**20))
        await self.endpoint.request("anvil_mine", hex(MAX_DEPTH + 2))  # no reorganisation takes the money back
        await self.endpoint.request("evm_setAutomine", False)
        for _ in range(self.rng.randint(2, 4)):  # lives, each of which ends in a kill
            await self._live()
        await self._heal()
        counts = [await self._received(target) for target in self.targets]
        wanted = [n for n in range(self.transfers) if n in self.recorded]
        return sum(counts[n] == 0 for n in wanted), sum(count > 1 for count in counts)

    def _sender(self, share: float) -> Sender:
        policy = Policy(settle_blocks=MAX_DEPTH + 2, bump_s=0.4, usurped_s=0.6)
        pool = Pool((Faulty(self.endpoint, self.rng, share),))
        return Sender(pool, self.signer, CHAIN_ID, journal=Journal(self.records), policy=policy)

    async def _live(self) -> None:
        sender = self._sender(0.08)
        with trio.move_on_after(self.rng.uniform(0.15, 0.5)) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.tend)
                for number in range(self.transfers):
                    if number not in self.recorded:
                        nursery.start_soon(self._send, sender, number)
                if self.rng.random() < 0.3:
                    self.records.kill = scope
                while True:
                    await trio.sleep(self.rng.uniform(0, 0.08))
                    await self._fault()
        self.records.kill = None
        self._note_recorded()

    async def _send(self, sender: Sender, number: int) -> None:
        target = self.targets[number]
        outcome = await sender.send(Intent(target, b"", MARK_WEI, key=target.encode()))
        if isinstance(outcome, Mined):
            self.recorded.add(number)

    def _note_recorded(self) -> None:
        """What the journal has, a restart has to finish."""
        written = b"".join(value for (kind, _), value in self.records.rows.items() if kind == "transaction")
        self.recorded |= {n for n, target in enumerate(self.targets) if target.encode() in written}

    async def _fault(self) -> None:
        self._note_recorded()
        draw = self.rng.random()
        with suppress(Failure, Unavailable):
            if draw < 0.55:
                await self.endpoint.request("evm_mine")
            elif draw < 0.75:
                depth = self.rng.randint(1, MAX_DEPTH)
                self.happened.append(f"reorganised {depth}")
                await self.endpoint.request("anvil_reorg", depth, [])
            elif draw < 0.85:
                self.happened.append("a stranger's transaction")
                await self._race()
            elif draw < 0.92:
                self.happened.append("pool dropped")
                await self.endpoint.request("anvil_dropAllTransactions")
            else:
                self.happened.append("base fee")
                base = self.rng.choice([10**8, 10**9, 4 * 10**9])
                await self.endpoint.request("anvil_setNextBlockBaseFeePerGas", hex(base))

    async def _race(self) -> None:
        """Another program uses our wallet."""
        count = int(await self.endpoint.request("eth_getTransactionCount", self.signer.wallet, "pending"), 16)
        stranger = Transaction(CHAIN_ID, count, 10**9, 10**11, 21_000, self.signer.wallet, 1, b"")
        raw = sign_transaction(stranger, self.signer).raw
        await self.endpoint.request("eth_sendRawTransaction", "0x" + raw.hex())

    async def _heal(self) -> None:
        """Everything works again until nothing is left to do."""
        sender = self._sender(0.0)
        with trio.move_on_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.tend)
                while True:
                    await self.endpoint.request("evm_mine")
                    await sender._look(0.0)
                    if not sender._box.entries:
                        nursery.cancel_scope.cancel()
                    await trio.sleep(0.01)

    async def _received(self, target: Address) -> int:
        return int(await self.endpoint.request("eth_getBalance", target, "latest"), 16) // MARK_WEI


@asynccontextmanager
async def open_faulty_chain(*options: str) -> AsyncIterator[Endpoint]:
    with open_anvil(*options) as url:
        async with open_endpoint(url) as endpoint:
            yield endpoint


def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="skynet-faults-"))
