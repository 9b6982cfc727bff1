"""Frames between a node and its child programs: 4 bytes of length, big-endian, and one msgpack map.

The child parses what strangers sent and may be taken over, so a frame is read as hostile: its length is
checked before its bytes are read, its nesting before it is used. What a map means is its reader's affair.

    request  {"do": NAME, …}        parent → child
    reply    {"done": {…}} | {"refused": REASON}

Spec: protocols/README.md, "Child frames".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from protocols.verdict import Reject

HEADER_BYTES = 4
MAX_REPLY_BYTES = 1 << 20  # numbers; lower refuses a proof (≤ 64 KiB) with its key's words
MAX_REPLY_ITEMS = 4096  # of one list or map; lower refuses the words of a verifying key
MAX_REQUEST_BYTES = 16 << 20  # from the parent, who is trusted: the file of the page of every inner step
MAX_REQUEST_ITEMS = 1 << 17
MAX_DEPTH = 8  # lower refuses {"done": {"entries": [{…}]}}; msgpack's own bound is 1024, deep enough to hurt
MAX_REASON_CHARS = 500  # a refusal ends up in logs and on screens

Frame = dict[str, object]

# -- Bytes ---------------------------------------------------------------------


def encode_frame(message: Mapping[str, object], *, limit_bytes: int = MAX_REPLY_BYTES) -> bytes:
    """Return the length and the map; ValueError if it is too large: our own fault."""
    body = msgpack.packb(dict(message), use_bin_type=True)
    if len(body) > limit_bytes:
        raise ValueError(f"a frame of {len(body)} bytes")
    return struct.pack(">I", len(body)) + bytes(body)


def decode_length(header: bytes, *, limit_bytes: int = MAX_REPLY_BYTES) -> int | Reject:
    """Return how many bytes follow."""
    if len(header) != HEADER_BYTES:
        return Reject("the frame's length is cut short")
    (length,) = struct.unpack(">I", header)
    if not 0 < length <= limit_bytes:
        return Reject(f"a frame of {length} bytes")
    return int(length)


def decode_body(body: bytes, *, limit_items: int = MAX_REPLY_ITEMS) -> Frame | Reject:
    """Return the map; its keys are strings, its values None, bool, int, float, str, bytes, list and dict."""
    try:
        # The bound on lists and maps is one on memory, too: the parser reserves what a header claims.
        message = msgpack.unpackb(
            body, raw=False, max_array_len=limit_items, max_map_len=limit_items, ext_hook=_refuse_extension
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return Reject("the frame is not msgpack")
    if not isinstance(message, dict) or not _is_plain(message, MAX_DEPTH):
        return Reject("the frame is not a plain map")
    return message


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code} of {len(data)} bytes")


def _is_plain(value: object, depth: int) -> bool:
    if depth < 0:
        return False
    match value:
        case dict():
            return all(isinstance(key, str) and _is_plain(item, depth - 1) for key, item in value.items())
        case list():
            return all(_is_plain(item, depth - 1) for item in value)
        case _:
            return value is None or isinstance(value, bool | int | float | str | bytes)


# -- Messages ------------------------------------------------------------------


def request(do: str, fields: Mapping[str, object]) -> bytes:
    return encode_frame({"do": do, **fields}, limit_bytes=MAX_REQUEST_BYTES)


def done(fields: Mapping[str, object]) -> bytes:
    return encode_frame({"done": dict(fields)})


def refused(reason: str) -> bytes:
    return encode_frame({"refused": reason[:MAX_REASON_CHARS]})


def decode_request(body: bytes) -> tuple[str, Frame] | Reject:
    """Return the name of what to do and its fields."""
    message = decode_body(body, limit_items=MAX_REQUEST_ITEMS)
    if isinstance(message, Reject):
        return message
    do = message.pop("do", None)
    return (do, message) if isinstance(do, str) else Reject("the request does not say what to do")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A child's own word for not doing what it was asked."""

    reason: str
    """Printable and short."""


def decode_reply(body: bytes) -> Frame | Refusal | Reject:
    """Return the fields of `done`, the child's own refusal, or what is wrong with the reply."""
    message = decode_body(body)
    if isinstance(message, Reject):
        return message
    if len(message) == 1:
        fields, reason = message.get("done"), message.get("refused")
        if isinstance(fields, dict):
            return fields
        if isinstance(reason, str):
            return Refusal(printable(reason))
    return Reject("the reply is neither done nor refused")


def printable(text: str) -> str:
    """Cut and clean what a child wrote: it must not reach a terminal's escape codes."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_REASON_CHARS])
