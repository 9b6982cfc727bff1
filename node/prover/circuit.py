"""One circuit, ready to commit and prove: checked, built or taken from the cache, and tried once.

graph + settings + SRS --check--> build (cached by the hash of all three) --agree with ezkl and floats--> Circuit
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from node.compute.files import Rows, Unfit
from node.prover import ezkl_calls
from node.prover.cache import obtain
from node.prover.commitment import Committer, encode_point, read_lagrange, read_logrows
from node.prover.ezkl_calls import Files
from node.prover.graph import Graph, Signature
from node.prover.settings import (
    CircuitOptions,
    canonicalize,
    check_written,
    read_options,
    to_run_args,
    validate_options,
)
from protocols.ids import Commitment
from protocols.statement import Statement, compute_loss, decode_statement, to_grid
from protocols.verdict import Reject

CACHE_FORMAT = b"skynet circuit 1"
LOSS_TOLERANCE = 0.005
"""Of max(1, loss), between circuit and floats: rounding makes 1e-4 at 13 bits, a wrong scale a factor of two."""
RESERVED_ROWS = 32
"""At the end of a column; 6 for the circuits seen."""

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
        self.settings = _settle(sources)
        self.loss_scale_bits = check_written(self.settings, self.options, ezkl_calls.VERSION)
        if read_logrows(sources.srs) != self.options.logrows:
            raise Unfit(f"the SRS is for K = {read_logrows(sources.srs)}, the circuit for {self.options.logrows}")
        self._files, self.was_cached = _build(sources, self.settings)
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
        with _scratch() as scratch:
            instance, _ = self._compute_instance((theta, *self._to_grid(page)), scratch)
        return compute_loss(instance, self.loss_scale_bits)

    def prove(self, theta: Vector, page: Rows) -> Proved:
        """Return a proof that was verified and begins with the commitments to just these vectors."""
        vectors = (theta, *self._to_grid(page))
        start = time.monotonic()
        with _scratch() as scratch:
            expected, witness = self._compute_instance(vectors, scratch)
            proof, instance = ezkl_calls.prove(witness, self._files, scratch)
            if instance != expected or not ezkl_calls.verify(proof, instance, self._files, scratch):
                raise Unfit("our own proof does not verify")
        c_theta, c_x, c_y = map(self.commit, vectors)
        if decode_statement(proof, (instance,)) != Statement(c_theta, c_x, c_y, instance):
            raise Unfit("our own proof does not begin with the commitments")
        return Proved(proof, instance, time.monotonic() - start)

    def verify(self, proof: bytes, instance: int) -> bool:
        if isinstance(decode_statement(proof, (instance,)), Reject):
            return False
        with _scratch() as scratch:
            return ezkl_calls.verify(proof, instance, self._files, scratch)

    # -- Checks ----------------------------------------------------------------

    def _make_committer(self) -> Committer:
        # A state may carry a momentum of θ's length; the column's last rows are not a vector's.
        room = (1 << self.options.logrows) - RESERVED_ROWS
        longest = min(max(2 * self.signature.parameters, *self.signature.lengths), room)
        if longest < max(self.signature.lengths):
            raise Unfit(f"an input of {max(self.signature.lengths)} needs more than 2**{self.options.logrows} rows")
        committer = Committer(read_lagrange(self._files.srs, longest), ezkl_calls.commit((0,), self._files))
        # Negative, zero, beyond int32 and in every row: whatever our sums get wrong shows here.
        sample = [(-1) ** i * i * 7919**3 % (1 << 40) for i in range(longest)]
        if committer.commit(sample) != encode_point(ezkl_calls.commit(sample, self._files)):
            raise Unfit("our commitments are not ezkl's: the SRS file is inconsistent")
        return committer

    def _try(self) -> None:
        """Compute one loss of made-up numbers both ways: a wrong scale does not get as far as a job."""
        theta, x, y = (np.arange(length) for length in self.signature.lengths)
        scale = 1 << self.options.scale_bits
        made_up = ((theta * 37 % 101 - 50) * scale // 400, x * 29 % 97 * scale // 97, (y % 7 == 0) * scale)
        with _scratch() as scratch:
            self._compute_instance(tuple(vector.astype(np.int32) for vector in made_up), scratch)

    def _compute_instance(self, vectors: Sequence[Vector], scratch: Path) -> tuple[int, Path]:
        instance, witness = ezkl_calls.compute_instance([v.tolist() for v in vectors], self._files, scratch)
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


def _settle(sources: Sources) -> bytes:
    """Return the canonical settings; a stranger's must be the same."""
    with _scratch() as scratch:
        path = scratch / "settings.json"
        ezkl_calls.write_settings(sources.onnx, path, to_run_args(sources.options))
        settings = canonicalize(path.read_bytes())
    if sources.settings is not None and sources.settings != settings:
        raise Unfit("the settings are not those of this graph, or not in their canonical form")
    return settings


def _build(sources: Sources, settings: bytes) -> tuple[Files, bool]:
    def make(folder: Path) -> None:
        files = _name(sources.srs, folder)
        files.settings.write_bytes(settings)
        ezkl_calls.build_keys(sources.onnx, files)

    folder, was_cached = obtain(sources.cache, _cache_name(sources, settings), make)
    return _name(sources.srs, folder), was_cached


def _cache_name(sources: Sources, settings: bytes) -> str:
    parts = (
        CACHE_FORMAT,
        ezkl_calls.VERSION.encode(),
        settings,
        *(blake3().update_mmap(path).digest() for path in (sources.onnx, sources.srs)),
    )
    return blake3(b"".join(blake3(part).digest() for part in parts)).hexdigest()


def _name(srs: Path, folder: Path) -> Files:
    return Files(
        srs=srs,
        compiled=folder / "circuit.ezkl",
        settings=folder / "settings.json",
        proving=folder / "proving.key",
        verifying=folder / "verifying.key",
        words=folder / "words.bin",
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one request's files; the working folder of a child is its scratch."""
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        yield Path(folder)
