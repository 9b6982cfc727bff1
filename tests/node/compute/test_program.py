"""The compute child's program, called in this process: exact integers at its borders, refusals for unfit input."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from node.compute.files import read_grid_page
from node.compute.program import Program
from node.packing.manifest import blob_path, read_data_draft, read_model_draft
from protocols.codec import CODECS
from protocols.frames import Refusal
from protocols.training_step import Stepped, compute_step

P = 1060
PAGE = {"x": np.zeros((4, 64), np.float32), "y": np.zeros((4, 10), np.float32)}


class Bench:
    """A program with the digits opened, and a folder to write in."""

    def __init__(self, packed: Path, folder: Path, **changes: object) -> None:
        self.model, self.data = read_model_draft(packed), read_data_draft(packed)
        self.packed, self.folder = packed, folder
        self.program = Program()
        fields: dict[str, object] = {
            "parameters": self.model.parameters,
            "scale_bits": self.model.scale_bits,
            "batch": self.model.batch,
            "x_shape": list(self.model.x_shape),
            "y_shape": list(self.model.y_shape),
            "optimizer": self.model.optimizer,
            "learning_rate": self.model.learning_rate,
            "codec": self.model.codec,
            "rule": "mean",
            "outer": "none",
            "loss_and_grad": self.blob(self.model.loss_and_grad),
            "predict": self.blob(self.model.predict),
            "initial_state": self.blob(self.model.initial_state),
            "step": None if self.model.step is None else asdict(self.model.step),
        }
        self.opened = self.program.answer("open", {**fields, **changes})

    def blob(self, content: Any) -> str:
        return str(blob_path(self.packed, content))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def vector(self, name: str) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.fromfile(self.folder / name, "<i4")

    def write(self, name: str, values: Any) -> str:
        np.asarray(values, "<i4").tofile(self.folder / name)
        return self.path(name)

    def pages(self, count: int) -> list[str]:
        return [self.blob(page) for page in self.data.train[:count]]

    def train(self, **changes: object) -> Any:
        outputs = {name: self.path(name) for name in ("weights", "update", "next_error", "carried", "states")}
        fields = {"state": self.blob(self.model.initial_state), "error": None, "pages": self.pages(5), **outputs}
        return self.program.answer("train", {**fields, **changes})


@pytest.fixture(scope="module")
def bench(packed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(packed_digits, tmp_path_factory.mktemp("bench"))
    assert bench.opened == {}
    return bench


def test_what_train_writes_adds_up(bench: Bench) -> None:
    """w_H − θ + e = decoded + e', and what is carried is the left side."""
    error = np.arange(P) - 500
    reply = bench.train(error=bench.write("error", error))
    assert 0 < reply["loss"] < 10
    start = np.fromfile(bench.blob(bench.model.initial_state), "<i4")
    decoded = CODECS["int8"].decode((bench.folder / "update").read_bytes(), P)
    assert isinstance(decoded, np.ndarray)
    meant = bench.vector("weights").astype(np.int64) - start + error
    np.testing.assert_array_equal(meant, decoded + bench.vector("next_error"))
    np.testing.assert_array_equal(meant, bench.vector("carried"))
    assert np.abs(bench.vector("weights") - start).max() > 10


def test_training_repeats_itself(bench: Bench) -> None:
    one = bench.train(), bench.vector("weights").tolist()
    two = bench.train(), bench.vector("weights").tolist()
    assert one == two


def test_aggregate_is_the_rule_on_the_updates(bench: Bench) -> None:
    paths = []
    for worker, value in enumerate((300, 600, 1500)):
        update, _ = CODECS["int8"].encode(np.full(P, value))
        (bench.folder / f"u{worker}").write_bytes(update)
        paths.append(bench.path(f"u{worker}"))
    state = bench.write("state", np.arange(P))
    fields: dict[str, object] = {"state": state, "updates": paths, "seats": 3, "next_state": bench.path("next")}
    assert bench.program.answer("aggregate", fields) == {"outliers": []}
    decoded = [CODECS["int8"].encode(np.full(P, value))[1][0] for value in (300, 600, 1500)]
    assert set((bench.vector("next") - np.arange(P)).tolist()) == {round(sum(decoded) / 3)}


