"""Statement E: numbers survive the field, and nothing that isn't a proof's public part gets through."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import job, statement
from protocols.keccak import keccak256
from protocols.statement import FIELD_MODULUS, Statement
from protocols.verdict import Reject

GENERATOR = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
NEGATED = (1).to_bytes(32, "big") + (statement.CURVE_MODULUS - 2).to_bytes(32, "big")
PROOF = GENERATOR + NEGATED + GENERATOR + bytes(64)


def test_the_prefix_is_theta_x_y() -> None:
    assert statement.decode_statement(PROOF, (7,)) == Statement(GENERATOR, NEGATED, GENERATOR, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proof", "instances"),
    [
        (PROOF, ()),
        (PROOF, (1, 2)),
        (PROOF, (-1,)),
        (PROOF, (FIELD_MODULUS,)),
        (PROOF[:192], (7,)),
        (PROOF + b"\0", (7,)),
        (PROOF + bytes(64 * 1024), (7,)),
        (b"", (7,)),
        (bytes(64) + PROOF[64:], (7,)),  # infinity
        (GENERATOR[:63] + b"\x03" + PROOF[64:], (7,)),
    ],
)
def test_what_is_no_proof_is_rejected(proof: bytes, instances: tuple[int, ...]) -> None:
    assert isinstance(statement.decode_statement(proof, instances), Reject)


@given(st.binary(max_size=300), st.lists(st.integers(), max_size=2))
def test_any_bytes_are_a_value(proof: bytes, instances: list[int]) -> None:
    assert isinstance(statement.decode_statement(proof, instances), Statement | Reject)


def test_a_point_is_reduced_and_on_the_curve() -> None:
    unreduced = (1 + statement.CURVE_MODULUS).to_bytes(32, "big") + GENERATOR[32:]
    assert statement.is_point(GENERATOR)
    assert not any(map(statement.is_point, (unreduced, bytes(64), GENERATOR[::-1], GENERATOR[:63])))


@given(st.integers(-(2**70), 2**70))
def test_integers_survive_the_field(value: int) -> None:
    text = statement.encode_felt(value)
    element = statement.decode_felt(text)
    assert not isinstance(element, Reject)
    assert statement.to_integer(element) == value
    assert 0 <= element < FIELD_MODULUS


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "ff" * 32, FIELD_MODULUS.to_bytes(32, "little").hex()])
def test_what_is_no_element_is_rejected(text: str) -> None:
    assert isinstance(statement.decode_felt(text), Reject)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.integers(0, 24))
def test_the_grid_gives_its_own_numbers_back(integers: list[int], bits: int) -> None:
    found = statement.to_grid(np.ldexp(np.array(integers, np.float64), -bits), bits)
    assert not isinstance(found, Reject)
    assert found.tolist() == integers


def test_the_grid_rounds_ties_to_even_and_flattens_rows() -> None:
    found = statement.to_grid(np.array([[0.5, 1.5], [-0.5, 2.4]], np.float32), 0)
    assert not isinstance(found, Reject)
    assert found.tolist() == [0, 2, 0, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**31, -(2.0**32)])
def test_what_does_not_fit_the_grid_is_rejected(value: float) -> None:
    assert isinstance(statement.to_grid(np.array([value]), 0), Reject)


def test_a_loss_and_its_bound() -> None:
    assert statement.compute_loss(16273, 15) == 16273 / 32768
    assert statement.compute_loss(FIELD_MODULUS - 1, 1) == -0.5
    bound = statement.compute_max_loss(0.75, 15)
    assert statement.compute_loss(bound, 15) <= 0.75 < statement.compute_loss(bound + 1, 15)
    for loss in (0.0, -1.0, math.nan, math.inf, 1e-9):
        with pytest.raises(ValueError, match="loss bound"):
            statement.compute_max_loss(loss, 15)


def test_a_key_is_named_by_its_words() -> None:
    words = (1, 2**256 - 1)
    assert statement.compute_key_digest(words) == keccak256((1).to_bytes(32, "big") + b"\xff" * 32)


def test_the_ceremony_is_known_by_its_pairing_points() -> None:
    words = (*range(14), *statement.CEREMONY_PAIRING, 99)
    assert statement.is_from_ceremony(words)
    assert not statement.is_from_ceremony((*words[:20], words[20] ^ 1, *words[21:]))
    assert not statement.is_from_ceremony(words[:20])


def test_the_contract_has_the_same_field() -> None:
    assert job.FIELD_MODULUS == FIELD_MODULUS
