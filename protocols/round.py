"""One round's agreement on a set of updates, as a pure state machine.

    GATHERING --leader proposes--> VOTING --quorum of one vote--> CERTIFIED
         \\__________ view change: next leader, same rules _____/

The one rule: a node signs one set a round, across all views; the vote is stored before it is sent
(`CastVote` says so to the shell). The chain arbitrates between certificates, so a round that can't
reach one is nulled there by its deadline, and this machine is simply abandoned.

Spec: protocols/README.md, "Rounds"; DESIGN §5.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from protocols.chain import Certificate, Entry
from protocols.draw import compute_quorum
from protocols.evidence import set_root
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat
from protocols.message import Proposal, ViewChanged, VoteCast

GRACE_S = 1.5  # least wait for stragglers once a quorum of updates is here; lower loses healthy slow workers
VIEW_S = 3.0  # a leader's time to have its proposal certified; must exceed gossip, recheck and commitment
MAX_VIEWS = 128  # every leader of 64 seats twice; beyond it a member could fill memory with views to come
MAX_HELD = 16  # updates kept of one seat: an honest one has one, whoever sends more is left out of sets

# -- Committee -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committee:
    job: JobId
    workers: tuple[Address, ...]
    """In seat order; fixed for an epoch."""
    me: Seat

    @property
    def quorum(self) -> int:
        return compute_quorum(len(self.workers))

    @property
    def honest(self) -> int:
        """So many seats that one at least is honest while the liars are under a third."""
        return len(self.workers) - self.quorum + 1

    def leader(self, number: RoundNumber, view: int) -> Seat:
        return Seat((number + view) % len(self.workers))

    def bits(self, entries: tuple[Entry, ...]) -> int:
        """Return the participants of a well-formed set, a bit a seat."""
        return sum(1 << self.workers.index(e.worker) for e in entries)

    def seat(self, worker: Address) -> Seat | None:
        return Seat(self.workers.index(worker)) if worker in self.workers else None


# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpdateHeld:
    """A seat's update is in our Store, its receipt and encoding checked."""

    seat: Seat
    entry: Entry
    now_s: float


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    seat: Seat
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class SetComputed:
    set_root: Digest
    state: ContentId
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """The signature was checked to be the seat's wallet's."""

    seat: Seat
    vote: VoteCast


@dataclass(frozen=True, slots=True)
class ViewChangeReceived:
    seat: Seat
    change: ViewChanged
    now_s: float


@dataclass(frozen=True, slots=True)
class VotingAllowed:
    """The round two before this one is on chain and confirmed."""

    now_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = UpdateHeld | ProposalReceived | SetComputed | VoteReceived | ViewChangeReceived | VotingAllowed | TimePassed


@dataclass(frozen=True, slots=True)
class SendProposal:
    """Store it, so that we propose nothing else after a restart, and send it."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class ComputeSet:
    """Aggregate these entries; answer with `SetComputed`."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class CastVote:
    """Store the lock, sign, send, and answer with our own `VoteReceived`."""

    view: int
    entries: tuple[Entry, ...]
    result: SetComputed


@dataclass(frozen=True, slots=True)
class SendViewChange:
    change: ViewChanged


@dataclass(frozen=True, slots=True)
class Certify:
    """The round is decided here."""

    certificate: Certificate
    entries: tuple[Entry, ...]


Effect = SendProposal | ComputeSet | CastVote | SendViewChange | Certify

# -- State ---------------------------------------------------------------------

VoteKey = tuple[int, Digest, int, ContentId, Commitment]
"""View, set root, participants, state, commitment: votes of one key make one certificate."""


@dataclass(frozen=True, slots=True)
class Round:
    committee: Committee
    number: RoundNumber
    parent: Digest
    opened_s: float
    may_vote: bool
    locked: tuple[Entry, ...] = ()
    """The set that we have signed in this round, in this life or an earlier one."""
    view: int = 0
    view_deadline_s: float | None = None
    gather_deadline_s: float | None = None
    """When the leader proposes without those that it still waits for."""
    gathered: bool = False
    held: Mapping[Seat, tuple[Entry, ...]] = field(default_factory=dict)
    """In order of arrival: one of an honest seat."""
    proposals: Mapping[int, tuple[Entry, ...]] = field(default_factory=dict)
    """By view: the leader's first; our own ones also of an earlier life."""
    requested: frozenset[Digest] = frozenset()
    computed: Mapping[Digest, SetComputed] = field(default_factory=dict)
    signed: frozenset[int] = frozenset()
    """Views that we have voted in."""
    votes: Mapping[VoteKey, Mapping[Seat, bytes]] = field(default_factory=dict)
    changes: Mapping[int, Mapping[Seat, tuple[Entry, ...]]] = field(default_factory=dict)
    certificate: Certificate | None = None
    shunned: frozenset[Seat] = frozenset()
    """Seats of no standing, `protocols/standing.py`."""


Step = tuple[Round, tuple[Effect, ...]]

# -- Transition ----------------------------------------------------------------


