"""The `Chain` port: the contracts, seen from one wallet through one endpoint.

The one rule: only the address of `Jobs` is configured. It names the other contracts, and its chain id is what
the endpoint says and what the wallet signs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from actors.ports import Head, Outcome, Reverted, Unreachable
from node.adapters.evm.coding import (
    Contract,
    Unencodable,
    decode_event,
    decode_result,
    encode_call,
    encode_function,
    name_revert,
)
from node.adapters.evm.rpc import (
    AnswerTooLarge,
    Endpoint,
    Failure,
    Unavailable,
    open_endpoint,
    read_data,
    read_field,
    read_quantity,
    to_hex,
)
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import Signer
from node.artifacts import Name
from node.errors import ChainError
from protocols.abi import address_bytes, checksum_address
from protocols.chain import Call, ChainEvent
from protocols.ids import Address, Digest, Wei

LOG_SPLITS = 7  # 2,000 blocks down to 16; an endpoint that refuses even that means its rate limit
# What endpoints say when a range of blocks holds too much for one answer; there is no common code.
TOO_MUCH = ("limit", "more than", "too many", "too large", "exceed", "range", "response size")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of the deployed contracts; `jobs` names the others."""

    jobs: Address
    workers: Address
    verifiers: Address
    beacon: Address

    def of(self, contract: Contract) -> Address:
        return {"Jobs": self.jobs, "Workers": self.workers, "Verifiers": self.verifiers}[contract]


@asynccontextmanager
async def connect(url: str, *, jobs: Address, signer: Signer, chain_id: int | None = None) -> AsyncIterator[EvmChain]:
    """Open the contracts behind `jobs`. Raises ChainError: no answer, another chain, no such contract there."""
    if not url.startswith(("http://", "https://")):
        raise ChainError("chain.rpc_urls", "not an http(s) URL", "give the address of a JSON-RPC endpoint")
    try:
        address_bytes(jobs)
    except ValueError:
        raise ChainError("chain.jobs", "not an address", "give 0x and 40 hex digits") from None
    async with open_endpoint(url) as endpoint:
        served = await read_chain_id(endpoint)
        if chain_id is not None and served != chain_id:
            remedy = "correct chain.rpc_urls or chain.chain_id"
            raise ChainError(endpoint.name, f"serves chain {served}, not {chain_id}", remedy)
        addresses = await _find_contracts(endpoint, jobs, served)
        yield EvmChain(endpoint, addresses, signer, served)


async def read_chain_id(endpoint: Endpoint) -> int:
    """Raises ChainError if nothing there speaks JSON-RPC."""
    try:
        return read_quantity(await endpoint.request("eth_chainId"))
    except (Unavailable, Failure) as error:
        problem = str(error).removeprefix(f"{endpoint.name}: ")
        remedy = "start the chain, or correct chain.rpc_urls"
        raise ChainError(endpoint.name, f"no JSON-RPC answer: {problem}", remedy) from None


async def _find_contracts(endpoint: Endpoint, jobs: Address, chain_id: int) -> Addresses:
    remedy = "correct chain.jobs, or deploy with `skynet deploy`"
    try:
        code = await endpoint.request("eth_getCode", jobs, "latest")
        if code in (None, "0x"):
            raise ChainError(jobs, f"no contract at this address on chain {chain_id}", remedy)
        names = ("workers", "verifiers", "beacon")
        found = [(await _view(endpoint, "Jobs", jobs, name))[0] for name in names]
    except (Failure, ValueError) as error:
        raise ChainError(jobs, f"not SkyNet's Jobs contract on chain {chain_id} ({error})", remedy) from None
    except Unavailable as error:
        raise ChainError(endpoint.name, f"no JSON-RPC answer: {error}", "start the chain, or try again") from None
    workers, verifiers, beacon = (checksum_address(bytes.fromhex(address[2:])) for address in found)
    return Addresses(jobs, workers, verifiers, beacon)


async def _view(endpoint: Endpoint, contract: Name, address: Address, function: str, *arguments: Any) -> Any:
    call = {"to": address, "data": to_hex(encode_function(contract, function, *arguments))}
    answer = await endpoint.request("eth_call", call, "latest")
    return decode_result(contract, function, read_data(answer))


