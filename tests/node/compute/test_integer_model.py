"""The compiled step: numpy's integers, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.compute.files import Unfit
from node.compute.integer_model import IntegerModel
from protocols.fixed_point import LIMIT
from protocols.training_step import DELTA_BITS, X_BITS, Stepped, StepSpec, compute_step

STEPS = 6
SPECS = [
    StepSpec((5, 4, 3), 4, "cross_entropy", "momentum", 1, 6, 230),
    StepSpec((6, 8, 8, 3), 8, "cross_entropy", "sgd", 3, 5),
    StepSpec((6, 5, 2), 2, "squared", "sgd", 1, 4),
]
MODELS = {spec: IntegerModel(spec) for spec in SPECS}


@given(st.sampled_from(SPECS), st.integers(0, 2**32 - 1), st.sampled_from([30, 3000, 9000, LIMIT]))
def test_states_are_numpys(spec: StepSpec, seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    state = rng.integers(-largest + 1, largest, spec.state_length).astype(np.int32)
    x = rng.integers(-(4 << X_BITS), 4 << X_BITS, (STEPS, spec.batch * spec.sizes[0])).astype(np.int32)
    y = rng.integers(0, 2, (STEPS, spec.batch * spec.sizes[-1])).astype(np.int32) << DELTA_BITS
    expected, now = [], state.astype(np.int64)
    for page_x, page_y in zip(x, y, strict=True):
        stepped = compute_step(spec, now, page_x.astype(np.int64), page_y.astype(np.int64))
        if not isinstance(stepped, Stepped):
            with pytest.raises(Unfit, match=f"step {len(expected)}: a value is out of range"):
                MODELS[spec].train(state, x, y)
            return
        now = stepped.state
        expected.append(now)
    assert (MODELS[spec].train(state, x, y) == np.array(expected)).all()


def test_a_page_out_of_range_is_refused() -> None:
    spec = SPECS[0]
    state, x, y = (np.zeros(n, np.int32) for n in (spec.state_length, 20, 12))
    with pytest.raises(Unfit, match="out of range"):
        MODELS[spec].train(state, x + LIMIT, y)
