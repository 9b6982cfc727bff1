"""Statements E and T: what a proof says, and the bytes and numbers that it is made of.

    E, evaluation:     proof    = C(θ) ‖ C(x) ‖ C(y) ‖ the rest, 64 bytes a commitment
                       instance = loss · 2**loss_scale_bits, the only public number
    T, training step:  proof    = C(state) ‖ C(x) ‖ C(y) ‖ C(next state) ‖ C(hints) ‖ the rest
                       instances = zeros: the sums of squares of all equations' sides

The one rule: nothing is believed because a verifier accepted it; the commitments are compared with those on
chain, and the verifying key with one that was rebuilt. Spec: protocols/README.md, "Statement E", "Statement T".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.ids import Commitment, Digest
from protocols.keccak import keccak256
from protocols.verdict import Reject

PROVES = (
    "The prover knew θ, x and y on the integer grid, with the commitments at the start of the proof, for which the "
    "circuit's loss is the public number, up to the rounding of the circuit's rescalings."
)
DOES_NOT_PROVE = (
    "How θ came to be: a model that was trained elsewhere, or on the challenge pages themselves, has the same proof."
)

STEP_PROVES = (
    "The prover knew a state (weights and moments), a page and a next state, with the commitments at the start of the "
    "proof, of which the next is what one training step of the key's specification makes of the others, to the bit."
)
STEP_DOES_NOT_PROVE = (
    "Where the first state came from, what the page shows, or that any other step was taken: of many committed steps "
    "those are proved that a beacon drew, and a cheat in a share φ of them escapes q draws with (1 − φ)**q."
)

INPUTS = ("theta", "x", "y")
"""Of the circuit, in this order: one KZG column each, flat and row-major."""

STEP_INPUTS = ("state", "x", "y", "next_state", "hints")

FIELD_MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""r of BN254: what a column holds, and an instance."""
CURVE_MODULUS = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""q of BN254: what a point's coordinates are taken modulo."""

WORD_BYTES = 32
POINT_BYTES = 2 * WORD_BYTES
PREFIX_BYTES = len(INPUTS) * POINT_BYTES
STEP_PREFIX_BYTES = len(STEP_INPUTS) * POINT_BYTES
MAX_PROOF_BYTES = 64 * 1024  # a circuit for 5,000 parameters has 5 KB; the contract's calldata ends far below this
MAX_KEY_WORDS = 4096  # 270 for the digits model; more than a transaction can carry

INT32 = np.iinfo(np.int32)

CEREMONY_PAIRING = (
    1,
    2,
    0x198E9393920D483A7260BFB731FB5D25F1AA493335A9E71297E485B7AEF312C2,
    0x1800DEEF121F1E76426A00665E5C4479674322D4F75EDADD46DEBD5CD992F6ED,
    0x090689D0585FF075EC9E99AD690C3395BC4B313370B38EF355ACDADCD122975B,
    0x12C85EA5DB8C6DEB4AAB71808DCB408FE3D1E7690C43D37B4CE6CC0166FA7DAA,
    0x186282957DB913ABD99F91DB59FE69922E95040603EF44C0BD7AA3ADEEF8F5AC,
    0x17944351223333F260DDC3B4AF45191B856689EDA9EAB5CBCDDBBE570CE860D2,
    0x06D971FF4A7467C3EC596ED6EFC674572E32FD6F52B721F97E35B0B3D3546753,
    0x06ECDB9F9567F59ED2EEE36E1E1D58797FD13CC97FAFC2910F5E8A12F202FA9A,
)
"""[1]₁, [1]₂ and −[τ]₂ of the ceremony whose SRS ezkl downloads, in the words of a key; as in `Verifiers.sol`."""
_PAIRING_WORD = 14

# -- Proof ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """The public part of a proof."""

    theta: Commitment
    x: Commitment
    y: Commitment
    loss: int
    """The instance."""


@dataclass(frozen=True, slots=True)
class StepStatement:
    """The public part of a proof of statement T."""

    state: Commitment
    x: Commitment
    y: Commitment
    next_state: Commitment
    hints: Commitment
    """Of no use to anyone but the circuit."""


def decode_statement(proof: bytes, instances: Sequence[int]) -> Statement | Reject:
    """Return what a proof claims; whether it holds is for a verifier to say."""
    points = _decode_prefix(proof, INPUTS)
    if isinstance(points, Reject):
        return points
    if len(instances) != 1 or not 0 <= instances[0] < FIELD_MODULUS:
        return Reject("the proof does not have one instance in the field")
    theta, x, y = points
    return Statement(theta, x, y, instances[0])


