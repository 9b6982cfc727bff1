"""From a graph to keys: canonical settings, keys in the cache of this machine, and the commitments that go with them.

graph + settings + SRS --(cached by the hash of all three)--> keys --(agrees with ezkl)--> Committer
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from node.compute.files import Unfit
from node.prover import ezkl_calls
from node.prover.cache import obtain
from node.prover.commitment import Committer, encode_point, read_lagrange, read_logrows
from node.prover.ezkl_calls import Files
from node.prover.settings import canonicalize

CACHE_FORMAT = b"skynet circuit 1"
RESERVED_ROWS = 32
"""At the end of a column; 6 for the circuits seen."""


@contextmanager
def make_scratch() -> Iterator[Path]:
    """A folder for one request's files; the working folder of a child is its scratch."""
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        yield Path(folder)


def write_settings(onnx: Path, run_args: Mapping[str, object]) -> bytes:
    """Return the canonical settings of a graph."""
    with make_scratch() as scratch:
        path = scratch / "settings.json"
        ezkl_calls.write_settings(onnx, path, run_args)
        return canonicalize(path.read_bytes())


def build(onnx: Path, srs: Path, cache: Path, settings: bytes) -> tuple[Files, bool]:
    """Return the files of the circuit, and whether they were there already."""

    def make(folder: Path) -> None:
        files = _name(srs, folder)
        files.settings.write_bytes(settings)
        ezkl_calls.build_keys(onnx, files)

    folder, was_cached = obtain(cache, _cache_name(onnx, srs, settings), make)
    return _name(srs, folder), was_cached


def make_committer(files: Files, lengths: Sequence[int], *, at_best: int = 0) -> Committer:
    """Return a committer for these lengths, and for `at_best` if the column has room; Unfit if ezkl disagrees."""
    logrows = read_logrows(files.srs)
    longest = min(max(at_best, *lengths), (1 << logrows) - RESERVED_ROWS)
    if longest < max(lengths):
        raise Unfit(f"an input of {max(lengths)} needs more than 2**{logrows} rows")
    committer = Committer(read_lagrange(files.srs, longest), ezkl_calls.commit((0,), files))
    # Negative, zero, beyond int32 and in every row: whatever our sums get wrong shows here.
    sample = [(-1) ** i * i * 7919**3 % (1 << 40) for i in range(longest)]
    if committer.commit(sample) != encode_point(ezkl_calls.commit(sample, files)):
        raise Unfit("our commitments are not ezkl's: the SRS file is inconsistent")
    return committer


def _cache_name(onnx: Path, srs: Path, settings: bytes) -> str:
    parts = (
        CACHE_FORMAT,
        ezkl_calls.VERSION.encode(),
        settings,
        *(blake3().update_mmap(path).digest() for path in (onnx, srs)),
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
