"""EIP-1559 transactions and who signs them.

The one rule: the key stays with the signer. The node's is its `Vault`; `LocalSigner` serves the command line,
deployment and development accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coincurve import PrivateKey

from node.secret import Secret
from protocols.abi import address_bytes, checksum_address
from protocols.ids import Address, Digest
from protocols.keccak import keccak256

TRANSACTION_TYPE = b"\x02"


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
    t = transaction
    to = b"" if t.to is None else address_bytes(t.to)
    unsigned: list[Item] = [t.chain_id, t.nonce, t.tip_wei, t.max_fee_wei, t.gas, to, t.value_wei, t.data, []]
    signature = signer.sign_digest(keccak256(TRANSACTION_TYPE + _encode(unsigned)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = TRANSACTION_TYPE + _encode([*unsigned, signature[64] - 27, r, s])
    return SignedTransaction(raw, keccak256(raw))


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
