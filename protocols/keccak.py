"""keccak-256, with Ethereum's padding and not that of SHA-3.

The one rule: every hash that a contract can check is this one, and it is the same on every machine.
pycryptodome's, because the standard library has none and one in Python takes 25 times as long.
Spec: protocols/README.md, "Hashing".
"""

from __future__ import annotations

from Crypto.Hash import keccak

from protocols.ids import Digest


def keccak256(data: bytes) -> Digest:
    """Return the 32-byte digest of `data`."""
    return Digest(keccak.new(digest_bits=256, data=data).digest())
