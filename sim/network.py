"""The Network twin: hosts on a simulated internet with latency, bandwidth, loss, cuts and kills.

Gossip is flooded over a mesh of subscribed neighbours, each copy judged by the receiver's validator before it goes on;
requests are a message there and one back. Connections break when an end dies or a cut lasts.
`Internet` holds what is between hosts, `SimHost` is one end. All that happens is in the trace.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations, count
from random import Random

import trio

from actors.ports import (
    Gossip,
    NoAnswer,
    Outbox,
    PeerConnected,
    PeerEvent,
    PeerLost,
    Responder,
    Validator,
)
from protocols.autonat import Reachability
from protocols.discovery import peer_of
from protocols.ids import PeerId, PubsubTopic
from protocols.verdict import Accept, Reject
from protocols.waku import decode_message
from sim.life import Life
from sim.trace import Trace, short

DEGREE = 6  # gossipsub's: neighbours that a host chooses for a topic; others choose it, too
DETECT_S = 5.0  # until a connection over a cut is given up
ARCHIVED = 1024  # messages that a host can be asked for
HEADER_BYTES = 100  # of frames and packets around a message

# -- What is between hosts -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weather:
    """How the internet is today."""

    latency_s: float = 0.03
    """One way."""
    jitter_s: float = 0.02
    loss: float = 0.0
    """Share of gossip that a host loses for good: its queue shed it. Requests run over streams, which don't lose."""
    upload_bytes_s: float = 5e6
    """Of every host."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    topic: PubsubTopic
    data: bytes
    id: str


@dataclass(slots=True)
class _Question:
    peer: PeerId
    answer: bytes | NoAnswer = field(default_factory=lambda: NoAnswer("too slow"))
    answered: trio.Event = field(default_factory=trio.Event)

    def settle(self, answer: bytes | NoAnswer) -> None:
        if not self.answered.is_set():
            self.answer = answer
            self.answered.set()


class Internet:
    """All hosts that are up, and the messages on their way."""

    def __init__(self, weather: Weather, trace: Trace, random: Random) -> None:
        self.weather = weather
        self.trace = trace
        self.bytes_sent = 0
        self.topology = 0
        """Grows with every connection and subscription that comes or goes: what was derived from them is stale."""
        self._random = random
        self._hosts: dict[PeerId, SimHost] = {}
        self._islands: dict[PeerId, int] = {}
        self._due: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []
        self._order = count()
        self._sooner = trio.Event()

    async def run(self) -> None:
        """Bring everything where it goes when it is due."""
        while True:
            while self._due and self._due[0][0] <= trio.current_time():
                await heapq.heappop(self._due)[2]()
            wake_s = self._due[0][0] if self._due else float("inf")
            with trio.move_on_at(wake_s):
                await self._sooner.wait()

    def at(self, due_s: float, act: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), act))
        if self._due[0][0] == due_s:
            self._sooner.set()
            self._sooner = trio.Event()

    def host(self, peer: PeerId) -> SimHost | None:
        return self._hosts.get(peer)

    def can_reach(self, one: PeerId, other: PeerId) -> bool:
        return self._islands.get(one) == self._islands.get(other)

    def travel_s(self, sender: SimHost, size_bytes: int) -> float:
        """Return when a message that is sent now arrives: it waits for those that its host sends before."""
        weather, now_s = self.weather, trio.current_time()
        self.bytes_sent += size_bytes + HEADER_BYTES
        sender.busy_until_s = max(sender.busy_until_s, now_s) + (size_bytes + HEADER_BYTES) / weather.upload_bytes_s
        return sender.busy_until_s + weather.latency_s + weather.jitter_s * self._random.random()

    def is_lost(self) -> bool:
        return self._random.random() < self.weather.loss

    # -- Hosts that come and go

    def switch_on(self, host: SimHost) -> None:
        self._hosts[host.peer] = host
        self.trace.note("up", host.peer)

    def switch_off(self, peer: PeerId) -> None:
        """Gone at once: its neighbours' connections are reset."""
        host = self._hosts.pop(peer, None)
        if host is None:
            return
        self.trace.note("down", peer)
        for other in sorted(host.neighbours):
            self.disconnect(peer, other)
        host.forget_all()

    def connect(self, one: SimHost, other: SimHost) -> None:
        if other.peer not in one.neighbours:
            self.trace.note("connect", one.peer, other.peer)
            one.gain(other.peer)
            other.gain(one.peer)

    def disconnect(self, one: PeerId, other: PeerId) -> None:
        self.trace.note("disconnect", one, other)
        for peer, lost in ((one, other), (other, one)):
            if host := self._hosts.get(peer):
                host.lose(lost)

    # -- Cuts

    def cut(self, *islands: Iterable[PeerId]) -> None:
        """Let only those reach each other that are on the same island; whoever is on none is on the mainland."""
        self._islands = {peer: number for number, island in enumerate(islands) for peer in island}
        self.trace.note("cut", *sorted(self._islands.items()))
        self.at(trio.current_time() + DETECT_S, self._give_up_broken)

    def heal(self) -> None:
        self._islands = {}
        self.trace.note("heal")

    async def _give_up_broken(self) -> None:
        for one, other in combinations(sorted(self._hosts), 2):
            if not self.can_reach(one, other) and other in self._hosts[one].neighbours:
                self.disconnect(one, other)


