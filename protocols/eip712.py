"""The three typed statements that a wallet signs: receipts, votes and identity bindings (EIP-712).

The one rule: a digest binds the chain and the contract, so that a signature is worth nothing anywhere else.
`Receipt` and `Vote` are made for the `Jobs` contract's domain, `Binding` for that of `Workers`.
Spec: protocols/README.md, "Signed statements".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from protocols.abi import encode_words
from protocols.ids import Address, ContentId, Digest, JobId, RoundNumber
from protocols.keccak import keccak256

# -- Statements ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Domain:
    chain_id: int
    contract: Address


@dataclass(frozen=True, slots=True)
class Receipt:
    """A worker's word on its own update of one round."""

    job: JobId
    worker: Address
    round: RoundNumber
    update: ContentId
    leaves: Digest
    """Merkle root of its step leaves."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A worker's word on the set of one round and on the state that follows from it."""

    job: JobId
    epoch: int
    round: RoundNumber
    view: int
    parent: Digest
    """Digest of the last certificate; zero for the first."""
    set_root: Digest
    participants: int
    """Bit i set: seat i has an entry in the set. Unsigned, a relayer of the certificate could flip it."""
    state: ContentId
    commitment: Digest
    """keccak of C(θ_{r+1})."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A wallet's word on the keys that speak for it."""

    wallet: Address
    node_key: bytes
    encryption_key: bytes
    capabilities: Digest


Statement = Receipt | Vote | Binding

# -- Digests -------------------------------------------------------------------

_DOMAIN_MEMBERS = "string name,string version,uint256 chainId,address verifyingContract"
_TYPES: Mapping[type[Statement], tuple[str, str]] = {
    Receipt: ("Receipt", "bytes32 job,address worker,uint32 round,bytes32 update,bytes32 leaves"),
    Vote: (
        "Vote",
        "bytes32 job,uint32 epoch,uint32 round,uint32 view,bytes32 parent,"
        "bytes32 set,uint64 participants,bytes32 state,bytes32 commitment",
    ),
    Binding: ("Binding", "address wallet,bytes32 nodeKey,bytes32 encryptionKey,bytes32 capabilities"),
}
"""Name and members, in the order of the dataclasses' fields."""


def _type_hash(name: str, members: str) -> Digest:
    return keccak256(f"{name}({members})".encode())


_DOMAIN_TYPE = _type_hash("EIP712Domain", _DOMAIN_MEMBERS)
_RECEIPT_TYPE, _VOTE_TYPE, _BINDING_TYPE = (_type_hash(*_TYPES[kind]) for kind in (Receipt, Vote, Binding))
_NAME, _VERSION = keccak256(b"SkyNet"), keccak256(b"1")


def describe(domain: Domain, statement: Statement) -> dict[str, Any]:
    """The same as typed data in JSON, for a signer elsewhere that shows what it signs."""
    name, members = _TYPES[type(statement)]
    values = (getattr(statement, each.name) for each in fields(statement))
    return {
        "types": {"EIP712Domain": _members(_DOMAIN_MEMBERS), name: _members(members)},
        "primaryType": name,
        "domain": {
            "name": "SkyNet",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        "message": {
            member.split()[1]: "0x" + value.hex() if isinstance(value, bytes) else value
            for member, value in zip(members.split(","), values, strict=True)
        },
    }


def _members(text: str) -> list[dict[str, str]]:
    pairs = (member.split() for member in text.split(","))
    return [{"name": name, "type": kind} for kind, name in pairs]


def compute_digest(domain: Domain, statement: Statement) -> Digest:
    """The 32 bytes that are signed."""
    return keccak256(b"\x19\x01" + compute_separator(domain) + _hash_struct(statement))


@lru_cache(maxsize=16)  # one node speaks to two contracts of one chain
def compute_separator(domain: Domain) -> Digest:
    return keccak256(encode_words(_DOMAIN_TYPE, _NAME, _VERSION, domain.chain_id, domain.contract))


def _hash_struct(statement: Statement) -> Digest:
    match statement:
        case Receipt(job, worker, number, update, leaves):
            words = (_RECEIPT_TYPE, job, worker, _uint32(number), update, leaves)
            return keccak256(encode_words(*words))
        case Vote(job, epoch, number, view, parent, set_root, participants, state, commitment):
            numbers = (_uint32(epoch), _uint32(number), _uint32(view))
            vote = (_VOTE_TYPE, job, *numbers, parent, set_root, participants, state, commitment)
            return keccak256(encode_words(*vote))
        case Binding(wallet, node_key, encryption_key, capabilities):
            return keccak256(encode_words(_BINDING_TYPE, wallet, node_key, encryption_key, capabilities))


def _uint32(value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise ValueError("a uint32 lies in 0 … 2**32 - 1")
    return value
