"""What an operator may set on the network, and the bounds that nobody needs to set."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from protocols.circuit import CircuitLimits
from protocols.ids import ContentTopic
from protocols.waku import MIN_OWN_CLUSTER
from protocols.waku_filter import MAX_CONTENT_TOPICS

DEFAULT_CLUSTER = 1717
DEFAULT_SHARDS = 8
LEAST_MEMORY_MIB = 64  # the largest answer has 32, and half of it may wait on its stream


class Role(Enum):
    """What a node does for others, and what it needs from them."""

    FULL = "full"
    """Relays, and serves light peers: light push, filter, store."""
    RELAY = "relay"
    """Relays what it follows itself."""
    LIGHT = "light"
    """Relays nothing: full peers publish for it, push to it and keep for it what it missed."""


@dataclass(frozen=True, slots=True)
class LibP2PConfig:
    """The addresses are multiaddrs; port 0 is any free port."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    """Addresses that peers are told instead of those that we listen on."""
    cluster: int = DEFAULT_CLUSTER
    """Waku cluster; peers of another one are disconnected."""
    shards: int = DEFAULT_SHARDS
    """Shards of the cluster, told to peers as ours."""
    role: Role = Role.FULL
    content_topics: tuple[ContentTopic, ...] = ()
    """What a light node asks for, on every topic that it follows."""
    max_peers: int = 128
    """Connections in both directions; beyond, new ones are refused."""
    max_peer_streams: int = 64
    """Streams that one peer may have open to us; beyond, new ones are reset."""
    max_prefix_peers: int = 16
    """Connections that others opened to us from one part of the internet; our own networks don't count."""
    max_peer_memory_mib: int = 128
    """Held for one peer: what waits on its streams, frames that are worked on, answers on their way."""
    max_memory_mib: int = 1024
    """The same for all peers."""
    upload_kib_s: int = 0
    """To all peers together; 0 is as much as the line takes."""
    download_kib_s: int = 0
    name_servers: tuple[str, ...] = ()
    """`IP` or `IP:PORT`, asked for node lists; the system's where none is named."""
    circuits: CircuitLimits = field(default_factory=CircuitLimits)
    """What a full node gives to peers that can't be dialled; 0 circuits is nothing."""
    tls_certificate: Path | None = None
    """Chain in PEM, for listening on addresses that end in /tls/ws."""
    tls_key: Path | None = None
    """Its key, where it isn't in the same file."""
    tls_authorities: Path | None = None
    """Whom to believe when dialling such addresses, in PEM; the system's authorities where None."""

    def __post_init__(self) -> None:
        if not MIN_OWN_CLUSTER <= self.cluster < 2**16:
            raise ValueError(f"cluster {self.cluster}: Waku's own networks have those below {MIN_OWN_CLUSTER}")
        if not 0 < self.shards <= 1024:
            raise ValueError(f"shards {self.shards}: between 1 and 1024")
        if self.max_peers < 1 or self.max_peer_streams < 1:
            raise ValueError("max_peers and max_peer_streams: at least 1")
        if self.max_prefix_peers < 1 or min(self.upload_kib_s, self.download_kib_s) < 0:
            raise ValueError("max_prefix_peers: at least 1; upload_kib_s and download_kib_s: not negative")
        if not LEAST_MEMORY_MIB <= self.max_peer_memory_mib <= self.max_memory_mib:
            raise ValueError(f"max_peer_memory_mib: at least {LEAST_MEMORY_MIB}, and at most max_memory_mib")
        if self.role is Role.LIGHT and not 0 < len(self.content_topics) <= MAX_CONTENT_TOPICS:
            raise ValueError(f"content_topics: a light node asks for 1 to {MAX_CONTENT_TOPICS}")
