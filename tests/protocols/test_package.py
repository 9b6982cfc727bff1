"""Manifests: one encoding each, bounds, and no bytes that make the decoder raise."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import Commitment, ContentId, Digest
from protocols.package import (
    MAX_PACKAGE_BYTES,
    Circuit,
    Dataset,
    Package,
    Page,
    Tensor,
    TrainingCircuit,
    decode_dataset,
    decode_package,
    encode_dataset,
    encode_package,
    page_commitments,
)
from protocols.training_step import StepSpec
from protocols.verdict import Reject


def content(byte: int) -> ContentId:
    return ContentId(bytes([byte]) * 32)


CIRCUIT = Circuit(content(1), content(2), content(3), "insecure-local", 13, Digest(bytes(32)), "23.0.5", 26)
PACKAGE = Package(
    version=1,
    name="digits",
    license="Apache-2.0",
    layout=(Tensor("w1", (64, 14)), Tensor("b1", (14,)), Tensor("scale", ())),
    scale_bits=13,
    loss_and_grad=content(4),
    predict=content(5),
    initial_state=content(6),
    optimizer="adam",
    learning_rate=0.01,
    batch=4,
    x_shape=(64,),
    y_shape=(10,),
    codec="int8",
    rule="mean",
    outer="none",
    circuit=CIRCUIT,
)
DATASET = Dataset(
    version=1,
    name="digits",
    license="CC-BY-4.0",
    train=(Page(content(7), content(8)),) * 3,
    held_out=(Page(content(9), content(10), (Commitment(bytes(64)), Commitment(b"\1" * 64))),) * 2,
)


STEP = StepSpec((64, 16, 10), 8, "cross_entropy", "sgd", 1, 1)
PROVED = replace(
    PACKAGE,
    layout=(
        Tensor("0.kernel", (64, 16)),
        Tensor("0.bias", (16,)),
        Tensor("1.kernel", (16, 10)),
        Tensor("1.bias", (10,)),
    ),
    scale_bits=12,
    optimizer="sgd",
    learning_rate=0.5,
    codec="exact",
    batch=8,
    circuit=TrainingCircuit(STEP, content(3), "insecure-local", 15, Digest(bytes(32)), "23.0.5"),
)


def test_they_survive() -> None:
    assert decode_package(encode_package(PACKAGE)) == PACKAGE
    assert decode_package(encode_package(PROVED)) == PROVED
    assert decode_dataset(encode_dataset(DATASET)) == DATASET
    assert PACKAGE.parameters == 64 * 14 + 14 + 1


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value(data: bytes) -> None:
    assert isinstance(decode_package(data), Reject)
    assert isinstance(decode_dataset(data), Reject)


@given(st.sampled_from((PACKAGE, PROVED)), st.integers(0, 1 << 16), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_another_package(package_: Package, position: int, byte: int) -> None:
    data = bytearray(encode_package(package_))
    data[position % len(data)] = byte
    package = decode_package(bytes(data))
    assert isinstance(package, Reject) or encode_package(package) == bytes(data)


@given(st.integers(0, len(encode_dataset(DATASET))))
def test_a_cut_dataset_is_refused(length: int) -> None:
    data = encode_dataset(DATASET)
    assert (decode_dataset(data[:length]) == DATASET) == (length == len(data))


BAD: list[dict[str, Any]] = [
    {"version": 2},
    {"name": ""},
    {"name": "a\nb"},
    {"name": "x" * 201},
    {"layout": ()},
    {"layout": (Tensor("w", (0,)),)},
    {"layout": (Tensor("w", (1 << 28, 2)),)},
    {"layout": (Tensor("w", (-1,)),)},
    {"scale_bits": 25},
    {"scale_bits": True},
    {"loss_and_grad": b"short"},
    {"optimizer": "adam; import os"},
    {"learning_rate": 0.0},
    {"learning_rate": float("nan")},
    {"learning_rate": float("inf")},
    {"learning_rate": 1},
    {"batch": 0},
    {"x_shape": (1,) * 9},
    {"codec": "zip"},
    {"rule": "mode"},
    {"outer": "adam"},
    {"circuit": replace(CIRCUIT, srs_origin="trust me")},
    {"circuit": replace(CIRCUIT, logrows=29)},
    {"circuit": replace(CIRCUIT, vk_digest=Digest(b""))},
]


@pytest.mark.parametrize("change", BAD, ids=lambda change: f"{change}"[:40])
def test_what_is_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    assert isinstance(decode_package(encode_package(replace(PACKAGE, **change))), Reject)


def test_a_refusal_names_the_field() -> None:
    refused = decode_package(encode_package(replace(PACKAGE, circuit=replace(CIRCUIT, logrows=0))))
    assert refused == Reject("circuit: logrows: an integer of 1 … 28 was expected")
    assert "version 1" in str(decode_package(encode_package(replace(PACKAGE, version=9))))


def test_there_is_one_encoding() -> None:
    fields = msgpack.unpackb(encode_package(PACKAGE))
    backwards = msgpack.packb(dict(reversed(fields.items())))
    without_bytes = encode_package(PACKAGE).replace(b"\xa6digits", b"\xd9\x06digits")
    more = msgpack.packb({**fields, "extra": 1})
    assert msgpack.unpackb(without_bytes) == fields
    for data in (backwards, without_bytes, more, encode_package(PACKAGE) + b"\0"):
        assert isinstance(decode_package(data), Reject)


@pytest.mark.parametrize("change", [{"train": ()}, {"held_out": ()}, {"license": "\x1b[2J"}])
def test_a_dataset_has_pages(change: dict[str, Any]) -> None:
    assert isinstance(decode_dataset(encode_dataset(replace(DATASET, **change))), Reject)


def test_size_is_checked_before_parsing() -> None:
    assert "bytes" in str(decode_package(bytes(MAX_PACKAGE_BYTES + 1)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": PROVED.layout[::-1]}, "layout"),
        ({"scale_bits": 13}, "scale_bits"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"learning_rate": 0.25}, "optimizer"),
        ({"batch": 16}, "batch"),
        ({"codec": "int8"}, "codec"),
        ({"circuit": replace(PROVED.circuit, step=replace(STEP, optimizer="momentum", momentum=128))}, "optimizer"),
        ({"x_shape": (8, 8)}, "x_shape"),
        ({"y_shape": (5, 2)}, "y_shape"),
        ({"circuit": replace(PROVED.circuit, step=replace(STEP, batch=7))}, "power of two"),
        ({"circuit": replace(PROVED.circuit, step=replace(STEP, optimizer="adam"))}, "known are"),
        ({"circuit": replace(PROVED.circuit, step=replace(STEP, sizes=(64, 10)))}, "layout"),
    ],
)
def test_what_is_proved_is_the_model(changes: dict[str, Any], said: str) -> None:
    refused = decode_package(encode_package(replace(PROVED, **changes)))
    assert isinstance(refused, Reject)
    assert said in refused.reason


def test_proofs_are_about_pages_with_commitments() -> None:
    assert DATASET.proved_pages(CIRCUIT) == DATASET.held_out
    assert DATASET.proved_pages(PROVED.circuit) == DATASET.train
    assert len(page_commitments(DATASET.held_out)) == 2
    with pytest.raises(ValueError, match="no commitments"):
        page_commitments(DATASET.train)
