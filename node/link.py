"""The network as actors hold it: one object that outlives the transport's restarts.

While the transport is down a publish reaches nobody (the outbox resends) and a request has no answer;
nobody upstairs restarts because a socket did.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.ports import Network, NoAnswer, Responder, Validator
from protocols.autonat import Reachability
from protocols.ids import PeerId, PubsubTopic

DOWN = NoAnswer("the transport is down")


class Link:
    """A `Network` that delegates to whichever host is up."""

    def __init__(self, peer: PeerId) -> None:
        self._peer = peer
        self._network: Network | None = None

    def attach(self, network: Network) -> None:
        self._network = network

    def detach(self) -> None:
        self._network = None

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._network.addresses if self._network else ()

    @property
    def record(self) -> str:
        return self._network.record if self._network else ""

    @property
    def reachability(self) -> Reachability:
        return self._network.reachability if self._network else Reachability.UNKNOWN

    def connected(self) -> tuple[PeerId, ...]:
        return self._network.connected() if self._network else ()

    async def dial(self, address: str, *, timeout_s: float = 10.0) -> PeerId | NoAnswer:
        return await self._network.dial(address, timeout_s=timeout_s) if self._network else DOWN

    async def ask_peers(self, peer: PeerId) -> Sequence[str] | NoAnswer:
        return await self._network.ask_peers(peer) if self._network else DOWN

    async def read_list(self, url: str) -> Sequence[str] | NoAnswer:
        return await self._network.read_list(url) if self._network else DOWN

    async def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        if self._network:
            await self._network.subscribe(topic, validate)

    async def unsubscribe(self, topic: PubsubTopic) -> None:
        if self._network:
            await self._network.unsubscribe(topic)

    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        return await self._network.publish(topic, data) if self._network else 0

    async def history(self, topic: PubsubTopic, first_s: float, last_s: float) -> Sequence[bytes] | NoAnswer:
        return await self._network.history(topic, first_s, last_s) if self._network else DOWN

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, limit_bytes: int, timeout_s: float
    ) -> bytes | NoAnswer:
        if self._network is None:
            return DOWN
        return await self._network.request(peer, protocol, payload, limit_bytes=limit_bytes, timeout_s=timeout_s)

    def respond(self, protocol: str, responder: Responder, *, limit_bytes: int) -> None:
        if self._network:
            self._network.respond(protocol, responder, limit_bytes=limit_bytes)
