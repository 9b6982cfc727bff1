"""Training steps, each built, proved and verified in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from figure import Figure

from protocols.training_step import DELTA_BITS, StepSpec

ONE_THOUSAND = StepSpec((64, 16, 10), 8, "cross_entropy", "sgd", 1, 3)
FOUR_THOUSAND = StepSpec((64, 64, 10), 8, "cross_entropy", "sgd", 1, 3)
LOGROWS = 15
SRS = Path("build/bench") / f"insecure-k{LOGROWS}.srs"


def measure_step(spec: StepSpec, *, max_s: float, max_mib: float) -> list[Figure]:
    """Set up from an empty cache, prove once, verify once."""
    with tempfile.TemporaryDirectory(prefix="skynet-bench-") as folder:
        command = [sys.executable, str(Path(__file__)), str(SRS.absolute()), json.dumps(asdict(spec))]
        ended = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    m = json.loads(ended.stdout.splitlines()[-1])
    name = f"T, {spec.parameters:,} parameters, batch {spec.batch}, {spec.loss}, {spec.optimizer}"
    return [
        Figure(f"{name}: prove", m["prove_s"], "s", f"≤ {max_s:g}", ok=m["prove_s"] <= max_s),
        Figure("  processor time of it", m["prove_cpu_s"], "s"),
        Figure("  peak memory, setup included", m["peak_mib"], "MiB", f"≤ {max_mib:g}", ok=m["peak_mib"] <= max_mib),
        Figure("  setup: graph, settings, keys", m["setup_s"], "s"),
        Figure("  verify", m["verify_s"], "s"),
        Figure("  proving key", m["key_mib"], "MiB"),
        Figure("  verifying key on chain", m["key_words"], "words"),
        Figure("  proof", m["proof_bytes"], "bytes"),
        Figure("  rows", m["rows"], f"over columns of 2**{LOGROWS}"),
    ]


def run(srs: Path, spec: StepSpec) -> dict[str, float]:
    from node.compute.files import GridPage
    from node.prover import ezkl_calls
    from node.prover.step_circuit import StepCircuit

    if not srs.exists():
        srs.parent.mkdir(parents=True, exist_ok=True)
        ezkl_calls.generate_srs(srs, LOGROWS)
    start = time.monotonic()
    circuit = StepCircuit(spec, srs, Path("cache"))
    built, cpu_before = time.monotonic(), _processor_s()
    proved = circuit.prove(*draw(spec, GridPage))
    cpu_s, done = _processor_s() - cpu_before, time.monotonic()
    if not circuit.verify(proved.proof, proved.instances):
        raise SystemExit("the proof does not verify")
    (key,) = Path("cache").rglob("proving.key")
    return {
        "setup_s": built - start,
        "prove_s": proved.prove_s,
        "prove_cpu_s": cpu_s,
        "verify_s": time.monotonic() - done,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "key_mib": key.stat().st_size / 2**20,
        "key_words": len(circuit.words) // 32,
        "proof_bytes": len(proved.proof),
        "rows": json.loads(circuit.settings)["num_rows"],
    }


def draw(spec: StepSpec, page: type) -> tuple[object, object]:
    """Return a state and a page with small weights, pixels and one label a row."""
    rng = np.random.default_rng(1)
    labels = np.eye(spec.sizes[-1], dtype=np.int32)[rng.integers(0, spec.sizes[-1], spec.batch)]
    x = rng.integers(0, 256, spec.batch * spec.sizes[0]).astype(np.int32)
    state = rng.integers(-400, 400, spec.state_length).astype(np.int32)
    return state, page(x, labels.reshape(-1) << DELTA_BITS)


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    os.environ["HOME"] = os.environ["EZKL_REPO_PATH"] = os.getcwd()  # ezkl leaves files there
    fields = json.loads(sys.argv[2])
    print(json.dumps(run(Path(sys.argv[1]), StepSpec(**{**fields, "sizes": tuple(fields["sizes"])}))))
    sys.stdout.flush()
    os._exit(0)  # ezkl's threads sometimes crash the interpreter's own way out