# -- One end -----------------------------------------------------------------------


class SimHost:
    """Implements `actors.ports.Network` for one life of a node."""

    def __init__(
        self,
        internet: Internet,
        peer: PeerId,
        life: Life,
        nursery: trio.Nursery,
        arrivals: Outbox[Gossip],
        peers: Outbox[PeerEvent],
    ) -> None:
        self.neighbours: set[PeerId] = set()
        self.topics: dict[PubsubTopic, Validator] = {}
        self.busy_until_s = 0.0
        self.archive: deque[tuple[float, PubsubTopic, bytes]] = deque(maxlen=ARCHIVED)
        self._internet = internet
        self._peer = peer
        self._life = life
        self._nursery = nursery
        self._arrivals = arrivals
        self._peers = peers
        self._responders: dict[str, tuple[Responder, int]] = {}
        self._seen: set[tuple[PubsubTopic, str]] = set()
        self._asked: dict[int, _Question] = {}
        self._questions = count()
        self._meshes: dict[PubsubTopic, tuple[int, list[PeerId]]] = {}
        self._choices: dict[PubsubTopic, tuple[int, tuple[PeerId, ...]]] = {}

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        return (address_of(self._peer),)

    @property
    def record(self) -> str:
        return ""

    @property
    def reachability(self) -> Reachability:
        return Reachability.PUBLIC

    def connected(self) -> tuple[PeerId, ...]:
        return tuple(sorted(self.neighbours))

    async def dial(self, address: str, *, timeout_s: float = 10.0) -> PeerId | NoAnswer:
        await self._life.breathe()
        peer = peer_of(address)
        if peer is None or peer == self._peer or address != address_of(peer):
            return NoAnswer(f"{address} leads to nobody else")
        return await self._reach(peer, timeout_s)

    async def ask_peers(self, peer: PeerId) -> Sequence[str] | NoAnswer:
        await self._life.breathe()
        return NoAnswer("simulated peers know of each other by their greetings")

    async def read_list(self, url: str) -> Sequence[str] | NoAnswer:
        await self._life.breathe()
        return NoAnswer(f"{url}: there is no DNS in a simulation")

    async def _reach(self, peer: PeerId, timeout_s: float) -> PeerId | NoAnswer:
        if peer in self.neighbours:
            return peer
        if not self._internet.can_reach(self._peer, peer):
            await self._life.spend(timeout_s)
            return NoAnswer(f"no connection within {timeout_s:g} s")
        await self._life.spend(2 * self._internet.weather.latency_s)
        other = self._internet.host(peer)
        is_up = self._internet.host(self._peer) is self  # a transport may be restarted under its callers
        if other is None or not is_up or not self._internet.can_reach(self._peer, peer):
            return NoAnswer("connection refused")
        self._internet.connect(self, other)
        return peer

    def gain(self, peer: PeerId) -> None:
        self.neighbours.add(peer)
        self._internet.topology += 1
        self._nursery.start_soon(self._peers.send, PeerConnected(peer))

    def lose(self, peer: PeerId) -> None:
        self.neighbours.discard(peer)
        self._internet.topology += 1
        for question in self._asked.values():
            if question.peer == peer:
                question.settle(NoAnswer("connection lost"))
        self._nursery.start_soon(self._peers.send, PeerLost(peer))

    def forget_all(self) -> None:
        self.neighbours.clear()
        self.topics.clear()
        self._internet.topology += 1

    # -- Gossip

    async def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        await self._life.breathe()
        self.topics[topic] = validate
        self._internet.topology += 1

    async def unsubscribe(self, topic: PubsubTopic) -> None:
        await self._life.breathe()
        self.topics.pop(topic, None)
        self._internet.topology += 1

    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        await self._life.breathe()
        parcel = _Parcel(topic, data, short(data))
        self._internet.trace.note("publish", self._peer, topic, parcel.id)
        if topic in self.topics and (topic, parcel.id) not in self._seen:
            await self._arrivals.send(Gossip(topic, data))
        self._seen.add((topic, parcel.id))
        self._keep(topic, data)
        return self._forward(parcel, None)

    def _keep(self, topic: PubsubTopic, data: bytes) -> None:
        message = decode_message(data)
        if not isinstance(message, Reject) and not message.ephemeral:
            self.archive.append((message.timestamp_ns / 1e9, topic, data))

    def _forward(self, parcel: _Parcel, source: PeerId | None) -> int:
        targets = [peer for peer in self._mesh(parcel.topic) if peer != source]
        for peer in targets:
            due_s = self._internet.travel_s(self, len(parcel.data))
            self._internet.at(due_s, lambda peer=peer: self._arrive(peer, parcel))  # type: ignore[misc]
        return len(targets)

    def _mesh(self, topic: PubsubTopic) -> list[PeerId]:
        known = self._meshes.get(topic)
        if known is None or known[0] != self._internet.topology:
            known = self._meshes[topic] = (self._internet.topology, self._find_mesh(topic))
        return known[1]

    def _find_mesh(self, topic: PubsubTopic) -> list[PeerId]:
        """Return whom we chose and who chose us: a mesh has no one-way edges, or a newcomer would hear nobody."""
        hosts = [host for peer in sorted(self.neighbours) if (host := self._internet.host(peer)) is not None]
        chosen = self._choose(topic)
        return [h.peer for h in hosts if topic in h.topics and (h.peer in chosen or self._peer in h._choose(topic))]

    def _choose(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        known = self._choices.get(topic)
        if known is None or known[0] != self._internet.topology:
            known = self._choices[topic] = (self._internet.topology, self._draw_choice(topic))
        return known[1]

    def _draw_choice(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        hosts = [self._internet.host(peer) for peer in sorted(self.neighbours)]
        subscribed = [host.peer for host in hosts if host is not None and topic in host.topics]
        # A choice of its own for each host and topic, which stays while its neighbours do.
        return tuple(sorted(subscribed, key=lambda peer: short(f"{topic} {self._peer} {peer}".encode()))[:DEGREE])

    async def _arrive(self, peer: PeerId, parcel: _Parcel) -> None:
        """Runs at the receiver."""
        host = self._internet.host(peer)
        if host is not None and peer in self.neighbours and self._internet.can_reach(self._peer, peer):
            await host.receive(self._peer, parcel)

    async def receive(self, source: PeerId, parcel: _Parcel) -> None:
        validate = self.topics.get(parcel.topic)
        if validate is None or (parcel.topic, parcel.id) in self._seen:
            return
        self._seen.add((parcel.topic, parcel.id))
        if self._internet.is_lost():
            self._internet.trace.note("lose", source, self._peer, parcel.id)
            return
        verdict = validate(source, parcel.data)
        self._internet.trace.note("deliver", source, self._peer, parcel.id, type(verdict).__name__)
        if isinstance(verdict, Accept):
            self._keep(parcel.topic, parcel.data)
            await self._arrivals.send(Gossip(parcel.topic, parcel.data))
            self._forward(parcel, source)

    async def history(self, topic: PubsubTopic, first_s: float, last_s: float) -> Sequence[bytes] | NoAnswer:
        """Of the first neighbour that can be asked: every host is a full node and keeps an archive."""
        await self._life.spend(2 * self._internet.weather.latency_s)
        for peer in sorted(self.neighbours):
            host = self._internet.host(peer)
            if host is not None and self._internet.can_reach(self._peer, peer):
                found = [data for heard_s, of, data in host.archive if of == topic and first_s <= heard_s <= last_s]
                self._internet.bytes_sent += sum(map(len, found))
                self._internet.trace.note("recall", self._peer, peer, topic, len(found))
                return found
        return NoAnswer("no neighbour")

    # -- Requests

    def respond(self, protocol: str, responder: Responder, *, limit_bytes: int) -> None:
        self._responders[protocol] = (responder, limit_bytes)

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, limit_bytes: int, timeout_s: float
    ) -> bytes | NoAnswer:
        await self._life.breathe()
        number, question = next(self._questions), _Question(peer)
        self._asked[number] = question
        with trio.move_on_after(timeout_s):
            reached = await self._reach(peer, timeout_s)
            if isinstance(reached, NoAnswer):
                question.settle(reached)
            else:
                self._internet.trace.note("request", self._peer, peer, protocol, short(payload))
                due_s = self._internet.travel_s(self, len(payload))
                self._internet.at(due_s, lambda: self._ask(number, peer, protocol, payload))
            await question.answered.wait()
        del self._asked[number]
        answer = question.answer
        if isinstance(answer, bytes) and len(answer) > limit_bytes:
            answer = NoAnswer(f"an answer of {len(answer)} bytes")
        outcome = answer.reason if isinstance(answer, NoAnswer) else short(answer)
        self._internet.trace.note("answer", self._peer, peer, outcome)
        return answer

    async def _ask(self, number: int, peer: PeerId, protocol: str, payload: bytes) -> None:
        """Runs at the receiver."""
        host = self._internet.host(peer)
        if host is not None and peer in self.neighbours and self._internet.can_reach(self._peer, peer):
            host._nursery.start_soon(host._answer, self, number, protocol, payload)

    async def _answer(self, asker: SimHost, number: int, protocol: str, payload: bytes) -> None:
        responder, limit_bytes = self._responders.get(protocol, (None, 0))
        reply = None
        if responder is not None and len(payload) <= limit_bytes:
            reply = await responder(asker.peer, payload)
        await self._life.breathe()
        answer = NoAnswer("closed without an answer") if reply is None else reply
        due_s = self._internet.travel_s(self, 0 if reply is None else len(reply))
        self._internet.at(due_s, lambda: asker._hear(number, self._peer, answer))

    async def _hear(self, number: int, peer: PeerId, answer: bytes | NoAnswer) -> None:
        """Runs at the asker, who may have given up."""
        question = self._asked.get(number)
        if question is not None and peer in self.neighbours and self._internet.can_reach(self._peer, peer):
            question.settle(answer)


def address_of(peer: PeerId) -> str:
    return f"/dns4/{peer}/tcp/4001/p2p/{peer}"


@asynccontextmanager
async def open_host(
    internet: Internet, peer: PeerId, life: Life, arrivals: Outbox[Gossip], peers: Outbox[PeerEvent]
) -> AsyncIterator[SimHost]:
    """Be on the internet until the block ends."""
    async with trio.open_nursery() as nursery:
        host = SimHost(internet, peer, life, nursery, arrivals, peers)
        internet.switch_on(host)
        try:
            yield host
        finally:
            if internet.host(peer) is host:
                internet.switch_off(peer)
            nursery.cancel_scope.cancel()
