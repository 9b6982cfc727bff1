"""What the prover child is asked about a circuit of statement T.

As for one of E (describe, commit, commit_pages, prove, verify), and commit_path besides.

Requests come from our own parent and are trusted; the files they name are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from node.compute.files import LITTLE_INT32, Unfit, read_grid_page, read_spec, read_vector
from node.prover import ezkl_calls
from node.prover.step_circuit import StepCircuit
from protocols.frames import Frame, Refusal
from protocols.package import MAX_PATH
from protocols.statement import WORD_BYTES

Answer = Mapping[str, object] | Refusal


def open_circuit(fields: Mapping[str, Any]) -> StepCircuit:
    return StepCircuit(read_spec(fields["step"]), Path(fields["srs"]), Path(fields["cache"]))


def answer(circuit: StepCircuit, do: str, fields: Frame) -> Answer:
    match do:
        case "describe":
            return {
                "words": circuit.words,
                "instances": circuit.instances,
                "logrows": circuit.options.logrows,
                "ezkl_version": ezkl_calls.VERSION,
                "was_cached": circuit.was_cached,
            }
        case "commit":
            return {"commitments": [circuit.commit(_read_weights(circuit, path)) for path in _paths(fields, "vectors")]}
        case "commit_path":
            return {"commitments": list(circuit.commit_path(_read_states(circuit, str(fields["states"]))))}
        case "commit_pages":
            pages = (read_grid_page(path, circuit.spec) for path in _paths(fields, "pages"))
            return {"commitments": [list(circuit.commit_page(page)) for page in pages]}
        case "prove":
            state = read_vector(str(fields["state"]), circuit.spec.state_length)
            proved = circuit.prove(state, read_grid_page(str(fields["page"]), circuit.spec))
            instances = [instance.to_bytes(WORD_BYTES, "big") for instance in proved.instances]
            return {"proof": proved.proof, "instances": instances, "prove_s": proved.prove_s}
        case "verify":
            return {"holds": circuit.verify(_bytes(fields["proof"]), _instances(fields["instances"]))}
        case _:
            return Refusal(f"unknown request {do!r}")


def _read_states(circuit: StepCircuit, path: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the states in a file, one after the other."""
    length, size = circuit.spec.state_length, Path(path).stat().st_size // LITTLE_INT32.itemsize
    if size % length or not 0 < size // length <= MAX_PATH:
        raise Unfit(f"{size} numbers are not 1 to {MAX_PATH} states of {length}")
    return read_vector(path, size).reshape(-1, length)


def _read_weights(circuit: StepCircuit, path: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return θ of a global state: what the aggregation keeps behind it is in no step."""
    whole = read_vector(path, Path(path).stat().st_size // LITTLE_INT32.itemsize)
    if len(whole) < circuit.spec.parameters:
        raise Unfit(f"{len(whole)} numbers for {circuit.spec.parameters} weights")
    return whole[: circuit.spec.parameters]


def _paths(fields: Frame, name: str) -> list[str]:
    paths = fields[name]
    return [str(path) for path in paths] if isinstance(paths, list) else []


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _instances(value: object) -> tuple[int, ...]:
    return tuple(int.from_bytes(_bytes(item), "big") for item in value) if isinstance(value, list) else ()
