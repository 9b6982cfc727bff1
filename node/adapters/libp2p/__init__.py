"""libp2p and Waku: the adapter behind the `Network` port, the only importer of py-libp2p."""

from node.adapters.libp2p.absent import left_out

with left_out():
    import libp2p  # noqa: F401  whole: what imports parts of it later finds them here

from node.adapters.libp2p.config import LibP2PConfig, Role
from node.adapters.libp2p.host import load_client_tls, load_server_tls
from node.adapters.libp2p.network import LibP2PNetwork, NetworkCounts, open_network
from node.adapters.libp2p.relay import RelayCounts

__all__ = [
    "LibP2PConfig",
    "LibP2PNetwork",
    "NetworkCounts",
    "RelayCounts",
    "Role",
    "load_client_tls",
    "load_server_tls",
    "open_network",
]
