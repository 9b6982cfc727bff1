"""One round: the paths by hand, then clusters under loss, duplication, crashes and liars."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_cluster import JOB, NUMBER, PARENT, Cluster, compute, entry_of, vote_for, workers_of

from protocols.ids import Digest, RoundNumber, Seat
from protocols.message import Proposal, ViewChanged
from protocols.round import (
    GRACE_S,
    MAX_HELD,
    MAX_VIEWS,
    VIEW_S,
    CastVote,
    Certify,
    Committee,
    ComputeSet,
    Effect,
    Event,
    ProposalReceived,
    Round,
    SendProposal,
    SendViewChange,
    TimePassed,
    UpdateHeld,
    ViewChangeReceived,
    VoteReceived,
    VotingAllowed,
    is_well_formed,
    next_deadline_s,
    step,
)

FOUR = Committee(JOB, workers_of(4), Seat(3))  # seat 3 leads view 0 of round 3
ALL = tuple(entry_of(s) for s in range(4))
FIRST = ALL[:3]
LAST = ALL[1:]


def begin(me: int = 3, **changes: object) -> Round:
    return replace(Round(replace(FOUR, me=Seat(me)), NUMBER, PARENT, 0.0, True), **changes)  # type: ignore[arg-type]


def run(state: Round, *events: Event) -> tuple[Round, tuple[Effect, ...]]:
    """Take several steps; return the last state and all effects."""
    effects: tuple[Effect, ...] = ()
    for event in events:
        state, more = step(state, event)
        effects += more
    return state, effects


def held(*seats: int, now_s: float = 1.0) -> tuple[Event, ...]:
    return tuple(UpdateHeld(Seat(s), entry_of(s), now_s) for s in seats)


def proposed(view: int, entries: tuple[object, ...], seat: int | None = None) -> ProposalReceived:
    leader = FOUR.leader(NUMBER, view) if seat is None else Seat(seat)
    return ProposalReceived(leader, Proposal(NUMBER, view, PARENT, entries))  # type: ignore[arg-type]


def changed(seat: int, view: int, locked: tuple[object, ...] = (), now_s: float = 9.0) -> ViewChangeReceived:
    return ViewChangeReceived(Seat(seat), ViewChanged(NUMBER, PARENT, view, locked), now_s)  # type: ignore[arg-type]


def of_kind(kind: type[object], effects: tuple[Effect, ...]) -> list[Effect]:
    return [e for e in effects if isinstance(e, kind)]


# -- By hand ---------------------------------------------------------------------


def test_a_round_goes_from_updates_to_a_certificate() -> None:
    state, effects = run(begin(), *held(0, 1, 2, 3))
    assert effects == (SendProposal(Proposal(NUMBER, 0, PARENT, ALL)), ComputeSet(ALL))
    state, effects = step(state, compute(ALL))
    assert effects == (CastVote(0, ALL, compute(ALL)),)
    assert state.locked == ALL
    state, effects = run(state, *(VoteReceived(Seat(s), vote_for(FOUR, 0, ALL, s)) for s in (3, 0)))
    assert effects == ()
    state, effects = step(state, VoteReceived(Seat(1), vote_for(FOUR, 0, ALL, 1)))
    (certify,) = of_kind(Certify, effects)
    assert isinstance(certify, Certify)
    assert certify.certificate.signers == 0b1011
    assert certify.certificate.participants == 0b1111
    assert step(state, TimePassed(1e9)) == (state, ())


def test_the_leader_waits_for_stragglers_but_not_forever() -> None:
    state, effects = run(begin(), *held(1, 2, 3))
    assert effects == ()
    assert next_deadline_s(state) == 1.0 + GRACE_S
    state, effects = step(state, TimePassed(1.0 + GRACE_S))
    assert of_kind(SendProposal, effects) == [SendProposal(Proposal(NUMBER, 0, PARENT, LAST))]


def test_a_slow_round_is_given_its_own_length_again() -> None:
    state, _ = run(begin(), *held(1, 2, 3, now_s=20.0))
    assert next_deadline_s(state) == 40.0


def test_who_does_not_lead_proposes_nothing() -> None:
    state, effects = run(begin(me=1), *held(0, 1, 2, 3))
    assert effects == ()
    assert next_deadline_s(state) == 1.0 + GRACE_S + VIEW_S


def test_nobody_votes_for_what_it_does_not_hold() -> None:
    state, effects = run(begin(me=1), *held(1, 2), proposed(0, ALL))
    assert effects == ()
    _, effects = run(state, *held(0, 3))
    assert effects == (ComputeSet(ALL),)


@pytest.mark.parametrize(
    ("entries", "fits"),
    [
        (ALL, True),
        (FIRST, True),
        (ALL[:2], False),  # no quorum
        ((*FIRST, FIRST[0]), False),  # a seat twice
        (tuple(reversed(FIRST)), False),  # not in seat order
        ((*FIRST, entry_of(7)), False),  # no seat
        ((), False),
    ],
)
def test_what_a_set_is(entries: tuple[object, ...], fits: bool) -> None:
    assert is_well_formed(FOUR, entries) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        proposed(0, ALL, seat=2),  # not the leader
        proposed(0, ALL[:2]),
        proposed(MAX_VIEWS * 4, ALL),
        ProposalReceived(Seat(3), Proposal(RoundNumber(4), 0, PARENT, ALL)),
        ProposalReceived(Seat(3), Proposal(NUMBER, 0, Digest(b"q" * 32), ALL)),
        changed(2, 0),
        changed(2, MAX_VIEWS),
        ViewChangeReceived(Seat(2), ViewChanged(NUMBER, Digest(b"q" * 32), 1, ()), 9.0),
        VoteReceived(Seat(2), replace(vote_for(FOUR, 0, ALL, 2), parent=Digest(b"q" * 32))),
        VoteReceived(Seat(2), vote_for(FOUR, MAX_VIEWS, ALL, 2)),
    ],
)
def test_what_does_not_belong_here_changes_nothing(event: Event) -> None:
    state, _ = run(begin(me=1), *held(0, 1, 2, 3))
    assert step(state, event) == (state, ())


def test_a_leaders_second_proposal_is_not_heard() -> None:
    state, effects = run(begin(me=1), *held(0, 1, 2, 3), proposed(0, ALL), proposed(0, FIRST))
    assert effects == (ComputeSet(ALL),)
    assert state.proposals == {0: ALL}


def test_voting_waits_for_the_chain_and_so_does_the_view() -> None:
    state, effects = run(begin(me=1, may_vote=False), *held(0, 1, 2, 3), proposed(0, ALL), compute(ALL))
    assert of_kind(CastVote, effects) == []
    assert next_deadline_s(state) is None
    assert step(state, TimePassed(500.0))[0].view == 0
    state, effects = step(state, VotingAllowed(500.0))
    assert effects == (CastVote(0, ALL, compute(ALL)),)
    assert next_deadline_s(state) == 500.0 + VIEW_S
    assert step(state, VotingAllowed(501.0)) == (state, ())


def test_votes_may_come_before_the_proposal() -> None:
    votes = [VoteReceived(Seat(s), vote_for(FOUR, 0, ALL, s)) for s in (0, 2, 3)]
    state, effects = run(begin(me=1), *votes)
    assert effects == ()
    _, effects = step(state, proposed(0, ALL))
    assert [type(e) for e in effects] == [Certify]


def test_votes_of_two_views_do_not_add_up() -> None:
    votes = [VoteReceived(Seat(s), vote_for(FOUR, view, ALL, s)) for s, view in ((0, 0), (2, 0), (3, 1))]
    _, effects = run(begin(me=1), proposed(0, ALL), *votes)
    assert effects == ()


def test_votes_with_other_participants_do_not_add_up() -> None:
    lies = [VoteReceived(Seat(s), replace(vote_for(FOUR, 0, ALL, s), participants=0b0111)) for s in range(4)]
    _, effects = run(begin(me=1), proposed(0, ALL), *lies)
    assert effects == ()


def test_a_seat_votes_once_a_view() -> None:
    first, second = (VoteReceived(Seat(2), vote_for(FOUR, 0, s, 2)) for s in (ALL, FIRST))
    state, _ = step(begin(me=1), first)
    assert step(state, second) == (state, ())


# -- View changes ------------------------------------------------------------------


def test_a_silent_leader_is_followed_by_the_next() -> None:
    state, effects = run(begin(me=0), *held(0, 1, 2), TimePassed(1.0 + GRACE_S + VIEW_S))
    assert effects == (SendViewChange(ViewChanged(NUMBER, PARENT, 1, ())),)
    assert state.view == 1
    _, effects = run(state, changed(1, 1), changed(2, 1))
    assert effects[0] == SendProposal(Proposal(NUMBER, 1, PARENT, FIRST))


def test_views_last_longer_each_time() -> None:
    state, _ = run(begin(me=1), *held(0, 1, 2, 3))
    lengths = []
    for view in range(4):
        now_s = state.view_deadline_s
        assert now_s is not None
        state, _ = run(state, *(changed(s, view) for s in (0, 2)), TimePassed(now_s))
        assert state.view_deadline_s is not None
        lengths.append(state.view_deadline_s - now_s)
    assert state.view == 4
    assert lengths == [VIEW_S * n for n in (2, 3, 4, 5)]


def test_who_is_alone_in_a_view_stays_and_asks_again() -> None:
    state, _ = run(begin(me=1), *held(0, 1, 2, 3), TimePassed(100.0))
    asked = SendViewChange(ViewChanged(NUMBER, PARENT, 1, ()))
    assert run(state, changed(2, 1), TimePassed(200.0))[1] == (asked,)
    assert run(state, changed(2, 1), changed(3, 1), TimePassed(200.0))[0].view == 2


def test_the_last_view_has_no_end() -> None:
    state = begin(me=1, view=MAX_VIEWS - 1, view_deadline_s=5.0)
    state, _ = run(state, *(changed(s, MAX_VIEWS - 1) for s in range(4)), TimePassed(5.0))
    assert state.view == MAX_VIEWS - 1
    assert next_deadline_s(state) == 5.0 + VIEW_S * MAX_VIEWS


def test_a_deadline_that_passed_is_not_asked_for_again() -> None:
    """The leader of a later view waits for view changes, not for the clock (this was a busy loop)."""
    state, _ = run(begin(me=0), *held(0, 1, 2), TimePassed(1.0 + GRACE_S + VIEW_S))
    deadline_s = next_deadline_s(state)
    assert deadline_s is not None
    assert deadline_s > 1.0 + GRACE_S + VIEW_S
    state, _ = step(state, TimePassed(deadline_s))
    later_s = next_deadline_s(state)
    assert later_s is not None
    assert later_s > deadline_s


def test_one_honest_seat_ahead_is_enough_to_follow() -> None:
    state, effects = step(begin(me=1), changed(2, 5))
    assert (state.view, effects) == (0, ())  # a single seat may lie
    state, effects = step(state, changed(3, 4))
    assert state.view == 4
    assert effects == (SendViewChange(ViewChanged(NUMBER, PARENT, 4, ())),)


def test_what_was_signed_is_proposed_again_and_signed_again() -> None:
    state, _ = run(begin(me=1), *held(0, 1, 2, 3), proposed(0, ALL), compute(ALL))
    state, effects = run(state, changed(0, 2), changed(2, 2, FIRST))
    assert effects == (SendViewChange(ViewChanged(NUMBER, PARENT, 2, ALL)),)
    state, effects = step(state, TimePassed(9.0 + VIEW_S * 1.5))  # two locks: all are heard, or half the view passes
    assert effects == (SendProposal(Proposal(NUMBER, 2, PARENT, ALL)), CastVote(2, ALL, compute(ALL)))


def test_of_two_locks_the_one_of_more_is_proposed() -> None:
    state, _ = run(begin(me=1), *held(0, 1, 2, 3), changed(0, 2, ALL), changed(2, 2, FIRST))
    assert 2 not in state.proposals
    _, effects = step(state, changed(3, 2, FIRST))
    assert effects[0] == SendProposal(Proposal(NUMBER, 2, PARENT, FIRST))


def test_an_invented_lock_stops_nobody() -> None:
    invented = tuple(entry_of(s, 9) for s in range(4))
    _, effects = run(begin(me=1), *held(0, 1, 2, 3), changed(0, 2, invented), changed(2, 2))
    assert SendProposal(Proposal(NUMBER, 2, PARENT, ALL)) in effects


def test_a_lock_that_an_honest_seat_claims_is_proposed_unseen() -> None:
    other = tuple(entry_of(s, 1) for s in range(4))
    _, effects = run(begin(me=1), *held(0, 1, 2, 3), changed(0, 2, other), changed(2, 2, other))
    assert SendProposal(Proposal(NUMBER, 2, PARENT, other)) in effects


def test_a_locked_worker_signs_nothing_else() -> None:
    state, effects = run(begin(me=2, locked=FIRST), *held(0, 1, 2, 3), proposed(0, ALL), compute(ALL))
    assert of_kind(CastVote, effects) == []
    assert state.locked == FIRST


def test_a_leader_that_restarts_proposes_nothing_else() -> None:
    _, effects = run(begin(proposals={0: FIRST}), *held(0, 1, 2, 3))
    assert effects == (ComputeSet(FIRST),)


# -- Two updates of one seat ----------------------------------------------------------


def test_a_seat_with_two_updates_is_left_out() -> None:
    twice = UpdateHeld(Seat(0), entry_of(0, 1), 1.0)
    _, effects = run(begin(), *held(0, 1, 2), twice, *held(3))
    assert of_kind(SendProposal, effects) == [SendProposal(Proposal(NUMBER, 0, PARENT, LAST))]


def test_a_shunned_seat_is_left_out_where_a_quorum_is_left() -> None:
    _, effects = run(begin(shunned=frozenset({Seat(0)})), *held(0, 1, 2, 3))
    assert of_kind(SendProposal, effects) == [SendProposal(Proposal(NUMBER, 0, PARENT, LAST))]
    _, effects = run(begin(shunned=frozenset({Seat(0), Seat(1)})), *held(0, 1, 2, 3))
    assert of_kind(SendProposal, effects) == [SendProposal(Proposal(NUMBER, 0, PARENT, ALL))]


def test_either_of_two_updates_can_be_voted_for() -> None:
    forged = (entry_of(0, 1), *LAST)
    twice = UpdateHeld(Seat(0), entry_of(0, 1), 1.0)
    _, effects = run(begin(me=1), *held(0, 1, 2, 3), twice, proposed(0, forged))
    assert effects == (ComputeSet(forged),)


def test_one_seats_updates_do_not_fill_memory() -> None:
    state, _ = run(begin(), *(UpdateHeld(Seat(0), entry_of(0, v), 1.0) for v in range(MAX_HELD + 9)))
    assert len(state.held[Seat(0)]) == MAX_HELD


# -- Clusters -------------------------------------------------------------------------

SIZES = st.sampled_from([3, 4, 7])
ACTIONS = {  # and how often each may happen
    "deliver": (16, 32),
    "repeat": (0, 2),
    "lose": (0, 0, 4, 16),
    "cut": (0, 1, 4),
    "compute": (8, 16),
    "crash": (0, 1, 2),
    "start": (2, 4),
    "advance": (1, 2, 4, 8),
    "lie": (0, 4, 16),
}
LOSSES = ("lose", "cut", "crash")
Schedule = list[tuple[str, int]]


def schedule_of(seed: int, length: int) -> Schedule:
    """Each schedule has a temper of its own: what happens often in it, and what never."""
    numbers = random.Random(seed)
    weights = [numbers.choice(often) for often in ACTIONS.values()]
    actions = numbers.choices(list(ACTIONS), weights, k=length)
    return [(action, numbers.randrange(10_000)) for action in actions]


def schedules() -> st.SearchStrategy[Schedule]:
    """Prefixes of long random schedules: hypothesis' own lists are short, and nothing happens in them."""
    return st.builds(schedule_of, st.integers(0, 2**32), st.integers(0, 500))


