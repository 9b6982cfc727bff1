"""What the prover child is asked about a circuit of statement T: describe, commit_path, commit_pages, prove, verify.

Requests come from our own parent and are trusted; the files they name are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from node.compute.files import LITTLE_INT32, Unfit, read_page, read_vector
from node.prover import ezkl_calls
from node.prover.step_circuit import StepCircuit, StepPage
from protocols.frames import MAX_REPLY_ITEMS, Frame, Refusal
from protocols.statement import WORD_BYTES, to_grid
from protocols.training_step import DELTA_BITS, X_BITS, StepSpec
from protocols.verdict import Reject

Answer = Mapping[str, object] | Refusal


def open_circuit(fields: Mapping[str, Any]) -> StepCircuit:
    spec = fields["spec"]
    return StepCircuit(StepSpec(**{**spec, "sizes": tuple(spec["sizes"])}), Path(fields["srs"]), Path(fields["cache"]))


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
        case "commit_path":
            return {"commitments": list(circuit.commit_path(_read_states(circuit, str(fields["states"]))))}
        case "commit_pages":
            return {"commitments": [list(circuit.commit_page(_read_page(circuit, path))) for path in _paths(fields)]}
        case "prove":
            length = circuit.spec.state_length
            proved = circuit.prove(read_vector(str(fields["state"]), length), _read_page(circuit, str(fields["page"])))
            instances = [instance.to_bytes(WORD_BYTES, "big") for instance in proved.instances]
            return {"proof": proved.proof, "instances": instances, "prove_s": proved.prove_s}
        case "verify":
            return {"holds": circuit.verify(_bytes(fields["proof"]), _instances(fields["instances"]))}
        case _:
            return Refusal(f"unknown request {do!r}")


def _read_states(circuit: StepCircuit, path: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the states in a file, one after the other."""
    length, size = circuit.spec.state_length, Path(path).stat().st_size // LITTLE_INT32.itemsize
    if size % length or not 0 < size // length <= MAX_REPLY_ITEMS:
        raise Unfit(f"{size} numbers are not 1 to {MAX_REPLY_ITEMS} states of {length}")
    return read_vector(path, size).reshape(-1, length)


def _read_page(circuit: StepCircuit, path: str) -> StepPage:
    spec = circuit.spec
    rows = read_page(path, (spec.batch, spec.sizes[0]), (spec.batch, spec.sizes[-1]))
    x, y = to_grid(rows.x, X_BITS), to_grid(rows.y, DELTA_BITS)
    if isinstance(x, Reject) or isinstance(y, Reject):
        raise Unfit("the page does not fit the grid")
    return StepPage(x, y)


def _paths(fields: Frame) -> list[str]:
    paths = fields["pages"]
    return [str(path) for path in paths] if isinstance(paths, list) else []


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _instances(value: object) -> tuple[int, ...]:
    return tuple(int.from_bytes(_bytes(item), "big") for item in value) if isinstance(value, list) else ()
