"""Figure 6: samples per second of a worker's round beside the same JAX loop alone, interleaved.

The worker's side is the compute child's own program: pages read and checked, H inner steps, error feedback, codec and
five files written. The loop alone has its pages in memory and writes nothing. Processor time, so that neighbours on
the machine count for neither.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from figures import Figure, say

from node.compute.artifact import load_artifact
from node.compute.files import read_page
from node.compute.program import Program
from node.packing.manifest import blob_path, read_data_draft, read_model_draft

STEPS, BATCH, REPEATS = 600, 16, 5
ASKED = 0.95
SPEC = """
name = "digits"
[mlp]
inputs = 64
hidden = [256]
outputs = 10
[recipe]
batch = 16
"""


def measure(options: argparse.Namespace) -> Sequence[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlp.toml").write_text(SPEC)
        for what in (["model", "--spec", str(folder / "mlp.toml")], ["data", "--batch", str(BATCH)]):
            command = [sys.executable, "-m", "node.packing", *what, "--out", name]
            subprocess.run([*command, "--held-out-pages", "22"] if what[0] == "data" else command, check=True)
        worker, loop = _make_worker(folder), _make_loop(folder)
        times = [(_time(worker), _time(loop)) for _ in range(REPEATS + 1)][1:]  # the first one warms up
    worker_s, loop_s = (statistics.median(side) for side in zip(*times, strict=True))
    rate, alone = (STEPS * BATCH / seconds for seconds in (worker_s, loop_s))
    say(f"worker {rate:.0f}, loop alone {alone:.0f} samples a second of processor time")
    share = rate / alone
    title = f"6. overhead: samples a second, {STEPS} steps of {BATCH}, 19,210 parameters, share of the loop alone"
    return [Figure(title, share, "share", ASKED, "the JAX loop alone", 1.0, share >= ASKED)]


def _time(run: Any) -> float:
    started_s = time.process_time()
    run()
    return time.process_time() - started_s


def _make_worker(folder: Path) -> Any:
    model, data = read_model_draft(folder), read_data_draft(folder)
    names = ("scale_bits", "batch", "optimizer", "learning_rate", "codec", "rule", "outer", "parameters")
    fields: dict[str, Any] = {name: getattr(model, name) for name in names}
    fields |= {"x_shape": list(model.x_shape), "y_shape": list(model.y_shape)}
    for blob in ("loss_and_grad", "predict", "initial_state"):
        fields[blob] = str(blob_path(folder, getattr(model, blob)))
    program = Program()
    assert program.answer("open", fields) == {}
    pages = [str(blob_path(folder, data.train[step % len(data.train)])) for step in range(STEPS)]
    outputs = {name: str(folder / name) for name in ("weights", "update", "next_error", "carried")}
    request = {"state": fields["initial_state"], "error": None, "pages": pages, **outputs}
    return lambda: program.answer("train", request)


def _make_loop(folder: Path) -> Any:
    model, data = read_model_draft(folder), read_data_draft(folder)
    shapes = ((model.parameters,), (BATCH, *model.x_shape), (BATCH, *model.y_shape))
    path = str(blob_path(folder, model.loss_and_grad))
    loss_and_grad = load_artifact(path, inputs=shapes, outputs=((), shapes[0]))
    optimizer = optax.adam(model.learning_rate)
    pages = [read_page(str(blob_path(folder, page)), *shapes[1:]) for page in data.train]

    @jax.jit
    def step(theta: Any, state: Any, x: Any, y: Any) -> Any:
        _, grad = loss_and_grad(theta, x, y)
        updates, state = optimizer.update(grad, state, theta)
        return optax.apply_updates(theta, updates), state

    def run() -> None:
        theta: Any = np.zeros(model.parameters, np.float32)
        state = optimizer.init(theta)
        for index in range(STEPS):
            page = pages[index % len(pages)]
            theta, state = step(theta, state, page.x, page.y)
        theta.block_until_ready()

    return run