def step(state: Round, event: Event) -> Step:
    """Return the next state and what the caller must do about it. A certified round is inert."""
    if state.certificate is not None:
        return state, ()
    match event:
        case UpdateHeld(seat, entry, now_s):
            held = state.held.get(seat, ())
            if entry in held or len(held) >= MAX_HELD:
                return state, ()
            state = replace(state, held={**state.held, seat: (*held, entry)})
            return _advance(_start_clocks(state, now_s))
        case ProposalReceived():
            return _propose_received(state, event)
        case SetComputed(root):
            return _advance(replace(state, computed={**state.computed, root: event}))
        case VoteReceived():
            return _vote_received(state, event)
        case ViewChangeReceived(seat, change, now_s):
            return _view_change_received(state, seat, change, now_s)
        case VotingAllowed(now_s):
            return _voting_allowed(state, now_s)
        case TimePassed(now_s):
            return _time_passed(state, now_s)


def next_deadline_s(state: Round) -> float | None:
    """Return when `TimePassed` is wanted next, if at all."""
    if state.certificate is not None:
        return None
    leads = state.committee.leader(state.number, state.view) == state.committee.me
    gather = state.gather_deadline_s if leads and not state.gathered and state.view not in state.proposals else None
    view = state.view_deadline_s if state.may_vote else None
    return min((d for d in (gather, view) if d is not None), default=None)


def _start_clocks(state: Round, now_s: float) -> Round:
    if len(state.held) < state.committee.quorum or state.gather_deadline_s is not None:
        return state
    # Twice the time that the quorum took: a straggler costs a round at most its own length again.
    gather_s = now_s + max(GRACE_S, now_s - state.opened_s)
    return replace(state, gather_deadline_s=gather_s, view_deadline_s=gather_s + VIEW_S)


def _voting_allowed(state: Round, now_s: float) -> Step:
    if state.may_vote:
        return state, ()
    # While the chain was behind nothing could be certified: the leader's time begins now.
    started = state.view_deadline_s is not None
    deadline_s = now_s + VIEW_S * (state.view + 1) if started else None
    return _advance(replace(state, may_vote=True, view_deadline_s=deadline_s))


def _time_passed(state: Round, now_s: float) -> Step:
    if state.may_vote and state.view_deadline_s is not None and now_s >= state.view_deadline_s:
        # Who is alone stays and asks again: nobody runs ahead of the others, so that all meet in one view.
        followed = _view_reached_by(state, state.committee.quorum) >= state.view
        return _change_view(state, min(state.view + followed, MAX_VIEWS - 1), now_s)
    if state.gather_deadline_s is not None and now_s >= state.gather_deadline_s:
        state = replace(state, gathered=True)
    return _advance(state)


# -- Proposals -----------------------------------------------------------------


def _advance(state: Round) -> Step:
    """Do whatever the state now allows: propose, compute, vote."""
    effects: list[Effect] = []
    entries = _to_propose(state)
    if entries:
        state = replace(state, proposals={**state.proposals, state.view: entries})
        effects.append(SendProposal(Proposal(state.number, state.view, state.parent, entries)))
    entries = state.proposals.get(state.view, ())
    if entries and _holds(state, entries):
        root = _root(state.committee.job, state.number, entries)
        if root not in state.computed and root not in state.requested:
            state = replace(state, requested=state.requested | {root})
            effects.append(ComputeSet(entries))
        elif root in state.computed and _may_sign(state, entries):
            state = replace(state, locked=entries, signed=state.signed | {state.view})
            effects.append(CastVote(state.view, entries, state.computed[root]))
    return state, tuple(effects)


def _to_propose(state: Round) -> tuple[Entry, ...]:
    committee = state.committee
    if committee.leader(state.number, state.view) != committee.me or state.view in state.proposals:
        return ()
    if state.view == 0:
        return (state.locked or _to_gather(state)) if _has_waited(state, len(state.held)) else ()
    changes = state.changes.get(state.view, {})
    if len(changes) < committee.quorum:
        return ()
    locks = [locked for _, locked in sorted(changes.items()) if _is_credible(state, locked, changes)]
    if len(set(locks)) > 1 and not _has_waited(state, len(changes)):
        return ()  # the set that can still be certified is the one with most locks: hear all of them
    # A set that somebody may have certified is all that can be voted; of two, the one that more have signed.
    return max(locks, key=lambda locked: (locks.count(locked), locked == state.locked)) if locks else _to_gather(state)


def _has_waited(state: Round, heard: int) -> bool:
    return heard == len(state.committee.workers) or state.gathered


def _to_gather(state: Round) -> tuple[Entry, ...]:
    """Return what we hold, less the seats that sent two updates or are shunned where a quorum is left without them."""
    seats, quorum = sorted(state.held), state.committee.quorum
    single = [s for s in seats if len(state.held[s]) == 1]
    trusted = [s for s in single if s not in state.shunned]
    chosen = next((some for some in (trusted, single, seats) if len(some) >= quorum), [])
    return tuple(state.held[s][0] for s in chosen)


def _is_credible(state: Round, locked: tuple[Entry, ...], changes: Mapping[Seat, tuple[Entry, ...]]) -> bool:
    """Whether a claimed lock may be real: we could sign it, or an honest seat claims it. A liar invents others."""
    claims = sum(other == locked for other in changes.values())
    return bool(locked) and (locked == state.locked or _holds(state, locked) or claims >= state.committee.honest)


