"""What a peer may make us hold, and that others are served all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio

from actors.ports import NoAnswer
from node.adapters.libp2p import LibP2PConfig, requests
from node.adapters.libp2p.memory import FAIR_BYTES, MIB, Memory
from node.adapters.libp2p.streams import LENGTH
from protocols.ids import PeerId

BLOB = "/skynet/blob/1"


@dataclass(eq=False)
class Peer:
    held: int = 0
    unread: int = 0


def test_one_peers_share_and_that_of_all() -> None:
    memory = Memory(max_peer_bytes=10 * MIB, max_bytes=20 * MIB)
    peers = [Peer() for _ in range(4)]
    for peer in peers:
        memory.add(peer)
    peers[0].held, peers[0].unread = 4 * MIB, 5 * MIB
    assert memory.admits(peers[0], MIB)
    assert not memory.admits(peers[0], MIB + 1)
    peers[1].held = peers[2].unread = 9 * MIB
    assert memory.size_bytes == 27 * MIB
    assert not memory.admits(peers[1], 1)  # all hold too much, and it is one of those
    assert memory.admits(peers[3], FAIR_BYTES)  # who holds little is not
    assert not memory.admits(peers[3], FAIR_BYTES + 1)
    assert memory.refused == 3
    del peer, peers[0]
    assert memory.size_bytes == 18 * MIB  # its connection is gone


async def test_questions_of_one_peer_are_bounded_together(world: Any) -> None:
    """Sixty-four streams of 17 MiB each would be a gigabyte."""
    node, honest, greedy = await world.node(max_peer_memory_mib=64), await world.node(), await world.stranger()

    async def think(_peer: PeerId, question: bytes) -> bytes | None:
        if question == b"?":
            return b"!"
        await trio.sleep_forever()

    node.network.respond(BLOB, think, limit_bytes=17 * MIB)
    await greedy.connect(node)
    await honest.network.dial(node.address)

    async def ask() -> None:
        try:
            stream = await greedy.stream(node, BLOB)
            await stream.write(LENGTH.pack(17 * MIB))
            for _ in range(17):
                await stream.write(bytes(MIB))
        except Exception:  # noqa: BLE001  its stream is reset, or its connection gone
            return

    largest = 0
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
        with trio.move_on_after(20):
            while not node.network.counts().memory_refused:
                largest = max(largest, node.network._swarm.memory.size_bytes)
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert 17 * MIB < largest <= 64 * MIB + 64 * 1024
    assert await honest.network.request(node.peer, BLOB, b"?", limit_bytes=9, timeout_s=5) == b"!"


async def test_answers_of_one_peer_wait_for_it_to_read(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PEER_SERVED", 2)
    node, other = await world.node(), await world.node()
    asked = peak = 0

    async def answer(_peer: PeerId, _question: bytes) -> bytes:
        nonlocal asked, peak
        asked += 1
        peak = max(peak, asked)
        await trio.sleep(0.05)
        asked -= 1
        return bytes(1000)

    node.network.respond(BLOB, answer, limit_bytes=9)
    await other.network.dial(node.address)
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await other.network.request(node.peer, BLOB, b"", limit_bytes=1000, timeout_s=10))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
    assert answers == [bytes(1000)] * 8
    assert peak == 2


async def test_an_answer_beyond_our_share_is_refused_and_nothing_stays_held(world: Any) -> None:
    server = await world.node()
    client = await world.node(max_peer_memory_mib=64)

    async def answer(_peer: PeerId, question: bytes) -> bytes:
        return bytes(int(question) * MIB)

    server.network.respond(BLOB, answer, limit_bytes=9)
    await client.network.dial(server.address)
    for size, fits in ((20, True), (66, False), (1, True)):
        got = await client.network.request(server.peer, BLOB, b"%d" % size, limit_bytes=100 * MIB, timeout_s=60)
        assert (not isinstance(got, NoAnswer)) is fits, size
    for node in (client, server):
        await world.until(lambda node=node: node.network._swarm.memory.size_bytes == 0)


@pytest.mark.parametrize("wrong", [{"max_peer_memory_mib": 63}, {"max_memory_mib": 100}])
def test_bounds_make_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_peer_memory_mib"):
        LibP2PConfig(**wrong)  # type: ignore[arg-type]
