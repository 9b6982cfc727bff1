"""Model packages and datasets: the manifests that name every artifact by content id.

No Python, no pickle: a package is `jax.export` artifacts, an ONNX circuit and numbers.
A manifest is a msgpack map with the fields below in their order. There is exactly one encoding of a
manifest: a node that decodes bytes and encodes them again gets the same bytes, or it refuses them.
Spec: protocols/README.md, "Packages".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar

import msgpack

from protocols.aggregation import validate_recipe
from protocols.ids import Commitment, ContentId, Digest
from protocols.training_step import WEIGHT_BITS, StepSpec, validate_spec
from protocols.verdict import Reject

VERSION = 1
OPTIMIZERS = ("adam", "adamw", "lion", "rmsprop", "sgd")
"""Inner optimizers: names in optax, called with the learning rate alone. Their state begins anew each round."""
SRS_ORIGINS = ("ceremony", "insecure-local")

# Bounds: what a stranger's manifest may ask for. Lower refuses honest work; higher lets it grab before it is known.
MAX_PACKAGE_BYTES = 64 * 1024
MAX_DATASET_BYTES = 24 * 1024 * 1024  # 100,000 pages, 240 bytes each
MAX_PAGES = 100_000
MAX_TENSORS = 512
MAX_AXES = 8
MAX_PARAMETERS = 1 << 28  # 1 GiB of float32
MAX_TEXT_CHARS = 200
MAX_BATCH = 1 << 16
MAX_SCALE_BITS = 24  # float32 has no more
MAX_PATH = 4096  # states of a T job's round: they are kept and committed to one by one

# -- Package -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Circuit:
    """Statement E in ezkl: inputs theta, x, y (each one KZG column), output the public loss."""

    onnx: ContentId
    settings: ContentId
    """ezkl's settings.json, canonical bytes."""
    srs: ContentId
    srs_origin: str
    """`ceremony` or `insecure-local`."""
    logrows: int
    vk_digest: Digest
    ezkl_version: str
    loss_scale_bits: int
    """The public loss is instance / 2**loss_scale_bits."""

    @property
    def blobs(self) -> tuple[ContentId, ...]:
        """What whoever rebuilds it has to fetch."""
        return (self.onnx, self.settings, self.srs)


@dataclass(frozen=True, slots=True)
class TrainingCircuit:
    """Statement T in ezkl: built from the specification of a step alone, so there is no graph to fetch."""

    step: StepSpec
    """What every inner step of the job is, to the bit."""
    srs: ContentId
    srs_origin: str
    """`ceremony` or `insecure-local`."""
    logrows: int
    vk_digest: Digest
    ezkl_version: str

    @property
    def blobs(self) -> tuple[ContentId, ...]:
        """What whoever rebuilds it has to fetch."""
        return (self.srs,)


@dataclass(frozen=True, slots=True)
class Package:
    version: int
    name: str
    license: str
    layout: tuple[Tensor, ...]
    """How the flat vector is cut: row-major, in this order."""
    scale_bits: int
    """θ = integer / 2**scale_bits."""
    loss_and_grad: ContentId
    """jax.export artifact: (theta f32[P], x f32[B,…], y f32[B,…]) -> (loss f32[], grad f32[P])."""
    predict: ContentId
    """jax.export artifact: (theta f32[P], x f32[B,…]) -> f32[B,C]."""
    initial_state: ContentId
    optimizer: str
    """Name in the allow-list of optax optimizers. A T job takes the steps of its circuit, and this is `sgd`."""
    learning_rate: float
    batch: int
    """Rows of a page."""
    x_shape: tuple[int, ...]
    """Without the batch axis."""
    y_shape: tuple[int, ...]
    codec: str
    """Update codec by name: `int8`, `int8z`, `top2`."""
    rule: str
    """Aggregation rule by name, a chain such as `history+median`; see `protocols/rule.py`."""
    outer: str
    """Outer optimizer by name: `none`, `nesterov`."""
    circuit: Circuit | TrainingCircuit
    """What is proved: by which circuit this is told what kind of job it is."""

    @property
    def parameters(self) -> int:
        """P, the length of the flat vector."""
        return sum(math.prod(tensor.shape) for tensor in self.layout)


