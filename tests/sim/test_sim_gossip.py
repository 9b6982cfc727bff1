"""Confirmed delivery, by the actors and the wiring that a node runs, over a network that loses, cuts and kills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog.testing
import trio

from actors.mail import JobMail, JoinJob, SendToJob
from node.wiring import House, Settings, World
from protocols.delivery_event import Counts
from protocols.ids import ContentId, JobId, RoundNumber
from protocols.message import RoundReported
from sim import determinism
from sim.clock import time_s
from sim.determinism import draws
from sim.life import Life
from sim.network import Internet, Weather, address_of, open_host
from sim.store import Disk, SimStore
from sim.trace import Trace
from sim.vault import WRAP_CONTEXT, Keyring, SimVault, make_identity

JOB = JobId(b"j" * 32)


class Member:
    """A node's `link` group, and whatever stands for its aggregator."""

    def __init__(self, town: Town, name: str, skew_s: float) -> None:
        self.identity = make_identity(1, name)
        self.disk = Disk()
        self.heard: list[int] = []
        self.house: House
        self._town, self._name, self._skew_s = town, name, skew_s
        self._boots = 0
        self._life = Life()
        self._scope = trio.CancelScope()
        town.keyring.add(self.identity)

    @property
    def counts(self) -> Counts:
        assert self.house.gossip is not None
        return self.house.gossip.counts

    async def start(self) -> None:
        self._boots += 1
        self._life, self._scope = Life(), trio.CancelScope()
        entropy = draws(1, self._name, self._boots).randbytes
        vault = SimVault(self._town.keyring, self.identity, entropy)
        vault.unwrap(JOB, vault.seal_to(self.identity.encryption_key, b"k" * 32, context=WRAP_CONTEXT + JOB))
        peer, life, absent = self.identity.peer, self._life, None
        nothing: Any = absent
        world = World(
            peer,
            lambda arrivals, peers: open_host(self._town.internet, peer, life, arrivals, peers),
            nothing,
            vault,
            SimStore(self.disk, life),
            nothing,
            nothing,
            entropy,
            lambda: time_s() + self._skew_s,
        )
        known = tuple(address_of(m.identity.peer) for m in self._town.members if m is not self)
        self.house = House(world, Settings(1024, 8, known, False, False, 1, 1.0, 0, 0))
        self._town.nursery.start_soon(self._run, self.house, self._scope)
        await self.house.boxes["gossip"].send(JoinJob(JOB, self._town.keys, self))

    async def _run(self, house: House, scope: trio.CancelScope) -> None:
        with scope:
            await house.supervise_link().run()

    def kill(self) -> None:
        self._life.kill()
        self._town.internet.switch_off(self.identity.peer)
        self._scope.cancel()

    async def send(self, mail: JobMail) -> None:
        """Where the aggregator's lane would be."""
        assert isinstance(mail.body, RoundReported)
        self.heard.append(mail.body.round)

    async def say(self, *numbers: int) -> None:
        others = self._town.keys - {self.identity.node_key}
        for n in numbers:
            body = RoundReported(RoundNumber(n), ContentId(bytes(32)), 0.0, 0.0, 1)
            await self.house.boxes["gossip"].send(SendToJob(JOB, body, others))


class Town:
    def __init__(self, nursery: trio.Nursery, weather: Weather, skews_s: tuple[float, ...]) -> None:
        self.nursery = nursery
        self.keyring = Keyring()
        self.internet = Internet(weather, Trace(), draws(1, "internet"))
        self.members: list[Member] = []
        for number, skew_s in enumerate(skews_s):
            self.members.append(Member(self, f"m{number}", skew_s))
        self.keys = frozenset(m.identity.node_key for m in self.members)


@asynccontextmanager
async def open_town(*skews_s: float, loss: float = 0.0) -> AsyncIterator[Town]:
    async with trio.open_nursery() as nursery:
        town = Town(nursery, Weather(loss=loss), skews_s)
        nursery.start_soon(town.internet.run)
        for member in town.members:
            await member.start()
        await trio.sleep(5)
        yield town
        nursery.cancel_scope.cancel()


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    determinism.run(1, scenario)


def test_a_tenth_of_all_deliveries_lost() -> None:
    async def scenario() -> None:
        async with open_town(0, 0, 0, loss=0.1) as town:
            for n in range(100):
                await town.members[n % 3].say(n)
                await trio.sleep(0.05)
            await trio.sleep(5)
            for index, member in enumerate(town.members):
                assert sorted(member.heard) == [n for n in range(100) if n % 3 != index]
            await trio.sleep(20)
            counts = [m.counts for m in town.members]
            assert sum(c.acknowledged for c in counts) == sum(c.sent for c in counts) == 100
            assert sum(c.recovered for c in counts) > 5

    play(scenario)


def test_a_kill_loses_nothing_and_hands_nothing_on_twice() -> None:
    async def scenario() -> None:
        async with open_town(0, 0, 0) as town:
            a, b, _ = town.members
            await a.say(*range(5))
            await trio.sleep(0.02)  # on disk, and on its way: a message travels for longer
            a.kill()
            b.kill()
            await trio.sleep(3)
            await a.start()
            await b.start()
            await trio.sleep(10)
            for member in town.members[1:]:
                assert sorted(member.heard) == list(range(5))
            assert not a.disk.records["outbox"]
            b.kill()
            await b.start()
            await a.say(5)
            await trio.sleep(5)
            assert sorted(b.heard) == list(range(6))

    play(scenario)


def test_what_was_said_while_we_were_cut_off_comes_from_the_archive() -> None:
    """Its sender is gone for good: neither outbox nor mesh could bring it any more."""

    async def scenario() -> None:
        async with open_town(0, 0, 0) as town:
            a, _, c = town.members
            town.internet.cut([c.identity.peer])
            await trio.sleep(20)
            await a.say(1, 2, 3)
            await trio.sleep(1)
            a.kill()
            await trio.sleep(60)
            town.internet.heal()
            await trio.sleep(70)  # discovery's longest back-off
            assert c.heard == [1, 2, 3]

    play(scenario)


def test_clocks_a_minute_apart_work_and_are_named() -> None:
    async def scenario() -> None:
        async with open_town(0, 59, 0, 0) as town:
            with structlog.testing.capture_logs() as logs:
                await town.members[0].say(1)
                await town.members[1].say(2)
                await trio.sleep(40)
            assert [sorted(m.heard) for m in town.members] == [[2], [1], [1, 2], [1, 2]]
            assert all(m.counts.acknowledged == m.counts.sent for m in town.members)
            named = town.members[1].identity.node_key.hex()[:12]
            told = [entry for entry in logs if "clock" in entry["event"]]
            assert {entry.get("peer", "this node") for entry in told} <= {named, "this node"}

    play(scenario)


def test_the_verdict_says_who_has_it() -> None:
    async def scenario() -> None:
        async with open_town(0, 0, 0) as town:
            a, b, c = town.members
            c.kill()
            await a.say(1)
            await trio.sleep(140)
            assert a.house.gossip is not None
            (verdict,) = a.house.gossip.verdicts
            assert (verdict.reached, verdict.missing) == ({b.identity.node_key}, {c.identity.node_key})
            assert 120 <= verdict.at_s - verdict.since_s < 140
            assert a.counts.given_up == 1
            assert not a.disk.records["outbox"]

    play(scenario)
