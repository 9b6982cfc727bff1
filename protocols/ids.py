"""Identifiers and units: each is its own type, so that no two can be mixed up.

Spec: protocols/README.md, "Identifiers and units".
"""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", bytes)
"""32 bytes, assigned by the `Jobs` contract."""

ContentId = NewType("ContentId", bytes)
"""32 bytes, blake3 of the content it names."""

Address = NewType("Address", str)
"""A wallet, `0x` and 40 hex digits in EIP-55 checksum form (the form that web3 takes)."""

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 (`12D3Koo…`): names a node key."""

Digest = NewType("Digest", bytes)
"""32 bytes of keccak-256."""

Commitment = NewType("Commitment", bytes)
"""64 bytes: a BN254 G1 point, x then y, each big-endian. C(v) of DESIGN §6."""

RoundNumber = NewType("RoundNumber", int)
Wei = NewType("Wei", int)
Seat = NewType("Seat", int)
"""Index of a worker among the seated of its job, 0-based."""

PubsubTopic = NewType("PubsubTopic", str)
ContentTopic = NewType("ContentTopic", str)
