"""Any value of a record type, by its annotations; and what becomes of its bytes on a bad way."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from protocols import record
from protocols.ids import Address, RoundNumber

MAX = 3  # items of an array, here


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a type that records may hold."""
    if kind is Address:
        return st.binary(min_size=20, max_size=20).map(lambda raw: Address("0x" + raw.hex()))
    if kind is RoundNumber:
        return st.integers(0, record.MAX_ROUND)
    if kind in record.LENGTHS:
        return st.binary(min_size=record.LENGTHS[kind], max_size=record.LENGTHS[kind])
    if hasattr(kind, "__supertype__"):
        return any_of(kind.__supertype__)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, *(any_of(hints[f.name]) for f in fields(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of(*(any_of(a) for a in get_args(kind)))
    if get_origin(kind) is tuple:
        return _tuples(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return st.sampled_from(list(kind))
    return _SCALARS[kind]


_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.one_of(st.integers(-(2**63), 2**64 - 1), st.integers(2**64, 2**256 - 1)),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: st.text(max_size=40),
    bytes: st.binary(max_size=70),
    type(None): st.none(),
}


def _tuples(args: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if args[1:] == (Ellipsis,):
        return st.lists(any_of(args[0]), max_size=MAX).map(tuple)
    return st.tuples(*(any_of(a) for a in args))


def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Change, cut or lengthen bytes in a few places."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        end = min(len(changed), at + draw(st.integers(0, 3)))
        changed[at:end] = draw(st.binary(max_size=3))
    return bytes(changed)
