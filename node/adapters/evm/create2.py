"""Deployment at addresses that follow from the code alone: the same on every chain, and resumable.

    plan -> for each contract: there already? -> else send (salt, creation code) to the CREATE2 proxy -> check

The one rule: what is at a planned address can only have come from the planned creation code, so a deployment that
was broken off goes on where it stopped, whoever pays. The proxy is the keyless one that public chains have; a chain
of one's own gets it by its well-known transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from actors.ports import Mined, Reverted, Unreachable
from node.adapters.evm.chain import read_chain_id
from node.adapters.evm.coding import decode_result, encode_constructor, encode_function
from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, read_data, read_quantity, to_hex
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import Signer, compute_contract_address
from node.artifacts import Name, load
from node.errors import CallReverted, ChainError
from protocols.abi import address_bytes, checksum_address
from protocols.ids import Address
from protocols.keccak import keccak256

PROXY = Address("0x4e59b44847b379578588920cA78FbF26c0B4956C")
_PROXY_MAKER = checksum_address(bytes.fromhex("3fab184622dc19b6109349b94811493bf2a45362"))
_PROXY_GAS_WEI = 10**16  # what its transaction may spend: 100,000 gas at 100 gwei
_PROXY_RUNTIME = (
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
# Signed by nobody: r and s are 22…22, and the sender is whoever that makes. Without a chain id, so good everywhere.
_PROXY_TRANSACTION = (
    f"0xf8a58085174876e800830186a08080b853604580600e600039806000f350fe{_PROXY_RUNTIME}1ba0{'22' * 32}a0{'22' * 32}"
)
PROXY_POLLS = 60

SALT = keccak256(b"skynet 1")

# Of the yellow paper and EIP-3860, for what is not deployed yet: what it needs can't be simulated either.
_GAS_BASE, _GAS_CREATE, _GAS_CODE_BYTE, _GAS_INIT_WORD = 21_000, 32_000, 200, 2
_GAS_ZERO, _GAS_NONZERO = 4, 16


# -- Plan --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    name: Name
    code: bytes
    """Creation code with the constructor's arguments."""
    address: Address


@dataclass(frozen=True, slots=True)
class Plan:
    """The contracts in order of deployment. `development` is for ever: it is in the code."""

    development: bool
    contracts: tuple[Planned, ...]

    def address_of(self, name: Name) -> Address:
        return next(planned.address for planned in self.contracts if planned.name == name)

    @property
    def beacon(self) -> Address:
        return self.contracts[0].address

    @property
    def workers(self) -> Address:
        """Which `Jobs` creates first."""
        return compute_contract_address(self.address_of("Jobs"), 1)


def compute_create2_address(code: bytes) -> Address:
    """Where the proxy puts a contract of this creation code."""
    return checksum_address(keccak256(b"\xff" + address_bytes(PROXY) + SALT + keccak256(code))[12:])


def plan_deployment(*, development: bool) -> Plan:
    """A development network gets a beacon that anybody can compute, and keys of any SRS."""
    planned: list[Planned] = []

    def add(name: Name, *arguments: Any) -> Address:
        code = encode_constructor(name, *arguments)
        planned.append(Planned(name, code, compute_create2_address(code)))
        return planned[-1].address

    beacon = add("TestBeacon" if development else "Beacon")
    verifiers = add("Verifiers", add("Halo2VerifierReusable"), development)
    add("Jobs", verifiers, beacon)
    add("Market", add("Models", verifiers))
    return Plan(development, tuple(planned))


def estimate_gas(code: bytes) -> int:
    """At most what creating it by the proxy uses, less what its constructor stores; the L1 data fee is not in it."""
    calldata = SALT + code
    zeros = calldata.count(0)
    data = zeros * _GAS_ZERO + (len(calldata) - zeros) * _GAS_NONZERO
    words = (len(code) + 31) // 32
    return _GAS_BASE + 2 * _GAS_CREATE + data + len(code) * _GAS_CODE_BYTE + words * (_GAS_INIT_WORD + 12)


# -- Doing it ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One contract of the plan, as the chain has it or would get it."""

    name: str
    address: Address
    is_there: bool
    gas: int
    """Used; in a dry run an estimate; 0 for what was there."""


Report = Callable[[Step], Awaitable[None]]


async def survey(endpoint: Endpoint, plan: Plan, chain_id: int) -> tuple[Step, ...]:
    """What is there and what the rest would cost, without sending. Raises ChainError."""
    await _require_chain(endpoint, chain_id)
    steps = []
    for planned in plan.contracts:
        is_there = await _is_there(endpoint, planned)
        steps.append(Step(planned.name, planned.address, is_there, 0 if is_there else estimate_gas(planned.code)))
    return tuple(steps)


async def read_gas_price(endpoint: Endpoint) -> int:
    """In wei. Raises ChainError."""
    return read_quantity(await _ask(endpoint, "eth_gasPrice"))


