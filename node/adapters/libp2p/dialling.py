"""Dialling: an address to a connection, over every way that is known.

Mends: the stock swarm dials one TCP address of a peer, waits 250 ms for a second connection, and refuses a
peer for a minute after a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.adapters.libp2p.circuit import is_circuit
from node.adapters.libp2p.websocket import is_secure
from protocols.ids import PeerId

STAGGER_S = 0.25  # between starting an address and the next one (RFC 8305)
MAX_ADDRESSES = 16  # tried in one dial; a peer may claim any number
NAMES = {"dns": 0, "dns4": trio.socket.AF_INET, "dns6": trio.socket.AF_INET6}


class BadAddress(ValueError):
    """A multiaddr that names no peer or can't be parsed; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Target:
    peer: PeerId
    address: Multiaddr
    """Without /p2p/<peer>, but of a circuit, whose relay must know it."""


def parse_target(address: str) -> Target:
    try:
        whole = Multiaddr(address)
        peer = ID.from_base58(str(whole).rpartition("/p2p/")[2]).to_base58()
        if is_circuit(whole):
            return Target(PeerId(peer), whole)
        return Target(PeerId(peer), whole.decapsulate(Multiaddr(f"/p2p/{peer}")))
    except Exception as error:
        raise BadAddress(f"{address:.200}: want /ip4/…/tcp/…/p2p/…: {error}") from error


def is_peer_id(text: str) -> bool:
    try:
        return bool(ID.from_base58(text).to_base58() == text)
    except ValueError:
        return False


async def resolve(address: Multiaddr) -> list[Multiaddr]:
    """Turn a leading host name into all its addresses, except under TLS, which needs it; OSError if there are none.

    By the system's resolver, which knows /etc/hosts; the stock library's asks DNS servers only.
    """
    (protocol, name), *_ = address.items()
    if protocol.name not in NAMES or is_secure(address):
        return [address]
    found = await trio.socket.getaddrinfo(name, None, family=NAMES[protocol.name], type=trio.socket.SOCK_STREAM)
    rest = str(address).removeprefix(f"/{protocol.name}/{name}")
    hosts = dict.fromkeys((family, sockaddr[0]) for family, *_, sockaddr in found)
    return [Multiaddr(f"/{'ip6' if family == trio.socket.AF_INET6 else 'ip4'}/{host}{rest}") for family, host in hosts]


async def connect(swarm: Any, peer: PeerId, addresses: Sequence[Multiaddr]) -> str | None:
    """Dial the addresses, each a little after the one before, until one connects; return why none did."""
    faults: list[str] = []
    scope = trio.CancelScope()
    connected = False

    async def attempt(address: Multiaddr, failed: trio.Event) -> None:
        nonlocal connected
        try:
            await swarm.dial_addr(address, ID.from_base58(peer))
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, there may be another address
            faults.append(f"{address}: {error.__cause__ or error}")
            failed.set()
        else:
            connected = True
            scope.cancel()

    with scope:
        async with trio.open_nursery() as nursery:
            for address in sorted(addresses[:MAX_ADDRESSES], key=is_circuit):  # a relay's line is the last resort
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
    return None if connected else "; ".join(faults) or "no address"
