"""What happens to the relay, and what it wants done.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.ids import PeerId, PubsubTopic
from protocols.prefix import NEAR, Prefix
from protocols.verdict import Reject, Verdict
from protocols.waku_rpc import Publication, Rpc

# -- Events --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerAdded:
    """A peer of our cluster is connected."""

    peer: PeerId
    outbound: bool = False
    """We dialled it: a stranger can't choose to be such a peer."""
    prefix: Prefix = NEAR


@dataclass(frozen=True, slots=True)
class PeerRemoved:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class SendingOpened:
    """Our stream to the peer is open, for the first time or again: it knows nothing of us."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class ReceivingOpened:
    """The peer's stream to us is open, for the first time or again: we know nothing of it."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class RpcReceived:
    peer: PeerId
    rpc: Rpc | Reject


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer to `Judge`."""

    peer: PeerId
    message: bytes
    publication: Publication
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Joined:
    topic: PubsubTopic


@dataclass(frozen=True, slots=True)
class Left:
    topic: PubsubTopic


@dataclass(frozen=True, slots=True)
class Published:
    """Ours; the shell has judged it. Publishing the same bytes again sends them again."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class HeartbeatPassed:
    pass


Event = (
    PeerAdded
    | PeerRemoved
    | SendingOpened
    | ReceivingOpened
    | RpcReceived
    | Judged
    | Joined
    | Left
    | Published
    | HeartbeatPassed
)

# -- Effects -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Control to one peer; must not be shed."""

    peer: PeerId
    rpc: Rpc


@dataclass(frozen=True, slots=True)
class Forward:
    """One publication to several peers; may be shed for a slow one, which then asks for it by id."""

    peers: tuple[PeerId, ...]
    publication: Publication


@dataclass(frozen=True, slots=True)
class Judge:
    """Run the topic's validator and come back with `Judged` before any other event."""

    peer: PeerId
    message: bytes
    publication: Publication


@dataclass(frozen=True, slots=True)
class Deliver:
    publication: Publication


@dataclass(frozen=True, slots=True)
class Disconnect:
    peer: PeerId
    reason: str


Effect = Send | Forward | Judge | Deliver | Disconnect
