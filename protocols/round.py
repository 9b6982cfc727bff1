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

from protocols.chain import Certificate, Entry
from protocols.draw import compute_quorum
from protocols.evidence import set_root
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat
from protocols.message import Proposal, ViewChanged, VoteCast

GRACE_S = 1.5  # least wait for stragglers once a quorum of updates is here; lower loses healthy slow workers
VIEW_S = 3.0  # a leader's time to have its proposal certified; must exceed gossip, recheck and commitment

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


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = UpdateHeld | ProposalReceived | SetComputed | VoteReceived | ViewChangeReceived | VotingAllowed | TimePassed


@dataclass(frozen=True, slots=True)
class SendProposal:
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
    """The round is decided here; `entries` is empty if we never saw the proposal."""

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
    held: Mapping[Seat, Entry] = field(default_factory=dict)
    proposals: Mapping[int, tuple[Entry, ...]] = field(default_factory=dict)
    """By view: the leader's first."""
    requested: frozenset[Digest] = frozenset()
    computed: Mapping[Digest, SetComputed] = field(default_factory=dict)
    signed: frozenset[int] = frozenset()
    """Views that we have voted in."""
    votes: Mapping[VoteKey, Mapping[Seat, bytes]] = field(default_factory=dict)
    changes: Mapping[int, Mapping[Seat, tuple[Entry, ...]]] = field(default_factory=dict)
    certificate: Certificate | None = None


Step = tuple[Round, tuple[Effect, ...]]

# -- Transition ----------------------------------------------------------------


def step(state: Round, event: Event) -> Step:
    """Return the next state and what the caller must do about it. A certified round is inert."""
    if state.certificate is not None:
        return state, ()
    match event:
        case UpdateHeld(seat, entry, now_s):
            if seat in state.held:
                return state, ()
            state = replace(state, held={**state.held, seat: entry})
            return _advance(_start_clocks(state, now_s), now_s)
        case ProposalReceived():
            return _propose_received(state, event)
        case SetComputed(root):
            return _advance(replace(state, computed={**state.computed, root: event}))
        case VoteReceived():
            return _vote_received(state, event)
        case ViewChangeReceived(seat, change, now_s):
            return _view_change_received(state, seat, change, now_s)
        case VotingAllowed():
            return _advance(replace(state, may_vote=True))
        case TimePassed(now_s):
            return _time_passed(state, now_s)


def next_deadline_s(state: Round) -> float | None:
    """Return when `TimePassed` is wanted next, if at all."""
    if state.certificate is not None:
        return None
    leads = state.committee.leader(state.number, state.view) == state.committee.me
    gather = state.gather_deadline_s if leads and state.view not in state.proposals else None
    return min((d for d in (gather, state.view_deadline_s) if d is not None), default=None)


def _start_clocks(state: Round, now_s: float) -> Round:
    if len(state.held) < state.committee.quorum or state.gather_deadline_s is not None:
        return state
    # Twice the time that the quorum took: a straggler costs a round at most its own length again.
    gather_s = now_s + max(GRACE_S, now_s - state.opened_s)
    return replace(state, gather_deadline_s=gather_s, view_deadline_s=gather_s + VIEW_S)


def _time_passed(state: Round, now_s: float) -> Step:
    if state.view_deadline_s is not None and now_s >= state.view_deadline_s:
        return _change_view(state, state.view + 1, now_s)
    return _advance(state, now_s)


# -- Proposals -----------------------------------------------------------------


def _advance(state: Round, now_s: float | None = None) -> Step:
    """Do whatever the state now allows: propose, compute, vote."""
    effects: list[Effect] = []
    entries = _to_propose(state, now_s)
    if entries:
        state = replace(state, proposals={**state.proposals, state.view: entries})
        effects.append(SendProposal(Proposal(state.number, state.view, state.parent, entries)))
    entries = state.proposals.get(state.view, ())
    if entries and _holds(state, entries):
        root = set_root(state.committee.job, state.number, entries)
        if root not in state.computed and root not in state.requested:
            state = replace(state, requested=state.requested | {root})
            effects.append(ComputeSet(entries))
        elif root in state.computed and _may_sign(state, entries):
            state = replace(state, locked=entries, signed=state.signed | {state.view})
            effects.append(CastVote(state.view, entries, state.computed[root]))
    return state, tuple(effects)


def _to_propose(state: Round, now_s: float | None) -> tuple[Entry, ...]:
    committee = state.committee
    if committee.leader(state.number, state.view) != committee.me or state.view in state.proposals:
        return ()
    if state.view > 0:
        changes = state.changes.get(state.view, {})
        if len(changes) < committee.quorum:
            return ()
        locks = [locked for _, locked in sorted(changes.items()) if locked]
        if locks:  # somebody may have certified it: nothing else can be voted
            return max(locks, key=locks.count)
    elif len(state.held) < len(committee.workers) and (
        now_s is None or state.gather_deadline_s is None or now_s < state.gather_deadline_s
    ):
        return ()
    if len(state.held) < committee.quorum:
        return ()
    return state.locked or tuple(entry for _, entry in sorted(state.held.items()))


def _propose_received(state: Round, event: ProposalReceived) -> Step:
    proposal, committee = event.proposal, state.committee
    fits = (
        proposal.round == state.number
        and proposal.parent == state.parent
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
    by_worker = {e.worker: e for e in state.held.values()}
    return all(by_worker.get(e.worker) == e for e in entries)


def _may_sign(state: Round, entries: tuple[Entry, ...]) -> bool:
    return state.may_vote and state.view not in state.signed and state.locked in ((), entries)


# -- Votes ---------------------------------------------------------------------


def _vote_received(state: Round, event: VoteReceived) -> Step:
    vote = event.vote
    if vote.round != state.number or vote.parent != state.parent:
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
        if set_root(state.committee.job, state.number, entries) == root:
            return entries
    return None


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
    if change.round != state.number or change.view <= 0:
        return state, ()
    locked = change.locked if is_well_formed(state.committee, change.locked) else ()
    changes = {**state.changes.get(change.view, {}), seat: locked}
    state = replace(state, changes={**state.changes, change.view: changes})
    if change.view > state.view and len(changes) >= state.committee.quorum:
        return _change_view(state, change.view, now_s)
    return _advance(state, now_s)


def _change_view(state: Round, view: int, now_s: float) -> Step:
    change = ViewChanged(state.number, view, state.locked)
    mine = {**state.changes.get(view, {}), state.committee.me: state.locked}
    state = replace(
        state,
        view=view,
        view_deadline_s=now_s + VIEW_S * (view + 1),
        changes={**state.changes, view: mine},
    )
    state, effects = _advance(state, now_s)
    return state, (SendViewChange(change), *effects)
