"""Statement T's circuit, ready to commit and prove: built from the specification of a step alone.

Nothing of it comes from a stranger but the numbers of the specification: graph, settings and keys are made here, so
two that agree on specification and SRS have the same key. Its numbers are those of `protocols.training_step`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from node.compute.files import GridPage, Unfit
from node.prover import ezkl_calls
from node.prover.build import build, make_committer, make_scratch, write_settings
from node.prover.commitment import read_logrows
from node.prover.settings import STEP_LOGROWS, CircuitOptions, check_step_written, to_run_args
from node.prover.step_graph import INPUTS, build_step_graph
from protocols.fixed_point import RANGE_BITS
from protocols.ids import Commitment
from protocols.statement import StepStatement, decode_step_statement
from protocols.training_step import Integers, Stepped, StepSpec, compute_step, validate_spec
from protocols.verdict import Reject

GRAPH_FILE = "step.onnx"
Vector = NDArray[np.int32]


class StepProved(NamedTuple):
    proof: bytes
    instances: tuple[int, ...]
    prove_s: float


class StepCircuit:
    """Raises Unfit if there is no such circuit. Vectors that make no step are Unfit too."""

    def __init__(self, spec: StepSpec, srs: Path, cache: Path) -> None:
        if fault := validate_spec(spec):
            raise Unfit(fault.reason)
        self.spec = spec
        self.options = choose_options(read_logrows(srs))
        with make_scratch() as scratch:
            graph = scratch / GRAPH_FILE
            graph.write_bytes(build_step_graph(spec))
            self.settings = write_settings(graph, to_run_args(self.options))
            self._instances = check_step_written(self.settings, self.options, ezkl_calls.VERSION, inputs=len(INPUTS))
            self._files, self.was_cached = build(graph, srs, cache, self.settings)
        self.words = self._files.words.read_bytes()
        batch, hints = spec.batch, self._step(*self._make_up()).hints
        self._committer = make_committer(
            self._files, (spec.state_length, batch * spec.sizes[0], batch * spec.sizes[-1], len(hints))
        )

    # -- Requests --------------------------------------------------------------

    @property
    def instances(self) -> int:
        """How many public numbers a proof has."""
        return self._instances

    def commit(self, weights: Vector) -> Commitment:
        """Return C(θ), which is C(θ ‖ 0) too: of a state whose moments are those of a round's start."""
        return self._committer.commit(weights.tolist())

    def commit_path(self, states: NDArray[np.int32]) -> list[Commitment]:
        """Return C of each state, i32[n, S]."""
        return self._committer.commit_path(states)

    def commit_page(self, page: GridPage) -> tuple[Commitment, Commitment]:
        return self._committer.commit(page.x.tolist()), self._committer.commit(page.y.tolist())

    def check(self, state: Vector, page: GridPage, next_state: Vector, hints: Vector) -> bool:
        """Whether the circuit's own arithmetic takes these for a step; no proof. Made for tests of its soundness."""
        with make_scratch() as scratch:
            try:
                instances, _ = self._compute((state, page.x, page.y, next_state, hints), scratch)
            except Unfit:
                return False  # a value out of range
        return not any(instances)

    def prove(self, state: Vector, page: GridPage) -> StepProved:
        """Take the step and return a proof of it that was verified and begins with the commitments to its vectors."""
        start = time.monotonic()
        stepped = self._step(state, page)
        vectors = (state, page.x, page.y, stepped.state, stepped.hints)
        with make_scratch() as scratch:
            instances, witness = self._compute(vectors, scratch)
            if any(instances):
                raise Unfit("the circuit does not take our step for one")
            proof, found = ezkl_calls.prove(witness, self._files, scratch)
            if found != instances or not ezkl_calls.verify(proof, instances, self._files, scratch):
                raise Unfit("our own proof does not verify")
        expected = StepStatement(*(self._committer.commit(vector.tolist()) for vector in vectors))
        if decode_step_statement(proof, instances) != expected:
            raise Unfit("our own proof does not begin with the commitments")
        return StepProved(proof, instances, time.monotonic() - start)

    def verify(self, proof: bytes, instances: tuple[int, ...]) -> bool:
        if len(instances) != self._instances or isinstance(decode_step_statement(proof, instances), Reject):
            return False
        with make_scratch() as scratch:
            return ezkl_calls.verify(proof, instances, self._files, scratch)

    # -- Within ----------------------------------------------------------------

    def _compute(self, vectors: tuple[NDArray[np.integer], ...], scratch: Path) -> tuple[tuple[int, ...], Path]:
        return ezkl_calls.compute_instances([vector.tolist() for vector in vectors], self._files, scratch)

    def _step(self, state: Vector, page: GridPage) -> Stepped:
        spec = self.spec
        if (len(state), len(page.x), len(page.y)) != (
            spec.state_length,
            spec.batch * spec.sizes[0],
            spec.batch * spec.sizes[-1],
        ):
            raise Unfit("the state or the page has another length than the step's")
        stepped = compute_step(spec, _widen(state), _widen(page.x), _widen(page.y))
        if isinstance(stepped, Reject):
            raise Unfit(stepped.reason)
        return stepped

    def _make_up(self) -> tuple[Vector, GridPage]:
        """Zeros: always a step."""
        spec = self.spec
        x, y = (np.zeros(spec.batch * spec.sizes[i], np.int32) for i in (0, -1))
        return np.zeros(spec.state_length, np.int32), GridPage(x, y)


def choose_options(logrows: int) -> CircuitOptions:
    """Return the options of a circuit of integers whose columns have 2**logrows rows; Unfit if they are too few.

    One digit a range check and one inner column were the cheapest of those tried, at any number of rows.
    """
    if logrows < STEP_LOGROWS:
        raise Unfit(f"an SRS of K = {logrows}: training steps need {STEP_LOGROWS}")
    return CircuitOptions(
        logrows=logrows, scale_bits=0, decomposition_base=1 << RANGE_BITS, decomposition_legs=1, inner_columns=1
    )


def _widen(vector: Vector) -> Integers:
    return vector.astype(np.int64)
