"""One circuit, ready to commit and prove: checked, built or taken from the cache, and tried once.

graph + settings + SRS --check--> build (cached by the hash of all three) --agree with ezkl and floats--> Circuit
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from node.compute.files import Rows, Unfit
from node.prover import ezkl_calls
from node.prover.build import build, make_committer, make_scratch, write_settings
from node.prover.commitment import Committer, read_logrows
from node.prover.graph import Graph, Signature
from node.prover.settings import (
    CircuitOptions,
    check_written,
    read_options,
    to_run_args,
    validate_options,
)
from protocols.ids import Commitment
from protocols.statement import Statement, compute_loss, decode_statement, to_grid
from protocols.verdict import Reject

LOSS_TOLERANCE = 0.005
"""Of max(1, loss), between circuit and floats: rounding makes 1e-4 at 13 bits, a wrong scale a factor of two."""

Vector = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a circuit comes from. `settings` are a stranger's, None where we write them ourselves."""

    onnx: Path
    srs: Path
    cache: Path
    options: CircuitOptions
    settings: bytes | None


class Proved(NamedTuple):
    proof: bytes
    instance: int
    prove_s: float


class Circuit:
    """Raises Unfit if the sources don't make a circuit of statement E, or not the settings' one."""

    def __init__(self, sources: Sources) -> None:
        self._graph = Graph(sources.onnx)
        self.options = sources.options
        self.settings = write_settings(sources.onnx, to_run_args(sources.options))
        if sources.settings is not None and sources.settings != self.settings:
            raise Unfit("the settings are not those of this graph, or not in their canonical form")
        self.loss_scale_bits = check_written(self.settings, self.options, ezkl_calls.VERSION)
        if read_logrows(sources.srs) != self.options.logrows:
            raise Unfit(f"the SRS is for K = {read_logrows(sources.srs)}, the circuit for {self.options.logrows}")
        self._files, self.was_cached = build(sources.onnx, sources.srs, sources.cache, self.settings)
        self.words = self._files.words.read_bytes()
        self._committer = self._make_committer()
        if not self.was_cached:
            self._try()

    @property
    def signature(self) -> Signature:
        return self._graph.signature

    # -- Requests --------------------------------------------------------------

    def commit(self, vector: Vector) -> Commitment:
        return self._committer.commit(vector.tolist())

    def commit_page(self, page: Rows) -> tuple[Commitment, Commitment]:
        x, y = self._to_grid(page)
        return self.commit(x), self.commit(y)

    def compute_loss(self, theta: Vector, page: Rows) -> float:
        """Return the loss as the circuit computes it, without a proof."""
        with make_scratch() as scratch:
            instance, _ = self._compute_instance((theta, *self._to_grid(page)), scratch)
        return compute_loss(instance, self.loss_scale_bits)

    def prove(self, theta: Vector, page: Rows) -> Proved:
        """Return a proof that was verified and begins with the commitments to just these vectors."""
        vectors = (theta, *self._to_grid(page))
        start = time.monotonic()
        with make_scratch() as scratch:
            instance, witness = self._compute_instance(vectors, scratch)
            proof, found = ezkl_calls.prove(witness, self._files, scratch)
            if found != (instance,) or not ezkl_calls.verify(proof, found, self._files, scratch):
                raise Unfit("our own proof does not verify")
        c_theta, c_x, c_y = map(self.commit, vectors)
        if decode_statement(proof, (instance,)) != Statement(c_theta, c_x, c_y, instance):
            raise Unfit("our own proof does not begin with the commitments")
        return Proved(proof, instance, time.monotonic() - start)

    def verify(self, proof: bytes, instance: int) -> bool:
        if isinstance(decode_statement(proof, (instance,)), Reject):
            return False
        with make_scratch() as scratch:
            return ezkl_calls.verify(proof, (instance,), self._files, scratch)

    # -- Checks ----------------------------------------------------------------

    def _make_committer(self) -> Committer:
        # A state may carry a momentum of θ's length.
        return make_committer(self._files, self.signature.lengths, at_best=2 * self.signature.parameters)

    def _try(self) -> None:
        """Compute one loss of made-up numbers both ways: a wrong scale does not get as far as a job."""
        theta, x, y = (np.arange(length) for length in self.signature.lengths)
        scale = 1 << self.options.scale_bits
        made_up = ((theta * 37 % 101 - 50) * scale // 400, x * 29 % 97 * scale // 97, (y % 7 == 0) * scale)
        with make_scratch() as scratch:
            self._compute_instance(tuple(vector.astype(np.int32) for vector in made_up), scratch)

    def _compute_instance(self, vectors: Sequence[Vector], scratch: Path) -> tuple[int, Path]:
        (instance,), witness = ezkl_calls.compute_instances([v.tolist() for v in vectors], self._files, scratch)
        found = compute_loss(instance, self.loss_scale_bits)
        theta, x, y = (np.ldexp(vector.astype(np.float64), -self.options.scale_bits) for vector in vectors)
        expected = self._graph.compute_loss(theta, x, y)
        if abs(found - expected) > LOSS_TOLERANCE * max(1.0, abs(expected)):
            raise Unfit(f"the circuit's loss is {found:.6g}, in floats it is {expected:.6g}")
        return instance, witness

    def _to_grid(self, page: Rows) -> tuple[Vector, Vector]:
        x, y = (to_grid(rows, self.options.scale_bits) for rows in page)
        if isinstance(x, Reject) or isinstance(y, Reject):
            raise Unfit("the page does not fit the grid")
        return x, y


def make_sources(
    onnx: Path, srs: Path, cache: Path, *, options: CircuitOptions | None = None, settings: Path | None = None
) -> Sources:
    """Take the options from the settings where there are some."""
    if settings is None:
        return Sources(onnx, srs, cache, validate_options(options or CircuitOptions()), None)
    data = settings.read_bytes()
    return Sources(onnx, srs, cache, read_options(data), data)
