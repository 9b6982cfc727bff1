"""The libp2p host: TCP and websocket, Noise, yamux and mplex, with py-libp2p 0.8.1's swarm corrected."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import trio
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from node.adapters.libp2p.circuit import Circuits
from node.adapters.libp2p.config import LibP2PConfig
from node.adapters.libp2p.memory import MIB, Memory
from node.adapters.libp2p.mplex import MPLEX, BoundedMplex
from node.adapters.libp2p.muxer import BoundedYamux, Muxers, shared
from node.adapters.libp2p.pace import Pace
from node.adapters.libp2p.streams import GuardedStreams, Handler, log
from node.adapters.libp2p.websocket import WebSocket

logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it reports every stranger's doing as an error of ours

NEGOTIATION_S = 10.0
CLOSE_S = 3.0  # of the whole host, at shutdown; 0.3 s when nobody stalls
DEAD_AFTER_S = 20  # a peer whose network is cut is gone after this, as TCP sees it

# -- Construction --------------------------------------------------------------


def build_host(config: LibP2PConfig, identity_seed: bytes) -> BasicHost:
    """Return a host that isn't running yet; `identity_seed` is an Ed25519 seed of 32 bytes.

    Only Noise: by default the stock library also accepts plaintext, in which a peer may claim any id.
    """
    key = Ed25519PrivateKey.new(identity_seed)
    pair = KeyPair(key, key.get_public_key())
    peer = ID.from_pubkey(pair.public_key)
    store = PeerStore()
    store.add_key_pair(peer, pair)
    noise = NoiseTransport(pair, noise_privkey=create_noise_key().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {})
    speeds = Pace(1024 * config.upload_kib_s), Pace(1024 * config.download_kib_s)
    memory = Memory(config.max_peer_memory_mib * MIB, config.max_memory_mib * MIB)
    kinds = {YAMUX: BoundedYamux, MPLEX: BoundedMplex}  # in the order of preference
    muxers = {protocol: shared(kind, memory, *speeds) for protocol, kind in kinds.items()}
    upgrader.muxer_multistream = Muxers(muxers)
    swarm = MendedSwarm(config, peer, store, upgrader)
    swarm.memory = memory
    announce = [Multiaddr(a) for a in config.announce] or None
    host = ReservedHost(swarm, announce_addrs=announce, disable_identify_address_discovery=True)
    host.remove_stream_handler(IDENTIFY_PUSH)
    swarm.circuits.attach(host)
    return host


async def run_host(
    host: BasicHost,
    listen: Sequence[Multiaddr],
    stop: trio.Event,
    task_status: Any = trio.TASK_STATUS_IGNORED,  # py-libp2p brings stubs of an older trio without TaskStatus
) -> None:
    """Run until `stop` is set, then close connections and listeners, within CLOSE_S. Cancelling has no effect.

    Raises OSError when an address can't be listened on. Mends: cancelling the stock host, or just leaving
    `host.run`, cuts its clean-up off at the first step: sockets stay open, connections count as closed, and
    a stalled peer holds it up for ever.
    """
    with trio.CancelScope(shield=True) as scope:
        async with host.run(listen_addrs=listen):
            swarm: MendedSwarm = host.get_network()
            if len(swarm.listeners) < len(listen):
                raise OSError(f"can't listen on all of {', '.join(map(str, listen))}")
            task_status.started()
            await stop.wait()
            scope.deadline = trio.current_time() + CLOSE_S
            swarm.guard.closed = True
            async with trio.open_nursery() as nursery:
                for connection in swarm.get_connections():
                    nursery.start_soon(connection.close)
            await host.close()


class ReservedHost(BasicHost):  # type: ignore[misc]  # libp2p publishes no types
    """Answers identify, which js peers need, and asks nobody.

    The stock host asks every peer, in tasks of trio's that outlive it, and keeps as many addresses as a
    stranger names, asked or not. Our peers introduce themselves by signed messages.
    """

    async def _on_notifee_connected(self, conn: Any) -> None:
        await trio.lowlevel.checkpoint()


# -- Swarm ---------------------------------------------------------------------


class MendedSwarm(Swarm):  # type: ignore[misc]  # libp2p publishes no types
    """Faults of the stock class that it mends:

    - a slot for an inbound connection is held until shutdown, not until the connection ends: after 250
      connections in its life a node accepts no more;
    - opening a stream, when cancelled, keeps one of the connection's 256 slots; to a peer that isn't
      connected it dials;
    - stream handlers are not guarded (see GuardedStreams);
    - it dials on its own (see IdleConnector).
    """

    guard: GuardedStreams
    memory: Memory

    def __init__(self, config: LibP2PConfig, peer: ID, store: PeerStore, upgrader: TransportUpgrader) -> None:
        self._max_peer_streams = config.max_peer_streams
        limits = ConnectionConfig(
            max_connections=config.max_peers,
            high_watermark=config.max_peers,
            low_watermark=0,
            min_connections=0,
            max_connections_per_peer=1,  # with more, every dial waits 250 ms for a second connection
            inbound_upgrade_timeout=NEGOTIATION_S,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATION_S,
        )
        retry = RetryConfig(max_retries=0)  # callers retry, and try other addresses first
        self.circuits = Circuits()
        transports = [self.circuits, WatchedTCP(), WebSocket(_watch, load_server_tls(config), load_client_tls(config))]
        super().__init__(peer, store, upgrader, transports=transports, retry_config=retry, connection_config=limits)

        self.auto_connector = IdleConnector(self)

    def set_stream_handler(self, stream_handler: Handler) -> None:
        self.guard = GuardedStreams(stream_handler, self._max_peer_streams)
        super().set_stream_handler(self.guard)

    async def new_stream(self, peer_id: ID) -> Any:
        if not self.get_connections(peer_id):
            raise SwarmException("not connected")
        with trio.CancelScope(shield=True):  # bounded: the write has a deadline, and nothing else waits long
            return await super().new_stream(peer_id)

    async def _do_handle_inbound_connection(self, stream: Any, maddr: Multiaddr, _failure: Any) -> None:
        connection = RawConnection(stream, False)
        try:
            muxed = await self.upgrade_inbound_raw_conn(connection, maddr)
            await muxed.event_closed.wait()
        except Exception as error:  # noqa: BLE001  a stranger's handshake
            log.debug("inbound connection: %s: %s", type(error).__name__, error)
            with suppress(Exception):
                await connection.close()


class IdleConnector(AutoConnector):  # type: ignore[misc]  # libp2p publishes no types
    """Dials nobody.

    The stock one dials, also with a low watermark of 0, whatever addresses strangers put into our peer
    store by identify: hosts of our own network among them. Whom to dial is our actors' decision.
    """

    async def maybe_connect(self) -> None:
        await trio.lowlevel.checkpoint()


# -- TCP -----------------------------------------------------------------------


class WatchedTCP(TCP):  # type: ignore[misc]  # libp2p publishes no types
    """TCP that notices a vanished peer; the stock transport waits for the kernel's 15 minutes or for ever."""

    async def dial(self, maddr: Multiaddr) -> Any:
        connection = await super().dial(maddr)
        _watch(connection.stream.stream)
        return connection

    def create_listener(self, handler_function: Handler) -> Any:
        async def handle(stream: Any) -> None:
            _watch(stream.stream)
            await handler_function(stream)

        return super().create_listener(handle)


