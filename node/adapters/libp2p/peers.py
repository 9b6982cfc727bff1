"""Who is connected: a peer counts once it has shown by Waku metadata that it is of our cluster.

    connected --its metadata, ours--> admitted --last connection gone--> lost
        \\--other cluster, no answer--> refused, disconnected

A session is one stay of a peer. Streams other than metadata and libp2p's own wait for admission.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p.abc import INotifee
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction

from actors.ports import NoAnswer, Outbox, PeerConnected, PeerEvent, PeerLost
from node.adapters.libp2p.metadata import answer_metadata, ask_metadata
from node.adapters.libp2p.streams import Stream, StreamFault, is_connected, log, peer_of, read_some
from protocols.ids import PeerId
from protocols.prefix import NEAR, Prefix, prefix_of
from protocols.waku import Metadata

COURTESY_S = 0.3  # for whoever dialled us to ask first, which spares us the question
ADMISSION_S = 10.0  # above metadata's timeouts: whoever waits longer waits for nothing


@dataclass(slots=True)
class _Session:
    number: int
    connection: Any = None
    settled: trio.Event = field(default_factory=trio.Event)
    admitted: bool = False
    refusal: str = ""

    @property
    def outbound(self) -> bool:
        return self.connection.direction is not Direction.INBOUND

    @property
    def prefix(self) -> Prefix:
        return _prefix_of(self.connection)


class Peers(INotifee):  # type: ignore[misc]  # libp2p publishes no types
    """Sessions by peer, fed by the swarm's notifications."""

    def __init__(
        self,
        host: Any,
        nursery: trio.Nursery,
        own: Metadata,
        *,
        max_prefix_peers: int,
        on_admitted: Callable[[PeerId, bool, Prefix], None],
        on_lost: Callable[[PeerId], None],
    ) -> None:
        self._host = host
        self._nursery = nursery
        self._own = own
        self._max_prefix_peers = max_prefix_peers
        self._on_admitted = on_admitted
        self._on_lost = on_lost
        self._sessions: dict[PeerId, _Session] = {}
        self._count = 0
        self._changed = trio.Event()
        self.closed = False

    def admitted(self) -> tuple[PeerId, ...]:
        return tuple(sorted(peer for peer, session in self._sessions.items() if session.admitted))

    def prefix_of(self, peer: PeerId) -> Prefix:
        """Where a connected peer is."""
        session = self._sessions.get(peer)
        return NEAR if session is None else session.prefix

    async def wait_settled(self, peer: PeerId) -> PeerId | NoAnswer:
        """Wait until a connected peer is admitted or refused."""
        session = self._sessions.get(peer)
        if session is None:
            return NoAnswer("not connected")
        with trio.move_on_after(ADMISSION_S):
            await session.settled.wait()
        return peer if session.admitted else NoAnswer(session.refusal or "no metadata")

    async def disconnect(self, peer: PeerId, reason: str) -> None:
        log.info("disconnecting %s: %s", peer, reason)
        session = self._sessions.get(peer)
        if session is not None:
            session.refusal = session.refusal or reason
            session.settled.set()
        for connection in self._host.get_network().get_connections(ID.from_base58(peer)):
            await connection.close()

    # -- Admission -------------------------------------------------------------

    async def serve_metadata(self, stream: Stream) -> None:
        """Handler of the metadata protocol."""
        said = await answer_metadata(stream, self._own)
        if said.cluster != self._own.cluster:
            with trio.move_on_after(COURTESY_S):  # for the peer to read whose cluster this is
                while await read_some(stream):
                    pass
        session = self._sessions.get(peer_of(stream))
        if session is not None:
            await self._judge(peer_of(stream), session, said)

    async def _introduce(self, peer: PeerId, session: _Session) -> None:
        if session.connection.direction is Direction.INBOUND:
            with trio.move_on_after(COURTESY_S):
                await session.settled.wait()
                return
        try:
            await self._judge(peer, session, await ask_metadata(self._host, peer, self._own))
        except StreamFault as fault:
            if not session.settled.is_set():
                await self.disconnect(peer, f"no metadata: {fault}")

    async def _judge(self, peer: PeerId, session: _Session, said: Metadata) -> None:
        if said.cluster != self._own.cluster:
            await self.disconnect(peer, f"it is of cluster {said.cluster}, we are of {self._own.cluster}")
        elif not session.settled.is_set() and self._sessions.get(peer) is session:
            session.admitted = True
            self._on_admitted(peer, session.outbound, session.prefix)
            session.settled.set()
            self._changed.set()

    # -- Notifications ---------------------------------------------------------

    async def connected(self, _network: Any, connection: Any) -> None:
        if self.closed:
            return
        peer = PeerId(connection.muxed_conn.peer_id.to_base58())
        session = self._sessions.get(peer)
        if session is not None and session.connection.is_closed:
            self._end(peer, "came back")  # it was gone before we heard of it: whatever it knew is lost
            session = None
        if session is None:
            self._count += 1
            session = self._sessions[peer] = _Session(self._count, connection)
            if self._is_crowded(session):
                self._nursery.start_soon(self.disconnect, peer, f"too many peers from {session.prefix}")
            else:
                self._nursery.start_soon(self._introduce, peer, session)
        elif session.connection is not connection:
            older, session.connection = session.connection, connection
            self._nursery.start_soon(self._close_if_dead, older)

    def _is_crowded(self, newcomer: _Session) -> bool:
        """Whether others have opened enough connections to us from its part of the internet."""
        if newcomer.outbound or newcomer.prefix == NEAR:
            return False
        mates = sum(not s.outbound and s.prefix == newcomer.prefix for s in self._sessions.values())
        return mates > self._max_prefix_peers

    async def _close_if_dead(self, connection: Any) -> None:
        """A peer that dials again may have lost its end of the first connection, without our hearing of it."""
        if not await connection.muxed_conn.is_alive():
            await connection.close()

    async def disconnected(self, _network: Any, connection: Any) -> None:
        peer = PeerId(connection.muxed_conn.peer_id.to_base58())
        if not self.closed and not is_connected(self._host, peer):
            self._end(peer, "connection lost")

    def _end(self, peer: PeerId, reason: str) -> None:
        session = self._sessions.pop(peer, None)
        if session is None:
            return
        session.refusal = session.refusal or reason
        session.settled.set()
        if session.admitted:
            self._on_lost(peer)
            self._changed.set()

    async def opened_stream(self, _network: Any, _stream: Any) -> None: ...
    async def closed_stream(self, _network: Any, _stream: Any) -> None: ...
    async def listen(self, _network: Any, _address: Any) -> None: ...
    async def listen_close(self, _network: Any, _address: Any) -> None: ...

    # -- Events ----------------------------------------------------------------

    async def announce(self, events: Outbox[PeerEvent]) -> None:
        """Tell the channel of every stay, in order; stays that began and ended while it was full are left out."""
        told: dict[PeerId, int] = {}
        while True:
            self._changed = trio.Event()
            event = self._next_event(told)
            if event is None:
                await self._changed.wait()
            else:
                await events.send(event)

    def _next_event(self, told: dict[PeerId, int]) -> PeerEvent | None:
        for peer, number in told.items():
            session = self._sessions.get(peer)
            if session is None or session.number != number:
                del told[peer]
                return PeerLost(peer)
        for peer, session in self._sessions.items():
            if session.admitted and peer not in told:
                told[peer] = session.number
                return PeerConnected(peer)
        return None


def _prefix_of(connection: Any) -> Prefix:
    try:
        address = connection.muxed_conn.secured_conn.get_remote_address()
    except Exception:  # noqa: BLE001  the socket is gone, or the transport doesn't know
        return NEAR
    return prefix_of(address[0] if address else None)
