"""Protobuf's wire format, strict and bounded: the little of it that Waku's messages need.

A message is a run of (field number, wire type, value). Known fields must have their own wire type and,
where singular, come once; unknown fields are skipped, as protobuf asks; groups, overlong varints and
truncated values are `Malformed`. Callers check the size before and turn `Malformed` into a `Reject`.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT = 2**64 - 1
MAX_FIELDS = 16_384  # of one message, nested ones apart: a megabyte of empty fields would take half a second


class Malformed(ValueError):
    """These bytes are no message of this kind; never leaves `protocols`."""


# -- Encoding ------------------------------------------------------------------


def encode_varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())


def encode_zigzag(value: int) -> int:
    """Map a sint64 to the unsigned number that carries it."""
    return (value << 1) ^ (value >> 63)


# -- Decoding ------------------------------------------------------------------


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return (value, position behind it)."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise Malformed("truncated varint")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_VARINT:
                raise Malformed("varint above 64 bits")
            return value, position
    raise Malformed("overlong varint")


def decode_zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def decode_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed("text is not UTF-8") from None


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value): an int for varints, bytes for the rest, which only `bytes` fields keep.

    Fixed-width values are skipped: no message of Waku's has any.
    """
    position, end, count = 0, len(data), 0
    while position < end:
        count += 1
        if count > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} fields")
        key, position = decode_varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Malformed("field number 0")
        if kind == BYTES:
            length, position = decode_varint(data, position)
            if length > end - position:
                raise Malformed("truncated field")
            yield number, data[position : position + length]
            position += length
        elif kind == VARINT:
            value, position = decode_varint(data, position)
            yield number, value
        elif kind in (FIXED32, FIXED64):
            position += 4 if kind == FIXED32 else 8
            if position > end:
                raise Malformed("truncated field")
        else:
            raise Malformed(f"wire type {kind}")


def as_int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise Malformed("bytes where a number belongs")
    return value


def as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Malformed("a number where bytes belong")
    return value


def singular(data: bytes, known: frozenset[int]) -> dict[int, int | bytes]:
    """Return the known fields of a message whose fields are all singular."""
    found: dict[int, int | bytes] = {}
    for number, value in fields(data):
        if number in known:
            if number in found:
                raise Malformed(f"field {number} comes twice")
            found[number] = value
    return found
