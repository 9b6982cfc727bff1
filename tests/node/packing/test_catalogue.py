"""The catalogue and `skynet model pack`: packages without Python, from one's own file, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from node.cli.main import main
from node.client.pack import copy_package
from node.compute.artifact import load_artifact
from node.errors import ConfigError, ContentError, ExitCode
from node.packing import manifest
from node.packing.catalogue import build_source, compute_cross_entropy, load_spec
from node.packing.flat import flatten_model

MLP = """
name = "perceptron"
[mlp]
inputs = 6
hidden = [5, 4]
outputs = 3
[recipe]
batch = 2
optimizer = "sgd"
codec = "top2"
rule = "history+mean"
"""
CNN = """
name = "cnn"
loss = "cross_entropy"
[cnn]
height = 6
width = 7
colours = 2
outputs = 3
channels = [2, 3]
"""
GPT = """
name = "gpt"
loss = "cross_entropy"
[gpt]
vocabulary = 7
context = 5
width = 8
heads = 2
layers = 1
"""
PURE = """
import jax, jax.numpy as jnp
X_SHAPE, Y_SHAPE = (8,), (3,)
def build():
    return (lambda key: {"w": jax.random.normal(key, (8, 3))}), (lambda tree, x: x @ tree["w"])
def loss(prediction, y):
    return 0.25 * jnp.sum((prediction - y) ** 2)
