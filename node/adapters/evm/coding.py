"""Calls to calldata, logs to events, revert data to names: by the ABI in `node/artifacts`, by position.

The one rule: the fields of `protocols.chain`'s dataclasses are in the order of the contracts' parameters, so
nothing is listed twice. A log that does not fit its event raises ValueError: the endpoint is lying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Literal, get_args

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from node.adapters.evm.refusals import explain
from node.artifacts import Name, load
from protocols import chain
from protocols.abi import checksum_address
from protocols.chain import Call, ChainEvent, JobState, ProofPolicy, Terms
from protocols.job import compute_value
from protocols.keccak import keccak256

Contract = Literal["Jobs", "Workers", "Verifiers"]
Fragment = Mapping[str, Any]

ABIS: tuple[Name, ...] = ("Jobs", "Workers", "Verifiers", "Beacon", "TestBeacon", "Market", "Models", "Model")
PANIC = keccak256(b"Panic(uint256)")[:4]
ERROR = keccak256(b"Error(string)")[:4]


class Unencodable(ValueError):
    """A value is too large for its parameter."""


@dataclass(frozen=True, slots=True)
class Calldata:
    contract: Contract
    data: bytes
    value_wei: int = 0


# -- Calls -------------------------------------------------------------------------

_FUNCTIONS: dict[type[Call], tuple[Contract, str]] = {
    chain.Register: ("Workers", "register"),
    chain.RegisterKey: ("Verifiers", "register"),
    chain.Post: ("Jobs", "post"),
    chain.Apply: ("Jobs", "applyFor"),
    chain.Assign: ("Jobs", "assign"),
    chain.DeliverKeys: ("Jobs", "deliverKeys"),
    chain.Ready: ("Jobs", "ready"),
    chain.CommitRound: ("Jobs", "commitRound"),
    chain.NullRound: ("Jobs", "nullRound"),
    chain.Dissent: ("Jobs", "dissent"),
    chain.ReportEquivocation: ("Jobs", "reportEquivocation"),
    chain.SubmitProof: ("Jobs", "submitProof"),
    chain.Settle: ("Jobs", "settle"),
    chain.Cancel: ("Jobs", "cancel"),
    chain.Expire: ("Jobs", "expire"),
    chain.Release: ("Jobs", "release"),
    chain.Withdraw: ("Jobs", "withdraw"),
    chain.WithdrawIn: ("Jobs", "withdrawIn"),
    chain.TopUp: ("Workers", "topUp"),
    chain.Unbond: ("Workers", "unbond"),
    chain.WithdrawStake: ("Workers", "withdraw"),
}


def encode_call(call: Call) -> Calldata:
    contract, function = _FUNCTIONS[type(call)]
    match call:
        case chain.Register(node_key, encryption_key, capabilities, binding, stake_wei):
            arguments: tuple[Any, ...] = (node_key, encryption_key, capabilities, binding)
            value_wei = int(stake_wei)
        case chain.RegisterKey(words):
            arguments, value_wei = ([_word(word) for word in words],), 0
        case chain.Post(terms, nonce):
            arguments, value_wei = (plain(terms), nonce), int(compute_value(terms))
        case chain.TopUp(amount_wei):
            arguments, value_wei = (), int(amount_wei)
        case chain.SubmitProof(key_words=words):
            arguments, value_wei = (*plain(call)[:-1], [_word(word) for word in words]), 0
        case _:
            arguments, value_wei = plain(call), 0
    return Calldata(contract, encode_function(contract, function, *arguments), value_wei)


def encode_function(contract: Name, function: str, *arguments: Any) -> bytes:
    """Selector and arguments; raises Unencodable."""
    fragment = _find(contract, "function", function)
    types = [_type(parameter) for parameter in fragment["inputs"]]
    try:
        return keccak256(_signature(fragment).encode())[:4] + encode(types, arguments)
    except (EncodingError, OverflowError, TypeError) as error:
        raise Unencodable(f"{function}: {' '.join(str(error).split())[:200]}") from None


def decode_result(contract: Name, function: str, data: bytes) -> tuple[Any, ...]:
    """Return values of a view; raises ValueError."""
    return _decode([_type(p) for p in _find(contract, "function", function)["outputs"]], data)


def encode_constructor(contract: Name, *arguments: Any) -> bytes:
    """Creation code with its arguments."""
    artifact = load(contract)
    inputs: list[Fragment] = next((f["inputs"] for f in artifact.abi if f["type"] == "constructor"), [])
    return artifact.bytecode + encode([_type(parameter) for parameter in inputs], arguments)


def plain(value: Any) -> Any:
    """As `encode_function` takes it: dataclasses as tuples, recursively."""
    if is_dataclass(value):
        return tuple(plain(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _word(value: int) -> bytes:
    if not 0 <= value < 1 << 256:
        raise Unencodable("a word of the verifying key does not fit 32 bytes")
    return value.to_bytes(32, "big")


# -- Events ------------------------------------------------------------------------

_EVENTS: tuple[type[ChainEvent], ...] = (
    chain.WorkerRegistered,
    chain.StakeAdded,
    chain.StakeUnbonding,
    chain.StakeWithdrawn,
    chain.JobPosted,
    chain.Applied,
    chain.JoinClosed,
    chain.Assigned,
    chain.KeysDelivered,
    chain.WorkerReady,
    chain.TrainingStarted,
    chain.RoundCommitted,
    chain.RoundNulled,
    chain.Dissented,
    chain.EquivocationProved,
    chain.ProvingStarted,
    chain.ProofAccepted,
    chain.WorkerPaid,
    chain.WorkerSlashed,
    chain.FeePaid,
    chain.JobEnded,
)


def decode_event(topics: Sequence[bytes], data: bytes) -> ChainEvent | None:
    """None for a log that is none of ours. Raises ValueError for one that is malformed."""
    known = _events_by_topic().get(topics[0]) if topics else None
    if known is None:
        return None
    event, fragment = known
    values = _values(fragment, topics, data)
    return event(*(_typed(p, value) for p, value in zip(fragment["inputs"], values, strict=True)))


def _values(fragment: Fragment, topics: Sequence[bytes], data: bytes) -> list[Any]:
    indexed = [p for p in fragment["inputs"] if p["indexed"]]
    plain = [p for p in fragment["inputs"] if not p["indexed"]]
    if len(topics) != 1 + len(indexed):
        raise ValueError(f"{fragment['name']}: {len(topics)} topics")
    from_topics = [_decode([_type(p)], topic)[0] for p, topic in zip(indexed, topics[1:], strict=True)]
    from_data = list(_decode([_type(p) for p in plain], data))
    return [(from_topics if p["indexed"] else from_data).pop(0) for p in fragment["inputs"]]


def decode_named(contract: Name, topics: Sequence[bytes], data: bytes) -> tuple[str, list[Any]] | None:
    """Name and values, in the order of the event's parameters, of a contract that has no `ChainEvent`s.

    None for a log that is none of its own. Raises ValueError for one that is malformed.
    """
    events = (f for f in load(contract).abi if f["type"] == "event")
    fragment = next((f for f in events if topics and keccak256(_signature(f).encode()) == topics[0]), None)
    return None if fragment is None else (str(fragment["name"]), _values(fragment, topics, data))


@cache
def _events_by_topic() -> dict[bytes, tuple[type[ChainEvent], Fragment]]:
    found = {}
    for event in _EVENTS:
        contract: Contract = "Workers" if event in get_args(chain.WorkerEvent) else "Jobs"
        fragment = _find(contract, "event", event.__name__)
        found[bytes(keccak256(_signature(fragment).encode()))] = (event, fragment)
    return found


def _typed(parameter: Fragment, value: Any) -> Any:
    """From eth_abi's plain values to those of `protocols`."""
    match parameter["type"], parameter.get("internalType", ""):
        case "tuple", "struct Terms":
            components = parameter["components"]
            return Terms(*(_typed(p, v) for p, v in zip(components, value, strict=True)))
        case "uint8", "enum JobState":
            return JobState(value)
        case "uint8", "enum ProofPolicy":
            return ProofPolicy(value)
        case "address", _:
            return checksum_address(bytes.fromhex(value[2:]))
        case "address[]", _:
            return tuple(checksum_address(bytes.fromhex(item[2:])) for item in value)
        case str(kind), _ if kind.endswith("[]"):
            return tuple(value)
        case _:
            return value