def test_evaluate_takes_a_state_or_weights(bench: Bench) -> None:
    pages = [bench.blob(page) for page in bench.data.held_out[:20]]
    verdict: Any = bench.program.answer("evaluate", {"state": bench.blob(bench.model.initial_state), "pages": pages})
    assert 0 <= verdict["accuracy"] <= 0.5
    assert verdict["loss"] > 0.5


def test_a_momentum_belongs_to_the_state(packed_digits: Path, tmp_path: Path) -> None:
    refused = Bench(packed_digits, tmp_path, outer="nesterov")
    assert isinstance(refused.opened, Refusal)  # its initial state holds no momentum
    both = np.concatenate([np.fromfile(refused.blob(refused.model.initial_state), "<i4"), np.zeros(P)])
    bench = Bench(packed_digits, tmp_path, outer="nesterov", initial_state=refused.write("initial", both))
    assert bench.opened == {}
    assert bench.train(state=bench.path("initial"))["loss"] > 0
    paths = {"state": bench.path("initial"), "updates": [bench.path("update")], "next_state": bench.path("next")}
    assert bench.program.answer("aggregate", {**paths, "seats": 1}) == {"outliers": []}
    assert len(bench.vector("next")) == 2 * P
    for state in ("next", "weights"):
        verdict = bench.program.answer("evaluate", {"state": bench.path(state), "pages": bench.pages(1)})
        assert not isinstance(verdict, Refusal)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ({**PAGE, "x": np.zeros((4, 63), np.float32)}, "x of the page"),
        ({**PAGE, "y": np.zeros((4, 10), np.float64)}, "y of the page"),
        ({**PAGE, "x": np.full((4, 64), np.nan, np.float32)}, "not finite"),
        ({**PAGE, "z": np.zeros(1, np.float32)}, "holds"),
        ({"x": PAGE["x"]}, "holds"),
        (None, "not safetensors"),
    ],
)
def test_a_bad_page_is_refused(bench: Bench, page: Any, reason: str) -> None:
    if page is None:
        (bench.folder / "page").write_bytes(b"\xff" * 100)
    else:
        save_file(page, bench.path("page"))
    refused = bench.train(pages=[bench.path("page")])
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_weights_that_blow_up_are_refused(bench: Bench) -> None:
    save_file({**PAGE, "x": np.full((4, 64), 3e38, np.float32)}, bench.path("page"))
    refused = bench.train(pages=[bench.path("page")] * 3)
    assert isinstance(refused, Refusal)
    assert "diverged" in refused.reason


def test_vectors_of_another_length_are_refused(bench: Bench) -> None:
    short = bench.write("short", np.zeros(P - 1))
    assert isinstance(bench.train(state=short), Refusal)
    assert isinstance(bench.train(error=short), Refusal)
    assert isinstance(bench.train(pages=[]), Refusal)