def decode_step_statement(proof: bytes, instances: Sequence[int]) -> StepStatement | Reject:
    """Return what a proof of statement T claims; how many instances its key has is for a verifier to say."""
    points = _decode_prefix(proof, STEP_INPUTS)
    if isinstance(points, Reject):
        return points
    if not instances or any(instances):
        return Reject("the equations of the step are not fulfilled: an instance is not zero")
    return StepStatement(*points)


def _decode_prefix(proof: bytes, inputs: Sequence[str]) -> list[Commitment] | Reject:
    prefix_bytes = len(inputs) * POINT_BYTES
    if not prefix_bytes < len(proof) <= MAX_PROOF_BYTES or len(proof) % WORD_BYTES:
        return Reject(f"a proof of {len(proof)} bytes")
    points = [Commitment(proof[i : i + POINT_BYTES]) for i in range(0, prefix_bytes, POINT_BYTES)]
    for name, point in zip(inputs, points, strict=True):
        if not is_point(point):
            return Reject(f"the commitment to {name} is not a point")
    return points


def is_point(data: bytes) -> bool:
    """Whether the bytes are a finite point of BN254's G1, each coordinate reduced."""
    if len(data) != POINT_BYTES:
        return False
    x, y = int.from_bytes(data[:WORD_BYTES], "big"), int.from_bytes(data[WORD_BYTES:], "big")
    return x < CURVE_MODULUS and y < CURVE_MODULUS and (y * y - x * x * x - 3) % CURVE_MODULUS == 0


# -- Key -----------------------------------------------------------------------


def compute_key_digest(words: Sequence[int]) -> Digest:
    """Return keccak of the words, 32 bytes each: the name that the reusable verifier gives a key."""
    return keccak256(b"".join(word.to_bytes(WORD_BYTES, "big") for word in words))


def is_from_ceremony(words: Sequence[int]) -> bool:
    """Whether the key's pairing points are the ceremony's; anyone who made another SRS may prove what it likes."""
    return tuple(words[_PAIRING_WORD : _PAIRING_WORD + len(CEREMONY_PAIRING)]) == CEREMONY_PAIRING


# -- Numbers -------------------------------------------------------------------


def compute_loss(instance: int, loss_scale_bits: int) -> float:
    """Return the loss that an instance stands for."""
    return math.ldexp(to_integer(instance), -loss_scale_bits)


def compute_max_loss(loss: float, loss_scale_bits: int) -> int:
    """Return the largest instance that stands for no more than `loss`: `Terms.max_loss`. ValueError if it has none."""
    if not math.isfinite(loss) or loss <= 0:
        raise ValueError(f"a loss bound of {loss}: it must be positive")
    bound = math.floor(math.ldexp(loss, loss_scale_bits))
    if not 0 < bound < FIELD_MODULUS // 2:
        raise ValueError(f"a loss bound of {loss} does not fit a scale of {loss_scale_bits} bits")
    return bound


def to_grid(values: NDArray[np.floating], scale_bits: int) -> NDArray[np.int32] | Reject:
    """Return the nearest integers over 2**scale_bits, ties to even, flat and row-major: the same on every machine."""
    scaled = np.rint(np.ldexp(values.astype(np.float64).reshape(-1), scale_bits))
    if not (np.isfinite(scaled).all() and (scaled >= INT32.min).all() and (scaled <= INT32.max).all()):
        return Reject("a value is not finite or too large for the grid")
    return scaled.astype(np.int32)


def to_field(value: int) -> int:
    """Return the field element of a signed integer."""
    return value % FIELD_MODULUS


def to_integer(element: int) -> int:
    """Return the signed integer of a field element, the nearer one to zero."""
    return element - FIELD_MODULUS if element > FIELD_MODULUS // 2 else element


def encode_felt(value: int) -> str:
    """Return a signed integer as ezkl writes field elements: 32 bytes little-endian in hex."""
    return to_field(value).to_bytes(WORD_BYTES, "little").hex()


def decode_felt(text: str) -> int | Reject:
    """Return the field element, reduced."""
    try:
        element = int.from_bytes(bytes.fromhex(text), "little")
    except ValueError:
        return Reject("a field element is not hex")
    if len(text) != 2 * WORD_BYTES or element >= FIELD_MODULUS:
        return Reject("a field element is not 32 reduced bytes")
    return element
