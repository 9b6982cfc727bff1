"""Who posts a beacon's round and when: in the order of the movers, once, and again when it did not work."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protocols.beacon import (
    RETRY_S,
    STAGGER_S,
    Looked,
    Need,
    PostingEnded,
    PostRound,
    Reorganized,
    Watch,
    find_need,
    step,
)
from protocols.chain import (
    Applied,
    Assigned,
    JobEnded,
    JobPosted,
    JobState,
    ProofAccepted,
    ProofPolicy,
    ProvingStarted,
    RoundCommitted,
    Terms,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.job import DRAND_EVMNET
from protocols.seat import CaughtUp, OnChain, Part, TimePassed, hear
from protocols.seat import step as step_part

JOB, ID = JobId(b"j" * 32), b"i" * 32
ALICE, BOB, CAROL, REQUESTER = (Address("0x" + 40 * c) for c in "abcd")
CLOSES_S = 1_800_000_000
TERMS = Terms(
    package=ContentId(ID), data=ContentId(ID), initial_state=ContentId(ID), srs=ContentId(ID), requester_key=ID,
    initial_commitment=Digest(bytes(32)), pages_root=Digest(ID), vk_digest=Digest(ID), delegate=REQUESTER,
    pages=1, seats=2, max_applicants=9, rounds=1, steps=1, samples=1, proof_policy=ProofPolicy.EVALUATION,
    join_window_s=60, ready_window_s=60, round_timeout_s=60, proof_window_s=600,
    stake_wei=Wei(1), budget_wei=Wei(1), move_fee_wei=Wei(0), max_loss=0,
)  # fmt: skip
DRAWS, CHALLENGES = DRAND_EVMNET.round_at(CLOSES_S), 25_000_000
COMMITTED = RoundCommitted(JOB, RoundNumber(0), 0, Digest(ID), ContentId(ID), Commitment(ID * 2), 0b01, Digest(ID), 0)


def part_of(me: Address, *events: object, now_s: float = CLOSES_S + 1) -> Part:
    part = hear(JobPosted(JOB, REQUESTER, TERMS, CLOSES_S), me, offers_work=False)
    for event in (*map(OnChain, events), CaughtUp(), TimePassed(now_s)):  # type: ignore[arg-type]
        part, _ = step_part(part, event)
    return part


APPLIED = (Applied(JOB, ALICE), Applied(JOB, BOB))
PROVING = (*APPLIED, Assigned(JOB, (BOB, ALICE), CLOSES_S), COMMITTED, ProvingStarted(JOB, CHALLENGES, 2**40))


def test_the_draw_needs_its_round_once_the_window_is_over_and_full() -> None:
    out_s = DRAND_EVMNET.time_of(DRAWS)
    assert find_need(part_of(ALICE, *APPLIED), DRAND_EVMNET) == Need(DRAWS, out_s)
    assert find_need(part_of(BOB, *APPLIED), DRAND_EVMNET) == Need(DRAWS, out_s + STAGGER_S)
    assert find_need(part_of(REQUESTER, *APPLIED), DRAND_EVMNET) == Need(DRAWS, out_s + 2 * STAGGER_S)
    assert find_need(part_of(CAROL, *APPLIED), DRAND_EVMNET) is None
    assert find_need(part_of(ALICE, *APPLIED, now_s=CLOSES_S), DRAND_EVMNET) is None
    assert find_need(part_of(ALICE, APPLIED[0]), DRAND_EVMNET) is None


def test_the_challenge_needs_its_round_until_all_is_proved() -> None:
    out_s = DRAND_EVMNET.time_of(CHALLENGES)
    assert find_need(part_of(BOB, *PROVING), DRAND_EVMNET) == Need(CHALLENGES, out_s)
    assert find_need(part_of(ALICE, *PROVING), DRAND_EVMNET) == Need(CHALLENGES, out_s + STAGGER_S)
    proved = ProofAccepted(JOB, BOB, 0, RoundNumber(0), 1, 0, 1, earns=True)  # only seat 0 took part
    assert find_need(part_of(BOB, *PROVING, proved), DRAND_EVMNET) is None
    assert find_need(part_of(BOB, *PROVING, JobEnded(JOB, JobState.SETTLED, Wei(0))), DRAND_EVMNET) is None
    assert find_need(part_of(BOB, *PROVING[:3]), DRAND_EVMNET) is None


def test_a_requester_that_works_too_is_ranked_once() -> None:
    part = replace(part_of(ALICE, *APPLIED), requester=ALICE)
    assert find_need(part, DRAND_EVMNET) == Need(DRAWS, DRAND_EVMNET.time_of(DRAWS))


def test_a_round_is_asked_for_once_until_its_posting_ends() -> None:
    need = Need(7, 100.0)
    watch, effects = step(Watch(), Looked(99.9, (need,)))
    assert effects == ()
    watch, effects = step(watch, Looked(100.0, (need, Need(7, 300.0))))
    assert effects == (PostRound(7),)
    watch, effects = step(watch, Looked(101.0, (need,)))
    assert effects == ()
    watch, _ = step(watch, PostingEnded(7, is_out=False))
    assert step(watch, Looked(101.0 + RETRY_S - 0.1, (need,)))[1] == ()
    watch, effects = step(watch, Looked(101.0 + RETRY_S, (need,)))
    assert effects == (PostRound(7),)
    watch, _ = step(watch, PostingEnded(7, is_out=True))
    assert step(watch, Looked(10_000.0, (need,)))[1] == ()
    watch, _ = step(watch, Reorganized())
    assert step(watch, Looked(10_001.0, (need,)))[1] == (PostRound(7),)


EVENTS = st.one_of(
    st.builds(Looked, st.floats(0, 200), st.lists(st.builds(Need, st.integers(1, 4), st.floats(0, 100))).map(tuple)),
    st.builds(PostingEnded, st.integers(1, 4), st.booleans()),
    st.just(Reorganized()),
)


@given(st.lists(EVENTS, max_size=40))
def test_nothing_is_posted_before_its_time_nor_twice_at_once(events: list[object]) -> None:
    watch, busy = Watch(), set[int]()
    for event in events:
        if isinstance(event, PostingEnded):
            busy.discard(event.round)
        watch, effects = step(watch, event)  # type: ignore[arg-type]
        for effect in effects:
            assert isinstance(event, Looked)
            assert any(n.round == effect.round and n.from_s <= watch.now_s for n in event.needs)
            assert effect.round not in busy
            busy.add(effect.round)
        if isinstance(event, Looked):
            assert watch.out <= {n.round for n in event.needs}
            assert set(watch.retry_s) <= {n.round for n in event.needs}
