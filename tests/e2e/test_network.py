"""A network of real processes on anvil, with a worker killed in the middle and garbage thrown at a node.

No code in `node/` knows which chain it is on: this is the demo's job on another one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.adapters.evm import LocalSigner, deploy, open_endpoint
from node.client.jobspec import DataSpec, JobSpec, ModelSpec, TermsSpec
from node.client.progress import Happened, Progress
from node.client.session import Session
from node.config import load_config
from node.localnet import ChainInfo, LocalNode, fund, make_node, open_node, wait_listening
from node.program import open_session
from node.secret import Secret
from protocols.chain import Assigned, JobEnded, JobState, RoundCommitted, WorkerPaid
from protocols.ids import JobId

ANVIL = os.environ.get("SKYNET_ANVIL") or shutil.which("anvil") or ""
# Anvil's first development account, known to everybody.
CLOCK = ("--block-time", "1", "--mixed-mining")  # without blocks its time stands still, and the beacon with it
ANVIL_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anvil,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not ANVIL, reason="no anvil: `make tools` fetches it"),
]


@asynccontextmanager
async def open_anvil(folder: Path) -> AsyncIterator[ChainInfo]:
    folder.mkdir()
    port = _free_port()
    # A session of its own: npm's `anvil` is a wrapper, and both have to end.
    process = await trio.lowlevel.open_process(
        [ANVIL, "--port", str(port), "--quiet", *CLOCK], stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        accounts = folder / "accounts.json"
        accounts.write_text(json.dumps({"accounts": [{"private_key": ANVIL_KEY}]}))
        await _wait_open(port)
        async with open_endpoint(f"http://127.0.0.1:{port}") as endpoint:
            deployed = await deploy(endpoint, LocalSigner(Secret(bytes.fromhex(ANVIL_KEY))), development=True)
        yield ChainInfo(f"http://127.0.0.1:{port}", deployed.chain_id, deployed.jobs, str(accounts))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _wait_open(port: int) -> None:
    with trio.fail_after(30):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.1)
            else:
                await stream.aclose()
                return


def _spec() -> JobSpec:
    terms = TermsSpec(rounds=8, steps=240, join_window_s=20, round_timeout_s=60, proof_window_s=240)
    return JobSpec(ModelSpec(), DataSpec(challenge_pages=12), terms, seed=3)


async def throw_garbage(address: str) -> None:
    """Two hundred random byte strings at a node's port, each on a connection of its own."""
    _, _, host, _, port, *_ = address.split("/")
    rng = random.Random(7)
    for _ in range(200):
        with trio.move_on_after(2):
            stream = await trio.open_tcp_stream(host, int(port))
            try:
                await stream.send_all(rng.randbytes(rng.randrange(1, 400)))
            except trio.BrokenResourceError:
                pass
            finally:
                await trio.aclose_forcefully(stream)


async def test_a_killed_worker_comes_back_and_everybody_is_paid(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(open_anvil(tmp_path / "chain"))
        me = make_node(tmp_path / "requester", info, {"work.offered": False, "work.hosted": False})
        first = make_node(tmp_path / "node0", info, {})
        await fund(info, [me.wallet, first.wallet])
        addresses = await wait_listening(first, await stack.enter_async_context(open_node(first)))
        others = [make_node(tmp_path / f"node{i}", info, {"p2p.bootstrap": addresses}) for i in (1, 2, 3)]
        await fund(info, [node.wallet for node in others])
        processes = {node.wallet: await stack.enter_async_context(open_node(node)) for node in others}
        for node in others:
            await wait_listening(node, processes[node.wallet])
        await throw_garbage(addresses[0])

        async def report(_: Progress) -> None:
            pass

        session = await stack.enter_async_context(open_session(load_config(me.config), me.config, report))
        gateway = await session.connect(addresses)
        packed = await session.packer.pack(_spec(), tmp_path / "package")
        job = await session.submit(_spec(), gateway, packed)
        events = await _watch_and_kill(
            stack, session, job, {node.wallet: (node, processes[node.wallet]) for node in others}
        )
        ended = next(e for e in events if isinstance(e, JobEnded))
        paid = [e.worker for e in events if isinstance(e, WorkerPaid)]
        assert ended.state is JobState.SETTLED
        assert len(paid) == 3
        model = await session.fetch_model(job, (gateway,))
        assert model.evaluated.accuracy > 0.8


async def _watch_and_kill(
    stack: AsyncExitStack, session: Session, job: JobId, workers: dict[str, tuple[LocalNode, trio.Process]]
) -> list[object]:
    """Kill one seated worker after the second round, start it again two rounds later."""
    events: list[object] = []
    victim: tuple[LocalNode, trio.Process] | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.deliver_keys, job)
        async for progress in session.watch(job):
            if not isinstance(progress, Happened):
                continue
            events.append(progress.event)
            match progress.event:
                case Assigned(_, seated):
                    victim = next(workers[w] for w in seated if w in workers)
                case RoundCommitted(_, 1):
                    assert victim is not None
                    victim[1].kill()
                case RoundCommitted(_, 3):
                    assert victim is not None
                    await stack.enter_async_context(open_node(victim[0]))
                case _:
                    pass
    return events
