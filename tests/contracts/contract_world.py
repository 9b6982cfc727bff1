"""The contracts on an EVM in this process, spoken to in the words of `protocols/chain.py`.

`World` executes calls and decodes what they log; it knows no rule of the contracts. Here, and not in the chain
adapter, because a test of the contracts must not lean on the code that its users lean on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import coincurve
import rlp
from eth_abi.abi import decode, encode
from evm_backends import Account, Backend, Log, PyRevm, Reverted

from node.artifacts import NAMES, load
from protocols import chain
from protocols.abi import address_bytes, checksum_address
from protocols.chain import (
    Apply,
    Assign,
    Call,
    Cancel,
    ChainEvent,
    CommitRound,
    DeliverKeys,
    Dissent,
    Expire,
    JobPosted,
    JobState,
    NullRound,
    Post,
    ProofPolicy,
    Ready,
    Register,
    RegisterKey,
    Release,
    ReportEquivocation,
    Settle,
    SubmitProof,
    Terms,
    TopUp,
    Unbond,
    Withdraw,
    WithdrawIn,
    WithdrawStake,
)
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.ids import Address, Digest, JobId, Wei
from protocols.keccak import keccak256

BURN = Address("0x000000000000000000000000000000000000dEaD")
DOUBLES = Path(__file__).parent / "artifacts"

# -- Accounts ------------------------------------------------------------------


@cache
def make_account(name: str) -> Account:
    return Account.of(keccak256(name.encode()))


def sign(account: Account, digest: Digest) -> bytes:
    """65 bytes r ‖ s ‖ v."""
    raw = account.key.sign_recoverable(digest, hasher=None)
    return raw[:64] + bytes([27 + raw[64]])


def recover(digest: Digest, signature: bytes) -> Address | None:
    """Who signed, None where nobody did: what `ECDSA.tryRecover` says of 65 bytes with low s."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    try:
        raw = signature[:64] + bytes([signature[64] - 27])
        point = coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except Exception:  # noqa: BLE001  coincurve raises plain Exception for what is no signature
        return None
    return checksum_address(keccak256(point.format(compressed=False)[1:])[12:])


def sign_registration(chain_id: int, workers: Address, account: Account, stake_wei: int) -> Register:
    node_key, encryption_key = keccak256(b"node" + account.key.secret), keccak256(b"box" + account.key.secret)
    binding = Binding(account.address, node_key, encryption_key, Digest(bytes(32)))
    signature = sign(account, compute_digest(Domain(chain_id, workers), binding))
    return Register(node_key, encryption_key, Digest(bytes(32)), signature, Wei(stake_wei))


# -- ABI -----------------------------------------------------------------------


def _type_of(item: dict[str, Any]) -> str:
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    inner = ",".join(map(_type_of, item["components"]))
    return f"({inner}){item['type'][5:]}"


def _types(items: Iterable[dict[str, Any]]) -> list[str]:
    return [_type_of(item) for item in items]


def _id(item: dict[str, Any]) -> bytes:
    return keccak256(f"{item['name']}({','.join(_types(item['inputs']))})".encode())


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value


class Interface:
    """One contract's ABI, ready for use."""

    def __init__(self, abi: Iterable[dict[str, Any]]) -> None:
        named = [item for item in abi if "name" in item]
        self.functions = {i["name"]: i for i in named if i["type"] == "function"}
        self.selectors = {name: _id(item)[:4] for name, item in self.functions.items()}
        self.events = {_id(i): i for i in named if i["type"] == "event"}
        self.errors = {_id(i)[:4]: i for i in named if i["type"] == "error"}
        self.constructor: dict[str, Any] = next((i for i in abi if i["type"] == "constructor"), {"inputs": []})

    def encode(self, function: str, args: Iterable[Any]) -> bytes:
        item = self.functions[function]
        return self.selectors[function] + encode(_types(item["inputs"]), list(args))

    def encode_constructor(self, args: Iterable[Any]) -> bytes:
        return encode(_types(self.constructor["inputs"]), list(args))

    def decode(self, function: str, answer: bytes) -> Any:
        values = _tupled(decode(_types(self.functions[function]["outputs"]), answer))
        return values[0] if len(values) == 1 else values


@cache
def read_artifact(name: str) -> tuple[bytes, Interface]:
    """Creation code and ABI of a contract, or of a double from contracts/test."""
    if name in NAMES:
        artifact = load(name)
        return artifact.bytecode, Interface(artifact.abi)
    raw = json.loads((DOUBLES / f"{name}.json").read_text())
    return bytes.fromhex(raw["bytecode"][2:]), Interface(raw["abi"])


def _words(values: Iterable[int]) -> list[bytes]:
    return [value.to_bytes(32, "big") for value in values]


