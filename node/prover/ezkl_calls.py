"""The calls into ezkl, each with its own trouble turned into `Unfit`.

ezkl raises RuntimeError for what it dislikes and panics where it did not expect it; a panic is a BaseException, so
that `except Exception` misses it. It holds the interpreter's lock throughout: nothing else runs in this process.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from node.compute.files import Unfit
from protocols.statement import CURVE_MODULUS, WORD_BYTES, decode_felt, encode_felt
from protocols.verdict import Reject

ezkl: Any = importlib.import_module("ezkl")  # its stubs are those of another version
VERSION: str = ezkl.__version__
KEY_DECIMALS = 18  # part of the key's digest: how the verifier would show instances, which nobody reads
_HEADER_BYTES = 8

Instances = tuple[int, ...]
"""The public numbers of a proof, field elements."""


class Files(NamedTuple):
    """Of one circuit; `srs` lies elsewhere."""

    srs: Path
    compiled: Path
    settings: Path
    proving: Path
    verifying: Path
    words: Path


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn what ezkl raises into Unfit."""
    try:
        yield
    except (Unfit, SystemExit, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        how = "panicked" if not isinstance(error, Exception) else "failed"
        raise Unfit(f"ezkl {what} {how}: {error}") from error


# -- Circuit -------------------------------------------------------------------


def write_settings(graph: Path, settings: Path, run_args: Mapping[str, object]) -> None:
    with contained("settings"):
        arguments = ezkl.PyRunArgs()
        for name, value in run_args.items():
            setattr(arguments, name, value)
        ezkl.gen_settings(str(graph), str(settings), py_run_args=arguments)


def build_keys(graph: Path, files: Files) -> None:
    """Compile the circuit of `files.settings` and write its keys."""
    with contained("compile"):
        ezkl.compile_circuit(str(graph), str(files.compiled), str(files.settings))
    with contained("setup"):
        ezkl.setup(str(files.compiled), str(files.verifying), str(files.proving), str(files.srs))
    artifact = files.words.with_suffix(".vka")
    with contained("key for the EVM"):
        _await(
            lambda: ezkl.create_evm_vka(
                str(files.verifying), str(files.settings), str(artifact), str(files.srs), decimals=KEY_DECIMALS
            )
        )
    files.words.write_bytes(_read_artifact(artifact))
    artifact.unlink()


def generate_srs(path: Path, logrows: int) -> None:
    """Make an SRS whose secret this process knew."""
    with contained("gen_srs"):
        ezkl.gen_srs(str(path), logrows)


def _await(call: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        await call()

    asyncio.run(run())


def _read_artifact(path: Path) -> bytes:
    """Return the words of a key, 32 bytes each; the file counts them first, in 8 bytes little-endian."""
    data = path.read_bytes()
    count, words = int.from_bytes(data[:_HEADER_BYTES], "little"), data[_HEADER_BYTES:]
    if len(words) != count * WORD_BYTES:
        raise Unfit(f"ezkl's key has {len(words)} bytes for {count} words")
    return words


# -- Vectors -------------------------------------------------------------------


def commit(values: Sequence[int], files: Files) -> tuple[int, int]:
    """Return C(v) as affine coordinates, by ezkl itself."""
    with contained("kzg_commit"):
        points = ezkl.kzg_commit(
            [encode_felt(value) for value in values], str(files.verifying), str(files.settings), str(files.srs)
        )
    if len(points) != 1:
        raise Unfit(f"a vector of {len(values)} fills {len(points)} columns")
    x, y = (int.from_bytes(bytes.fromhex(text), "little") for text in (points[0].x, points[0].y))
    if not (x < CURVE_MODULUS and y < CURVE_MODULUS):
        raise Unfit("ezkl's commitment is not reduced")
    return x, y


def compute_instances(vectors: Sequence[Sequence[int]], files: Files, scratch: Path) -> tuple[Instances, Path]:
    """Run the circuit's own arithmetic; return the public numbers and the witness file.

    Integers go in as field elements, so no float is rounded on the way.
    """
    request, witness = scratch / "input.json", scratch / "witness.json"
    request.write_text(json.dumps({"input_data": [[encode_felt(value) for value in vector] for vector in vectors]}))
    with contained("witness"):
        ezkl.gen_witness(str(request), str(files.compiled), str(witness), str(files.verifying), str(files.srs))
    return _read_instances(json.loads(witness.read_bytes()).get("outputs")), witness


def _read_instances(columns: object) -> Instances:
    if isinstance(columns, list) and len(columns) == 1 and isinstance(columns[0], list) and columns[0]:
        elements = [decode_felt(str(text).removeprefix("0x")) for text in columns[0]]
        integers = tuple(element for element in elements if not isinstance(element, Reject))
        if len(integers) == len(elements):
            return integers
    raise Unfit("ezkl's output is not one tensor of field elements")


# -- Proof ---------------------------------------------------------------------


def prove(witness: Path, files: Files, scratch: Path) -> tuple[bytes, Instances]:
    """Return proof and instances, not yet verified."""
    path = scratch / "proof.json"
    with contained("prove"):
        ezkl.prove(str(witness), str(files.compiled), str(files.proving), str(path), str(files.srs))
    written = json.loads(path.read_bytes())
    return bytes.fromhex(written["hex_proof"].removeprefix("0x")), _read_instances(written["instances"])


def verify(proof: bytes, instances: Instances, files: Files, scratch: Path) -> bool:
    """Whether the proof holds and ends where it should: ezkl overlooks trailing bytes."""
    return _holds(proof, instances, files, scratch) and not _holds(proof[:-1], instances, files, scratch)


def _holds(proof: bytes, instances: Instances, files: Files, scratch: Path) -> bool:
    path = scratch / "foreign.json"
    path.write_text(
        json.dumps({"instances": [[encode_felt(instance) for instance in instances]], "proof": list(proof)})
    )
    try:
        with contained("verify"):
            return bool(ezkl.verify(str(path), str(files.settings), str(files.verifying), str(files.srs)))
    except Unfit:
        return False  # it never says no, it raises
