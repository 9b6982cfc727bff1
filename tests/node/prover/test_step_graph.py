"""The circuit's reading of a step against the engine's: it takes our steps, all of them, and nothing else.

Run by ezkl's own arithmetic (its witness), without keys, so that many can be tried; proofs are in `test_step_circuit`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from node.prover import ezkl_calls
from node.prover.settings import CircuitOptions, canonicalize, check_step_written, to_run_args
from node.prover.step_circuit import choose_options
from node.prover.step_graph import INPUTS, build_step_graph
from protocols.fixed_point import LIMIT
from protocols.statement import encode_felt
from protocols.training_step import DELTA_BITS, X_BITS, Stepped, StepSpec, compute_step

K = 15
SPECS = [
    StepSpec((5, 4, 3), 4, "cross_entropy", "momentum", 1, 6, 230),
    StepSpec((3, 3, 3, 2), 2, "cross_entropy", "sgd", 3, 5),
    StepSpec((4, 3, 2), 2, "squared", "sgd", 1, 6),
    StepSpec((4, 3), 1, "squared", "momentum", 1, 0, 128),
]
Vectors = list[np.ndarray[Any, np.dtype[np.int64]]]
Evaluate = Callable[[Vectors], tuple[int, ...] | None]


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: "-".join(map(str, spec.sizes)))
def circuit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[StepSpec, Evaluate]:
    folder, spec = tmp_path_factory.mktemp("step"), request.param
    onnx, written, compiled = folder / "step.onnx", folder / "settings.json", folder / "circuit.ezkl"
    onnx.write_bytes(build_step_graph(spec))
    arguments = {**to_run_args(choose_options(K)), "input_visibility": "private"}  # commitments need keys
    ezkl_calls.write_settings(onnx, written, arguments)
    ezkl_calls.ezkl.compile_circuit(str(onnx), str(compiled), str(written))
    return spec, lambda vectors: evaluate(vectors, compiled, folder)


def evaluate(vectors: Vectors, compiled: Path, folder: Path) -> tuple[int, ...] | None:
    """Return the public numbers, None if ezkl finds no witness: an input is out of range."""
    request, witness = folder / "input.json", folder / "witness.json"
    request.write_text(json.dumps({"input_data": [[encode_felt(int(v)) for v in vector] for vector in vectors]}))
    try:
        ezkl_calls.ezkl.gen_witness(str(request), str(compiled), str(witness))
    except RuntimeError:
        return None
    return tuple(
        int.from_bytes(bytes.fromhex(text), "little") for text in json.loads(witness.read_text())["outputs"][0]
    )


def draw(spec: StepSpec, seed: int, largest: int) -> Vectors | None:
    """Return state, x, y, next state and hints; None where there is no step."""
    rng = np.random.default_rng(seed)
    state = rng.integers(-largest + 1, largest, spec.state_length)
    x = rng.integers(-(2 << X_BITS), 2 << X_BITS, spec.batch * spec.sizes[0])
    y = rng.integers(0, 2, spec.batch * spec.sizes[-1]) << DELTA_BITS
    stepped = compute_step(spec, state, x, y)
    return [state, x, y, stepped.state, stepped.hints] if isinstance(stepped, Stepped) else None


fixed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)


@fixed
@given(seed=st.integers(0, 2**32 - 1), largest=st.sampled_from([1, 2, 100, 3000, 12000, LIMIT]))
def test_every_step_of_the_engine_is_one_of_the_circuit(
    circuit: tuple[StepSpec, Evaluate], seed: int, largest: int
) -> None:
    spec, run = circuit
    vectors = draw(spec, seed, largest)
    if vectors is not None:
        found = run(vectors)
        assert found is not None
        assert not any(found)


@fixed
@given(
    seed=st.integers(0, 2**32 - 1),
    which=st.integers(0, len(INPUTS) - 1),
    place=st.integers(0, 10**6),
    by=st.sampled_from([1, -1, 2, -2, 16, 4096, -4096, LIMIT, 2 * LIMIT, 10**9]),
)
def test_one_number_off_is_no_step(
    circuit: tuple[StepSpec, Evaluate], seed: int, which: int, place: int, by: int
) -> None:
    spec, run = circuit
    vectors = draw(spec, seed, 600)
    assert vectors is not None
    honest = compute_step(spec, *vectors[:3])
    vectors[which][place % len(vectors[which])] += by
    again = compute_step(spec, *vectors[:3])
    assert isinstance(honest, Stepped)
    if which < 3 and isinstance(again, Stepped):
        same = (again.state == honest.state).all() and (again.hints == honest.hints).all()
        assume(not same)  # an input that nothing depended on, such as a pixel into dead rectifiers
    found = run(vectors)
    assert found is None or any(found)


@fixed
@given(seed=st.integers(0, 2**32 - 1), cheat=st.sampled_from(["idle", "double", "forged sign", "other labels"]))
def test_cheats_are_no_steps(circuit: tuple[StepSpec, Evaluate], seed: int, cheat: str) -> None:
    spec, run = circuit
    vectors = draw(spec, seed, 600)
    assert vectors is not None
    state, _, y, after, hints = vectors
    assume((state != after).any())
    if cheat == "idle":
        vectors[3] = state
    elif cheat == "double":
        vectors[3] = 2 * after - state
    elif cheat == "forged sign":
        vectors[4] = -hints
    else:
        vectors[2] = np.roll(y, 1)
        assume((vectors[2] != y).any())
    found = run(vectors)
    assert found is None or any(found)


def test_the_graph_is_the_same_wherever_it_is_built() -> None:
    assert build_step_graph(SPECS[0]) == build_step_graph(SPECS[0])


def test_only_circuits_with_these_range_checks_pass(tmp_path: Path) -> None:
    onnx, written = tmp_path / "step.onnx", tmp_path / "settings.json"
    onnx.write_bytes(build_step_graph(SPECS[3]))
    options = choose_options(K)
    ezkl_calls.write_settings(onnx, written, to_run_args(options))
    good = canonicalize(written.read_bytes())
    assert check_step_written(good, options, ezkl_calls.VERSION, inputs=len(INPUTS)) == 1
    for change in (
        {"ignore_range_check_inputs_outputs": True},
        {"param_visibility": "Public"},
        {"decomp_base": 2 * LIMIT},
        {"input_scale": 1},
    ):
        bad = json.loads(good)
        bad["run_args"].update(change)
        with pytest.raises(ezkl_calls.Unfit):
            check_step_written(json.dumps(bad).encode(), options, ezkl_calls.VERSION, inputs=len(INPUTS))
    with pytest.raises(ezkl_calls.Unfit):
        check_step_written(good, CircuitOptions(scale_bits=0), ezkl_calls.VERSION, inputs=len(INPUTS))
