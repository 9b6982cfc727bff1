"""A node's identity: a node key (Ed25519), an encryption key (X25519) and a wallet key (secp256k1); and its Vault.

The one rule: a secret stays in here. Actors and adapters hold the `NodeVault`, which does what needs a key and
returns none; the libp2p host alone takes `Keys.node`, since Noise signs with it.
Key files are `node/key_file.py`, boxes `node/sealing.py`. Spec: protocols/README.md, "Identity".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coincurve import PrivateKey as WalletKey
from coincurve import PublicKey as WalletPublicKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from actors.ports import Record
from node import sealing
from node.errors import KeyFileError
from node.key_file import damaged, make_private_folder, read_public, read_secret, write_key
from node.sealing import JobKey
from node.secret import Secret
from node.store import DiskStore
from protocols.abi import checksum_address
from protocols.eip712 import Domain, Statement, compute_digest
from protocols.ids import Address, Digest, JobId, PeerId
from protocols.keccak import keccak256

Entropy = Callable[[int], bytes]

JOB_KEY = "job_key"
"""Kind of record: job id → the job key wrapped to our encryption key, as it came. Nothing in the clear on disk."""

_FILES = {"node.json": "ed25519", "encryption.json": "x25519", "wallet.json": "secp256k1"}
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# -- The public half -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    node_key: bytes
    """Ed25519 public key, 32 bytes."""
    encryption_key: bytes
    """X25519 public key, 32 bytes."""
    wallet: Address

    @property
    def peer(self) -> PeerId:
        return peer_id(self.node_key)


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# libp2p's peer id of a short key: the identity multihash (0x00, length 0x24) of the protobuf
# PublicKey {Type (field 1): Ed25519 = 1, Data (field 2): 32 bytes}.
_PEER_PREFIX = bytes.fromhex("002408011220")


def peer_id(node_key: bytes) -> PeerId:
    """Return the libp2p peer id of an Ed25519 public key."""
    if len(node_key) != 32:
        raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(node_key)}")
    number, digits = int.from_bytes(_PEER_PREFIX + node_key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return PeerId("1" + digits)  # base58 writes a leading zero byte as "1"


def node_key_of(peer: PeerId) -> bytes | None:
    """Return the Ed25519 key that a peer id names; None if it names another kind, or nothing."""
    if not peer.startswith("1") or any(c not in _BASE58 for c in peer):
        return None
    number = 0
    for c in peer[:60]:
        number = number * 58 + _BASE58.index(c)
    node_key = (number % (1 << 256)).to_bytes(32, "big")
    return node_key if peer_id(node_key) == peer else None


# -- The secret half -----------------------------------------------------------


class Keys:
    """The three secrets, 32 bytes each."""

    __slots__ = ("encryption", "identity", "node", "wallet")

    def __init__(self, node: Secret, encryption: Secret, wallet: Secret) -> None:
        """ValueError for what is no key."""
        self.node, self.encryption, self.wallet = node, encryption, wallet
        publics = (_public(kind, key) for kind, key in zip(_FILES.values(), self.secrets, strict=True))
        node_key, encryption_key, address = publics
        self.identity = Identity(node_key, encryption_key, checksum_address(address))

    @property
    def secrets(self) -> tuple[Secret, Secret, Secret]:
        return self.node, self.encryption, self.wallet

    def __repr__(self) -> str:
        return f"Keys({self.identity.peer}, {self.identity.wallet})"


def _public(kind: str, key: Secret) -> bytes:
    """Return the public key; of a wallet the 20 bytes of its address."""
    if kind == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(key.reveal()).public_key().public_bytes_raw()
    if kind == "x25519":
        return X25519PrivateKey.from_private_bytes(key.reveal()).public_key().public_bytes_raw()
    if not _is_wallet_key(key.reveal()):
        raise ValueError("not a secp256k1 private key")
    return _address_bytes(WalletKey(key.reveal()).public_key)


def _is_wallet_key(data: bytes) -> bool:
    return len(data) == 32 and 0 < int.from_bytes(data, "big") < _CURVE_ORDER


def _address_bytes(public: WalletPublicKey) -> bytes:
    return keccak256(public.format(compressed=False)[1:])[12:]


def create_keys(folder: Path, passphrase: Secret | None = None, *, entropy: Entropy = os.urandom) -> Identity:
    """Make the three key files. Raises KeyFileError if one is there already: a wallet is never overwritten."""
    wallet = create_wallet_key(entropy)
    keys = Keys(Secret(entropy(32)), Secret(entropy(32)), wallet)
    for name in _FILES:
        if (folder / name).exists():
            raise KeyFileError(folder / name, "is there already", "choose another folder, or keep these keys")
    make_private_folder(folder)
    for (name, kind), secret in zip(_FILES.items(), keys.secrets, strict=True):
        write_key(folder / name, kind, _public(kind, secret), secret, passphrase)
    return keys.identity


def create_wallet_key(entropy: Entropy = os.urandom) -> Secret:
    key = entropy(32)
    while not _is_wallet_key(key):
        key = entropy(32)
    return Secret(key)


def wallet_address(key: Secret) -> Address:
    """ValueError for what is no key."""
    return checksum_address(_public("secp256k1", key))


def load_keys(folder: Path, passphrase: Secret | None = None) -> Keys:
    """Open the three key files. Raises KeyFileError: missing, damaged, readable by others, wrong passphrase."""
    secrets = []
    for name, kind in _FILES.items():
        secrets.append(read_secret(folder / name, kind, passphrase))
        try:
            matches = _public(kind, secrets[-1]) == read_public(folder / name, kind)
        except ValueError:
            matches = False
        if not matches:
            raise damaged(folder / name)
    return Keys(*secrets)


def load_identity(folder: Path) -> Identity:
    """Read the public halves, for which no passphrase is needed. Raises KeyFileError."""
    node_key, encryption_key, address = (read_public(folder / name, kind) for name, kind in _FILES.items())
    for name, public, size in zip(_FILES, (node_key, encryption_key, address), (32, 32, 20), strict=True):
        if len(public) != size:
            raise damaged(folder / name)
    return Identity(node_key, encryption_key, checksum_address(address))


def has_keys(folder: Path) -> bool:
    return all((folder / name).exists() for name in _FILES)


# -- The vault -----------------------------------------------------------------


class StatementSigner(Protocol):
    """Signs for a wallet whose key is elsewhere."""

    @property
    def wallet(self) -> Address: ...
    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes | None: ...


class NodeVault:
    """Implements `actors.ports.Vault`; below it what a requester's own vault does besides.

    Job keys outlive the process: the store has each as it came, wrapped to our encryption key.
    """

    __slots__ = ("_elsewhere", "_encryption", "_identity", "_job_keys", "_node", "_store", "_wallet")

    def __init__(self, keys: Keys, store: DiskStore, elsewhere: StatementSigner | None = None) -> None:
        """Reads the job keys from the store: a few milliseconds, before the loop runs."""
        self._elsewhere = elsewhere
        self._identity = keys.identity
        self._node = Ed25519PrivateKey.from_private_bytes(keys.node.reveal())
        self._wallet = WalletKey(keys.wallet.reveal())
        self._encryption = keys.encryption
        self._store = store
        self._job_keys: dict[JobId, JobKey] = {}
        for job, wrapped in store.scan_sync(JOB_KEY):
            self._install(JobId(job), wrapped)

    def __repr__(self) -> str:
        return f"NodeVault({self._identity.peer}, {self.wallet}, {len(self._job_keys)} job keys)"

    @property
    def node_key(self) -> bytes:
        return self._identity.node_key

    @property
    def encryption_key(self) -> bytes:
        return self._identity.encryption_key

    @property
    def wallet(self) -> Address:
        return self._identity.wallet if self._elsewhere is None else self._elsewhere.wallet

    def sign(self, message: bytes) -> bytes:
        return self._node.sign(message)

    def verify(self, node_key: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(node_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes | None:
        if self._elsewhere is not None:
            return await self._elsewhere.sign_statement(domain, statement)
        return self.sign_digest(compute_digest(domain, statement))

    def sign_digest(self, digest: Digest) -> bytes:
        """By the wallet's key file: 65 bytes r ‖ s ‖ v, low s."""
        # libsecp256k1 signs with low s; its last byte is the recovery id, Ethereum's is 27 more.
        signature: bytes = self._wallet.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((signature[64] + 27,))

    def recover(self, digest: Digest, signature: bytes) -> Address | None:
        return recover(digest, signature)

    def unwrap(self, job: JobId, wrapped: bytes) -> bool:
        """As the port says. The key is on disk when this returns True: one commit of some milliseconds, once a job."""
        key = sealing.unwrap(self._encryption, job, wrapped)
        if key is None:
            return False
        if self._store.read_sync(JOB_KEY, job) != wrapped:  # the chain tells it again after a restart
            self._store.write_sync(Record(JOB_KEY, job, wrapped))
        self._job_keys[job] = key
        return True

    def holds(self, job: JobId) -> bool:
        return job in self._job_keys

    def seal(self, job: JobId, plaintext: bytes, *, context: bytes) -> bytes:
        """KeyError for a job whose key we don't hold."""
        return self._job_keys[job].seal(plaintext, context=context)

    def open(self, job: JobId, sealed: bytes, *, context: bytes) -> bytes | None:
        key = self._job_keys.get(job)
        return None if key is None else key.open(sealed, context=context)

    def seal_to(self, encryption_key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
        return sealing.seal_to(encryption_key, plaintext, context=context)

    # -- A requester's

    async def create_job_key(self, job: JobId) -> None:
        """Make the job's key; it is on disk when this returns. A key that is there already stays."""
        if self.holds(job):
            return
        wrapped = JobKey.generate().wrap(job, self.encryption_key)
        await self._store.write(Record(JOB_KEY, job, wrapped))
        self._install(job, wrapped)

    def wrap_job_key(self, job: JobId, encryption_key: bytes) -> bytes:
        """The job key for one worker, empty where its key is unusable. KeyError if we don't hold the job's."""
        return self._job_keys[job].wrap(job, encryption_key)

    def open_from(self, sealed: bytes, *, context: bytes) -> bytes | None:
        """Open what was sealed to our encryption key; None if it wasn't, or in another context."""
        return sealing.open_from(self._encryption, sealed, context=context)

    def content_key(self, terms: Digest) -> JobKey:
        """Of what we sell under these terms."""
        return sealing.derive_content_key(self._encryption, terms)

    def bought_key(self, order: bytes, sealed_key: bytes) -> JobKey | None:
        """The key that a seller delivered for our order; None if it isn't for us."""
        return sealing.unwrap(self._encryption, JobId(order), sealed_key)

    async def forget(self, job: JobId) -> None:
        """Drop a job's key for good."""
        await self._store.write(Record(JOB_KEY, job, None))
        self._job_keys.pop(job, None)

    def _install(self, job: JobId, wrapped: bytes) -> bool:
        key = sealing.unwrap(self._encryption, job, wrapped)
        if key is not None:
            self._job_keys[job] = key
        return key is not None


def recover(digest: Digest, signature: bytes) -> Address | None:
    """Return who signed: 65 bytes r ‖ s ‖ v with v 27 or 28 and low s, as the contracts demand; None otherwise."""
    if len(signature) != 65 or len(digest) != 32 or signature[64] not in (27, 28):
        return None
    if int.from_bytes(signature[32:64], "big") > _CURVE_ORDER // 2:
        return None  # the other signature of the same word: OpenZeppelin's ECDSA refuses it too
    try:
        raw = signature[:64] + bytes((signature[64] - 27,))
        return checksum_address(_address_bytes(WalletPublicKey.from_signature_and_message(raw, digest, hasher=None)))
    except ValueError:
        return None