def faults(n: int) -> int:
    return (n - 1) // 3


def play(cluster: Cluster, schedule: Schedule, *, without: tuple[str, ...] = ()) -> None:
    for seat in cluster.workers:
        cluster.train(seat)
    for action, number in schedule:
        if action not in without:
            act(cluster, action, number)
    assert len(cluster.certified) <= 1


def act(cluster: Cluster, action: str, number: int) -> None:
    seat = sorted(cluster.workers)[number % len(cluster.workers)]
    match action:
        case "deliver" | "repeat" if cluster.flight:
            cluster.deliver(number % len(cluster.flight), again=action == "repeat")
        case "lose" if cluster.flight:
            cluster.flight.pop(number % len(cluster.flight))
        case "cut":
            cluster.flight = [m for m in cluster.flight if m[0] != seat]
        case "compute":
            cluster.finish_computing(seat)
        case "crash":
            cluster.crash(seat)
        case "start":
            cluster.start(seat)
            cluster.train(seat)
        case "advance":
            cluster.advance()
        case "lie" if cluster.liars:
            cluster.lie(sorted(cluster.liars)[number % len(cluster.liars)], number)
        case _:
            pass


@given(SIZES, schedules(), st.integers(0, 6))
@settings(max_examples=settings().max_examples * 3)
def test_no_schedule_makes_two_certificates(n: int, schedule: Schedule, first: int) -> None:
    liars = frozenset((first + i) % n for i in range(faults(n)))
    cluster = Cluster(n, liars)
    play(cluster, schedule)
    for seat in cluster.workers:
        cluster.start(seat)
        cluster.train(seat)
    cluster.flow()
    assert len(cluster.certified) <= 1


