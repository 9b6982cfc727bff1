"""Whether others can dial us, and what we do where they can't: places at relays, told as addresses of ours.

Both ends of AutoNAT: we dial back whoever asks, at the address that its connection comes from and nowhere else, so
that nobody makes us knock at a third party's door. The verdict is `protocols.autonat`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.adapters.libp2p.circuit import CIRCUIT, Circuits, is_circuit
from node.adapters.libp2p.streams import (
    Stream,
    StreamFault,
    log,
    open_stream,
    peer_of,
    read_varint_frame,
    write_varint_frame,
)
from protocols.autonat import (
    AUTONAT,
    MAX_AUTONAT_BYTES,
    DialReply,
    DialStatus,
    Judgement,
    Reachability,
    decode_dial,
    decode_dial_reply,
    encode_dial,
    encode_dial_reply,
    step,
)
from protocols.circuit import RESERVATION_S
from protocols.discovery import MAX_ADDRESS_CHARS
from protocols.ids import PeerId
from protocols.verdict import Reject
from protocols.waku_allowance import Allowances

ASK_S = 5.0  # between questions while we don't know
RECHECK_S = 300.0  # the same when we know
ANSWER_S = 20.0  # for a peer to dial us and say so
DIAL_S = 8.0  # for one dial back
DIALS = 4  # back, at a time
REQUESTS = (1 / 30, 3)  # a second and at once, of one peer
RELAYS = 2  # with places of ours: one may go
REST_S = 120.0  # before a peer that gave us no place is asked again
RELAY_ADDRESSES = 3  # of one relay, that we tell of


@dataclass(frozen=True, slots=True)
class _Place:
    addresses: tuple[str, ...]
    renew_s: float


class Reach:
    """`own` are the addresses that we listen on; `peers` who is admitted."""

    def __init__(
        self,
        host: Any,
        circuits: Circuits,
        own: Callable[[], Sequence[str]],
        peers: Callable[[], Sequence[PeerId]],
    ) -> None:
        self._host = host
        self._circuits = circuits
        self._own = own
        self._peers = peers
        self._me = PeerId(host.get_id().to_base58())
        self._judgement = Judgement()
        self._asked: dict[PeerId, float] = {}
        self._places: dict[PeerId, _Place] = {}
        self._resting: dict[PeerId, float] = {}
        self._allowances = Allowances(*REQUESTS)
        self._dialling = trio.CapacityLimiter(DIALS)

    @property
    def reachability(self) -> Reachability:
        return self._judgement.verdict if self._own() else Reachability.PRIVATE

    @property
    def addresses(self) -> tuple[str, ...]:
        """By which relays lead to us."""
        return tuple(address for _, place in sorted(self._places.items()) for address in place.addresses)

    async def run(self) -> None:
        while True:
            await trio.sleep(ASK_S)
            await self._check()
            await self._keep_places()

    def forget(self, peer: PeerId) -> None:
        """It is gone, and our place with it."""
        self._places.pop(peer, None)
        self._asked.pop(peer, None)
        self._resting.pop(peer, None)

    # -- Asking to be dialled --------------------------------------------------

    async def _check(self) -> None:
        """Ask the peer that was asked longest ago, if it is time."""
        now_s = trio.current_time()
        able = [peer for peer in self._peers() if not self._circuits.is_relayed(peer)]
        wait_s = ASK_S if self._judgement.verdict is Reachability.UNKNOWN else RECHECK_S
        able = [peer for peer in able if self._asked.get(peer, float("-inf")) + RECHECK_S <= now_s]
        recent = max(self._asked.values(), default=float("-inf"))
        if not able or not self._own() or recent + wait_s > now_s:
            return
        peer = min(able, key=lambda p: (self._asked.get(p, float("-inf")), p))
        self._asked[peer] = now_s
        reached = await self._ask(peer)
        if reached is not None:
            before = self._judgement.verdict
            self._judgement = step(self._judgement, peer, reached=reached)
            if self._judgement.verdict is not before:
                log.info("others say that we are %s", self._judgement.verdict.value)

    async def _ask(self, peer: PeerId) -> bool | None:
        """Whether the peer reached us; None where it doesn't say."""
        addresses = [Multiaddr(a).decapsulate(Multiaddr(f"/p2p/{self._me}")).to_bytes() for a in self._own()]
        try:
            with trio.fail_after(ANSWER_S):
                async with open_stream(self._host, peer, AUTONAT) as stream:
                    await write_varint_frame(stream, encode_dial(ID.from_base58(self._me).to_bytes(), addresses))
                    reply = decode_dial_reply(await read_varint_frame(stream, MAX_AUTONAT_BYTES))
        except (StreamFault, trio.TooSlowError) as fault:
            log.debug("%s doesn't say whether it reaches us: %r", peer, fault)
            return None
        except Exception as error:  # noqa: BLE001  the connection went away under us
            log.debug("%s: %r", peer, error)
            return None
        if isinstance(reply, Reject) or reply.status not in (DialStatus.OK, DialStatus.DIAL_ERROR):
            return None
        return reply.status == DialStatus.OK

    # -- Dialling back ---------------------------------------------------------

    async def serve(self, stream: Stream) -> None:
        """Handler of AutoNAT."""
        with trio.fail_after(DIAL_S):
            asked = decode_dial(await read_varint_frame(stream, MAX_AUTONAT_BYTES))
        peer = peer_of(stream)
        if isinstance(asked, Reject) or asked.peer != ID.from_base58(peer).to_bytes():
            reply = DialReply(DialStatus.BAD_REQUEST, "not a request of yours")
        elif self._circuits.is_relayed(peer) or not self._allowances.take(peer, trio.current_time()):
            reply = DialReply(DialStatus.DIAL_REFUSED, "slow down")
        else:
            reply = await self._dial_back(peer, _where_it_comes_from(stream), asked.addresses)
        await write_varint_frame(stream, encode_dial_reply(reply))

    async def _dial_back(self, peer: PeerId, host: str | None, claimed: Sequence[bytes]) -> DialReply:
        addresses = [] if host is None else _at_host(host, claimed)
        if not addresses:
            return DialReply(DialStatus.DIAL_REFUSED, "no address at your host")
        async with self._dialling:
            for address in addresses:
                if await self._reaches(peer, address):
                    return DialReply(DialStatus.OK, address=address.to_bytes())
        return DialReply(DialStatus.DIAL_ERROR, "no answer at your addresses")

    async def _reaches(self, peer: PeerId, address: Multiaddr) -> bool:
        """Whether this peer answers there: a connection of its own, that ends after the handshake."""
        swarm = self._host.get_network()
        transport = swarm.transport_manager.transport_for_dialing(address)
        raw = None
        try:
            with trio.fail_after(DIAL_S):
                raw = await transport.dial(address)
                await swarm.upgrader.upgrade_security(raw, True, ID.from_base58(peer))
        except Exception as error:  # noqa: BLE001  whatever keeps us from it
            log.debug("dialling back %s: %r", address, error)
            return False
        else:
            return True
        finally:
            if raw is not None:
                with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                    await _close(raw)

    # -- Places at relays ------------------------------------------------------

    async def _keep_places(self) -> None:
        if self.reachability is not Reachability.PRIVATE:
            if self.reachability is Reachability.PUBLIC:
                self._places.clear()
            return
        now_s = trio.current_time()
        due = [relay for relay, place in self._places.items() if place.renew_s <= now_s]
        others = [
            peer
            for peer in self._peers()
            if peer not in self._places
            and not self._circuits.is_relayed(peer)
            and self._resting.get(peer, now_s) <= now_s
        ]
        for relay in [*due, *others]:
            if relay in due or len(self._places) < RELAYS:
                await self._reserve(relay)

    async def _reserve(self, relay: PeerId) -> None:
        now_s = trio.current_time()
        granted = await self._circuits.reserve(relay)
        if isinstance(granted, str):
            log.debug("no place at %s: %s", relay, granted)
            self._places.pop(relay, None)
            self._resting[relay] = now_s + REST_S
            return
        found = [_through(packed, relay, self._me) for packed in granted.addresses]
        addresses = tuple(dict.fromkeys(a for a in found if a is not None))[:RELAY_ADDRESSES]
        self._places[relay] = _Place(addresses, now_s + RESERVATION_S / 2)
        log.info("reachable through %s", relay)


