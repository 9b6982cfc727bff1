"""Manifests of what is sold: they come back as they were, and what does not add up is rejected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.goods import (
    PART_BYTES,
    Goods,
    compute_terms,
    count_parts,
    decode_goods,
    encode_goods,
    part_context,
    split,
)
from protocols.ids import ContentId, Digest
from protocols.verdict import Reject

WORD = ContentId(b"w" * 32)
GOODS = Goods("model.safetensors", "MIT", 2 * PART_BYTES + 1, WORD, (WORD,) * 3)


def test_a_manifest_comes_back() -> None:
    assert decode_goods(encode_goods(GOODS)) == GOODS


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../node.toml"},
        {"name": "a\nb"},
        {"name": "n" * 201},
        {"size_bytes": 0},
        {"size_bytes": PART_BYTES},
        {"parts": ()},
        {"license": "l" * 300_000},
    ],
)
def test_what_does_not_add_up_is_rejected(changes: dict[str, object]) -> None:
    assert isinstance(decode_goods(encode_goods(replace(GOODS, **changes))), Reject)  # type: ignore[arg-type]


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(decode_goods(data), Goods | Reject)


def test_parts_make_the_file_again() -> None:
    plain = b"x" * (2 * PART_BYTES) + b"y"
    assert b"".join(split(plain)) == plain
    assert len(split(plain)) == count_parts(len(plain)) == 3


def test_terms_bind_licence_and_file_and_parts_their_place() -> None:
    terms = compute_terms("MIT", WORD)
    assert len({terms, compute_terms("MI", WORD), compute_terms("MIT", ContentId(b"v" * 32))}) == 3
    assert len({part_context(terms, 0), part_context(terms, 1), part_context(Digest(WORD), 0)}) == 3
