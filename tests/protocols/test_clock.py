"""Clocks: whose is wrong, said once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.clock import (
    NAMED_S,
    PEERS,
    Clocks,
    Effect,
    Greeted,
    NameOwnSkew,
    NamePeerSkew,
    ahead_s,
    own_ahead_s,
    step,
)


def greet(clocks: Clocks, *greetings: tuple[bytes, float], now_s: float = 1000.0) -> tuple[Clocks, list[Effect]]:
    said: list[Effect] = []
    for peer, difference_s in greetings:
        clocks, effects = step(clocks, Greeted(peer, now_s + difference_s, now_s))
        said += effects
    return clocks, said


def test_the_quickest_greeting_tells() -> None:
    clocks, said = greet(Clocks(), (b"a", -0.8), (b"a", -0.1), (b"a", -3.0))
    assert ahead_s(clocks, b"a") == -0.1 + 1000 - 1000 or abs((ahead_s(clocks, b"a") or 0) + 0.1) < 1e-6
    assert said == []
    assert ahead_s(clocks, b"b") is None


def test_a_peer_whose_clock_is_wrong_is_named_once() -> None:
    clocks, said = greet(Clocks(), (b"a", 0.0), (b"b", 0.0), (b"c", 40.0), (b"c", 40.0), (b"c", 41.0))
    assert said == [NamePeerSkew(b"c", 40.0)]
    _, said = greet(clocks, *[(b"c", 0.0)] * 4, (b"c", -30.0), *[(b"c", -30.0)] * 4)
    assert said == [NamePeerSkew(b"c", -30.0)]


def test_where_all_others_differ_it_is_ours() -> None:
    clocks, said = greet(Clocks(), (b"a", 50.0), (b"b", 51.0), (b"c", 49.0), (b"d", 50.0))
    assert [e for e in said if isinstance(e, NameOwnSkew)] == [NameOwnSkew(-50.0, 3)]
    assert own_ahead_s(clocks) == -50.0
    _, said = greet(clocks, *[(p, 0.0) for p in (b"a", b"b", b"c", b"d") for _ in range(4)])
    assert not [e for e in said if isinstance(e, NameOwnSkew)][1:]


def test_two_peers_do_not_judge_us() -> None:
    clocks, _ = greet(Clocks(), (b"a", 50.0), (b"b", 50.0))
    assert own_ahead_s(clocks) is None


@given(st.lists(st.tuples(st.binary(max_size=2), st.floats(-1e5, 1e5)), max_size=100))
def test_any_greetings_are_bounded_and_small_differences_are_not_named(greetings: list[tuple[bytes, float]]) -> None:
    clocks, said = greet(Clocks(), *greetings)
    assert len(clocks.heard) <= PEERS
    assert all(abs(e.ahead_s) >= NAMED_S for e in said)
