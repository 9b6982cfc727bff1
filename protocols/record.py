"""Canonical, strict msgpack of frozen dataclasses: what travels, and what is stored.

A dataclass is the array of its fields in order; decoding checks every type, length and bound by the
field's annotation and answers `Reject`, so no caller sees an exception for a peer's bytes.
Fields added later go to the end with a default: an older reader ignores what it doesn't know.

Spec: protocols/README.md, "Encoding".
"""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber
from protocols.verdict import Reject

MAX_ITEMS = 4096  # of one array; above: a small message of nested headers fills memory; below: a batch of ids is cut
_WIDE = 2**64  # integers beyond it travel as 32-byte strings

LENGTHS: dict[Any, int] = {JobId: 32, ContentId: 32, Digest: 32, Commitment: 64}
MAX_ROUND = 2**32 - 1  # a uint32 on chain and in what is signed
_HEX = frozenset("0123456789abcdefABCDEF")

T = TypeVar("T")


class _Malformed(Exception):
    """Raised and caught in this file only."""


def encode(value: Any) -> bytes:
    """Return the canonical bytes of a dataclass."""
    return bytes(msgpack.packb(_plain(value), use_bin_type=True))


def decode(cls: type[T], data: bytes, *, limit_bytes: int) -> T | Reject:
    """Return the `cls` that `data` encodes, or why it doesn't."""
    if len(data) > limit_bytes:
        return Reject(f"{cls.__name__} of {len(data)} bytes is over the limit of {limit_bytes}")
    try:
        # The parser reserves what an array's header claims; an item has at least one byte.
        items = min(MAX_ITEMS, len(data))
        raw = msgpack.unpackb(data, raw=False, max_array_len=items, max_map_len=0, max_ext_len=0)
        return _typed(cls, raw)  # type: ignore[no-any-return]
    except _Malformed as fault:
        return Reject(f"{cls.__name__}: {fault}")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return Reject(f"{cls.__name__}: not canonical msgpack")


# -- To plain values -----------------------------------------------------------


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value >= _WIDE:
        return int(value).to_bytes(32, "big")
    return value


# -- To typed values -----------------------------------------------------------


def _typed(kind: Any, raw: Any) -> Any:
    if isinstance(kind, NewType):
        return _new_type(kind, raw)
    if is_dataclass(kind):
        return _record(kind, raw)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, raw)
    if origin is tuple:
        return _items(kind, raw)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _enum(kind, raw)
    return _scalar(kind, raw)


def _new_type(kind: Any, raw: Any) -> Any:
    if kind is Address:
        if not (isinstance(raw, str) and len(raw) == 42 and raw.startswith("0x") and _HEX.issuperset(raw[2:])):
            raise _Malformed("an address is 0x and 40 hex digits")
        return raw
    value = _typed(kind.__supertype__, raw)
    if kind in LENGTHS and len(value) != LENGTHS[kind]:
        raise _Malformed(f"{kind.__name__} is {LENGTHS[kind]} bytes, not {len(value)}")
    if kind is RoundNumber and not 0 <= value <= MAX_ROUND:
        raise _Malformed("a round is a uint32")
    return value


def _record(kind: Any, raw: Any) -> Any:
    shape = _fields(kind)
    if not isinstance(raw, list):
        raise _Malformed("a record is an array")
    required = sum(f.default is MISSING for f, _ in shape)
    if len(raw) < required:
        raise _Malformed(f"{len(raw)} fields of at least {required}")
    return kind(*(_typed(hint, item) for (_, hint), item in zip(shape, raw, strict=False)))


@lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f, hints[f.name]) for f in fields(kind))


def _optional(kind: Any, raw: Any) -> Any:
    inner = [a for a in get_args(kind) if a is not type(None)]
    if raw is None and len(inner) < len(get_args(kind)):
        return None
    return _typed(inner[0], raw)


def _items(kind: Any, raw: Any) -> Any:
    if not isinstance(raw, list):
        raise _Malformed("expected an array")
    args = get_args(kind)
    if args[1:] == (Ellipsis,):
        return tuple(_typed(args[0], item) for item in raw)
    if len(raw) != len(args):
        raise _Malformed(f"{len(raw)} items of {len(args)}")
    return tuple(_typed(arg, item) for arg, item in zip(args, raw, strict=True))


def _enum(kind: Any, raw: Any) -> Any:
    number = _scalar(int, raw)
    try:
        return kind(number)
    except ValueError:
        raise _Malformed(f"{number!r:.40} is no {kind.__name__}") from None


def _scalar(kind: Any, raw: Any) -> Any:
    if kind is int:
        if isinstance(raw, bytes) and len(raw) == 32:
            return int.from_bytes(raw, "big")
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise _Malformed("expected an integer")
        return raw
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool)):
        return raw
    raise _Malformed(f"expected {kind.__name__}, got {type(raw).__name__}")
