"""Node records as libp2p sees them: our own, made and signed; others', checked and turned into addresses.

A record of identity scheme `v4` is signed by a secp256k1 key, our libp2p identity is Ed25519: the record has a key of
its own, derived from the node key, and each of its multiaddrs ends in /p2p/ and our peer id. In records without
such an end the peer id is that of the record's key, as other Waku nodes have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coincurve
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from libp2p.crypto.secp256k1 import Secp256k1PublicKey
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from protocols.discovery import peer_of
from protocols.enr import (
    Capability,
    NodeRecord,
    Sharding,
    decode_record,
    encode_multiaddrs,
    encode_record,
    encode_sharding,
    from_text,
)
from protocols.ids import Digest
from protocols.verdict import Reject

PURPOSE = b"skynet node record 1"


def verify(public_key: bytes, digest: Digest, signature: bytes) -> bool:
    """Whether r ‖ s, 64 bytes with a low s, is the compressed key's signature of the digest."""
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return bool(coincurve.PublicKey(public_key).verify(der, digest, hasher=None))
    except ValueError:
        return False


class RecordKey:
    """The secp256k1 key of a node's records: always the same for the same node key."""

    __slots__ = ("_key",)

    def __init__(self, identity_seed: bytes) -> None:
        # A draw that is no key has a chance of 2⁻¹²⁸; coincurve raises ValueError then.
        self._key = coincurve.PrivateKey(HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(identity_seed))

    @property
    def public(self) -> bytes:
        return bytes(self._key.public_key.format())

    def sign(self, digest: Digest) -> bytes:
        return bytes(self._key.sign_recoverable(digest, hasher=None)[:64])


@dataclass(frozen=True, slots=True)
class Description:
    """What our record says."""

    addresses: tuple[str, ...]
    """Multiaddrs that end in /p2p/<peer>, the most useful first."""
    sharding: Sharding
    capabilities: Capability


def make_record(key: RecordKey, sequence: int, described: Description) -> bytes:
    """Return our signed record: one address, the shards, then as many more addresses as fit."""
    packed = [Multiaddr(address).to_bytes() for address in described.addresses]
    name, shards = encode_sharding(described.sharding)
    pairs = {"waku2": bytes((described.capabilities,))}
    best = encode_record(sequence, pairs, key.public, key.sign)
    for extra in (_addresses(packed[:1]), {name: shards}, *(_addresses(packed[:n]) for n in range(2, len(packed) + 1))):
        try:
            best = encode_record(sequence, {**pairs, **extra}, key.public, key.sign)
        except ValueError:  # over the limit
            continue
        pairs |= extra
    return best


def _addresses(packed: Sequence[bytes]) -> dict[str, bytes]:
    return {"multiaddrs": encode_multiaddrs(packed)} if packed else {}


# -- Others' -------------------------------------------------------------------


def read_record(encoded: bytes | str) -> NodeRecord | Reject:
    """Decode and verify what somebody sent, as bytes or as text."""
    if isinstance(encoded, str):
        found = from_text(encoded)
        if isinstance(found, Reject):
            return found
        encoded = found
    return decode_record(encoded, verify)


def addresses_of(record: NodeRecord, cluster: int) -> tuple[str, ...]:
    """Return where the node may be dialled; nothing for one of another cluster."""
    if record.sharding is not None and record.sharding.cluster != cluster:
        return ()
    key_peer = _peer_of_key(record.public_key)
    found = [_text(packed, key_peer) for packed in record.multiaddrs]
    for host, port in record.endpoints:
        family = "ip6" if ":" in host else "ip4"
        found.append(f"/{family}/{host}/tcp/{port}/p2p/{key_peer}")
    return tuple(dict.fromkeys(address for address in found if address is not None and peer_of(address) is not None))


def _text(packed: bytes, key_peer: str) -> str | None:
    try:
        address: Any = Multiaddr(packed)
        text = str(address)
    except Exception:  # noqa: BLE001  a stranger's bytes, and the library raises what it likes
        return None
    if not text.isprintable() or not text.startswith("/"):
        return None
    return text if "/p2p/" in text else f"{text}/p2p/{key_peer}"


def _peer_of_key(public_key: bytes) -> str:
    return str(ID.from_pubkey(Secp256k1PublicKey.from_bytes(public_key)).to_base58())
