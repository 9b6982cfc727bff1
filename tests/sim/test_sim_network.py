"""The simulated internet: who hears what, when, and what breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from actors.ports import Gossip, NoAnswer, PeerConnected, PeerEvent, PeerLost
from node.supervision.mailbox import ShedOldest
from protocols.ids import PeerId, PubsubTopic
from protocols.verdict import Accept, Reject, Verdict
from sim.determinism import draws
from sim.life import Life
from sim.network import Internet, SimHost, Weather, address_of, open_host
from sim.trace import Trace

T = TypeVar("T")
TOPIC = PubsubTopic("/waku/2/rs/1024/0")
ECHO = "/echo/1"


class End:
    """One host with its mailboxes."""

    def __init__(self, internet: Internet, name: str) -> None:
        self.peer = PeerId(name)
        self.life = Life()
        self.arrivals: ShedOldest[Gossip] = ShedOldest("arrivals", 100)
        self.peers: ShedOldest[PeerEvent] = ShedOldest("peers", 100)
        self.host: SimHost
        self._internet = internet

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with open_host(self._internet, self.peer, self.life, self.arrivals, self.peers) as self.host:
            await self.host.subscribe(TOPIC, accept)
            yield

    def heard(self) -> list[bytes]:
        return [gossip.data for gossip in drain(self.arrivals)]


def drain(box: ShedOldest[T]) -> list[T]:
    read: list[T] = []
    with box.reader() as inbox:
        while True:
            try:
                read.append(inbox.receive_nowait())
            except trio.WouldBlock:
                return read


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Accept()


@asynccontextmanager
async def open_three(weather: Weather | None = None) -> AsyncIterator[tuple[Internet, End, End, End]]:
    """alice - bob - carol: alice and carol are not connected."""
    internet = Internet(weather or Weather(jitter_s=0.0), Trace(), draws(1, "internet"))
    alice, bob, carol = (End(internet, name) for name in ("alice", "bob", "carol"))
    async with trio.open_nursery() as nursery, alice.open(), bob.open(), carol.open():
        nursery.start_soon(internet.run)
        for end in (alice, carol):
            assert await end.host.dial(address_of(bob.peer)) == bob.peer
        yield internet, alice, bob, carol
        nursery.cancel_scope.cancel()


async def test_gossip_goes_on_over_neighbours_once(autojump_clock: MockClock) -> None:
    async with open_three() as (_, alice, bob, carol):
        assert await alice.host.publish(TOPIC, b"hello") == 1
        await trio.sleep(1.0)
        assert [end.heard() for end in (alice, bob, carol)] == [[b"hello"]] * 3
        await carol.host.publish(TOPIC, b"hello")
        await trio.sleep(1.0)
        assert alice.heard() == []


async def test_what_a_validator_rejects_goes_no_further(autojump_clock: MockClock) -> None:
    async with open_three() as (_, alice, bob, carol):
        await bob.host.subscribe(TOPIC, lambda _peer, _data: Reject("no"))
        await alice.host.publish(TOPIC, b"hello")
        await trio.sleep(1.0)
        assert bob.heard() == carol.heard() == []


async def test_latency_and_bandwidth_take_their_time(autojump_clock: MockClock) -> None:
    async with open_three(Weather(latency_s=0.5, jitter_s=0.0, upload_bytes_s=1000.0)) as (_, alice, bob, _carol):
        began_s = trio.current_time()
        await alice.host.publish(TOPIC, bytes(900))
        await alice.host.publish(TOPIC, b"x" * 900)  # waits for the first
        with bob.arrivals.reader() as inbox:
            await inbox.receive()
            assert trio.current_time() - began_s == pytest.approx(1.5)
            await inbox.receive()
            assert trio.current_time() - began_s == pytest.approx(2.5)


async def test_a_lossy_host_loses_some_for_good(autojump_clock: MockClock) -> None:
    async with open_three(Weather(jitter_s=0.0, loss=0.5)) as (_, alice, bob, _carol):
        for number in range(100):
            await alice.host.publish(TOPIC, b"%d" % number)
            await trio.sleep(0.1)
        assert 30 < len(bob.heard()) < 70


async def echo(_peer: PeerId, payload: bytes) -> bytes | None:
    await trio.sleep(1.0)
    return payload or None


async def ask(end: End, peer: PeerId, payload: bytes, *, limit_bytes: int = 100) -> bytes | NoAnswer:
    return await end.host.request(peer, ECHO, payload, limit_bytes=limit_bytes, timeout_s=5.0)


async def test_a_request_is_answered_also_by_who_is_not_a_neighbour_yet(autojump_clock: MockClock) -> None:
    async with open_three() as (_, alice, _bob, carol):
        carol.host.respond(ECHO, echo, limit_bytes=100)
        assert await ask(alice, carol.peer, b"hello") == b"hello"
        assert await ask(alice, carol.peer, b"") == NoAnswer("closed without an answer")
        assert isinstance(await ask(alice, carol.peer, bytes(101)), NoAnswer)  # over what carol reads
        assert isinstance(await ask(alice, carol.peer, bytes(50), limit_bytes=49), NoAnswer)
        assert isinstance(await ask(alice, PeerId("nobody"), b"hello"), NoAnswer)


async def test_a_cut_swallows_what_crosses_it_and_heals(autojump_clock: MockClock) -> None:
    async with open_three() as (internet, alice, bob, carol):
        bob.host.respond(ECHO, echo, limit_bytes=100)
        drain(alice.peers)
        internet.cut([alice.peer])
        began_s = trio.current_time()
        assert isinstance(await ask(alice, bob.peer, b"hello"), NoAnswer)
        assert trio.current_time() - began_s == pytest.approx(5.0)
        await bob.host.publish(TOPIC, b"news")
        await trio.sleep(1.0)
        assert (alice.heard(), carol.heard()) == ([], [b"news"])
        assert drain(alice.peers) == [PeerLost(bob.peer)]
        internet.heal()
        assert await alice.host.dial(address_of(bob.peer)) == bob.peer
        assert await ask(alice, bob.peer, b"hello") == b"hello"


async def test_a_killed_host_is_gone_at_once_and_its_neighbours_know(autojump_clock: MockClock) -> None:
    async with open_three() as (internet, alice, bob, carol):
        bob.host.respond(ECHO, echo, limit_bytes=100)
        assert drain(alice.peers) == [PeerConnected(bob.peer)]
        answers: list[bytes | NoAnswer] = []

        async def hope() -> None:
            answers.append(await ask(alice, bob.peer, b"hello"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hope)
            await trio.sleep(0.5)
            bob.life.kill()
            internet.switch_off(bob.peer)
        assert answers == [NoAnswer("connection lost")]
        await trio.sleep(0.1)
        assert drain(alice.peers) == [PeerLost(bob.peer)]
        assert alice.host.connected() == carol.host.connected() == ()
        assert await alice.host.dial(address_of(bob.peer)) == NoAnswer("connection refused")
