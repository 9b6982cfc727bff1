"""An ERC-20 as a requester pays with it: what it is, what is held and allowed, and permits (EIP-2612).

The one rule: a token is a stranger's contract. What it says of itself is shown and counted by, never believed: the
`Jobs` contract refuses one that does not arrive whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from node.adapters.evm.pool import Rpc
from node.adapters.evm.rpc import Failure, read_data, to_hex
from node.adapters.evm.signing import Signer
from protocols.abi import address_bytes
from protocols.ids import Address, Wei
from protocols.keccak import keccak256

PERMIT_TYPE = keccak256(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
MAX_DECIMALS = 36
MAX_SYMBOL_CHARS = 12


@dataclass(frozen=True, slots=True)
class Token:
    address: Address
    symbol: str
    decimals: int

    def text(self, amount: int) -> str:
        """An amount as people write it."""
        whole, part = divmod(amount, 10**self.decimals)
        fraction = f"{part:0{self.decimals}d}".rstrip("0") if part else ""
        return f"{whole}{'.' if fraction else ''}{fraction} {self.symbol}"


@dataclass(frozen=True, slots=True)
class Permit:
    """A signed allowance, as `Jobs.postWithPermit` takes it."""

    deadline_s: int
    v: int
    r: bytes
    s: bytes


class NoToken(Exception):
    """What is there does not answer as an ERC-20."""


async def read_token(rpc: Rpc, address: Address) -> Token:
    """Raises NoToken, Unavailable."""
    (decimals,) = await _view(rpc, address, "decimals()", ["uint8"])
    try:
        (symbol,) = await _view(rpc, address, "symbol()", ["string"])
    except NoToken:
        symbol = ""  # the oldest answer with bytes32, or not at all
    if decimals > MAX_DECIMALS:
        raise NoToken(f"{decimals} decimals")
    printable = "".join(c for c in symbol if c.isascii() and c.isalnum())[:MAX_SYMBOL_CHARS]
    return Token(address, printable or f"{address[:8]}…", decimals)


async def read_balance(rpc: Rpc, token: Address, holder: Address) -> Wei:
    """Raises NoToken, Unavailable."""
    return Wei((await _view(rpc, token, "balanceOf(address)", ["uint256"], holder))[0])


async def read_allowance(rpc: Rpc, token: Address, holder: Address, spender: Address) -> Wei:
    """Raises NoToken, Unavailable."""
    return Wei((await _view(rpc, token, "allowance(address,address)", ["uint256"], holder, spender))[0])


def encode_approve(spender: Address, amount: Wei) -> bytes:
    return _selector("approve(address,uint256)") + encode(["address", "uint256"], [spender, amount])


async def sign_permit(
    rpc: Rpc, signer: Signer, token: Address, spender: Address, amount: Wei, deadline_s: int
) -> Permit | None:
    """None for a token without permits. Raises Unavailable."""
    try:
        (separator,) = await _view(rpc, token, "DOMAIN_SEPARATOR()", ["bytes32"])
        (nonce,) = await _view(rpc, token, "nonces(address)", ["uint256"], signer.wallet)
    except NoToken:
        return None
    words = (PERMIT_TYPE, address_bytes(signer.wallet), address_bytes(spender), amount, nonce, deadline_s)
    kinds = ["bytes32", "address", "address", "uint256", "uint256", "uint256"]
    signature = signer.sign_digest(keccak256(b"\x19\x01" + separator + keccak256(encode(kinds, words))))
    return Permit(deadline_s, signature[64], signature[:32], signature[32:64])


async def _view(rpc: Rpc, token: Address, function: str, kinds: list[str], *arguments: Address) -> tuple[Any, ...]:
    data = _selector(function) + encode(["address"] * len(arguments), arguments)
    try:
        answer = read_data(await rpc.request("eth_call", {"to": token, "data": to_hex(data)}, "latest"))
        return tuple(decode(kinds, answer))
    except Failure as failure:
        raise NoToken(f"{function}: {failure.message}") from None
    except (DecodingError, UnicodeDecodeError, OverflowError):
        raise NoToken(f"{function}: no answer") from None


def _selector(function: str) -> bytes:
    return keccak256(function.encode())[:4]
