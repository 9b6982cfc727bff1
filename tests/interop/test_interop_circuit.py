"""Circuits with js-libp2p: it is met through a relay of ours, ours are met through a relay of its."""

from __future__ import annotations

import socket

import pytest
from interop_world import CHAT, TOPIC, js_peer, our_node

from actors.ports import NoAnswer
from node.adapters.libp2p import reach
from protocols.ids import PeerId


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "ASK_S", 0.1)


def dead_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


async def test_js_has_a_place_at_our_relay() -> None:
    async with our_node(1) as relay, our_node(2) as other, js_peer("relay", hidden=True) as js:
        await js.do("dial", address=relay.tcp)
        await relay.until(relay.network.connected)  # once it has said of which cluster it is
        await js.do("listen", address=f"{relay.tcp}/p2p-circuit")
        (peer,) = relay.network.connected()
        assert f"{relay.tcp}/p2p-circuit/p2p/{peer}" in await js.do("addresses")
        assert await other.network.dial(f"{relay.tcp}/p2p-circuit/p2p/{peer}") == peer
        await other.until(lambda: peer in other.network.mesh(TOPIC))
        sent = await js.do("publish", contentTopic=CHAT, size=140_000)
        assert len((await other.heard()).payload) == 140_000
        assert sent["recipients"] >= 1
        assert relay.network._circuit_relay.relaying.circuits == 1


async def test_ours_meet_through_a_relay_of_js() -> None:
    async with js_peer("relay", circuits=True) as js:
        (address, *_) = [a for a in await js.do("addresses") if "/ws" not in a]
        async with our_node(1, announce=(dead_address(),)) as a, our_node(2, announce=(dead_address(),)) as b:
            for node in (a, b):
                assert not isinstance(await node.network.dial(address), NoAnswer)
            # js has no AutoNAT: it is ours to say that nobody reaches us.
            assert not isinstance(await a.network._swarm.circuits.reserve(js_id(address)), str)
            assert await b.network.dial(f"{address}/p2p-circuit/p2p/{a.network.peer}") == a.network.peer
            await a.until(lambda: a.network.peer in b.network.mesh(TOPIC))


def js_id(address: str) -> PeerId:
    return PeerId(address.rpartition("/p2p/")[2])
