"""What is sold on the market: the manifest of a sealed file, and what its key is derived from.

The one rule: everything that a buyer pays for is fixed by the listing. `content` is the manifest's hash, the manifest
names the sealed parts and the hash of the file, and `terms` is the hash of that and of the licence.
Spec: protocols/README.md, "Market".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.ids import ContentId, Digest
from protocols.keccak import keccak256
from protocols.record import decode, encode
from protocols.verdict import Reject

MAX_MANIFEST_BYTES = 262144
MAX_PARTS = 4096
PART_BYTES = 4194304  # of the file in one sealed part; four of them make a put
MAX_NAME_CHARS = 200
CONTEXT = b"skynet goods "


@dataclass(frozen=True, slots=True)
class Goods:
    name: str
    """Of the file."""
    license: str
    size_bytes: int
    plain: ContentId
    """Hash of the file as its buyer gets it."""
    parts: tuple[ContentId, ...]
    """Sealed, in order."""


def encode_goods(goods: Goods) -> bytes:
    return encode(goods)


def decode_goods(data: bytes) -> Goods | Reject:
    goods = decode(Goods, data, limit_bytes=MAX_MANIFEST_BYTES)
    if isinstance(goods, Reject):
        return goods
    if len(goods.name) > MAX_NAME_CHARS or "/" in goods.name or not goods.name.isprintable():
        return Reject("its name is none of a file")
    if not 0 < goods.size_bytes <= MAX_PARTS * PART_BYTES or len(goods.parts) != count_parts(goods.size_bytes):
        return Reject(f"{len(goods.parts)} parts do not make {goods.size_bytes} bytes")
    return goods


def count_parts(size_bytes: int) -> int:
    return -(-size_bytes // PART_BYTES)


def split(plain: bytes) -> Sequence[bytes]:
    """The file in parts, each to be sealed by itself."""
    return [plain[i : i + PART_BYTES] for i in range(0, len(plain), PART_BYTES)]


def part_context(terms: Digest, index: int) -> bytes:
    """Bound to each sealed part: none takes another's place."""
    return CONTEXT + terms + index.to_bytes(4, "big")


def compute_terms(license_text: str, plain: ContentId) -> Digest:
    """What buyer and seller agree on besides the price: the listing's `terms`."""
    return keccak256(keccak256(license_text.encode()) + plain)