async def _close(raw: Any) -> None:
    try:
        await raw.close()
    except Exception as error:  # noqa: BLE001  the peer was quicker
        log.debug("close: %r", error)


def _where_it_comes_from(stream: Stream) -> str | None:
    try:
        address = stream.muxed_conn.secured_conn.get_remote_address()
    except Exception:  # noqa: BLE001  the socket is gone, or the transport doesn't know
        return None
    return address[0] if address else None


def _at_host(host: str, claimed: Sequence[bytes]) -> list[Multiaddr]:
    """The claimed addresses, each at the host that it comes from: behind NAT one knows only the inner one."""
    family = "ip6" if ":" in host else "ip4"
    found: dict[str, Multiaddr] = {}
    for packed in claimed:
        try:
            text = str(Multiaddr(packed))
            _, kind, _, rest = text.split("/", 3)
            if kind == family and rest.startswith("tcp/") and not is_circuit(text):
                address = Multiaddr(f"/{family}/{host}/{rest.partition('/p2p/')[0]}")
                found.setdefault(str(address), address)
        except Exception as error:  # noqa: BLE001  a stranger's bytes, and the library raises what it likes
            log.debug("an address to dial back: %r", error)
    return list(found.values())


def _through(packed: bytes, relay: PeerId, me: PeerId) -> str | None:
    """A relay's address as the way to us."""
    try:
        text = str(Multiaddr(packed))
    except Exception:  # noqa: BLE001  a stranger's bytes
        return None
    if is_circuit(text) or not text.isprintable():
        return None
    whole = f"{text.partition('/p2p/')[0]}/p2p/{relay}/{CIRCUIT}/p2p/{me}"
    return whole if len(whole) <= MAX_ADDRESS_CHARS else None
