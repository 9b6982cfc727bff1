"""What actors send each other, and the log of a job's chain events that they share.

Every channel that carries these is made by the wiring, so queued mail survives a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from actors.ports import Outbox
from protocols.chain import Call, ChainEvent, Entry, Terms
from protocols.eip712 import Domain
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.message import Body, MessageId, UpdateAnnounced
from protocols.package import Dataset, Package
from protocols.round import Committee

# -- A job, as its three actors see it -----------------------------------------


@dataclass(frozen=True, slots=True)
class Reorganized:
    """The chain replaced blocks: of the job's events so far only the first `kept` happened."""

    kept: int


class EventLog:
    """A job's chain events in order; what a reorganisation withdraws is said to every follower."""

    def __init__(self) -> None:
        self._events: list[ChainEvent] = []
        self._history: list[ChainEvent | Reorganized] = []
        self._grown = trio.Event()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, index: int, event: ChainEvent) -> None:
        """Event number `index` is this: known to a watcher that restarted and reads again, new, or another one now."""
        if index < len(self._events) and self._events[index] == event:
            return
        self.withdraw(index)
        self._events.append(event)
        self._grow(event)

    def withdraw(self, kept: int) -> None:
        """Only the first `kept` events happened."""
        if kept < len(self._events):
            del self._events[kept:]
            self._grow(Reorganized(kept))

    def so_far(self) -> tuple[ChainEvent, ...]:
        return tuple(self._events)

    def open(self) -> tuple[tuple[ChainEvent, ...], Follower]:
        """What has happened, and what comes after it."""
        return self.so_far(), Follower(self, len(self._history))

    def _grow(self, item: ChainEvent | Reorganized) -> None:
        self._history.append(item)
        self._grown.set()
        self._grown = trio.Event()

    async def wait_for(self, index: int) -> ChainEvent | Reorganized:
        while index >= len(self._history):
            await self._grown.wait()
        return self._history[index]


class Follower:
    """An asynchronous iterator, and no generator: one that is let go of half-way leaves nothing to clean up."""

    def __init__(self, log: EventLog, index: int) -> None:
        self._log = log
        self._index = index

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> ChainEvent | Reorganized:
        item = await self._log.wait_for(self._index)
        self._index += 1
        return item


@dataclass(frozen=True, slots=True)
class JobContext:
    """What is fixed while a job's actors run."""

    job: JobId
    terms: Terms
    package: Package
    dataset: Dataset
    committee: Committee
    node_keys: tuple[bytes, ...]
    """By seat."""
    domain: Domain
    log: EventLog

    @property
    def me(self) -> Address:
        return self.committee.workers[self.committee.me]

    @property
    def others(self) -> frozenset[bytes]:
        """Node keys of the co-workers: whom a message must reach."""
        return frozenset(k for seat, k in enumerate(self.node_keys) if seat != self.committee.me)


# -- To gossip -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobMail:
    """A job's message from a peer, decoded, checked to be a member's, handed on once."""

    sender: bytes
    message: MessageId
    body: Body


@dataclass(frozen=True, slots=True)
class SendToLobby:
    body: Body


@dataclass(frozen=True, slots=True)
class SendToJob:
    job: JobId
    body: Body
    recipients: frozenset[bytes] = frozenset()
    """Node keys that must acknowledge; empty: best effort."""


@dataclass(frozen=True, slots=True)
class FollowJob:
    """Relay a job's shard and remember the results that its members announce."""

    job: JobId
    members: frozenset[bytes] = frozenset()
    """Node keys of the seated, once they are known."""


@dataclass(frozen=True, slots=True)
class JoinJob:
    """Open the job's messages and hand them on to `mail`."""

    job: JobId
    members: frozenset[bytes]
    mail: Outbox[JobMail] = field(repr=False)
    acknowledge: bool = True
    """False for a requester, who reads along: nobody waits for its word."""


@dataclass(frozen=True, slots=True)
class LeaveJob:
    job: JobId


@dataclass(frozen=True, slots=True)
class CatchUp:
    """There are peers again: ask archives for what was said since there were none."""

    since_s: float | None
    """None: since the node's last life, as far as the Store knows."""


GossipMail = SendToLobby | SendToJob | FollowJob | JoinJob | LeaveJob | CatchUp

# -- To discovery --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddressesKnown:
    addresses: tuple[str, ...]


# -- To the chain watcher ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldersHeard:
    """A job's package is to be had at these addresses."""

    job: JobId
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallWanted:
    """Send this call; what becomes of it is seen in the job's events."""

    call: Call


WatcherMail = HoldersHeard | CallWanted

# -- Between a job's actors ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoundBegan:
    """The aggregator to the trainer: train from this state."""

    round: RoundNumber
    parent: Digest
    state: ContentId


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """The aggregator to the trainer: our update was in the certified set, or it wasn't."""

    round: RoundNumber
    included: bool


TrainerMail = RoundBegan | RoundClosed


@dataclass(frozen=True, slots=True)
class OwnUpdate:
    """The trainer to the aggregator: our own update, before anybody else's."""

    announced: UpdateAnnounced


# -- Records that several actors read ------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """Kind `receipt`, key job ‖ round: what we committed to in a round, written before it is announced."""

    parent: Digest
    """Of the round: it says which state we trained from."""
    announced: UpdateAnnounced
    weights: ContentId
    """w_H: what a proof of statement E is about."""
    states: ContentId | None
    """What proofs of statement T are about."""
    leaves: tuple[Commitment, ...]
    """Of the receipt: C(w_H), or in a T job C of each of the states."""
    error: ContentId
    """e_{r+1} if the update is counted."""
    carried: ContentId
    """e_{r+1} if it is not: the whole delta is kept."""


@dataclass(frozen=True, slots=True)
class SetRecord:
    """Kind `set`, key job ‖ round: a certified set, kept for evidence and for laggards."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """Kind `error`, key job: the error feedback to begin the next round with."""

    round: RoundNumber
    """The last round it accounts for."""
    error: ContentId | None


def round_key(job: JobId, number: RoundNumber) -> bytes:
    return job + number.to_bytes(8, "big")