def test_updates_are_judged(bench: Bench) -> None:
    bench.train()
    good = bench.program.answer("check_update", {"update": bench.path("update")})
    (bench.folder / "bad").write_bytes((bench.folder / "update").read_bytes() + b"\0")
    bad: Any = bench.program.answer("check_update", {"update": bench.path("bad")})
    assert good == {"fault": None}
    assert "bytes" in bad["fault"]
    fields = {"state": bench.blob(bench.model.initial_state), "updates": [bench.path("bad")], "next_state": "x"}
    assert isinstance(bench.program.answer("aggregate", dict(fields)), Refusal)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": 1059}, "for 1059 values"),
        ({"batch": 8}, "the artifact takes"),
        ({"y_shape": [11]}, "the artifact takes"),
        ({"optimizer": "inject_hyperparams"}, "unknown optimizer"),
    ],
)
def test_a_package_that_is_not_what_it_says(
    packed_digits: Path, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    refused = Bench(packed_digits, tmp_path, **changes).opened
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_artifacts_swapped_or_spoilt(packed_digits: Path, tmp_path: Path) -> None:
    model = read_model_draft(packed_digits)
    swapped = Bench(packed_digits, tmp_path, predict=str(blob_path(packed_digits, model.loss_and_grad))).opened
    (tmp_path / "spoilt").write_bytes(blob_path(packed_digits, model.predict).read_bytes()[:200])
    spoilt = Bench(packed_digits, tmp_path, predict=str(tmp_path / "spoilt")).opened
    assert isinstance(swapped, Refusal)
    assert isinstance(spoilt, Refusal)
    assert "jax.export" in spoilt.reason


def test_foreign_code_is_refused(packed_digits: Path, tmp_path: Path) -> None:
    import jax
    import jax.export

    def predict(theta: Any, x: Any) -> Any:
        square = theta[:100].reshape(10, 10)
        return x[:, :10] @ jax.numpy.linalg.qr(square)[0]  # LAPACK, outside of XLA

    export = jax.export.export(jax.jit(predict), platforms=["cpu"])
    data = export(np.zeros(P, np.float32), np.zeros((4, 64), np.float32)).serialize()
    (tmp_path / "foreign").write_bytes(bytes(data))
    refused = Bench(packed_digits, tmp_path, predict=str(tmp_path / "foreign")).opened
    assert isinstance(refused, Refusal)
    assert "foreign code" in refused.reason


def test_nothing_before_open() -> None:
    assert isinstance(Program().answer("train", {}), Refusal)


# -- Proved training -----------------------------------------------------------------


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("proved")
    for what in (["model", "--model", "digits-proved", "--rule", "mean"], ["data", "--batch", "8"]):
        subprocess.run([sys.executable, "-m", "node.packing", *what, "--out", str(folder)], check=True)
    bench = Bench(folder, tmp_path_factory.mktemp("bench"))
    assert bench.opened == {}
    return bench


def test_a_proved_step_is_the_protocols(proved: Bench) -> None:
    """Each state is what `compute_step`, which the circuit is held against, makes of the one before."""
    reply = proved.train()
    spec = proved.model.step
    assert spec is not None
    assert 0.5 < reply["loss"] < 4
    states = proved.vector("states").reshape(-1, spec.state_length).astype(np.int64)
    assert len(states) == 5 + 1
    assert (states[0] == np.fromfile(proved.blob(proved.model.initial_state), "<i4")).all()
    for before, after, page in zip(states, states[1:], proved.pages(5), strict=False):
        x, y = read_grid_page(page, spec)
        stepped = compute_step(spec, before, x.astype(np.int64), y.astype(np.int64))
        assert isinstance(stepped, Stepped)
        assert (stepped.state == after).all()
    weights = proved.vector("weights")
    assert (weights == states[-1][: spec.parameters]).all()
    decoded = CODECS["exact"].decode((proved.folder / "update").read_bytes(), spec.parameters)
    assert (weights - states[0] == decoded).all()
    assert not proved.vector("next_error").any()
    fields = {"state": proved.blob(proved.model.initial_state), "update": proved.path("update")}
    assert proved.program.answer("land", {**fields, "weights": proved.path("landed")}) == {}
    assert (proved.vector("landed") == weights).all()


def test_a_proved_model_can_be_judged(proved: Bench) -> None:
    pages = [proved.blob(page) for page in proved.data.held_out[:20]]
    before = proved.program.answer("evaluate", {"state": proved.blob(proved.model.initial_state), "pages": pages})
    proved.train(pages=proved.pages(100))
    after = proved.program.answer("evaluate", {"state": proved.path("weights"), "pages": pages})
    assert after["loss"] < 0.8 < before["loss"]
    assert after["accuracy"] > 0.75


def test_a_step_that_leaves_its_range_is_refused(proved: Bench) -> None:
    wild = proved.write("wild", np.full(proved.model.parameters, 1 << 14))
    refusal = proved.train(state=wild)
    assert isinstance(refusal, Refusal)
    assert "out of range" in refusal.reason
