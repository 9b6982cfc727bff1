"""Waku's peer exchange, both ends: records of peers that we know first-hand are told, what is heard becomes addresses.

A record is passed on only if its own node gave it to us over its connection and it leads back to that peer: so nobody
makes us advertise somebody else. Serving is a full node's; asking is everybody's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from actors.ports import NoAnswer
from node.adapters.libp2p.circuit import is_circuit
from node.adapters.libp2p.client import Client
from node.adapters.libp2p.config import LibP2PConfig, Role
from node.adapters.libp2p.records import Description, RecordKey, addresses_of, make_record, read_record
from node.adapters.libp2p.streams import log
from protocols.discovery import peer_of
from protocols.enr import Capability, Sharding
from protocols.ids import PeerId
from protocols.verdict import Reject
from protocols.waku_allowance import Allowances
from protocols.waku_peers import MAX_PEERS, PeerReply, PeerStatus, decode_peer_query, encode_peer_reply

QUESTIONS = (0.2, 10)  # a second and at once, of one peer: whoever asks more often samples our whole book
RECORDS = 256  # of others; above, the oldest is forgotten
RECORD_S = 3600.0  # after which a node that we didn't hear from is not told of any more
OURS_S = 60.0  # a record of ours is made anew so often at most, when our addresses changed


class PeerExchange:
    """`addresses` are ours, as of whenever it is asked; `time_s` numbers our records."""

    def __init__(
        self,
        config: LibP2PConfig,
        key: RecordKey,
        client: Client,
        addresses: Callable[[], tuple[str, ...]],
        *,
        archives: bool,
        time_s: Callable[[], float],
    ) -> None:
        self._config = config
        self._key = key
        self._client = client
        self._addresses = addresses
        self._capabilities = _capabilities(config.role, archives)
        self._time_s = time_s
        self._allowances = Allowances(*QUESTIONS)
        self._heard: dict[PeerId, tuple[float, bytes]] = {}
        """When, and the record, the oldest first."""
        self._own: tuple[tuple[str, ...], float, bytes] | None = None

    def own(self) -> bytes:
        """Return our record, as of now."""
        # Whoever has places at relays has them because nobody reaches it otherwise.
        addresses = tuple(sorted(self._addresses(), key=lambda address: not is_circuit(address)))
        now_s = trio.current_time()
        if self._own is None or (self._own[0] != addresses and now_s >= self._own[1] + OURS_S):
            sharding = Sharding(self._config.cluster, tuple(range(self._config.shards)))
            described = Description(addresses, sharding, self._capabilities)
            self._own = addresses, now_s, make_record(self._key, int(self._time_s()), described)
        return self._own[2]

    # -- Answering -------------------------------------------------------------

    async def answer(self, peer: PeerId, question: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return encode_peer_reply(self._reply(peer, decode_peer_query(question)))

    def _reply(self, peer: PeerId, wanted: int | PeerReply) -> PeerReply:
        if isinstance(wanted, PeerReply):
            return wanted
        now_s = trio.current_time()
        if not self._allowances.take(peer, now_s):
            return PeerReply(status=PeerStatus.TOO_MANY_REQUESTS, description="slow down")
        self._heard = {p: kept for p, kept in self._heard.items() if kept[0] + RECORD_S > now_s}
        others = [record for other, (_, record) in self._heard.items() if other != peer]
        sample = random.sample(others, min(len(others), max(wanted - 1, 0)))
        return PeerReply((self.own(), *sample)[:wanted])

    # -- Asking ----------------------------------------------------------------

    async def ask(self, peer: PeerId) -> Sequence[str] | NoAnswer:
        """Return addresses of others that the peer knows, and its own."""
        reply = await self._client.peers(peer, MAX_PEERS)
        if isinstance(reply, NoAnswer):
            return reply
        if reply.status != PeerStatus.SUCCESS:
            return NoAnswer(f"status {reply.status}: {reply.description}")
        found: dict[str, None] = {}
        for encoded in reply.records:
            addresses = self._read(peer, encoded)
            found.update(dict.fromkeys(addresses))
            if addresses and all(peer_of(address) == peer for address in addresses):
                self._hear(peer, encoded)
        return list(found)

    def _read(self, peer: PeerId, encoded: bytes) -> tuple[str, ...]:
        record = read_record(encoded)
        if isinstance(record, Reject):
            log.info("%s told of a node by %s", peer, record.reason)
            return ()
        return addresses_of(record, self._config.cluster)

    def _hear(self, peer: PeerId, record: bytes) -> None:
        self._heard.pop(peer, None)
        self._heard[peer] = (trio.current_time(), record)
        if len(self._heard) > RECORDS:
            del self._heard[next(iter(self._heard))]


def _capabilities(role: Role, archives: bool) -> Capability:
    if role is Role.LIGHT:
        return Capability(0)
    if role is Role.RELAY:
        return Capability.RELAY
    store = Capability.STORE if archives else Capability(0)
    return Capability.RELAY | Capability.FILTER | Capability.LIGHT_PUSH | store
