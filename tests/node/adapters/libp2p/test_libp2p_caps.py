"""Caps: the line's speed, and connections from one part of the internet."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors.ports import NoAnswer
from node.adapters.libp2p import LibP2PConfig, peers
from node.adapters.libp2p.pace import SLACK_S, Pace
from protocols.ids import PeerId
from protocols.prefix import Prefix

BLOB = "/skynet/blob/1"


async def test_a_pace_is_kept_by_all_together(autojump_clock: Any) -> None:
    pace = Pace(1000)
    await trio.sleep(10)
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(pace.spend, 500)
    assert trio.current_time() - began_s == pytest.approx(10 - SLACK_S)
    await Pace(0).spend(10**12)
    assert trio.current_time() - began_s == pytest.approx(10 - SLACK_S)


async def test_upload_and_download_are_capped(world: Any) -> None:
    async def answer(_peer: PeerId, _question: bytes) -> bytes:
        return bytes(600_000)

    for caps in ({"upload_kib_s": 500}, {}):
        server = await world.node(**caps)
        client = await world.node(**({} if caps else {"download_kib_s": 500}))
        server.network.respond(BLOB, answer, limit_bytes=100)
        await client.network.dial(server.address)
        began_s = trio.current_time()
        got = await client.network.request(server.peer, BLOB, b"", limit_bytes=10**6, timeout_s=60)
        assert not isinstance(got, NoAnswer)
        assert len(got) == 600_000
        assert trio.current_time() - began_s > 600_000 / (500 * 1024) - 2 * SLACK_S


async def test_one_part_of_the_internet_has_so_many_connections(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "prefix_of", lambda _address: Prefix("1.2.0.0/16"))
    node = await world.node(max_prefix_peers=2)
    guests = [await world.node() for _ in range(3)]
    for guest in guests[:2]:
        assert await guest.network.dial(node.address) == node.peer
    refused = await guests[2].network.dial(node.address, timeout_s=3)
    await world.until(lambda: len(node.network.connected()) == 2)
    assert isinstance(refused, NoAnswer) or guests[2].peer not in node.network.connected()
    assert await node.network.dial(guests[2].address) == guests[2].peer  # whom we dial is our own choice


@pytest.mark.parametrize("wrong", [{"max_prefix_peers": 0}, {"upload_kib_s": -1}, {"download_kib_s": -1}])
def test_caps_make_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_prefix_peers"):
        LibP2PConfig(**wrong)  # type: ignore[arg-type]