def _watch(stream: trio.SocketStream) -> None:
    """Set keep-alive probes, and a limit for data that nobody acknowledges, where the platform has them."""
    wanted = {
        "TCP_KEEPIDLE": DEAD_AFTER_S // 2,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": DEAD_AFTER_S * 1000,
    }
    with suppress(OSError):  # it is closed already
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in wanted.items():
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def load_server_tls(config: LibP2PConfig) -> ssl.SSLContext | None:
    """Raises OSError, which ssl.SSLError is, when the files hold no certificate and its key."""
    if config.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context


def load_client_tls(config: LibP2PConfig) -> ssl.SSLContext:
    """Raises OSError when the file holds no authorities."""
    return ssl.create_default_context(cafile=config.tls_authorities)


def check_free(address: Multiaddr) -> None:
    """Raise OSError if somebody listens on a TCP address already.

    Mends: the stock listener sets SO_REUSEPORT, so that a second node on the port gets half of the first
    one's connections, and neither says a word.
    """
    parts = {p.name: v for p, v in address.items()}
    host = parts.get("ip4") or parts.get("ip6")
    if host is None or "tcp" not in parts:
        raise OSError(f"{address}: listen addresses look like /ip4/1.2.3.4/tcp/4001")
    family = socket.AF_INET if "ip4" in parts else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(parts["tcp"])))
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {address}: {error.strerror}") from None
