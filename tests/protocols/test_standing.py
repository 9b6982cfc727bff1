"""Standing: liars fall and stay down for a while, the odd and the absent do not."""

from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import Seat
from protocols.standing import COST, FULL, Standings, judge_round

SEATS = [Seat(n) for n in range(4)]


def judge(standings: Standings, rounds: int, outliers: set[Seat], counted: set[Seat] | None = None) -> Standings:
    for _ in range(rounds):
        standings = judge_round(standings, SEATS, SEATS if counted is None else counted, outliers)
    return standings


def test_who_lies_round_after_round_is_shunned() -> None:
    liar = {SEATS[3]}
    assert judge(Standings(), FULL // COST - 1, liar).shunned == set()
    assert judge(Standings(), FULL // COST, liar).shunned == liar


def test_shunning_ends_and_begins_anew() -> None:
    liar, others = {SEATS[3]}, set(SEATS[:3])
    fallen = judge(Standings(), FULL, liar)
    assert judge(fallen, FULL - 1, liar, counted=others).shunned == liar
    back = judge(fallen, FULL, liar, counted=others)
    assert back.shunned == set()
    assert judge(back, FULL // COST, liar).shunned == liar


def test_one_odd_update_in_four_costs_nothing_for_good() -> None:
    standings = Standings()
    for _ in range(50):
        standings = judge(judge(standings, 1, {SEATS[0]}), COST, set())
    assert standings.shunned == set()
    assert standings.scores[SEATS[0]] == FULL


@given(st.lists(st.sets(st.sampled_from(SEATS)), max_size=60))
def test_scores_keep_their_range_and_who_never_errs_is_never_shunned(history: list[set[Seat]]) -> None:
    standings = Standings()
    for outliers in history:
        standings = judge_round(standings, SEATS, SEATS, outliers - {SEATS[0]})
        assert all(0 <= score <= FULL for score in standings.scores.values())
        assert SEATS[0] not in standings.shunned
        assert all(standings.scores[seat] < FULL for seat in standings.shunned)