def _propose_received(state: Round, event: ProposalReceived) -> Step:
    proposal, committee = event.proposal, state.committee
    fits = (
        proposal.round == state.number
        and proposal.parent == state.parent
        and 0 <= proposal.view < MAX_VIEWS
        and event.seat == committee.leader(state.number, proposal.view)
        and proposal.view not in state.proposals
        and is_well_formed(committee, proposal.entries)
    )
    if not fits:
        return state, ()
    state = replace(state, proposals={**state.proposals, proposal.view: proposal.entries})
    for key in state.votes:  # the votes may have come before what they are for
        state, effects = _certify(state, key)
        if effects:
            return state, effects
    return _advance(state)


def is_well_formed(committee: Committee, entries: tuple[Entry, ...]) -> bool:
    """Whether a set is a quorum of distinct seats in seat order."""
    seats = [committee.seat(e.worker) for e in entries]
    if any(s is None for s in seats):
        return False
    known = [s for s in seats if s is not None]
    return len(known) >= committee.quorum and known == sorted(set(known))


def _holds(state: Round, entries: tuple[Entry, ...]) -> bool:
    seats = [state.committee.seat(e.worker) for e in entries]
    return all(s is not None and e in state.held.get(s, ()) for s, e in zip(seats, entries, strict=True))


def _may_sign(state: Round, entries: tuple[Entry, ...]) -> bool:
    return state.may_vote and state.view not in state.signed and state.locked in ((), entries)


# -- Votes ---------------------------------------------------------------------


def _vote_received(state: Round, event: VoteReceived) -> Step:
    vote = event.vote
    fits = vote.round == state.number and vote.parent == state.parent and 0 <= vote.view < MAX_VIEWS
    if not fits or any(k[0] == vote.view and event.seat in signatures for k, signatures in state.votes.items()):
        return state, ()
    key = (vote.view, vote.set_root, vote.participants, vote.state, vote.commitment)
    signatures = {**state.votes.get(key, {}), event.seat: vote.signature}
    return _certify(replace(state, votes={**state.votes, key: signatures}), key)


def _certify(state: Round, key: VoteKey) -> Step:
    signatures, entries = state.votes[key], _entries_of(state, key[1])
    if len(signatures) < state.committee.quorum or entries is None or key[2] != state.committee.bits(entries):
        return state, ()
    certificate = _certificate(state, key, entries, signatures)
    return replace(state, certificate=certificate), (Certify(certificate, entries),)


def _entries_of(state: Round, root: Digest) -> tuple[Entry, ...] | None:
    for entries in state.proposals.values():
        if _root(state.committee.job, state.number, entries) == root:
            return entries
    return None


@lru_cache(maxsize=64)  # 64 seats' root takes 50 ms, and every vote asks for it
def _root(job: JobId, number: RoundNumber, entries: tuple[Entry, ...]) -> Digest:
    return set_root(job, number, entries)


def _certificate(
    state: Round, key: VoteKey, entries: tuple[Entry, ...], signatures: Mapping[Seat, bytes]
) -> Certificate:
    view, root, participants, result, commitment = key
    return Certificate(
        round=state.number,
        view=view,
        parent=state.parent,
        set_root=root,
        state=result,
        commitment=commitment,
        participants=participants,
        signers=sum(1 << s for s in signatures),
        signatures=tuple(signature for _, signature in sorted(signatures.items())),
    )


# -- View change ---------------------------------------------------------------


def _view_change_received(state: Round, seat: Seat, change: ViewChanged, now_s: float) -> Step:
    fits = change.round == state.number and change.parent == state.parent and 0 < change.view < MAX_VIEWS
    if not fits:
        return state, ()
    locked = change.locked if is_well_formed(state.committee, change.locked) else ()
    changes = {**state.changes.get(change.view, {}), seat: locked}
    state = replace(state, changes={**state.changes, change.view: changes})
    view = _view_reached_by(state, state.committee.honest)
    return _change_view(state, view, now_s) if view > state.view else _advance(state)


def _view_reached_by(state: Round, seats: int) -> int:
    """Return the highest view that so many seats have reached: all are in view 0."""
    reached = dict.fromkeys(range(len(state.committee.workers)), 0)
    for view, changes in state.changes.items():
        reached |= {seat: max(view, reached[seat]) for seat in changes}
    return sorted(reached.values(), reverse=True)[seats - 1]


def _change_view(state: Round, view: int, now_s: float) -> Step:
    change = ViewChanged(state.number, state.parent, view, state.locked)
    mine = {**state.changes.get(view, {}), state.committee.me: state.locked}
    view_s = VIEW_S * (view + 1)  # longer each time: in the end all are in one view long enough
    state = replace(
        state,
        view=view,
        view_deadline_s=now_s + view_s,
        gather_deadline_s=now_s + view_s / 2,
        gathered=False,
        changes={**state.changes, view: mine},
    )
    state, effects = _advance(state)
    return state, (SendViewChange(change), *effects)
