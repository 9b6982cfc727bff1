"""Static words of the contract ABI, and the two forms of an address.

The one rule: what `encode_words` returns is what `abi.encode` returns in Solidity for the same static values.
Calldata with dynamic types is the chain adapter's business. Spec: protocols/README.md, "Hashing".
"""

from __future__ import annotations

from protocols.ids import Address
from protocols.keccak import keccak256

WORD_BYTES = 32
ZERO_ADDRESS = Address("0x0000000000000000000000000000000000000000")

Word = int | bytes | str
"""uint256 (or bool), bytes32, address."""


def encode_words(*values: Word) -> bytes:
    """Concatenate one 32-byte word a value; ValueError where a value fits no word."""
    return b"".join(map(_encode_word, values))


def address_bytes(address: Address) -> bytes:
    """The 20 bytes of an address; its checksum is not looked at. ValueError where it is none."""
    raw = bytes.fromhex(address[2:]) if address.startswith("0x") and address.isascii() else b""
    if len(raw) != 20 or len(address) != 42:
        raise ValueError(f"not an address: {address!r}")
    return raw


def checksum_address(raw: bytes) -> Address:
    """20 bytes in EIP-55 form."""
    if len(raw) != 20:
        raise ValueError(f"an address has 20 bytes, not {len(raw)}")
    plain = raw.hex()
    nibbles = keccak256(plain.encode()).hex()
    return Address("0x" + "".join(c.upper() if n > "7" else c for c, n in zip(plain, nibbles, strict=False)))


def _encode_word(value: Word) -> bytes:
    match value:
        case int():
            if not 0 <= value < 1 << 256:
                raise ValueError("a uint256 lies in 0 … 2**256 - 1")
            return value.to_bytes(WORD_BYTES, "big")
        case str():
            return bytes(12) + address_bytes(Address(value))
        case bytes():
            # bytes32 only: a shorter value here is a mistake far more often than a bytesN.
            if len(value) != WORD_BYTES:
                raise ValueError(f"a bytes32 has 32 bytes, not {len(value)}")
            return value
