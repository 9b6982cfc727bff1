"""Whose clock is wrong: what peers' greetings say about their clocks, and ours.

A greeting names the time at which it was sent. How far a peer's clock is ahead of ours is the largest
difference of its last greetings: the others were longer on their way. Where most peers differ from us in the
same direction, it is ours that is wrong. A difference is named once, and again when it is another.

Spec: protocols/README.md, "Clocks".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median

NAMED_S = 5.0  # greetings tell whole seconds, and are up to seconds on their way
GREETINGS = 4  # remembered of a peer: one of them was quick
PEERS = 1024  # remembered; the one heard of longest ago is forgotten first
JUDGES = 3  # peers that must have been heard before our own clock is doubted
TRUST_S = 3600.0  # differences beyond say nothing: anybody may claim any time

# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeted:
    """A greeting, signed by `peer` (a node key), that says when it was sent."""

    peer: bytes
    sent_s: float
    now_s: float


@dataclass(frozen=True, slots=True)
class NamePeerSkew:
    """The peer's clock is `ahead_s` ahead of ours (behind, if negative)."""

    peer: bytes
    ahead_s: float


@dataclass(frozen=True, slots=True)
class NameOwnSkew:
    """Our clock is `ahead_s` ahead of the median of `peers` peers."""

    ahead_s: float
    peers: int


Effect = NamePeerSkew | NameOwnSkew

# -- State ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clocks:
    heard: Mapping[bytes, tuple[float, ...]] = field(default_factory=dict)
    """By peer: how far ahead its last greetings seemed; the peer heard last at the end."""
    named: Mapping[bytes, float] = field(default_factory=dict)
    own_named_s: float = 0.0


# -- Transition ----------------------------------------------------------------


def step(clocks: Clocks, event: Greeted) -> tuple[Clocks, tuple[Effect, ...]]:
    difference_s = event.sent_s - event.now_s
    if abs(difference_s) > TRUST_S:
        return clocks, ()
    heard = dict(clocks.heard)
    heard[event.peer] = (*heard.pop(event.peer, ()), difference_s)[-GREETINGS:]
    while len(heard) > PEERS:
        del heard[next(iter(heard))]
    named = {peer: value for peer, value in clocks.named.items() if peer in heard}
    clocks, own = _judge_own(replace(clocks, heard=heard, named=named))
    clocks, others = _judge_peer(clocks, event.peer)
    return clocks, (*own, *others)


def ahead_s(clocks: Clocks, peer: bytes) -> float | None:
    """Return how far a peer's clock is ahead of ours, if it was heard."""
    return max(clocks.heard[peer]) if peer in clocks.heard else None


def own_ahead_s(clocks: Clocks) -> float | None:
    """Return how far our clock is ahead of the median peer's; None while too few were heard."""
    if len(clocks.heard) < JUDGES:
        return None
    return -median(max(differences) for differences in clocks.heard.values())


def _judge_own(clocks: Clocks) -> tuple[Clocks, tuple[Effect, ...]]:
    ahead = own_ahead_s(clocks)
    if ahead is None or abs(ahead - clocks.own_named_s) < NAMED_S:
        return clocks, ()
    worth_naming = abs(ahead) >= NAMED_S
    told = (NameOwnSkew(ahead, len(clocks.heard)),) if worth_naming else ()
    return replace(clocks, own_named_s=ahead if worth_naming else 0.0), told


def _judge_peer(clocks: Clocks, peer: bytes) -> tuple[Clocks, tuple[Effect, ...]]:
    difference_s, before_s = max(clocks.heard[peer]), clocks.named.get(peer, 0.0)
    if clocks.own_named_s or abs(difference_s - before_s) < NAMED_S:
        return clocks, ()  # while ours is the wrong one, naming everybody else helps nobody
    worth_naming = abs(difference_s) >= NAMED_S
    named = {**clocks.named, peer: difference_s if worth_naming else 0.0}
    return replace(clocks, named=named), (NamePeerSkew(peer, difference_s),) if worth_naming else ()
