"""Where a job's training stands, on chain and here: folded from the job's events and our own certificates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from protocols.chain import Certificate, ChainEvent, ProvingStarted, RoundCommitted, RoundNulled, Terms, TrainingStarted
from protocols.evidence import certificate_digest
from protocols.ids import ContentId, Digest, JobId, RoundNumber
from protocols.merkle import ZERO_DIGEST


@dataclass(frozen=True, slots=True)
class Tip:
    """What the next round starts from."""

    round: RoundNumber
    parent: Digest
    state: ContentId


@dataclass(frozen=True, slots=True)
class Position:
    """The one rule: the chain's tip wins; ours may run ahead of it while it extends it."""

    job: JobId
    chain: Tip
    """After the last round that the chain has decided."""
    here: Tip
    ours: Mapping[RoundNumber, Tip] = field(default_factory=dict)
    """The tip after each round that we certified ourselves."""
    training: bool = False
    proving: bool = False


def begin(job: JobId, terms: Terms) -> Position:
    tip = Tip(RoundNumber(0), ZERO_DIGEST, terms.initial_state)
    return Position(job, tip, tip)


def rewind(position: Position, terms: Terms, events: Iterable[ChainEvent]) -> Position:
    """After a reorganisation: `events` are all that happened. What we certified stands where they agree with it."""
    fresh = begin(position.job, terms)
    for event in events:
        fresh = hear(fresh, event)
    last = RoundNumber(fresh.chain.round - 1)
    from_start = fresh.chain.round == 0 and 0 in position.ours
    if from_start or position.ours.get(last) == fresh.chain:
        return replace(fresh, here=position.here, ours=position.ours)
    return fresh


def certify(position: Position, certificate: Certificate) -> Position:
    """Run ahead: the round is decided among us."""
    args = (position.job, certificate.round, certificate.set_root, certificate.state, certificate.commitment)
    tip = Tip(RoundNumber(certificate.round + 1), certificate_digest(*args), certificate.state)
    return replace(position, here=tip, ours={**position.ours, certificate.round: tip})


def hear(position: Position, event: ChainEvent) -> Position:
    """Follow the chain; `here` changes only if it contradicts us or is ahead of us."""
    match event:
        case TrainingStarted():
            return replace(position, training=True)
        case RoundCommitted(_, number, _, _, state):
            tip = Tip(RoundNumber(number + 1), event.certificate, state)
        case RoundNulled(_, number):
            tip = replace(position.chain, round=RoundNumber(number + 1))
        case ProvingStarted():
            return replace(position, proving=True)
        case _:
            return position
    if position.ours.get(number) == tip:
        return replace(position, chain=tip)
    # What we certified on top of another tip is void: its rounds begin again.
    return replace(position, chain=tip, here=tip, ours={})


def may_vote(position: Position, number: RoundNumber) -> bool:
    """Nobody votes r + 2 before r is on chain: a wrong branch stays short."""
    return position.chain.round + 1 >= number