def translate(call: Call) -> tuple[str, str, tuple[Any, ...]]:
    """Contract, function and arguments."""
    match call:
        case Register(node_key, encryption_key, capabilities, binding):
            return "Workers", "register", (node_key, encryption_key, capabilities, binding)
        case WithdrawStake():
            return "Workers", "withdraw", ()
        case Unbond(amount):
            return "Workers", "unbond", (amount,)
        case TopUp():
            return "Workers", "topUp", ()
        case RegisterKey(words):
            return "Verifiers", "register", (_words(words),)
        case SubmitProof():
            return "Jobs", "submitProof", (*astuple(call)[:-1], _words(call.key_words))
        case Apply(job):
            return "Jobs", "applyFor", (job,)
        case (
            Post()
            | CommitRound()
            | DeliverKeys()
            | NullRound()
            | Dissent()
            | ReportEquivocation()
            | Release()
            | Withdraw()
            | WithdrawIn()
        ):
            name = type(call).__name__
            return "Jobs", name[0].lower() + name[1:], astuple(call)
        case Assign(job) | Ready(job) | Settle(job) | Cancel(job) | Expire(job):
            return "Jobs", type(call).__name__.lower(), (job,)


def read_calldata(interface: Interface, contract: str, data: bytes) -> Call:
    """What `translate` made this of; raises KeyError for another function. A stake is not in the data."""
    function = next(name for name, selector in interface.selectors.items() if selector == data[:4])
    values = _checked(_tupled(decode(_types(interface.functions[function]["inputs"]), data[4:])))
    kind = _KINDS[contract, function]
    match function:
        case "register" if contract == "Verifiers":
            return RegisterKey(tuple(int.from_bytes(word, "big") for word in values[0]))
        case "register":
            return Register(*values, Wei(0))
        case "topUp":
            return TopUp(Wei(0))
        case "post":
            return Post(_terms(values[0]), values[1])
        case "commitRound":
            return CommitRound(values[0], chain.Certificate(*values[1]))
        case "reportEquivocation":
            number, parent, *ballots = values[2]
            first, second = (chain.Ballot(*ballot) for ballot in ballots)
            return ReportEquivocation(values[0], values[1], chain.Equivocation(number, parent, first, second))
        case "submitProof":
            job, worker, sample, evidence, proof, instances, words = values
            key = tuple(int.from_bytes(word, "big") for word in words)
            return SubmitProof(job, worker, sample, chain.Evidence(*evidence), proof, instances, key)
    built: Any = kind
    return built(*values)  # type: ignore[no-any-return]


_KINDS: dict[tuple[str, str], type[Call]] = {
    ("Workers", "register"): Register,
    ("Workers", "withdraw"): WithdrawStake,
    ("Workers", "unbond"): Unbond,
    ("Workers", "topUp"): TopUp,
    ("Verifiers", "register"): RegisterKey,
    ("Jobs", "applyFor"): Apply,
    **{
        ("Jobs", kind.__name__[0].lower() + kind.__name__[1:]): kind
        for kind in (
            Post, Assign, DeliverKeys, Ready, CommitRound, NullRound, Dissent, ReportEquivocation, SubmitProof, Settle,
            Cancel, Expire, Release, Withdraw, WithdrawIn,
        )
    },
}  # fmt: skip


def _event(name: str, values: list[Any]) -> ChainEvent:
    """A `ChainEvent` from one log's values, in the order of the ABI."""
    built: Any = getattr(chain, name)
    if built is JobPosted:
        values = [*values[:2], _terms(values[2]), *values[3:]]
    if built is chain.JobEnded:
        values = [values[0], JobState(values[1]), values[2]]
    return built(*map(_checked, values))  # type: ignore[no-any-return]


def _terms(values: tuple[Any, ...]) -> Terms:
    terms = Terms(*map(_checked, values))
    return replace(terms, proof_policy=ProofPolicy(terms.proof_policy))


def _checked(value: Any) -> Any:
    """eth_abi gives addresses in lower case."""
    if isinstance(value, tuple):
        return tuple(map(_checked, value))
    return checksum(value) if isinstance(value, str) else value


@cache
def checksum(address: str) -> Address:
    return checksum_address(address_bytes(Address(address)))


# -- World ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    events: tuple[ChainEvent, ...]
    gas_used: int


@dataclass(frozen=True, slots=True)
class Refused:
    name: str
    """Of the custom error; empty where the contract gave no reason."""
    args: tuple[Any, ...] = ()


