"""Ethereum node records (ENR): a signed, short description of where a node is and what it does.

The one rule: a record is at most MAX_ENR_BYTES and its signature is the secp256k1 key's that it names. It proves that
one key said all of this at once, not that anybody is there: dialling shows who is.

Sources: EIP-778 (identity scheme `v4`), 31/WAKU2-ENR, RELAY-SHARDING. Spec: protocols/README.md, "Node records".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from protocols import rlp
from protocols.ids import Digest
from protocols.keccak import keccak256
from protocols.verdict import Reject

MAX_ENR_BYTES = 300  # EIP-778
MAX_ENR_CHARS = len("enr:") + 400
PREFIX = "enr:"
ALL_SHARDS = 1024  # bits of `rsv`

Sign = Callable[[Digest], bytes]
"""secp256k1 over the digest: r ‖ s, 64 bytes."""
Verify = Callable[[bytes, Digest, bytes], bool]
"""(compressed public key, digest, r ‖ s)."""


class Capability(IntFlag):
    """`waku2`: what the node does for others."""

    RELAY = 1
    STORE = 2
    FILTER = 4
    LIGHT_PUSH = 8


@dataclass(frozen=True, slots=True)
class Sharding:
    cluster: int
    shards: tuple[int, ...]
    """Ascending."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a record says. Keys that we don't know are in `pairs` only."""

    sequence: int
    pairs: Mapping[str, bytes]
    """Values by key; values that are lists are left out."""
    public_key: bytes
    """secp256k1, compressed, 33 bytes."""
    endpoints: tuple[tuple[str, int], ...]
    """(IP address, TCP port) of `ip` and `ip6`."""
    multiaddrs: tuple[bytes, ...]
    """In their binary form."""
    sharding: Sharding | None
    capabilities: Capability


# -- Encoding ------------------------------------------------------------------


