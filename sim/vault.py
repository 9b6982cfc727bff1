"""The Vault twin: keyed hashes in place of curves, fast and the same in every run. Safe against nobody.

The one rule: what the real vault can't do without a secret, this one does with the secret that the `Keyring` finds for
a public key; actors see signatures, ciphertexts and verdicts of the same shapes and sizes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.abi import address_bytes, checksum_address
from protocols.eip712 import Domain, Statement, compute_digest
from protocols.ids import Address, Digest, JobId, PeerId

NONCE_BYTES, TAG_BYTES = 12, 16  # as ChaCha20-Poly1305
WRAP_CONTEXT = b"skynet-sim job key"

# -- Keys ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's three keys, all from one secret."""

    secret: bytes = field(repr=False)
    node_key: bytes
    encryption_key: bytes
    wallet: Address
    peer: PeerId


def make_identity(seed: int, name: str) -> Identity:
    secret = _hash(b"secret", f"{seed}/{name}".encode())
    node_key = _hash(b"node key", secret)
    wallet = checksum_address(_hash(b"wallet", secret)[:20])
    return Identity(secret, node_key, _hash(b"encryption key", secret), wallet, PeerId(f"sim-{name}"))


class Keyring:
    """Secrets by public key: what the mathematics of curves does in the real world."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, bytes] = {}

    def add(self, identity: Identity) -> None:
        for public in (identity.node_key, identity.encryption_key, address_bytes(identity.wallet)):
            self._secrets[public] = identity.secret

    def sign(self, public: bytes, message: bytes, size: int) -> bytes | None:
        secret = self._secrets.get(public)
        return None if secret is None else _mac(secret, public + message, size)

    def recover(self, digest: Digest, signature: bytes) -> Address | None:
        """65 bytes, of which the first 20 name the signer."""
        signer = signature[:20]
        if self.sign(signer, digest, 44) != signature[20:64] or signature[64:] != b"\x1b":
            return None
        return checksum_address(signer)

    def shared_key(self, encryption_key: bytes) -> bytes:
        """For `seal_to` and its opening; a key that nobody has gives a box that nobody opens."""
        return _hash(b"shared", self._secrets.get(encryption_key, b"nobody") + encryption_key)


# -- The port ------------------------------------------------------------------


class SimVault:
    """Implements `actors.ports.Vault`; below it what a requester's own vault can do besides."""

    def __init__(self, keyring: Keyring, identity: Identity, entropy: Callable[[int], bytes]) -> None:
        self._keyring = keyring
        self._identity = identity
        self._entropy = entropy
        self._job_keys: dict[JobId, bytes] = {}

    @property
    def node_key(self) -> bytes:
        return self._identity.node_key

    @property
    def encryption_key(self) -> bytes:
        return self._identity.encryption_key

    @property
    def wallet(self) -> Address:
        return self._identity.wallet

    def sign(self, message: bytes) -> bytes:
        return self._keyring.sign(self.node_key, message, 64) or b""

    def verify(self, node_key: bytes, message: bytes, signature: bytes) -> bool:
        return self._keyring.sign(node_key, message, 64) == signature

    def sign_digest(self, digest: Digest) -> bytes:
        signer = address_bytes(self.wallet)
        return signer + (self._keyring.sign(signer, digest, 44) or b"") + b"\x1b"

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes | None:
        return self.sign_digest(compute_digest(domain, statement))

    def recover(self, digest: Digest, signature: bytes) -> Address | None:
        return self._keyring.recover(digest, signature)

    def unwrap(self, job: JobId, wrapped: bytes) -> bool:
        key = self.open_to_us(wrapped, context=WRAP_CONTEXT + job)
        if key is not None:
            self._job_keys[job] = key
        return key is not None

    def holds(self, job: JobId) -> bool:
        return job in self._job_keys

    def seal(self, job: JobId, plaintext: bytes, *, context: bytes) -> bytes:
        return _seal(self._job_keys[job], plaintext, context, self._entropy(NONCE_BYTES))

    def open(self, job: JobId, sealed: bytes, *, context: bytes) -> bytes | None:
        return _open(self._job_keys[job], sealed, context) if job in self._job_keys else None

    def seal_to(self, encryption_key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
        return _seal(self._keyring.shared_key(encryption_key), plaintext, context, self._entropy(NONCE_BYTES))

    # -- A requester's

    def open_to_us(self, sealed: bytes, *, context: bytes) -> bytes | None:
        return _open(self._keyring.shared_key(self.encryption_key), sealed, context)

    def make_job_key(self, job: JobId) -> None:
        self._job_keys[job] = self._entropy(32)

    def wrap(self, job: JobId, encryption_key: bytes) -> bytes:
        return self.seal_to(encryption_key, self._job_keys[job], context=WRAP_CONTEXT + job)


# -- Keyed hashes --------------------------------------------------------------


def _hash(label: bytes, data: bytes) -> bytes:
    return hashlib.sha256(b"skynet-sim " + label + b"/" + data).digest()


def _mac(key: bytes, message: bytes, size: int) -> bytes:
    return hashlib.blake2b(message, digest_size=size, key=key).digest()


def _seal(key: bytes, plaintext: bytes, context: bytes, nonce: bytes) -> bytes:
    body = _mix(key, nonce, plaintext)
    return nonce + body + _mac(key, nonce + context + body, TAG_BYTES)


def _open(key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        return None
    nonce, body, tag = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:]
    return _mix(key, nonce, body) if hmac.compare_digest(_mac(key, nonce + context + body, TAG_BYTES), tag) else None


def _mix(key: bytes, nonce: bytes, data: bytes) -> bytes:
    stream = hashlib.shake_256(key + nonce).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
