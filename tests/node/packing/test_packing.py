"""Packing: drafts survive, pages hold the real digits once each, circuits agree, manifests follow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load

from node.compute.artifact import load_artifact
from node.errors import ContentError, ExitCode
from node.packing import manifest
from node.packing.__main__ import main
from node.packing.data import Rows, Split, pack_data
from node.packing.digits import load_digits
from protocols.ids import Commitment, ContentId, Digest
from protocols.package import Circuit, decode_dataset, decode_package, encode_dataset, encode_package

P = 1060


def read_pages(folder: Path, pages: tuple[ContentId, ...]) -> dict[str, np.ndarray[Any, Any]]:
    loaded = [load(manifest.blob_path(folder, page).read_bytes()) for page in pages]
    return {name: np.concatenate([page[name] for page in loaded]) for name in ("x", "y")}


def test_our_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits as load_theirs

    x, y = load_theirs(return_X_y=True)
    rows = load_digits()
    np.testing.assert_array_equal(rows.x * 16 + 5, x)
    np.testing.assert_array_equal(rows.y.argmax(axis=1), y)
    assert rows.x.dtype == rows.y.dtype == np.float32


def test_pages_share_out_the_rows(packed_digits: Path) -> None:
    draft = manifest.read_data_draft(packed_digits)
    assert (len(draft.train), len(draft.held_out), draft.batch) == (359, 90, 4)
    pages = read_pages(packed_digits, draft.train + draft.held_out)
    whole = load_digits()
    packed = np.hstack([pages["x"], pages["y"]])
    everything = np.hstack([whole.x, whole.y])
    assert len(packed) == 1796
    _, ours = np.unique(packed, axis=0, return_counts=True)
    _, theirs = np.unique(everything, axis=0, return_counts=True)
    assert ours.sum() == theirs.sum() - 1
    assert {row.tobytes() for row in packed} <= {row.tobytes() for row in everything}


def test_a_seed_is_a_shuffle(tmp_path: Path) -> None:
    drafts = []
    for index, (seed, permute) in enumerate([(1, False), (1, False), (2, False), (1, True)]):
        folder = tmp_path / str(index)
        folder.mkdir()
        drafts.append(pack_data(load_digits(), Split(4, 10, seed, permute), folder))
    assert drafts[0] == drafts[1]
    assert len({draft.train for draft in drafts}) == 3


def test_permuted_labels_are_everybodys_but_ones_own(tmp_path: Path) -> None:
    draft = pack_data(load_digits(), Split(4, 90, 1, permute_labels=True), tmp_path)
    pages = read_pages(tmp_path, draft.train + draft.held_out)
    whole = load_digits()
    label = {x.tobytes(): y.argmax() for x, y in zip(whole.x, whole.y, strict=True)}
    agreement = np.mean([label[x.tobytes()] == y.argmax() for x, y in zip(pages["x"], pages["y"], strict=True)])
    assert agreement < 0.15
    assert pages["y"].sum(axis=0).min() > 170


def test_too_few_rows(tmp_path: Path) -> None:
    rows = Rows("few", "none", np.zeros((10, 2), np.float32), np.zeros((10, 1), np.float32))
    with pytest.raises(ContentError, match="10 rows are too few for 2 held-out pages of 5"):
        pack_data(rows, Split(5, 2, 1), tmp_path)


def test_circuit_and_artifacts_are_one_model(packed_digits: Path) -> None:
    draft = manifest.read_model_draft(packed_digits)
    paths = {name: str(manifest.blob_path(packed_digits, getattr(draft, name))) for name in ("loss_and_grad", "onnx")}
    loss_and_grad = load_artifact(paths["loss_and_grad"], inputs=((P,), (4, 64), (4, 10)), outputs=((), (P,)))
    session = onnxruntime.InferenceSession(paths["onnx"], providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(7)
    for _ in range(5):
        theta, x = rng.normal(size=P).astype(np.float32), rng.normal(size=(4, 64)).astype(np.float32)
        y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 4)]
        (loss,) = session.run(None, {"theta": theta, "x": x, "y": y})
        assert loss == pytest.approx(float(loss_and_grad(theta, x, y)[0]), rel=1e-5)
    assert [value.name for value in session.get_outputs()] == ["loss"]


def test_packing_again_gives_the_same_names(packed_digits: Path, tmp_path: Path) -> None:
    """Names are in the terms: a requester that packs twice must not publish twice."""
    subprocess.run(
        [sys.executable, "-m", "node.packing", "model", "--rule", "mean", "--out", str(tmp_path)], check=True
    )
    assert manifest.read_model_draft(tmp_path) == manifest.read_model_draft(packed_digits)


def test_drafts_become_manifests(packed_digits: Path) -> None:
    model, data = manifest.read_model_draft(packed_digits), manifest.read_data_draft(packed_digits)
    circuit = Circuit(
        model.onnx, ContentId(bytes(32)), ContentId(bytes(32)), "insecure-local", 13, Digest(bytes(32)), "23.0.5", 26
    )
    package = manifest.finalise_package(model, circuit)
    assert decode_package(encode_package(package)) == package
    assert package.parameters == P
    sealed = {page: manifest.name_content(page) for page in (*data.train, *data.held_out)}
    points = {page: (Commitment(bytes(64)), Commitment(page * 2)) for page in data.held_out}
    dataset = manifest.finalise_dataset(data, sealed, points)
    assert decode_dataset(encode_dataset(dataset)) == dataset
    assert [page.opened for page in dataset.held_out] == list(data.held_out)
    other = Circuit(**{**_fields(circuit), "onnx": ContentId(b"\1" * 32)})
    with pytest.raises(ValueError, match="another model"):
        manifest.finalise_package(model, other)


def _fields(circuit: Circuit) -> dict[str, Any]:
    return {name: getattr(circuit, name) for name in circuit.__slots__}


def test_the_manifests_need_no_jax() -> None:
    code = "import sys, node.packing.manifest; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


LINEN = """
import flax.linen as nn
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(6)(x))
        x = nn.relu(nn.Dense(5, use_bias=False)(x) - 0.5) / 2.0
        return nn.Dense(3)(-x * x)