class World:
    """What a job needs, deployed. With `real_verifier` off, `VerifiersDouble` judges the proofs."""

    def __init__(
        self, backend: Backend | None = None, *, real_verifier: bool = False, development: bool = True
    ) -> None:
        self._beacon = "TestBeacon" if development else "Beacon"
        self.backend = PyRevm() if backend is None else backend
        self.interfaces: dict[str, Interface] = {"Verifiers": read_artifact("Verifiers")[1]}
        self.addresses: dict[str, Address] = {}
        self.gas: dict[str, int] = {}
        """Of the last deployment or call of each name."""
        self._deploy_all(real_verifier, development)

    def _deploy_all(self, real_verifier: bool, development: bool) -> None:
        self.deploy(self._beacon)
        if real_verifier:
            self.deploy("Halo2VerifierReusable")
            self.deploy("Verifiers", self.addresses["Halo2VerifierReusable"], development)
        else:
            self.deploy("VerifiersDouble", development)
            self.addresses["Verifiers"] = self.addresses["VerifiersDouble"]
        jobs = self.deploy("Jobs", *(self.addresses[name] for name in ("Verifiers", self._beacon)))
        self.interfaces["Workers"] = read_artifact("Workers")[1]
        self.addresses["Workers"] = checksum_address(keccak256(rlp.encode([address_bytes(jobs), 1]))[12:])

    def deploy(self, name: str, *args: Any) -> Address:
        """Raises ValueError(Refused) where the constructor reverts."""
        code, self.interfaces[name] = read_artifact(name)
        receipt = self.backend.create(code + self.interfaces[name].encode_constructor(args))
        if isinstance(receipt, Reverted):
            raise ValueError(self._refused(receipt.data))
        assert receipt.created is not None
        self.gas[name] = receipt.gas_used
        self.addresses[name] = receipt.created
        return receipt.created

    @property
    def chain_id(self) -> int:
        return self.backend.chain_id

    @property
    def now_s(self) -> int:
        return self.backend.now_s

    @property
    def deployer(self) -> Address:
        return self.backend.deployer

    @property
    def jobs(self) -> Address:
        return self.addresses["Jobs"]

    @property
    def workers(self) -> Address:
        return self.addresses["Workers"]

    def enrich(self, *accounts: Account) -> None:
        for account in accounts:
            self.backend.enrich(account)

    def balance(self, address: Address) -> Wei:
        return self.backend.balance(address)

    def pass_time(self, until_s: int) -> None:
        self.backend.pass_time(until_s)

    def send(self, sender: Address, call: Call, value_wei: int = 0) -> Done | Refused:
        contract, function, args = translate(call)
        data = self.interfaces[contract].encode(function, args)
        outcome = self.transact(sender, self.addresses[contract], data, value_wei)
        if isinstance(outcome, Done):
            self.gas[function if contract == "Jobs" else f"{contract}.{function}"] = outcome.gas_used
        return outcome

    def transact(self, sender: Address, to: Address, data: bytes, value_wei: int = 0) -> Done | Refused:
        receipt = self.backend.transact(sender, to, data, value_wei)
        if isinstance(receipt, Reverted):
            return self._refused(receipt.data)
        return Done(tuple(self._decode_logs(receipt.logs)), receipt.gas_used)

    def read(self, contract: str, function: str, *args: Any) -> Any:
        """Call a view; raises ValueError(Refused) where it reverts."""
        interface = self.interfaces[contract]
        answer = self.backend.read(self.addresses[contract], interface.encode(function, args))
        if isinstance(answer, Reverted):
            raise ValueError(self._refused(answer.data))
        return interface.decode(function, answer)

    def credit(self, account: Address) -> Wei:
        return Wei(self.read("Jobs", "credit", account))

    def unbonding(self, worker: Address) -> tuple[int, int]:
        """Amount, and when it can be taken out."""
        found: tuple[int, int] = self.read("Workers", "unbondingStake", worker)
        return found

    def stake(self, worker: Address) -> tuple[int, int]:
        """Free and locked."""
        return self.read("Workers", "freeStake", worker), self.read("Workers", "lockedStake", worker)

    def state(self, job: JobId) -> JobState:
        return JobState(self.read("Jobs", "summaryOf", job)[0])

    def sign_registration(self, account: Account, stake_wei: int) -> Register:
        return sign_registration(self.chain_id, self.workers, account, stake_wei)

    def _refused(self, data: bytes) -> Refused:
        for interface in self.interfaces.values():
            if item := interface.errors.get(data[:4]):
                return Refused(item["name"], _tupled(decode(_types(item["inputs"]), data[4:])))
        return Refused("", (data,) if data else ())

    def _decode_logs(self, logs: Iterable[Log]) -> Iterable[ChainEvent]:
        for log in logs:
            owner = next((name for name, address in self.addresses.items() if address == log.address), None)
            if owner in ("Jobs", "Workers"):  # the proof system's own logs are nobody's business
                yield _decode_log(self.interfaces[owner], log)


def _decode_log(interface: Interface, log: Log) -> ChainEvent:
    item = interface.events[log.topics[0]]
    topics = iter(log.topics[1:])
    plain = iter(_tupled(decode(_types(i for i in item["inputs"] if not i["indexed"]), log.data)))
    values = [decode([_type_of(i)], next(topics))[0] if i["indexed"] else next(plain) for i in item["inputs"]]
    return _event(item["name"], values)
