"""What a requester sees while its job runs, as values: the faces decide how to show them."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.chain import ChainEvent
from protocols.ids import ContentId, JobId, RoundNumber


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the client's own work began."""

    text: str


@dataclass(frozen=True, slots=True)
class PeersSeen:
    connected: int


@dataclass(frozen=True, slots=True)
class Posted:
    job: JobId
    transaction: bytes
    gas_used: int


@dataclass(frozen=True, slots=True)
class Happened:
    """A decoded event of the job, in chain order."""

    event: ChainEvent
    gas_used: int
    """Of the transaction that it is from; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The chain was reorganised: of the job's events so far only the first `kept` happened."""

    kept: int


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """A worker's report of a certified round: not proved, shown as said."""

    round: RoundNumber
    state: ContentId
    loss: float
    accuracy: float
    workers: int


Progress = Stage | PeersSeen | Posted | Happened | TakenBack | RoundSeen