# -- Dataset -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A batch of rows, safetensors {x, y}, sealed to the job."""

    sealed: ContentId
    """Names the sealed bytes."""
    opened: ContentId
    """Names the plaintext."""
    commitments: tuple[Commitment, Commitment] | None = None
    """C(x) and C(y), where proofs are about the page."""


@dataclass(frozen=True, slots=True)
class Dataset:
    version: int
    name: str
    license: str
    train: tuple[Page, ...]
    held_out: tuple[Page, ...]
    """What nobody trains on: the model is judged by them."""

    def proved_pages(self, circuit: Circuit | TrainingCircuit) -> tuple[Page, ...]:
        """Return what proofs are about, committed before training; the root over them is in the terms."""
        return self.train if isinstance(circuit, TrainingCircuit) else self.held_out


def page_commitments(pages: tuple[Page, ...]) -> tuple[tuple[Commitment, Commitment], ...]:
    """Return C(x) and C(y) of pages that proofs are about. ValueError where one has none."""
    found = tuple(page.commitments for page in pages if page.commitments is not None)
    if len(found) < len(pages):
        raise ValueError("a page that proofs are about has no commitments")
    return found


# -- Bytes ---------------------------------------------------------------------


def encode_package(package: Package) -> bytes:
    return _pack(package)


def decode_package(data: bytes) -> Package | Reject:
    """Return the manifest, its numbers within bounds and its names known."""
    package = _decode(data, MAX_PACKAGE_BYTES, _package)
    if isinstance(package, Reject):
        return package
    if not 0 < package.parameters <= MAX_PARAMETERS:
        return Reject(f"{package.parameters} parameters: at most {MAX_PARAMETERS}")
    return _validate_training(package) or validate_recipe(package.codec, package.rule, package.outer) or package


def _validate_training(package: Package) -> Reject | None:
    """Hold a T job's step against everything else that the manifest says of the model."""
    circuit = package.circuit
    if not isinstance(circuit, TrainingCircuit):
        return None
    step = circuit.step
    if fault := validate_spec(step):
        return fault
    layers = [shape for n, m in itertools.pairwise(step.sizes) for shape in ((n, m), (m,))]
    holds = {
        "layout": [tensor.shape for tensor in package.layout] == layers,
        "scale_bits": package.scale_bits == WEIGHT_BITS,
        "optimizer": package.optimizer == step.optimizer == "sgd" and package.learning_rate == step.learning_rate,
        "codec": package.codec == "exact",  # an update that is no more and no less than the steps
        "batch": package.batch == step.batch,
        "x_shape": package.x_shape == step.sizes[:1],
        "y_shape": package.y_shape == step.sizes[-1:],
    }
    wrong = [name for name, fits in holds.items() if not fits]
    return Reject(f"the step that is proved is not the model's in: {', '.join(wrong)}") if wrong else None


def encode_dataset(dataset: Dataset) -> bytes:
    return _pack(dataset)


def decode_dataset(data: bytes) -> Dataset | Reject:
    """Return the manifest; it has at least one training page and one held-out page."""
    return _decode(data, MAX_DATASET_BYTES, _dataset)


_T = TypeVar("_T")
_Reader = Callable[[object], _T]
"""Returns the value if it is of its kind; raises `_Unfit`."""


class _Unfit(ValueError):
    """Stays in this module: what leaves it is a `Reject`."""


def _pack(value: object) -> bytes:
    return bytes(msgpack.packb(_to_plain(value), use_bin_type=True))


def _to_plain(value: object) -> object:
    if is_dataclass(value):
        return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}
    return [_to_plain(item) for item in value] if isinstance(value, tuple) else value