@given(SIZES, schedules())
def test_once_messages_flow_what_can_be_certified_is(n: int, schedule: Schedule) -> None:
    """Locks never open, so a storm may split them for good; the chain nulls such a round. Nothing else stops one."""
    cluster = Cluster(n)
    play(cluster, schedule)
    for seat in cluster.workers:
        cluster.start(seat)
        cluster.train(seat)
    cluster.flow()
    locks = Counter(w.disk.locked for w in cluster.workers.values())
    unlocked, quorum = locks.pop((), 0), cluster.workers[0].committee.quorum
    if not cluster.certified:
        assert unlocked + max(locks.values(), default=0) < quorum


@given(SIZES, schedules(), st.integers(0, 6))
def test_a_calm_network_certifies_in_spite_of_crashes(n: int, schedule: Schedule, first: int) -> None:
    """Any order, duplicates; up to n - quorum workers are down from the start, or liars that keep silent."""
    cluster = Cluster(n)
    down = [(first + i) % n for i in range(n - cluster.workers[0].committee.quorum)]
    for seat in down:
        cluster.crash(seat)
    # Order is the schedule's; time stands still while messages are under way.
    play(cluster, schedule, without=(*LOSSES, "start", "advance"))
    cluster.settle()
    cluster.flow()
    assert all(w.certificate for w in cluster.live())
    assert len(cluster.certified) == 1


@given(st.sampled_from([4, 7]), schedules(), st.integers(0, 6))
def test_two_updates_of_one_worker_stop_no_round(n: int, schedule: Schedule, liar: int) -> None:
    """Each honest worker hears them in an order of its own; the liar leads no early view."""
    liar = next(s % n for s in range(liar, liar + n) if (s - NUMBER) % n > 1)
    cluster = Cluster(n, frozenset({liar}))
    for variant in range(3):
        cluster.flight += [(to, Seat(liar), (Seat(liar), entry_of(liar, variant))) for to in cluster.workers]
    play(cluster, schedule, without=(*LOSSES, "start", "advance", "lie"))
    cluster.settle()
    cluster.flow()
    assert all(w.certificate for w in cluster.live())


def test_roots_differ_by_round() -> None:
    """The cache of roots is keyed by everything that they depend on."""
    states = [replace(begin(), number=RoundNumber(n)) for n in (3, 7)]
    computed = [run(s, *held(0, 1, 2, 3), compute(ALL))[1] for s in states]
    assert of_kind(CastVote, computed[0])
    assert not of_kind(CastVote, computed[1])
