"""A job on scikit-learn's handwritten digits, packed in memory: package, dataset, and every blob that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from blake3 import blake3

from node.packing.digits import load_digits
from protocols.ids import Commitment, ContentId, Digest
from protocols.job import compute_key_digest
from protocols.package import (
    VERSION,
    Circuit,
    Dataset,
    Package,
    Page,
    TrainingCircuit,
    encode_dataset,
    encode_package,
)
from protocols.training_step import WEIGHT_BITS, StepSpec
from sim import model, prover

SIZES = model.Sizes(64, 14, 10)
BATCH = 16
SCALE_BITS = 13
LOSS_SCALE_BITS = 15
LEARNING_RATE = 0.01
STEP = StepSpec((64, 14, 10), BATCH, "squared", "sgd", rate=1, rate_bits=3)
HELD_OUT = 22  # pages: a fifth of the 1,797 images
RULE, OUTER = "mean", "none"

Seal = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Packed:
    package: Package
    dataset: Dataset
    blobs: Mapping[ContentId, bytes]
    """What a node fetches, manifests included."""
    held_out: tuple[model.Rows, ...]
    words: tuple[int, ...]
    """The verifying key."""
    start: Commitment
    """C(θ_0)."""

    @property
    def package_id(self) -> ContentId:
        return name(encode_package(self.package))

    @property
    def dataset_id(self) -> ContentId:
        return name(encode_dataset(self.dataset))


def name(data: bytes) -> ContentId:
    return ContentId(blake3(data).digest())


def pack_digits(seed: int, seal: Seal, *, is_proved: bool = False) -> Packed:
    """Shuffle, centre and cut the images into pages, draw θ_0, and describe the circuit that never runs."""
    rng = np.random.default_rng(seed)
    blobs: dict[ContentId, bytes] = {}

    def keep(data: bytes) -> ContentId:
        blobs[name(data)] = data
        return name(data)

    rows = _draw_pages(rng)
    held_out, train = rows[:HELD_OUT], rows[HELD_OUT:]
    scale_bits = WEIGHT_BITS if is_proved else SCALE_BITS
    theta = model.to_grid(model.draw_initial(SIZES, rng), scale_bits)
    package = _describe(
        keep, keep(model.encode_vector(theta)), _describe_step(keep) if is_proved else _draw_circuit(keep)
    )
    pack_train, pack_held_out = (_pack_committed, _pack_page) if is_proved else (_pack_page, _pack_committed)
    dataset = Dataset(
        version=VERSION,
        name="digits",
        license="CC-BY-4.0",
        train=tuple(pack_train(page, seal, keep) for page in train),
        held_out=tuple(pack_held_out(page, seal, keep) for page in held_out),
    )
    keep(encode_package(package))
    keep(encode_dataset(dataset))
    words = prover.compute_words(*prover.list_parts(package.circuit))
    return Packed(package, dataset, blobs, held_out, words, prover.commit(model.encode_vector(theta)))


def _draw_pages(rng: np.random.Generator) -> tuple[model.Rows, ...]:
    digits = load_digits()
    order = rng.permutation(len(digits.x))
    x, y = digits.x[order].astype(np.float64), digits.y[order].astype(np.float64)
    # Without the mean image every pixel is positive, and half of the ReLUs are dead from the start.
    x = (x - x.mean(axis=0)).astype(np.float32).astype(np.float64)
    pages = [slice(i, i + BATCH) for i in range(0, len(x) - BATCH + 1, BATCH)]
    return tuple(model.Rows(x[page], y[page]) for page in pages)


def _pack_page(rows: model.Rows, seal: Seal, keep: Callable[[bytes], ContentId]) -> Page:
    plain = model.encode_page(rows)
    return Page(keep(seal(plain)), name(plain))


def _pack_committed(rows: model.Rows, seal: Seal, keep: Callable[[bytes], ContentId]) -> Page:
    plain = model.encode_page(rows)
    return Page(keep(seal(plain)), name(plain), prover.commit_page(rows))


def _describe_step(keep: Callable[[bytes], ContentId]) -> TrainingCircuit:
    srs = keep(b"skynet-sim srs")
    circuit = TrainingCircuit(STEP, srs, "insecure-local", 15, Digest(bytes(32)), "simulated")
    return replace(circuit, vk_digest=compute_key_digest(prover.compute_words(*prover.list_parts(circuit))))


def _draw_circuit(keep: Callable[[bytes], ContentId]) -> Circuit:
    onnx, settings, srs = (keep(b"skynet-sim " + part) for part in (b"circuit", b"settings", b"srs"))
    return Circuit(
        onnx=onnx,
        settings=settings,
        srs=srs,
        srs_origin="insecure-local",
        logrows=13,
        vk_digest=compute_key_digest(prover.compute_words(onnx, settings, srs)),
        ezkl_version="simulated",
        loss_scale_bits=LOSS_SCALE_BITS,
    )


def _describe(
    keep: Callable[[bytes], ContentId], initial_state: ContentId, circuit: Circuit | TrainingCircuit
) -> Package:
    is_proved = isinstance(circuit, TrainingCircuit)
    return Package(
        version=VERSION,
        name="digits-perceptron",
        license="Apache-2.0",
        layout=SIZES.layout,
        scale_bits=WEIGHT_BITS if is_proved else SCALE_BITS,
        loss_and_grad=keep(model.MARK),
        predict=keep(model.MARK),
        initial_state=initial_state,
        optimizer="sgd" if is_proved else "adam",
        learning_rate=STEP.learning_rate if is_proved else LEARNING_RATE,
        batch=BATCH,
        x_shape=(SIZES.inputs,),
        y_shape=(SIZES.outputs,),
        codec="exact" if is_proved else "int8",
        rule=RULE,
        outer=OUTER,
        circuit=circuit,
    )
