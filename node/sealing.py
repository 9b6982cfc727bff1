"""Sealing: what only a job's members, or only one recipient, can read.

The one rule: a context is bound to every box, so that one made for one purpose opens for no other.
A group's box is `nonce12 ‖ ChaCha20-Poly1305` under the job key; one recipient's is HPKE
(RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305, base mode, the context as `info`), `enc32 ‖ ciphertext`.
Spec: protocols/README.md, "Sealing".
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from node.secret import Secret
from protocols.ids import Digest, JobId

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
WRAP_CONTEXT = b"skynet job key "
CONTENT_CONTEXT = b"skynet content key "

_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

# -- To a job's members --------------------------------------------------------


class JobKey:
    """The key of one job's pages and messages. It shows itself nowhere; it leaves wrapped only."""

    __slots__ = ("_box", "_secret")

    def __init__(self, secret: Secret) -> None:
        """ValueError unless it is 32 bytes."""
        self._secret = secret
        self._box = ChaCha20Poly1305(secret.reveal())

    @classmethod
    def generate(cls) -> JobKey:
        return cls(Secret(os.urandom(KEY_BYTES)))

    def __repr__(self) -> str:
        return "JobKey([hidden])"

    def seal(self, plaintext: bytes, *, context: bytes) -> bytes:
        # A random nonce: the members seal under one key without knowing of each other's counters.
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, *, context: bytes) -> bytes | None:
        """Return the plaintext; None for what was not sealed by a member in this context."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        try:
            return self._box.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag:
            return None

    def wrap(self, job: JobId, encryption_key: bytes) -> bytes:
        """The key for one member, by its X25519 public key; empty where `seal_to` can't seal."""
        return seal_to(encryption_key, self._secret.reveal(), context=WRAP_CONTEXT + job)


def derive_content_key(encryption: Secret, terms: Digest) -> JobKey:
    """The key of what its seller lists under these terms: made again whenever it is needed, and kept nowhere."""
    derived = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=CONTENT_CONTEXT + terms).derive(encryption.reveal())
    return JobKey(Secret(derived))


def unwrap(encryption: Secret, job: JobId, wrapped: bytes) -> JobKey | None:
    """Return the job key that was wrapped to our X25519 secret for this job; None if it wasn't."""
    plain = open_from(encryption, wrapped, context=WRAP_CONTEXT + job)
    return JobKey(Secret(plain)) if plain is not None and len(plain) == KEY_BYTES else None


# -- To one recipient ----------------------------------------------------------


def seal_to(encryption_key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
    """HPKE to an X25519 public key. Empty where nobody could open it: a registered key may be a point of low order."""
    try:
        return _HPKE.encrypt(plaintext, X25519PublicKey.from_public_bytes(encryption_key), context)
    except ValueError:
        return b""


def open_from(encryption: Secret, sealed: bytes, *, context: bytes) -> bytes | None:
    """Open what was sealed to our X25519 secret; None if it wasn't, or in another context."""
    try:
        return _HPKE.decrypt(sealed, X25519PrivateKey.from_private_bytes(encryption.reveal()), context)
    except (InvalidTag, ValueError):
        return None
