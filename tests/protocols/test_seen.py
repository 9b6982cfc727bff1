"""Ids that were seen: kept for their time, in their number, and the oldest forgotten first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.seen import GENERATIONS, Seen


@given(st.lists(st.tuples(st.floats(0, 5), st.binary(min_size=1, max_size=2)), max_size=200))
def test_an_id_is_known_for_its_time_and_not_for_long_after(events: list[tuple[float, bytes]]) -> None:
    seen, now_s, last = Seen(16.0, 10**6), 0.0, dict[bytes, float]()
    for wait_s, each in events:
        now_s += wait_s
        seen.expire(now_s)
        if each not in seen:
            assert each not in last or now_s >= last[each] + 16.0
            last[each] = now_s
            seen.add((each,), now_s)
        assert each in seen
    for each, since_s in last.items():
        if now_s < since_s + 16.0:
            assert each in seen
    seen.expire(now_s + 16.0 * (1 + 2 / GENERATIONS))
    assert len(seen) == 0


def test_a_flood_forgets_the_oldest_not_all() -> None:
    seen = Seen(120.0, 800)
    for n in range(5000):
        seen.add((n.to_bytes(4, "big"),), 0.0)
        assert len(seen) <= 800
    assert all(n.to_bytes(4, "big") in seen for n in range(4300, 5000))
    assert (0).to_bytes(4, "big") not in seen


def test_an_id_counts_once() -> None:
    seen = Seen(8.0, 100)
    seen.add((b"a", b"a"), 0.0)
    seen.add((b"a", b"b"), 5.0)
    assert len(seen) == 2
