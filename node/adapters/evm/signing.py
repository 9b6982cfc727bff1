"""EIP-1559 transactions and who signs them.

The one rule: the key stays with the signer. The node's is its `Vault`; `LocalSigner` serves the command line,
deployment and development accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coincurve import PrivateKey, PublicKey

from node.secret import Secret
from protocols.abi import address_bytes, checksum_address
from protocols.eip712 import Domain, Statement, compute_digest
from protocols.ids import Address, Digest
from protocols.keccak import keccak256

TRANSACTION_TYPE = b"\x02"
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Signer(Protocol):
    """`actors.ports.Vault` is one."""

    @property
    def wallet(self) -> Address: ...
    def sign_digest(self, digest: Digest) -> bytes:
        """65 bytes r ‖ s ‖ v by the wallet key, low s; v is 27 or 28."""


class LocalSigner:
    """A wallet key in this process."""

    __slots__ = ("_key", "_wallet")

    def __init__(self, key: Secret) -> None:
        """ValueError for what is no secp256k1 key; it doesn't show the key."""
        try:
            if len(key.reveal()) != 32:
                raise ValueError
            public = PrivateKey(key.reveal()).public_key.format(compressed=False)
        except ValueError:
            raise ValueError("not a secp256k1 private key: 32 bytes, below the order of the curve") from None
        self._key = key
        self._wallet = checksum_address(keccak256(public[1:])[12:])

    @property
    def wallet(self) -> Address:
        return self._wallet

    def sign_digest(self, digest: Digest) -> bytes:
        signature = PrivateKey(self._key.reveal()).sign_recoverable(digest, hasher=None)
        return bytes(signature[:64]) + bytes([27 + signature[64]])

    def __repr__(self) -> str:
        return f"LocalSigner({self._wallet})"


class SignerFailed(Exception):
    """An external signer is out of reach, refuses, or signs something else."""


class ExternalSigner(Protocol):
    """A signer outside this process: it sees whole transactions and statements, and signs nothing else."""

    @property
    def wallet(self) -> Address: ...
    async def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        """Raises SignerFailed."""

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes:
        """65 bytes r ‖ s ‖ v, low s, v 27 or 28. Raises SignerFailed."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """EIP-1559, without an access list."""

    chain_id: int
    nonce: int
    tip_wei: int
    max_fee_wei: int
    gas: int
    to: Address | None
    """None creates a contract."""
    value_wei: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    raw: bytes
    hash: bytes


def sign_transaction(transaction: Transaction, signer: Signer) -> SignedTransaction:
    unsigned = _fields(transaction)
    signature = signer.sign_digest(keccak256(TRANSACTION_TYPE + _encode(unsigned)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = TRANSACTION_TYPE + _encode([*unsigned, signature[64] - 27, r, s])
    return SignedTransaction(raw, keccak256(raw))


def check_signed(transaction: Transaction, raw: bytes, wallet: Address) -> SignedTransaction:
    """Raises SignerFailed unless `raw` is this very transaction, signed by `wallet`."""
    unsigned = _fields(transaction)
    body = b"".join(map(_encode, unsigned))
    _, start = _read_prefix(raw[1:], 0xC0)
    tail = raw[1 + start + len(body) :]
    numbers: list[int] = []
    while tail and len(numbers) < 4:
        size, begin = _read_prefix(tail, 0x80)
        numbers.append(int.from_bytes(tail[begin : begin + size], "big"))
        tail = tail[begin + size :]
    if len(numbers) != 3 or raw != TRANSACTION_TYPE + _encode([*unsigned, *numbers]):
        raise SignerFailed("it signed another transaction than it was given")
    y, r, s = numbers
    try:
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([y])
        digest = keccak256(TRANSACTION_TYPE + _encode(unsigned))
        public = PublicKey.from_signature_and_message(signature, digest, hasher=None).format(compressed=False)
    except (ValueError, OverflowError):
        raise SignerFailed("its signature is none") from None
    if checksum_address(keccak256(public[1:])[12:]) != wallet:
        raise SignerFailed(f"it signed with another key than that of {wallet}")
    return SignedTransaction(raw, keccak256(raw))


def check_statement(domain: Domain, statement: Statement, signature: bytes, wallet: Address) -> bytes:
    """The signature as the contracts take it. Raises SignerFailed unless it is the wallet's, under this statement."""
    s = int.from_bytes(signature[32:64], "big")
    if len(signature) != 65 or signature[64] not in (0, 1, 27, 28) or not 0 < s < CURVE_ORDER:
        raise SignerFailed("its signature of a statement is none")
    y = signature[64] % 27
    if s > CURVE_ORDER // 2:  # the other signature of the same word, which the contracts refuse
        y, s = 1 - y, CURVE_ORDER - s
    r_s = signature[:32] + s.to_bytes(32, "big")
    try:
        digest = compute_digest(domain, statement)
        public = PublicKey.from_signature_and_message(r_s + bytes([y]), digest, hasher=None).format(compressed=False)
    except ValueError:
        raise SignerFailed("its signature of a statement is none") from None
    if checksum_address(keccak256(public[1:])[12:]) != wallet:
        raise SignerFailed(f"it signed another statement, or with another key than that of {wallet}")
    return r_s + bytes([27 + y])


def _fields(t: Transaction) -> list[Item]:
    to = b"" if t.to is None else address_bytes(t.to)
    return [t.chain_id, t.nonce, t.tip_wei, t.max_fee_wei, t.gas, to, t.value_wei, t.data, []]


def compute_contract_address(creator: Address, nonce: int) -> Address:
    """Where a contract that `creator` creates by its transaction `nonce` will be."""
    return checksum_address(keccak256(_encode([address_bytes(creator), nonce]))[12:])


# -- RLP ---------------------------------------------------------------------------

Item = int | bytes | list["Item"]


def _encode(item: Item) -> bytes:
    """Recursive Length Prefix, of the yellow paper's appendix B."""
    match item:
        case list():
            return _prefix(b"".join(map(_encode, item)), 0xC0)
        case int():
            return _encode(item.to_bytes((item.bit_length() + 7) // 8, "big"))
        case bytes():
            return item if len(item) == 1 and item[0] < 0x80 else _prefix(item, 0x80)


def _prefix(payload: bytes, offset: int) -> bytes:
    if len(payload) < 56:
        return bytes([offset + len(payload)]) + payload
    size = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(size)]) + size + payload


def _read_prefix(data: bytes, offset: int) -> tuple[int, int]:
    """(size of the payload, where it starts); of an item that is its own payload, (1, 0)."""
    first = data[0] if data else 0
    if first < 0x80:
        return 1, 0
    if first < offset + 56:
        return first - offset, 1
    length = first - offset - 55
    return int.from_bytes(data[1 : 1 + length], "big"), 1 + length
