"""Drafts: what packing made, before circuit keys and sealing are known, and the manifests that follow.

The packing program leaves a folder of blobs (named by content id in hex) and a draft as JSON. Whoever has
the prover's answers turns drafts into manifests with `finalise_package` and `finalise_dataset`.
Free of jax: the requester's client imports it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from protocols.ids import Commitment, ContentId
from protocols.package import VERSION, Circuit, Dataset, Package, Page, Tensor, TrainingCircuit
from protocols.training_step import StepSpec

MODEL_DRAFT = "model.json"
DATA_DRAFT = "data.json"

# -- Drafts --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """A package but for its circuit's keys; fields as in `protocols.package.Package`."""

    name: str
    license: str
    layout: tuple[Tensor, ...]
    scale_bits: int
    loss_and_grad: ContentId
    predict: ContentId
    initial_state: ContentId
    onnx: ContentId | None
    """Statement E: (theta f32[P], x f32[B,…], y f32[B,…]) -> loss f32[]. None where training steps are proved."""
    step: StepSpec | None
    """Statement T: what each inner step is."""
    optimizer: str
    learning_rate: float
    batch: int
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    codec: str
    rule: str
    outer: str

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.layout)

    @property
    def blobs(self) -> tuple[ContentId, ...]:
        """What the workers need besides the circuit's settings and SRS."""
        return (self.loss_and_grad, self.predict, self.initial_state, *([] if self.onnx is None else [self.onnx]))


@dataclass(frozen=True, slots=True)
class DataDraft:
    """A dataset but for sealing and commitments."""

    name: str
    license: str
    batch: int
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    train: tuple[ContentId, ...]
    """Opened pages."""
    held_out: tuple[ContentId, ...]
    """Held-out pages, opened."""


def read_model_draft(folder: Path) -> ModelDraft:
    raw = _read(folder / MODEL_DRAFT)
    raw["layout"] = tuple(Tensor(tensor["name"], tuple(tensor["shape"])) for tensor in raw["layout"])
    for name in ("loss_and_grad", "predict", "initial_state"):
        raw[name] = _content(raw[name])
    onnx, step = raw["onnx"], raw["step"]
    raw["onnx"] = None if onnx is None else _content(onnx)
    raw["step"] = None if step is None else StepSpec(**{**step, "sizes": tuple(step["sizes"])})
    if (onnx is None) == (step is None):
        raise ValueError("it does not have just one of onnx and step")
    return ModelDraft(**raw)


def read_data_draft(folder: Path) -> DataDraft:
    raw = _read(folder / DATA_DRAFT)
    for name in ("train", "held_out"):
        raw[name] = tuple(map(_content, raw[name]))
    return DataDraft(**raw)


def write_draft(folder: Path, draft: ModelDraft | DataDraft) -> None:
    name = MODEL_DRAFT if isinstance(draft, ModelDraft) else DATA_DRAFT
    (folder / name).write_text(json.dumps(asdict(draft), indent=1, default=bytes.hex) + "\n")


def _content(text: str) -> ContentId:
    return ContentId(bytes.fromhex(text))


def _read(path: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(path.read_text())
    return {**raw, "x_shape": tuple(raw["x_shape"]), "y_shape": tuple(raw["y_shape"])}


# -- Blobs ---------------------------------------------------------------------


def name_content(data: bytes) -> ContentId:
    return ContentId(blake3(data).digest())


def write_blob(folder: Path, data: bytes) -> ContentId:
    content = name_content(data)
    (folder / content.hex()).write_bytes(data)
    return content


def blob_path(folder: Path, content: ContentId) -> Path:
    return folder / content.hex()


# -- Manifests -----------------------------------------------------------------


def finalise_package(draft: ModelDraft, circuit: Circuit | TrainingCircuit) -> Package:
    """Add the circuit, whose keys the prover made from the draft. ValueError if it made them from another."""
    made_from = circuit.step if isinstance(circuit, TrainingCircuit) else circuit.onnx
    if made_from != (draft.onnx or draft.step):
        raise ValueError("the circuit is of another model")
    return Package(
        version=VERSION,
        name=draft.name,
        license=draft.license,
        layout=draft.layout,
        scale_bits=draft.scale_bits,
        loss_and_grad=draft.loss_and_grad,
        predict=draft.predict,
        initial_state=draft.initial_state,
        optimizer=draft.optimizer,
        learning_rate=draft.learning_rate,
        batch=draft.batch,
        x_shape=draft.x_shape,
        y_shape=draft.y_shape,
        codec=draft.codec,
        rule=draft.rule,
        outer=draft.outer,
        circuit=circuit,
    )


def finalise_dataset(
    draft: DataDraft,
    sealed: Mapping[ContentId, ContentId],
    commitments: Mapping[ContentId, tuple[Commitment, Commitment]],
) -> Dataset:
    """Add for each opened page the name of its sealed bytes, and C(x) and C(y) where they are given."""
    train, held_out = (
        tuple(Page(sealed[page], page, commitments.get(page)) for page in pages)
        for pages in (draft.train, draft.held_out)
    )
    return Dataset(
        version=VERSION,
        name=draft.name,
        license=draft.license,
        train=train,
        held_out=held_out,
    )
