"""What the prover child is asked: open, describe, commit, commit_pages, compute_loss, prove, verify, make_srs.

`open_step` opens a circuit of statement T instead of E; what is asked of that is in `step_program.py`.
Requests come from our own parent and are trusted; the files they name are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from node.compute.files import LITTLE_INT32, Rows, Unfit, read_page, read_vector
from node.prover import ezkl_calls, step_program
from node.prover.cache import obtain
from node.prover.circuit import Circuit, Vector, make_sources
from node.prover.commitment import read_logrows
from node.prover.settings import CircuitOptions, validate_options
from node.prover.step_circuit import StepCircuit
from protocols.frames import Frame, Refusal

Answer = Mapping[str, object] | Refusal

SRS_FILE = "srs.bin"


class Program:
    """One circuit: none until `open`."""

    def __init__(self) -> None:
        self._circuit: Circuit | StepCircuit | None = None

    def answer(self, do: str, fields: Frame) -> Answer:
        try:
            if do == "idle":
                return {}
            if do == "make_srs":
                return make_srs(fields)
            if do == "open":
                self._circuit = None
                self._circuit = open_circuit(fields)
                return {}
            if do == "open_step":
                self._circuit = None
                self._circuit = step_program.open_circuit(fields)
                return {}
            if self._circuit is None:
                return Refusal("no circuit was opened")
            if isinstance(self._circuit, StepCircuit):
                return step_program.answer(self._circuit, do, fields)
            if do == "describe":
                return describe(self._circuit)
            return answer(self._circuit, do, fields)
        except Unfit as unfit:
            return Refusal(str(unfit))


def make_srs(fields: Mapping[str, Any]) -> Answer:
    """Make an SRS, or take the one of this K that lies in the cache; its secret was known here, hence its name."""
    logrows = validate_options(CircuitOptions(logrows=fields["logrows"])).logrows

    def make(folder: Path) -> None:
        ezkl_calls.generate_srs(folder / SRS_FILE, logrows)
        read_logrows(folder / SRS_FILE)

    folder, was_cached = obtain(Path(fields["cache"]), f"insecure-local-k{logrows}", make)
    path = folder / SRS_FILE
    return {"path": str(path), "content": blake3().update_mmap(path).digest(), "was_cached": was_cached}


def open_circuit(fields: Mapping[str, Any]) -> Circuit:
    settings, options = fields["settings"], fields["options"]
    sources = make_sources(
        Path(fields["onnx"]),
        Path(fields["srs"]),
        Path(fields["cache"]),
        options=None if options is None else CircuitOptions(**options),
        settings=None if settings is None else Path(settings),
    )
    return Circuit(sources)


def describe(circuit: Circuit) -> Answer:
    signature = circuit.signature
    return {
        "words": circuit.words,
        "settings": circuit.settings,
        "logrows": circuit.options.logrows,
        "scale_bits": circuit.options.scale_bits,
        "loss_scale_bits": circuit.loss_scale_bits,
        "parameters": signature.parameters,
        "x_shape": list(signature.x_shape),
        "y_shape": list(signature.y_shape),
        "ezkl_version": ezkl_calls.VERSION,
        "was_cached": circuit.was_cached,
    }


def answer(circuit: Circuit, do: str, fields: Mapping[str, Any]) -> Answer:
    match do:
        case "commit":
            return {"commitments": [circuit.commit(_weights(circuit, path)) for path in fields["vectors"]]}
        case "commit_pages":
            return {"commitments": [list(circuit.commit_page(_page(circuit, path))) for path in fields["pages"]]}
        case "compute_loss":
            return {"loss": circuit.compute_loss(_vector(circuit, fields["state"]), _page(circuit, fields["page"]))}
        case "prove":
            proved = circuit.prove(_vector(circuit, fields["state"]), _page(circuit, fields["page"]))
            return {"proof": proved.proof, "instances": [_to_bytes(proved.instance)], "prove_s": proved.prove_s}
        case "verify":
            (instance,) = fields["instances"]
            return {"holds": circuit.verify(fields["proof"], int.from_bytes(instance, "big"))}
        case _:
            return Refusal(f"unknown request {do!r}")


def _vector(circuit: Circuit, path: str) -> Vector:
    return read_vector(path, circuit.signature.parameters)


def _weights(circuit: Circuit, path: str) -> Vector:
    """Return θ: what follows it in a global state, the momentum, is in no circuit."""
    whole = read_vector(path, Path(path).stat().st_size // LITTLE_INT32.itemsize)
    parameters = circuit.signature.parameters
    return whole[:parameters] if len(whole) == 2 * parameters else whole


def _page(circuit: Circuit, path: str) -> Rows:
    return read_page(path, circuit.signature.x_shape, circuit.signature.y_shape)


def _to_bytes(instance: int) -> bytes:
    return instance.to_bytes(32, "big")  # msgpack's integers end at 64 bits