# -- Reverts -----------------------------------------------------------------------


def explain_revert(data: bytes) -> str:
    """The custom error as a sentence with what to do; empty where the data says nothing of ours."""
    fragment = _errors().get(data[:4])
    if fragment is None:
        return ""
    try:
        arguments = _decode([_type(p) for p in fragment["inputs"]], data[4:])
    except ValueError:
        return ""
    return explain(str(fragment["name"]), arguments)


def name_revert(data: bytes) -> str | None:
    """The custom error's name, what a `require` said, or None where the data says nothing."""
    selector = data[:4]
    if selector in _errors():
        return str(_errors()[selector]["name"])
    try:
        if selector == ERROR:
            return " ".join(str(_decode(["string"], data[4:])[0]).split())[:200]
        if selector == PANIC:
            return f"Panic({_decode(['uint256'], data[4:])[0]})"
    except ValueError:
        return None
    return None


@cache
def _errors() -> dict[bytes, Fragment]:
    errors = [f for contract in ABIS for f in load(contract).abi if f["type"] == "error"]
    return {bytes(keccak256(_signature(f).encode())[:4]): f for f in errors}


# -- ABI ---------------------------------------------------------------------------


@cache
def _find(contract: Name, kind: str, name: str) -> Fragment:
    return next(f for f in load(contract).abi if f["type"] == kind and f["name"] == name)


def _signature(fragment: Fragment) -> str:
    return f"{fragment['name']}({','.join(_type(p) for p in fragment['inputs'])})"


def _type(parameter: Fragment) -> str:
    """The canonical type: tuples by their components."""
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(p) for p in parameter['components'])}){kind.removeprefix('tuple')}"


def _decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        return tuple(decode(types, data))
    except (DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"malformed ABI data: {type(error).__name__}") from None