def _decode(data: bytes, limit_bytes: int, read: _Reader[_T]) -> _T | Reject:
    if len(data) > limit_bytes:
        return Reject(f"a manifest of {len(data)} bytes: at most {limit_bytes}")
    try:
        # The bound on arrays is also one on memory: the parser reserves what a header claims.
        value = msgpack.unpackb(data, raw=False, max_array_len=MAX_PAGES, max_map_len=32, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return Reject("the manifest is not msgpack")
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return Reject(f"not a manifest of version {VERSION}, the only one known here")
    try:
        manifest = read(value)
    except _Unfit as unfit:
        return Reject(str(unfit))
    return manifest if _pack(manifest) == data else Reject("the manifest is not in its canonical form")


# -- Readers -------------------------------------------------------------------


def _integer(low: int, high: int, value: object) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _Unfit(f"an integer of {low} … {high} was expected")
    return value


def _positive_number(value: object) -> float:
    if type(value) is not float or not math.isfinite(value) or value <= 0:
        raise _Unfit("a positive number was expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_TEXT_CHARS:
        raise _Unfit(f"a printable text of 1 … {MAX_TEXT_CHARS} characters was expected")
    return value


def _choice(known: tuple[str, ...], value: object) -> str:
    if not isinstance(value, str) or value not in known:
        raise _Unfit(f"one of {', '.join(known)} was expected")
    return value


def _bytes(length: int, value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise _Unfit(f"{length} bytes were expected")
    return value


def _many(read: _Reader[_T], low: int, high: int, value: object) -> tuple[_T, ...]:
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise _Unfit(f"a list of {low} … {high} was expected")
    return tuple(read(item) for item in value)


def _fields(value: object, readers: dict[str, _Reader[object]]) -> dict[str, Any]:
    if not isinstance(value, dict) or tuple(value) != tuple(readers):
        raise _Unfit(f"a map of {', '.join(readers)} was expected")
    return {name: _field(name, read, value[name]) for name, read in readers.items()}


def _field(name: str, read: _Reader[object], value: object) -> object:
    try:
        return read(value)
    except _Unfit as unfit:
        raise _Unfit(f"{name}: {unfit}") from None


_shape = partial(_many, partial(_integer, 1, MAX_PARAMETERS), 0, MAX_AXES)
_content = partial(_bytes, 32)
_commitment = partial(_bytes, 64)
_version = partial(_integer, VERSION, VERSION)


_KEY_READERS: dict[str, _Reader[object]] = {
    "srs": _content,
    "srs_origin": partial(_choice, SRS_ORIGINS),
    "logrows": partial(_integer, 1, 28),  # BN254's field has roots of unity up to 2**28
    "vk_digest": _content,
    "ezkl_version": _text,
}


def _tensor(value: object) -> Tensor:
    return Tensor(**_fields(value, {"name": _text, "shape": _shape}))


def _circuit(value: object) -> Circuit | TrainingCircuit:
    if isinstance(value, dict) and "step" in value:
        return TrainingCircuit(**_fields(value, {"step": _step, **_KEY_READERS}))
    readers: dict[str, _Reader[object]] = {
        "onnx": _content,
        "settings": _content,
        **_KEY_READERS,
        "loss_scale_bits": partial(_integer, 0, 64),
    }
    return Circuit(**_fields(value, readers))


def _step(value: object) -> StepSpec:
    count = partial(_integer, 0, 1 << 16)  # what they mean is `validate_spec`'s to judge
    readers: dict[str, _Reader[object]] = {
        "sizes": partial(_many, count, 2, MAX_AXES + 1),
        "batch": count,
        "loss": _text,
        "optimizer": _text,
        "rate": count,
        "rate_bits": count,
        "momentum": count,
    }
    return StepSpec(**_fields(value, readers))


def _package(value: object) -> Package:
    readers: dict[str, _Reader[object]] = {
        "version": _version,
        "name": _text,
        "license": _text,
        "layout": partial(_many, _tensor, 1, MAX_TENSORS),
        "scale_bits": partial(_integer, 0, MAX_SCALE_BITS),
        "loss_and_grad": _content,
        "predict": _content,
        "initial_state": _content,
        "optimizer": partial(_choice, OPTIMIZERS),
        "learning_rate": _positive_number,
        "batch": partial(_integer, 1, MAX_BATCH),
        "x_shape": _shape,
        "y_shape": _shape,
        "codec": _text,
        "rule": _text,
        "outer": _text,
        "circuit": _circuit,
    }
    return Package(**_fields(value, readers))


def _commitments(value: object) -> tuple[Commitment, Commitment] | None:
    if value is None:
        return None
    x, y = _many(_commitment, 2, 2, value)
    return Commitment(x), Commitment(y)


def _page(value: object) -> Page:
    return Page(**_fields(value, {"sealed": _content, "opened": _content, "commitments": _commitments}))


def _dataset(value: object) -> Dataset:
    readers: dict[str, _Reader[object]] = {
        "version": _version,
        "name": _text,
        "license": _text,
        "train": partial(_many, _page, 1, MAX_PAGES),
        "held_out": partial(_many, _page, 1, MAX_PAGES),
    }
    return Dataset(**_fields(value, readers))
