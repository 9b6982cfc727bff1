"""Where training stands: the chain's tip wins, ours may run ahead of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.position import Position, Tip, begin, certify, hear, may_vote, rewind
from protocols.chain import (
    Certificate,
    ChainEvent,
    JobEnded,
    JobState,
    ProofPolicy,
    ProvingStarted,
    RoundCommitted,
    RoundNulled,
    Terms,
    TrainingStarted,
)
from protocols.evidence import certificate_digest
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.merkle import ZERO_DIGEST

JOB = JobId(b"j" * 32)
START = ContentId(b"0" * 32)
DIGEST = Digest(bytes(32))
NOBODY = Address("0x" + 40 * "0")
TERMS = Terms(
    START, START, START, START, bytes(32), DIGEST, DIGEST, DIGEST, NOBODY, 4, 3, 3, 8, 3, 2, ProofPolicy.EVALUATION,
    10, 10, 10, 10, Wei(1), Wei(1), Wei(1), 0,
)  # fmt: skip


def certificate(number: int, name: bytes = b"a", parent: Digest = ZERO_DIGEST) -> Certificate:
    set_root, state = Digest(name * 32), ContentId(name * 32)
    return Certificate(RoundNumber(number), 0, parent, set_root, state, Commitment(name * 64), 7, 7, ())


def digest_of(c: Certificate) -> Digest:
    return certificate_digest(JOB, c.round, c.set_root, c.state, c.commitment)


def committed(c: Certificate) -> RoundCommitted:
    return RoundCommitted(JOB, c.round, c.view, c.set_root, c.state, c.commitment, c.participants, digest_of(c), 99)


def nulled(number: int) -> RoundNulled:
    return RoundNulled(JOB, RoundNumber(number), 99)


def tip_of(c: Certificate) -> Tip:
    return Tip(RoundNumber(c.round + 1), digest_of(c), c.state)


def fold(*steps: ChainEvent | Certificate) -> Position:
    position = begin(JOB, TERMS)
    for one in steps:
        position = certify(position, one) if isinstance(one, Certificate) else hear(position, one)
    return position


ZERO, ONE, TWO = (certificate(n, b"%d" % n) for n in range(3))


def test_a_job_begins_with_its_initial_state() -> None:
    position = begin(JOB, TERMS)
    assert position.chain == position.here == Tip(RoundNumber(0), ZERO_DIGEST, START)


def test_our_certificate_is_ahead_of_the_chain() -> None:
    position = fold(ZERO)
    assert position.here == tip_of(ZERO)
    assert position.chain.round == 0


def test_the_chain_confirms_what_we_are_ahead_by() -> None:
    position = fold(ZERO, ONE, committed(ZERO))
    assert position.chain == tip_of(ZERO)
    assert position.here == tip_of(ONE)


def test_the_chain_overtakes_a_laggard() -> None:
    position = fold(ZERO, committed(ZERO), committed(ONE))
    assert position.chain == position.here == tip_of(ONE)


@pytest.mark.parametrize("decided", [committed(certificate(0, b"x")), nulled(0)])
def test_the_chain_wins_over_ours(decided: ChainEvent) -> None:
    position = fold(ZERO, ONE, decided)
    assert position.here == position.chain
    assert position.here.round == 1
    assert not position.ours  # round 1 of another parent says nothing any more


def test_a_nulled_round_leaves_state_and_parent() -> None:
    position = fold(committed(ZERO), nulled(1))
    assert position.here == replace(tip_of(ZERO), round=RoundNumber(2))


def test_a_round_begun_again_can_be_certified_again() -> None:
    again = certificate(1, b"z")
    position = fold(ZERO, ONE, nulled(0), again, committed(again))
    assert position.here == position.chain == tip_of(again)


def test_stations_and_other_events() -> None:
    assert fold(TrainingStarted(JOB, 9)).training
    assert fold(ProvingStarted(JOB, 1, 9)).proving
    assert fold(JobEnded(JOB, JobState.SETTLED, Wei(0))) == begin(JOB, TERMS)


def test_nobody_votes_two_rounds_before_the_chain() -> None:
    position = fold(ZERO, ONE)
    assert [may_vote(position, RoundNumber(n)) for n in range(4)] == [True, True, False, False]
    assert may_vote(hear(position, committed(ZERO)), RoundNumber(2))
    assert may_vote(hear(position, nulled(0)), RoundNumber(2))


@given(st.lists(st.sampled_from(["ours", "theirs", "null", "certify"]), max_size=16))
def test_here_is_never_behind_the_chain(story: list[str]) -> None:
    position = begin(JOB, TERMS)
    mine: dict[int, Certificate] = {}
    for i, what in enumerate(story):
        number = position.chain.round
        if what == "certify" and may_vote(position, position.here.round):
            mine[position.here.round] = certificate(position.here.round, bytes([i]), position.here.parent)
            position = certify(position, mine[position.here.round])
        elif what == "ours" and number in position.ours:
            position = hear(position, committed(mine[number]))
        elif what == "theirs":
            position = hear(position, committed(certificate(number, b"t")))
        elif what == "null":
            position = hear(position, nulled(number))
        assert position.chain.round <= position.here.round <= position.chain.round + 2
        if position.here.round == position.chain.round:
            assert position.here == position.chain


def test_a_reorganisation_leaves_us_ahead_of_the_chain() -> None:
    """The chain lost rounds that we certified: it will have them again, and we go on from ours."""
    ahead = fold(TrainingStarted(JOB, 9), ZERO, ONE, committed(ZERO), committed(ONE), TWO)
    for kept in ([TrainingStarted(JOB, 9)], [TrainingStarted(JOB, 9), committed(ZERO)]):
        after = rewind(ahead, TERMS, kept)
        assert after.here == tip_of(TWO)
        assert after.chain.round == len(kept) - 1
        assert hear(after, committed(ONE if len(kept) == 2 else ZERO)).here == tip_of(TWO)


def test_a_reorganisation_takes_back_what_only_the_chain_told_us() -> None:
    told = fold(TrainingStarted(JOB, 9), committed(ZERO), committed(ONE), ProvingStarted(JOB, 1, 9))
    after = rewind(told, TERMS, [TrainingStarted(JOB, 9), committed(ZERO)])
    assert after.here == after.chain == tip_of(ZERO)
    assert not after.proving


def test_the_chain_decides_otherwise_after_a_reorganisation() -> None:
    other = certificate(0, b"x")
    ahead = fold(TrainingStarted(JOB, 9), ZERO, ONE, committed(ZERO))
    after = rewind(ahead, TERMS, [TrainingStarted(JOB, 9), committed(other)])
    assert after.here == tip_of(other)
    assert not after.ours