net = Net()
"""
NNX = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (8,)))
        self.last = nnx.Linear(8, 3, rngs=rngs)
    def __call__(self, x):
        for layer in self.layers:
            x = x + nnx.relu(layer(x)) * self.scale
        return self.last(x)
"""
STATEFUL = """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(8, rngs=rngs)
    def __call__(self, x):
        return self.norm(x)
"""


@pytest.mark.parametrize(("source", "name", "parameters"), [(LINEN, "net", 102), (NNX, "Net", 179)])
def test_a_model_of_ones_own(tmp_path: Path, source: str, name: str, parameters: int) -> None:
    (tmp_path / "mine.py").write_text(source)
    command = ["model", "--model", f"{tmp_path / 'mine.py'}:{name}", "--x-shape", "8", "--y-shape", "3"]
    assert main([*command, "--out", str(tmp_path / "out"), "--outer", "nesterov", "--batch", "2"]) == ExitCode.OK
    draft = manifest.read_model_draft(tmp_path / "out")
    assert draft.name == name
    assert sum(np.prod(tensor.shape) for tensor in draft.layout) == parameters
    assert manifest.blob_path(tmp_path / "out", draft.initial_state).stat().st_size == 2 * 4 * parameters


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (STATEFUL, [], "it keeps state besides its parameters"),
        (NNX, ["--rule", "mode"], "unknown rule 'mode'"),
        ("Other = 1", [], "defines no 'Net'"),
    ],
)
def test_what_cannot_be_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, options: list[str], said: str
) -> None:
    (tmp_path / "mine.py").write_text(source)
    command = ["model", "--model", f"{tmp_path / 'mine.py'}:Net", "--x-shape", "8", "--y-shape", "8", *options]
    assert main([*command, "--out", str(tmp_path / "out")]) == ExitCode.CONTENT
    assert said in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["model", "--model", "nowhere.py:Net", "--x-shape", "1", "--y-shape", "1", "--out", str(tmp_path)]
    assert main(arguments) == ExitCode.CONTENT
    assert "nowhere.py:Net: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--optimizer", "newton"], ["--learning-rate", "-1"], ["--batch", "0"], ["--x-shape", "8,no"]]
)
def test_a_wrong_command_line_is_usage(options: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["model", *options, "--out", str(tmp_path)])
    assert raised.value.code == ExitCode.USAGE


@pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="the exporter takes 20 s")
@pytest.mark.slow
def test_what_the_table_lacks_goes_through_jax2onnx(tmp_path: Path) -> None:
    (tmp_path / "cnn.py").write_text(
        "import flax.linen as nn\n"
        "class Net(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        x = nn.relu(nn.Conv(2, (3, 3), padding='VALID')(x))\n"
        "        return nn.Dense(3)(x.reshape((x.shape[0], -1)))\n"
        "net = Net()\n"
    )
    command = ["-m", "node.packing", "model", "--model", f"{tmp_path / 'cnn.py'}:net", "--out", str(tmp_path)]
    # In a process of its own, as in use: jax2onnx patches the libraries that it finds.
    subprocess.run([sys.executable, *command, "--x-shape", "6,6,1", "--y-shape", "3"], check=True)
    draft = manifest.read_model_draft(tmp_path)
    session = onnxruntime.InferenceSession(str(manifest.blob_path(tmp_path, draft.onnx)))
    assert [value.name for value in session.get_inputs()] == ["theta", "x", "y"]
