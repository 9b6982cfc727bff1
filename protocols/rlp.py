"""RLP, Ethereum's encoding of byte strings and lists, as far as node records need it: flat lists, canonical only.

Spec: protocols/README.md, "Node records".
"""

from __future__ import annotations

from collections.abc import Sequence

STRING, LIST = 0x80, 0xC0
LONG = 56  # from here on the length has a length


class NotCanonical(ValueError):
    """These bytes are no RLP, or not in the one form that RLP allows; never leaves `protocols`."""


def encode_string(data: bytes) -> bytes:
    return data if len(data) == 1 and data[0] < STRING else _header(len(data), STRING) + data


def encode_list(items: Sequence[bytes]) -> bytes:
    """`items` are encoded already."""
    content = b"".join(items)
    return _header(len(content), LIST) + content


def _header(size: int, base: int) -> bytes:
    if size < LONG:
        return bytes((base + size,))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((base + LONG - 1 + len(length),)) + length


def decode_list(data: bytes) -> list[bytes]:
    """Return the items of the list that `data` is, each as it is encoded. Raises NotCanonical."""
    start, end, is_list = _extent(data, 0)
    if not is_list or end != len(data):
        raise NotCanonical("not one list")
    items = []
    while start < end:
        _, item_end, _ = _extent(data, start)
        if item_end > end:
            raise NotCanonical("an item is longer than its list")
        items.append(data[start:item_end])
        start = item_end
    return items


def decode_string(item: bytes) -> bytes | None:
    """Return the content of one item; None of a list. Raises NotCanonical."""
    start, end, is_list = _extent(item, 0)
    if end != len(item):
        raise NotCanonical("trailing bytes")
    return None if is_list else item[start:end]


def _extent(data: bytes, position: int) -> tuple[int, int, bool]:
    """Return (start of the content, its end, whether it is a list) of the item at `position`."""
    if position >= len(data):
        raise NotCanonical("truncated")
    first = data[position]
    if first < STRING:
        return position, position + 1, False
    base = LIST if first >= LIST else STRING
    size, start = first - base, position + 1
    if size >= LONG:
        width = size - LONG + 1
        length = data[start : start + width]
        size, start = int.from_bytes(length, "big"), start + width
        if len(length) < width or length[0] == 0 or size < LONG:
            raise NotCanonical("a length that is not in its shortest form")
    if start + size > len(data):
        raise NotCanonical("truncated")
    if base == STRING and size == 1 and data[start] < STRING:
        raise NotCanonical("a byte that is not in its shortest form")
    return start, start + size, base == LIST