def encode_record(sequence: int, pairs: Mapping[str, bytes], public_key: bytes, sign: Sign) -> bytes:
    """Return the signed record. ValueError if it is over MAX_ENR_BYTES, or the sequence no uint64."""
    if not 0 <= sequence < 2**64:
        raise ValueError(f"sequence {sequence}")
    whole = {**pairs, "id": b"v4", "secp256k1": public_key}
    items = [rlp.encode_string(sequence.to_bytes((sequence.bit_length() + 7) // 8, "big"))]
    for key in sorted(whole):
        items += [rlp.encode_string(key.encode()), rlp.encode_string(whole[key])]
    signature = sign(keccak256(rlp.encode_list(items)))
    encoded = rlp.encode_list([rlp.encode_string(signature), *items])
    if len(encoded) > MAX_ENR_BYTES:
        raise ValueError(f"a node record of {len(encoded)} bytes, the limit is {MAX_ENR_BYTES}")
    return encoded


def to_text(encoded: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def encode_multiaddrs(multiaddrs: Sequence[bytes]) -> bytes:
    """`multiaddrs`: each after its length in two bytes."""
    return b"".join(len(each).to_bytes(2, "big") + each for each in multiaddrs)


def encode_sharding(sharding: Sharding) -> tuple[str, bytes]:
    """Return key and value: a list while that is shorter than the bits of all shards."""
    cluster = sharding.cluster.to_bytes(2, "big")
    if len(sharding.shards) < 64:
        listed = b"".join(shard.to_bytes(2, "big") for shard in sharding.shards)
        return "rs", cluster + bytes((len(sharding.shards),)) + listed
    bits = bytearray(ALL_SHARDS // 8)
    for shard in sharding.shards:
        bits[shard // 8] |= 0x80 >> shard % 8
    return "rsv", cluster + bits


# -- Decoding ------------------------------------------------------------------


def from_text(text: str) -> bytes | Reject:
    if len(text) > MAX_ENR_CHARS or not re.fullmatch(r"enr:[A-Za-z0-9_-]+", text):
        return Reject("no text of a node record")
    body = text[len(PREFIX) :]
    if len(body) % 4 == 1:
        return Reject("no text of a node record")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def decode_record(encoded: bytes, verify: Verify) -> NodeRecord | Reject:
    if len(encoded) > MAX_ENR_BYTES:
        return Reject(f"a node record of {len(encoded)} bytes, the limit is {MAX_ENR_BYTES}")
    try:
        signature_item, *items = rlp.decode_list(encoded)
        signature = rlp.decode_string(signature_item)
        record = _read_record(items)
    except ValueError as fault:  # rlp.NotCanonical is one
        return Reject(f"no node record: {fault}")
    if signature is None or len(signature) != 64:
        return Reject("no node record: no signature")
    if not verify(record.public_key, keccak256(rlp.encode_list(items)), signature):
        return Reject("a node record whose signature is not its key's")
    return record


def _read_record(items: list[bytes]) -> NodeRecord:
    if len(items) % 2 == 0:
        raise ValueError("no sequence and pairs")
    sequence = _read_integer(rlp.decode_string(items[0]), 8, "sequence")
    keys = [rlp.decode_string(item) for item in items[1::2]]
    names = [key.decode("ascii") for key in keys if key is not None]
    if len(names) < len(keys) or any(a >= b for a, b in pairwise(names)):
        raise ValueError("keys are not in order")
    values = [rlp.decode_string(item) for item in items[2::2]]
    pairs = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    public_key = pairs.get("secp256k1", b"")
    if pairs.get("id") != b"v4" or len(public_key) != 33:
        raise ValueError("not of the identity scheme v4")
    return NodeRecord(
        sequence,
        pairs,
        public_key,
        _read_endpoints(pairs),
        _read_multiaddrs(pairs.get("multiaddrs", b"")),
        _read_sharding(pairs),
        _read_capabilities(pairs.get("waku2", b"\0")),
    )


def _read_integer(value: bytes | None, width: int, name: str) -> int:
    if value is None or len(value) > width or value[:1] == b"\0":
        raise ValueError(f"{name} is no number of {width} bytes at most")
    return int.from_bytes(value, "big")


def _read_endpoints(pairs: Mapping[str, bytes]) -> tuple[tuple[str, int], ...]:
    """EIP-778: without `tcp6` the port of `tcp` counts for both."""
    found = []
    for name, port_names, size in (("ip", ("tcp",), 4), ("ip6", ("tcp6", "tcp"), 16)):
        ip = pairs.get(name)
        if ip is None:
            continue
        if len(ip) != size:
            raise ValueError(f"{name} has {len(ip)} bytes")
        port = next((_read_integer(pairs[n], 2, n) for n in port_names if n in pairs), 0)
        if port:
            found.append((str(IPv4Address(ip) if size == 4 else IPv6Address(ip)), port))
    return tuple(found)


def _read_multiaddrs(value: bytes) -> tuple[bytes, ...]:
    found, position = [], 0
    while position < len(value):
        start = position + 2
        position = start + int.from_bytes(value[position:start], "big")
        if position > len(value):
            raise ValueError("multiaddrs are truncated")
        found.append(value[start:position])
    return tuple(found)


def _read_sharding(pairs: Mapping[str, bytes]) -> Sharding | None:
    if (listed := pairs.get("rs")) is not None:
        if len(listed) < 3 or len(listed) != 3 + 2 * listed[2]:
            raise ValueError(f"rs has {len(listed)} bytes")
        found = {int.from_bytes(listed[i : i + 2], "big") for i in range(3, len(listed), 2)}
        return Sharding(int.from_bytes(listed[:2], "big"), tuple(sorted(found)))
    if (bits := pairs.get("rsv")) is not None:
        if len(bits) != 2 + ALL_SHARDS // 8:
            raise ValueError(f"rsv has {len(bits)} bytes")
        shards = tuple(i for i in range(ALL_SHARDS) if bits[2 + i // 8] & 0x80 >> i % 8)
        return Sharding(int.from_bytes(bits[:2], "big"), shards)
    return None


def _read_capabilities(value: bytes) -> Capability:
    if len(value) > 1:
        raise ValueError(f"waku2 has {len(value)} bytes")
    return Capability((value or b"\0")[0] & 0xF)
