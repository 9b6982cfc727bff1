"""Versions: the newest that all know."""

from __future__ import annotations

import pytest

from protocols.version import Range, common_version, is_range


@pytest.mark.parametrize(
    ("ranges", "common"),
    [
        ([(1, 1)], 1),
        ([(1, 3), (2, 5)], 3),
        ([(1, 1), (2, 2)], None),
        ([(1, 4), (1, 2), (2, 9)], 2),
        ([(3, 3), (1, 3)], 3),
    ],
)
def test_the_newest_that_all_know(ranges: list[Range], common: int | None) -> None:
    assert common_version(ranges) == common


def test_a_range_has_an_order() -> None:
    assert is_range((1, 1))
    assert is_range((1, 7))
    assert not is_range((2, 1))
    assert not is_range((-1, 1))
    assert not is_range((0, 2**16))