class EvmChain:
    """Implements `actors.ports.Chain`."""

    def __init__(self, endpoint: Endpoint, addresses: Addresses, signer: Signer, chain_id: int) -> None:
        self._endpoint = endpoint
        self._addresses = addresses
        self._wallet = signer.wallet
        self._chain_id = chain_id
        self._sender = Sender(endpoint, signer, chain_id)
        self._beacons: dict[int, Digest] = {}

    def __repr__(self) -> str:
        return f"EvmChain({self._endpoint.name}, chain {self._chain_id}, Jobs {self._addresses.jobs})"

    @property
    def chain_id(self) -> int:
        return self._chain_id

    @property
    def jobs_address(self) -> Address:
        return self._addresses.jobs

    @property
    def addresses(self) -> Addresses:
        return self._addresses

    @property
    def wallet(self) -> Address:
        return self._wallet

    # -- Reading

    async def head(self) -> Head | Unreachable:
        try:
            block = await self._endpoint.request("eth_getBlockByNumber", "latest", False)
            number, timestamp_s = (
                read_quantity(read_field(block, "number")),
                read_quantity(read_field(block, "timestamp")),
            )
            return Head(number, read_data(read_field(block, "hash")), timestamp_s)
        except (Failure, Unavailable, ValueError) as error:
            return Unreachable(str(error))

    async def events(self, first: int, last: int) -> Sequence[ChainEvent] | Unreachable:
        try:
            logs = await self._logs(first, last)
            decoded = (decode_event([read_data(t) for t in log["topics"]], read_data(log["data"])) for log in logs)
            return tuple(event for event in decoded if event is not None)
        except (Failure, Unavailable) as error:
            return Unreachable(str(error))
        except (ValueError, KeyError, TypeError) as error:
            return Unreachable(f"{self._endpoint.name}: malformed logs ({error})")

    async def traced_events(self, first: int, last: int) -> Sequence[tuple[ChainEvent, int]] | Unreachable:
        """Events with the gas that their transactions used, for those who want to see what things cost."""
        try:
            traced = []
            gas_used: dict[str, int] = {}
            for log in await self._logs(first, last):
                event = decode_event([read_data(t) for t in log["topics"]], read_data(log["data"]))
                name = log["transactionHash"]
                if event is not None and name not in gas_used:
                    receipt = await self._endpoint.request("eth_getTransactionReceipt", name)
                    gas_used[name] = read_quantity(read_field(receipt, "gasUsed"))
                if event is not None:
                    traced.append((event, gas_used[name]))
            return tuple(traced)
        except (Failure, Unavailable, ValueError) as error:
            return Unreachable(str(error))

    async def _logs(self, first: int, last: int, splits: int = LOG_SPLITS) -> list[dict[str, Any]]:
        """In order; asks for half where the whole is too much."""
        sources = [self._addresses.jobs, self._addresses.workers]
        wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": sources}
        try:
            logs = await self._endpoint.request("eth_getLogs", wanted)
        except (AnswerTooLarge, Failure) as error:
            if first >= last or not splits or not _is_too_much(error):
                raise
            middle = (first + last) // 2
            halves = ((first, middle), (middle + 1, last))
            return [log for a, b in halves for log in await self._logs(a, b, splits - 1)]
        if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
            raise ValueError("not a list of logs")
        own = {address.lower() for address in sources}
        kept = [log for log in logs if not log.get("removed") and str(log.get("address")).lower() in own]
        return sorted(kept, key=lambda log: (read_quantity(log.get("blockNumber")), read_quantity(log.get("logIndex"))))

    async def balance(self, address: Address) -> Wei | Unreachable:
        try:
            return Wei(read_quantity(await self._endpoint.request("eth_getBalance", address, "latest")))
        except (Failure, Unavailable) as error:
            return Unreachable(str(error))

    async def credit(self, address: Address) -> Wei | Unreachable:
        answer = await self._read("Jobs", self._addresses.jobs, "credit", address)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def free_stake(self, address: Address) -> Wei | Unreachable:
        answer = await self._read("Workers", self._addresses.workers, "freeStake", address)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def beacon(self, number: int) -> Digest | Unreachable | None:
        if number in self._beacons:
            return self._beacons[number]
        try:
            answer = await _view(self._endpoint, "TestBeacon", self._addresses.beacon, "randomness", number)
        except Failure as failure:
            if failure.is_revert and name_revert(failure.data or b"") == "BeaconNotOut":
                return None
            return Unreachable(str(failure))
        except (Unavailable, ValueError) as error:
            return Unreachable(str(error))
        self._beacons[number] = Digest(answer[0])
        return self._beacons[number]

    async def worker_keys(self, address: Address) -> tuple[bytes, bytes] | Unreachable | None:
        answer = await self._read("Workers", self._addresses.workers, "keysOf", address)
        if isinstance(answer, Unreachable):
            return answer
        node_key, encryption_key = answer
        return (node_key, encryption_key) if any(node_key) else None

    async def is_key_registered(self, digest: Digest) -> bool | Unreachable:
        """Whether `Verifiers` knows the verifying key."""
        answer = await self._read("Verifiers", self._addresses.verifiers, "isRegistered", digest)
        return answer if isinstance(answer, Unreachable) else bool(answer[0])

    async def is_development(self) -> bool | Unreachable:
        """Whether `Verifiers` takes keys of any SRS."""
        answer = await self._read("Verifiers", self._addresses.verifiers, "development")
        return answer if isinstance(answer, Unreachable) else bool(answer[0])

    async def _read(self, contract: Name, address: Address, function: str, *arguments: Any) -> Any:
        try:
            return await _view(self._endpoint, contract, address, function, *arguments)
        except (Failure, Unavailable, ValueError) as error:
            return Unreachable(str(error))

    # -- Writing

    async def send(self, call: Call) -> Outcome:
        try:
            encoded = encode_call(call)
        except Unencodable as error:
            return Reverted(f"not sent: {error}")
        return await self._sender.send(Request(self._addresses.of(encoded.contract), encoded.data, encoded.value_wei))


def _is_too_much(error: Exception) -> bool:
    return isinstance(error, AnswerTooLarge) or any(phrase in str(error).lower() for phrase in TOO_MUCH)
