"""What the prover child answers about a circuit, read as hostile and held against the package.

A key is believed by its digest alone: whatever else the child may have done, another circuit has another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.ports import Keys, Refused
from protocols.frames import MAX_REPLY_ITEMS, Frame
from protocols.package import Circuit, Package, TrainingCircuit
from protocols.statement import MAX_KEY_WORDS, WORD_BYTES, compute_key_digest

CEREMONY, LOCAL = "ceremony", "insecure-local"
MAX_SETTINGS_BYTES = 512 * 1024  # a frame holds 1 MiB; the digits circuit's have 2 KB


@dataclass(frozen=True, slots=True)
class Described:
    keys: Keys
    settings: bytes
    logrows: int
    scale_bits: int
    loss_scale_bits: int
    parameters: int
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    ezkl_version: str


@dataclass(frozen=True, slots=True)
class StepDescribed:
    """Of a circuit of statement T: all else about it is its specification."""

    keys: Keys
    instances: int
    logrows: int
    ezkl_version: str


def read_step_description(reply: Frame) -> StepDescribed | Refused:
    match reply:
        case {
            "words": bytes(words),
            "instances": int(instances),
            "logrows": int(logrows),
            "ezkl_version": str(ezkl_version),
        }:
            keys = read_keys(words)
            if keys is not None and 0 < instances <= MAX_REPLY_ITEMS:
                return StepDescribed(keys, instances, logrows, ezkl_version)
    return Refused("the child's description is malformed")


def read_description(reply: Frame) -> Described | Refused:
    match reply:
        case {
            "words": bytes(words),
            "settings": bytes(settings),
            "logrows": int(logrows),
            "scale_bits": int(scale_bits),
            "loss_scale_bits": int(loss_scale_bits),
            "parameters": int(parameters),
            "x_shape": list(x_shape),
            "y_shape": list(y_shape),
            "ezkl_version": str(ezkl_version),
        }:
            pass
        case _:
            return Refused("the child's description is malformed")
    keys = read_keys(words)
    if keys is None or len(settings) > MAX_SETTINGS_BYTES:
        return Refused("the child's key or settings are too large")
    return Described(
        keys,
        settings,
        logrows,
        scale_bits,
        loss_scale_bits,
        parameters,
        tuple(x_shape),
        tuple(y_shape),
        ezkl_version,
    )


def read_keys(data: bytes) -> Keys | None:
    """Return the key of a child's words, None if they are too many or none."""
    if not data or len(data) % WORD_BYTES or len(data) > MAX_KEY_WORDS * WORD_BYTES:
        return None
    words = tuple(int.from_bytes(data[i : i + WORD_BYTES], "big") for i in range(0, len(data), WORD_BYTES))
    return Keys(compute_key_digest(words), words)


def read_instance(value: object) -> int | None:
    return int.from_bytes(value, "big") if isinstance(value, bytes) and len(value) == WORD_BYTES else None


def compare_to_package(found: Described, package: Package, circuit: Circuit) -> Refused | None:
    """Hold the rebuilt circuit against the manifest: what differs is a lie or another version."""
    return _find_difference(
        ("ezkl version", found.ezkl_version, circuit.ezkl_version),
        ("K", found.logrows, circuit.logrows),
        ("scale", found.scale_bits, package.scale_bits),
        ("scale of the loss", found.loss_scale_bits, circuit.loss_scale_bits),
        ("number of parameters", found.parameters, package.parameters),
        ("shape of x", found.x_shape, (package.batch, *package.x_shape)),
        ("shape of y", found.y_shape, (package.batch, *package.y_shape)),
        ("verifying key", found.keys.vk_digest.hex(), circuit.vk_digest.hex()),
    )


def compare_step_to_package(found: StepDescribed, circuit: TrainingCircuit) -> Refused | None:
    return _find_difference(
        ("ezkl version", found.ezkl_version, circuit.ezkl_version),
        ("K", found.logrows, circuit.logrows),
        ("verifying key", found.keys.vk_digest.hex(), circuit.vk_digest.hex()),
    )


def _find_difference(*pairs: tuple[str, Any, Any]) -> Refused | None:
    for what, ours, theirs in pairs:
        if ours != theirs:
            return Refused(f"the circuit's {what} is {ours}, the package says {theirs}")
    return None
