"""A network of real processes on anvil, by the commands that operators and requesters type.

The requester is killed after posting, a worker in the middle of the training, and bad bytes are thrown at every
protocol of a node all the while; everybody is paid. No code in `node/` knows which chain it is on: this is the
demo's job on another one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from commands import Running, Shell, read_address
from safetensors import safe_open
from strangers import COUNT, PROTOCOLS, throw_garbage

from protocols.ids import JobId, PubsubTopic
from protocols.keccak import keccak256
from protocols.waku import autoshard, content_topic, job_shard, pubsub_topic

ANVIL = os.environ.get("SKYNET_ANVIL") or shutil.which("anvil") or ""
CLOCK = ("--block-time", "1", "--mixed-mining")  # without blocks its time stands still, and the beacon with it
# Anvil's first development account, known to everybody.
ANVIL_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
CLUSTER, SHARDS = 1717, 8
JOB = """
seed = 3
[data]
held_out_pages = 12
[terms]
workers = 3
rounds = 6
steps = 120
max_applicants = 4
join_window_s = 60
round_timeout_s = 60
proof_window_s = 240
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anvil,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not ANVIL, reason="no anvil: `make tools` fetches it"),
]


@asynccontextmanager
async def open_anvil() -> AsyncIterator[str]:
    """Run it; yield its URL."""
    port = _free_port()
    # A session of its own: npm's `anvil` is a wrapper, and both have to end.
    process = await trio.lowlevel.open_process(
        [ANVIL, "--port", str(port), "--quiet", *CLOCK], stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        await _wait_open(port)
        yield f"http://127.0.0.1:{port}"
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


class Net:
    """Folders and nodes by hand, in one shell."""

    def __init__(self, shell: Shell, stack: AsyncExitStack) -> None:
        self.shell = shell
        self._stack = stack

    async def init(self, name: str, more: str = "") -> None:
        await self.shell.run(f"skynet-node init --dir {name} --network local --chain chain {more}")
        await self.shell.run(f"skynet wallet fund --config {name}/node.toml --chain chain --key key.txt")

    async def start(self, name: str) -> Running:
        (self.shell.folder / name / "addresses.json").unlink(missing_ok=True)
        command = f"skynet-node --config {name}/node.toml"
        running = await self._stack.enter_async_context(self.shell.running(command, f"{name}.log"))
        await running.wait_said("listening")
        return running


async def test_a_job_by_hand_with_kills_and_strangers(tmp_path: Path, cache: Path) -> None:
    shell = Shell(tmp_path, cache)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(open_anvil())
        (tmp_path / "key.txt").write_text(ANVIL_KEY)
        (tmp_path / "job.toml").write_text(JOB)
        deployed = await shell.run(f"skynet deploy --network local --rpc {url} --key key.txt --dir chain --json")
        assert deployed.json["chain_id"] == 31337
        net = Net(shell, stack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.init, "node0")
            nursery.start_soon(net.init, "me")
        nodes = {"node0": await net.start("node0")}
        peer = read_address(tmp_path / "node0")

        async def join(name: str) -> None:
            await net.init(name, f"--bootstrap {peer}")
            nodes[name] = await net.start(name)

        async with trio.open_nursery() as nursery:
            for name in ("node1", "node2", "node3"):
                nursery.start_soon(join, name)
        job = await _submit_and_die(stack, shell, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be_hostile, peer, job)
            await _watch_and_kill(stack, net, nodes, peer, job)
        await _take_the_result(shell, peer, job)
        await _look_around(shell, job)


async def _submit_and_die(stack: AsyncExitStack, shell: Shell, peer: str) -> str:
    """Killed between the posting and the keys: nothing but the waiting is lost."""
    command = f"skynet job submit job.toml --peer {peer} --config me/node.toml"
    submitting = await stack.enter_async_context(shell.running(command, "submit.log"))
    said = await submitting.wait_said("posted, budget in escrow")
    await submitting.kill()
    found = re.search(r"job (0x[0-9a-f]{64}) posted", said)
    assert found is not None
    return found[1]


async def _be_hostile(address: str, job: str) -> None:
    name = JobId(bytes.fromhex(job[2:]))
    lobby = autoshard(content_topic("hello"), SHARDS)
    assert isinstance(lobby, int)
    shards = (lobby, job_shard(keccak256(name), SHARDS))
    topics = [PubsubTopic(pubsub_topic(CLUSTER, shard)) for shard in shards]
    thrown = await throw_garbage(address, topics, name, time.time())
    assert thrown == dict.fromkeys(PROTOCOLS, COUNT)


async def _watch_and_kill(stack: AsyncExitStack, net: Net, nodes: dict[str, Running], peer: str, job: str) -> None:
    """Kill one seated worker after the second round, start it again two rounds later."""
    command = f"skynet job watch {job} --peer {peer} --config me/node.toml --json"
    watching = await stack.enter_async_context(net.shell.running(command, "watch.log"))
    said = await watching.wait_said("seats drawn: ")
    seats = re.findall(r"0x\w{40}", said.partition("seats drawn: ")[2].splitlines()[0])
    assert len(seats) == 3
    victim = next(n for n in nodes if n != "node0" and any(seat in nodes[n].log.read_text() for seat in seats))
    await watching.wait_said("round 2 certified")
    await nodes[victim].kill()
    await watching.wait_said("round 4 certified")
    nodes[victim] = await net.start(victim)
    with trio.fail_after(300):
        assert await watching.process.wait() == 0, watching.log.read_text()
    said = watching.log.read_text()
    assert "Traceback" not in said
    assert said.count("verified on chain") == 3
    assert said.count(" earned 0.0") == 3  # the victim less: it missed rounds
    assert '"state": "settled", "training": "unproved"' in said


async def _take_the_result(shell: Shell, peer: str, job: str) -> None:
    command = f"skynet job result {job} --peer {peer} --config me/node.toml --out model.safetensors"
    done = await shell.run(f"{command} --json")
    assert done.json["accuracy"] > 0.8
    with safe_open(shell.folder / "model.safetensors", "numpy") as model:
        assert model.metadata()["training"] == "unproved"
        assert sum(model.get_tensor(name).size for name in model.keys()) == 1060  # noqa: SIM118
    again = await shell.run(command, status=2)
    assert "model.safetensors: is there already; choose another name for --out" in again.errors


async def _look_around(shell: Shell, job: str) -> None:
    """Beside a node that runs: its folder is its own, the chain is everybody's."""
    listed, shown, wallet, locked, unknown = [""] * 5

    async def locked_folder() -> None:
        nonlocal locked
        locked = (await shell.run("skynet-node --config node0/node.toml", status=5)).errors

    async def no_such_job() -> None:
        nonlocal unknown
        unknown = (await shell.run(f"skynet job result 0x{'ab' * 32} --config me/node.toml --out x", status=12)).errors

    async def look() -> None:
        nonlocal listed, shown, wallet
        listed = (await shell.run("skynet job list --config node0/node.toml")).output
        shown = (await shell.run(f"skynet job show {job} --config node0/node.toml")).output
        wallet = (await shell.run("skynet wallet show --config node0/node.toml")).output

    async with trio.open_nursery() as nursery:
        for check in (locked_folder, no_such_job, look):
            nursery.start_soon(check)
    assert re.search(rf"{job}  settled\s+0.24 ETH  by 0x", listed)
    assert "job settled" in shown
    assert re.search(r"credit\s+0 ETH", wallet)
    assert re.search(r"node0: in use by process \d+; stop it, or choose another data_dir", locked)
    assert f"job 0x{'ab' * 32}: chain 31337 has no such job; check the id" in unknown