"""


def test_a_described_model_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlp.toml").write_text(MLP)
    out = tmp_path / "pkg"
    assert main(["model", "pack", "--spec", str(tmp_path / "mlp.toml"), "--out", str(out), "--json"]) == ExitCode.OK
    said = json.loads(capsys.readouterr().out)
    draft = manifest.read_model_draft(out)
    assert (said["name"], said["parameters"]) == (draft.name, draft.parameters) == ("perceptron", 74)
    assert (draft.optimizer, draft.codec, draft.rule, draft.batch) == ("sgd", "top2", "history+mean", 2)
    # θ and, for the history, a momentum at rest.
    assert manifest.blob_path(out, draft.initial_state).stat().st_size == 2 * 4 * 74
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert copy_package(out, scratch) == manifest.read_model_draft(scratch) == draft
    manifest.blob_path(out, draft.onnx).write_bytes(b"other")
    with pytest.raises(ContentError, match="does not hash to its name"):
        copy_package(out, scratch)
    manifest.blob_path(out, draft.onnx).unlink()
    with pytest.raises(ContentError, match="can't be read"):
        copy_package(out, scratch)


def test_pure_functions_and_a_loss_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(PURE)
    out = tmp_path / "pkg"
    command = ["model", "pack", f"{tmp_path / 'mine.py'}:build", "--out", str(out), "--batch", "2", "--name", "pure"]
    assert main(command) == ExitCode.OK
    assert 'package = "' in capsys.readouterr().out
    draft = manifest.read_model_draft(out)
    path = str(manifest.blob_path(out, draft.loss_and_grad))
    loss_and_grad = load_artifact(path, inputs=((24,), (2, 8), (2, 3)), outputs=((), (24,)))
    loss, _ = loss_and_grad(np.zeros(24, np.float32), np.ones((2, 8), np.float32), np.ones((2, 3), np.float32))
    assert float(loss) == 1.5


@pytest.mark.parametrize(("spec", "parameters"), [(CNN, 95 + 12), (GPT, 1031)])
def test_the_catalogues_other_models_are_functions(tmp_path: Path, spec: str, parameters: int) -> None:
    (tmp_path / "spec.toml").write_text(spec)
    source = build_source(load_spec(tmp_path / "spec.toml"))
    assert source.x_shape is not None
    assert source.y_shape is not None
    model = flatten_model(source, source.x_shape, 1)
    rng = np.random.default_rng(1)
    y = np.eye(source.y_shape[-1], dtype=np.float32)[rng.integers(0, source.y_shape[-1], (2, *source.y_shape[:-1]))]
    x = rng.integers(0, 7, (2, *source.x_shape)).astype(np.float32)
    loss, grad = jax.jit(jax.value_and_grad(model.loss))(model.initial, x, y)
    assert grad.shape == model.initial.shape
    assert np.isfinite(grad).all()
    assert 0.2 < float(loss) < 6
    if "gpt" in spec:  # what comes later is not seen
        changed = x.copy()
        changed[:, 3:] = 6 - changed[:, 3:]
        one, two = (np.asarray(model.predict(model.initial, each)) for each in (x, changed))
        np.testing.assert_allclose(one[:, :3], two[:, :3], atol=1e-6)
        assert np.abs(one[:, 3:] - two[:, 3:]).max() > 1e-4


if os.environ.get("SKYNET_PROFILE") == "ci":  # the exporter that they need takes ten seconds to start

    @pytest.mark.parametrize("spec", [CNN, GPT])
    def test_the_catalogues_other_models_are_packed(tmp_path: Path, spec: str) -> None:
        (tmp_path / "spec.toml").write_text(spec)
        command = ["model", "pack", "--spec", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "pkg")]
        assert main(command) == ExitCode.OK


def test_a_described_perceptron_is_packed_for_proved_training(tmp_path: Path) -> None:
    (tmp_path / "mlp.toml").write_text(MLP)
    out = tmp_path / "pkg"
    options = ["--proves", "training", "--optimizer", "sgd", "--learning-rate", "0.03", "--batch", "8"]
    assert main(["model", "pack", "--spec", str(tmp_path / "mlp.toml"), *options, "--out", str(out)]) == ExitCode.OK
    draft = manifest.read_model_draft(out)
    assert draft.onnx is None
    step = draft.step
    assert step is not None
    assert (step.optimizer, step.batch) == ("sgd", 8)
    assert (draft.scale_bits, draft.learning_rate, draft.codec) == (12, step.learning_rate, "exact")
    assert step.learning_rate == pytest.approx(0.03, rel=1 / 64)
    assert [tensor.shape for tensor in draft.layout][:2] == [(step.sizes[0], step.sizes[1]), (step.sizes[1],)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--optimizer", "adam"], "adam can't be proved"),
        (["--optimizer", "sgd", "--batch", "6"], "power of two"),
        (["--optimizer", "sgd", "--learning-rate", "1e-7"], "too small to prove"),
        (["--optimizer", "sgd", "--learning-rate", "1e9"], "learning rate of"),
    ],
)
def test_training_that_cannot_be_proved_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    (tmp_path / "mlp.toml").write_text(MLP)
    command = ["model", "pack", "--spec", str(tmp_path / "mlp.toml"), "--proves", "training", *options]
    assert main([*command, "--out", str(tmp_path / "pkg")]) == ExitCode.CONTENT
    assert said in capsys.readouterr().err


def test_cross_entropy_is_the_textbooks() -> None:
    outputs = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]], np.float32)
    y = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    expected = -(3 - np.log(np.exp([1.0, 2.0, 3.0]).sum())) / 2
    assert float(compute_cross_entropy(outputs, y)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (MLP + CNN.partition('"cross_entropy"')[2], "just one of"),
        ('name = "none"', "just one of"),
        (GPT.replace("heads = 2", "heads = 3"), "multiple of gpt.heads"),
        (CNN.replace("[2, 3]", "[2, 3, 4]"), "can be halved"),
        (MLP.replace("[5, 4]", "[0]"), "hidden"),
        (MLP.replace("sgd", "sgdd"), "optimizer"),
        (MLP.replace("inputs = 6", "inputs = 0"), "inputs"),
        (MLP.replace("outputs", "output"), "output"),
    ],
)
def test_a_wrong_description_names_its_key(tmp_path: Path, spec: str, said: str) -> None:
    (tmp_path / "spec.toml").write_text(spec)
    with pytest.raises(ConfigError, match=said):
        load_spec(tmp_path / "spec.toml")


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("raise RuntimeError('mine')", [], "its file fails: RuntimeError: mine"),
        (PURE.replace("X_SHAPE, Y_SHAPE = (8,), (3,)", ""), [], "its shapes are not known"),
        (PURE, ["--codec", "top2", "--rule", "median"], "learns nothing"),
        (PURE, ["--batch", "none"], "--batch"),
    ],
)
def test_what_cannot_be_packed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, options: list[str], said: str
) -> None:
    (tmp_path / "mine.py").write_text(source)
    command = ["model", "pack", f"{tmp_path / 'mine.py'}:build", "--out", str(tmp_path / "pkg"), *options]
    assert main(command) == ExitCode.CONTENT
    assert said in capsys.readouterr().err
