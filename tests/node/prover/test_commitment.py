"""Our sums of points are those of an independent library, in every corner of the addition law."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc import bn128

from node.compute.files import Unfit
from node.prover.commitment import Committer, Point, encode_point, multiply_sum, read_logrows

GENERATOR: Point = (1, 2)


def times(scalar: int) -> Point | None:
    point = bn128.multiply(bn128.G1, scalar % bn128.curve_order)
    return None if point is None else (point[0].n, point[1].n)


def finite(scalar: int) -> Point:
    point = times(scalar)
    assert point is not None
    return point


# Few and close factors: equal and opposite points meet in one bucket, so that doubling and infinity occur.
factors = st.integers(1, 3) | st.integers(-3, -1)
scalars = st.integers(-3, 3) | st.integers(-(2**45), 2**45)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(scalars, factors), max_size=12))
def test_sums_agree(terms: list[tuple[int, int]]) -> None:
    found = multiply_sum([s for s, _ in terms], [finite(k) for _, k in terms])
    assert found == times(sum(s * k for s, k in terms))


def test_many_terms_agree() -> None:
    points = [finite(k * k + 1) for k in range(60)]
    weights = [(-1) ** k * k**7 for k in range(60)]
    assert multiply_sum(weights, points) == times(sum(w * (k * k + 1) for k, w in enumerate(weights)))


def test_a_commitment_starts_from_that_to_zero() -> None:
    committer = Committer([finite(10), finite(20)], finite(7))
    assert committer.commit([]) == committer.commit([0, 0]) == encode_point(times(7))
    assert committer.commit([3, -1]) == encode_point(times(17))
    assert committer.commit([1, -1]) == encode_point(times(-3))
    with pytest.raises(Unfit, match="a vector of 3"):
        committer.commit([1, 2, 3])


def test_a_path_is_committed_step_by_step() -> None:
    committer = Committer([finite(k + 2) for k in range(6)], finite(7))
    rng = np.random.default_rng(1)
    states = np.cumsum(rng.integers(-40, 40, (8, 6)) * rng.integers(0, 2, (8, 6)), axis=0).astype(np.int32)
    states[3] = states[2]  # a step that changed nothing
    assert committer.commit_path(states) == [committer.commit(state.tolist()) for state in states]
    with pytest.raises(Unfit, match="a vector of 7"):
        committer.commit_path(np.zeros((2, 7), np.int32))


def test_infinity_is_zeros() -> None:
    committer = Committer([finite(7)], finite(7))
    assert committer.commit([-1]) == bytes(64)


@pytest.mark.parametrize("data", [b"", b"\x05\0\0\0", b"\xff" * 64, b"\x05\0\0\0" + bytes(32 * 128 + 255)])
def test_what_is_no_srs_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "srs").write_bytes(data)
    with pytest.raises(Unfit, match="wrong size"):
        read_logrows(tmp_path / "srs")