async def deploy_plan(endpoint: Endpoint, signer: Signer, plan: Plan, chain_id: int, report: Report) -> None:
    """Deploy what is missing and check all of it. Raises ChainError or CallReverted; to resume, call it again."""
    await _require_chain(endpoint, chain_id)
    sender = Sender(endpoint, signer, chain_id)
    await _require_proxy(endpoint, sender)
    for planned in plan.contracts:
        gas_used = 0
        was_there = await _is_there(endpoint, planned)
        if not was_there:
            gas_used = await _create(endpoint, sender, planned)
            if not await _is_there(endpoint, planned):
                raise ChainError(planned.address, f"{planned.name} is not there after its deployment", "try again")
        await report(Step(planned.name, planned.address, was_there, gas_used))
    await _check_wiring(endpoint, plan)


async def _require_chain(endpoint: Endpoint, chain_id: int) -> None:
    served = await read_chain_id(endpoint)
    if served != chain_id:
        remedy = "name the network that this endpoint serves, or give another --rpc"
        raise ChainError(endpoint.name, f"serves chain {served}, not {chain_id}", remedy)


async def _require_proxy(endpoint: Endpoint, sender: Sender) -> None:
    if await _code_at(endpoint, PROXY) == bytes.fromhex(_PROXY_RUNTIME):
        return
    outcome = await sender.send(Request(_PROXY_MAKER, b"", _PROXY_GAS_WEI))
    if not isinstance(outcome, Mined):
        raise ChainError(endpoint.name, f"the CREATE2 proxy is not there: {outcome.reason}", "fund the wallet")
    await _ask(endpoint, "eth_sendRawTransaction", _PROXY_TRANSACTION)
    for _ in range(PROXY_POLLS):
        if await _code_at(endpoint, PROXY) == bytes.fromhex(_PROXY_RUNTIME):
            return
        await trio.sleep(0.5)
    raise ChainError(endpoint.name, "the CREATE2 proxy does not come up", "deploy it by hand, then try again")


async def _create(endpoint: Endpoint, sender: Sender, planned: Planned) -> int:
    match await sender.send(Request(PROXY, SALT + planned.code)):
        case Mined(_, gas_used):
            return gas_used
        case Reverted(reason):
            raise CallReverted(f"creation of {planned.name}", reason, "fund the wallet, and run it again to go on")
        case Unreachable(reason):
            raise ChainError(endpoint.name, f"{planned.name} not deployed: {reason}", "run it again to go on")


async def _is_there(endpoint: Endpoint, planned: Planned) -> bool:
    """Raises ChainError where the code is another than the artifact's."""
    code = await _code_at(endpoint, planned.address)
    expected = load(planned.name).deployed_bytecode
    if code and expected is not None and keccak256(code) != keccak256(expected):
        problem = f"code at {planned.address} is not {planned.name}'s"
        raise ChainError(endpoint.name, problem, "the endpoint lies, or this SkyNet's artifacts are damaged")
    return bool(code)


async def _check_wiring(endpoint: Endpoint, plan: Plan) -> None:
    """What immutables say can't be seen in the code: ask the contracts."""
    jobs, verifiers = plan.address_of("Jobs"), plan.address_of("Verifiers")
    said = (
        ("Jobs", jobs, "verifiers", verifiers),
        ("Jobs", jobs, "beacon", plan.beacon),
        ("Jobs", jobs, "workers", plan.workers),
        ("Workers", plan.workers, "jobs", jobs),
        ("Verifiers", verifiers, "development", plan.development),
        ("Market", plan.address_of("Market"), "models", plan.address_of("Models")),
    )
    for name, address, function, expected in said:
        answer = await _view(endpoint, name, address, function)
        if str(answer).lower() != str(expected).lower():
            problem = f"{name}.{function}() says {answer}, not {expected}"
            raise ChainError(address, problem, "do not use this deployment: the endpoint lies, or it is not ours")


# -- Asking ------------------------------------------------------------------------


async def _view(endpoint: Endpoint, name: Any, address: Address, function: str) -> Any:
    call = {"to": address, "data": to_hex(encode_function(name, function))}
    try:
        return decode_result(name, function, read_data(await _ask(endpoint, "eth_call", call, "latest")))[0]
    except ValueError as error:
        raise ChainError(address, f"{name}.{function}(): {error}", "try again") from None


async def _code_at(endpoint: Endpoint, address: Address) -> bytes:
    return bytes(read_data(await _ask(endpoint, "eth_getCode", address, "latest")))


async def _ask(endpoint: Endpoint, method: str, *parameters: Any) -> Any:
    try:
        return await endpoint.request(method, *parameters)
    except (Failure, Unavailable) as error:
        raise ChainError(endpoint.name, f"{method}: {error}", "try again, or give another --rpc") from None
