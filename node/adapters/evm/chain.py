"""The `Chain` port: the contracts, seen from one wallet through the endpoints of a pool.

The one rule: only the address of `Jobs` is configured. It names the other contracts, and its chain id is what
the endpoints say and what the wallet signs. What is wrong with either is found here, before gas is spent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from actors.ports import Mined, Outcome, Reverted, Unreachable
from node.adapters.evm import token as token_module
from node.adapters.evm.bell import listen
from node.adapters.evm.coding import (
    Contract,
    Unencodable,
    decode_result,
    encode_call,
    encode_function,
    name_revert,
    plain,
)
from node.adapters.evm.logs import LogReader, locate
from node.adapters.evm.outbox import Journal
from node.adapters.evm.pool import Pool, Rpc, open_pool
from node.adapters.evm.rpc import (
    Endpoint,
    Failure,
    Unavailable,
    read_data,
    read_quantity,
    to_hex,
)
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import ExternalSigner, Signer
from node.artifacts import Name
from node.errors import ChainError
from protocols.abi import ZERO_ADDRESS, address_bytes, checksum_address
from protocols.beacon import split_signature
from protocols.chain import Call, ChainEvent, Terms
from protocols.chain_follow import Head, Located
from protocols.chain_outbox import Policy
from protocols.chain_spending import Limits
from protocols.ids import Address, Digest, JobId, Wei
from protocols.keccak import keccak256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of the deployed contracts; `jobs` names the others."""

    jobs: Address
    workers: Address
    verifiers: Address
    beacon: Address

    def of(self, contract: Contract) -> Address:
        return {"Jobs": self.jobs, "Workers": self.workers, "Verifiers": self.verifiers}[contract]


@dataclass(frozen=True, slots=True)
class Care:
    """How carefully money is spent."""

    journal: Journal | None = None
    """None forgets what was sent when the program ends."""
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    policy: Policy = Policy()  # noqa: RUF009 - frozen


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    jobs: Address,
    signer: Signer | ExternalSigner,
    chain_id: int | None = None,
    development: bool | None = None,
    ws_urls: Sequence[str] = (),
    care: Care = Care(),
) -> AsyncIterator[EvmChain]:
    """Open the contracts behind `jobs`. Raises ChainError: no answer, another chain, no such contract there."""
    urls = (url,) if isinstance(url, str) else tuple(url)
    if not all(u.startswith(("http://", "https://")) for u in urls):
        raise ChainError("chain.rpc_urls", "not an http(s) URL", "give the address of a JSON-RPC endpoint")
    try:
        address_bytes(jobs)
    except ValueError:
        raise ChainError("chain.jobs", "not an address", "give 0x and 40 hex digits") from None
    async with open_pool(urls) as pool:
        served = await read_chain_id(pool)
        if chain_id is not None and served != chain_id:
            remedy = "correct chain.rpc_urls or chain.chain_id"
            raise ChainError(pool.name, f"serves chain {served}, not {chain_id}", remedy)
        addresses = await _find_contracts(pool, jobs, served)
        chain = EvmChain(pool, addresses, signer, served, care)
        await _check_development(chain, development)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.tend)
            for ws_url in ws_urls:
                nursery.start_soon(listen, ws_url, pool.ring)
            yield chain
            nursery.cancel_scope.cancel()


async def _check_development(chain: EvmChain, expected: bool | None) -> None:
    if expected is None:
        return
    found = await chain.is_development()
    if isinstance(found, Unreachable):
        raise ChainError("chain", found.reason, "try again")
    if found == expected:
        return
    if found:
        problem = f"is false, but the contracts at {chain.jobs_address} are a development deployment"
        remedy = "their beacon can be predicted: correct chain.jobs, or set chain.development = true to try things out"
        raise ChainError("chain.development", problem, remedy)
    problem = f"is true, but the contracts at {chain.jobs_address} take only the ceremony's keys and proved training"
    raise ChainError("chain.development", problem, "set it to false, or correct chain.jobs")


async def read_chain_id(rpc: Rpc) -> int:
    """Raises ChainError if nothing there speaks JSON-RPC, or if the endpoints of a pool serve different chains."""
    try:
        if isinstance(rpc, Pool):
            return read_quantity(await rpc.same_everywhere("eth_chainId"))
        return read_quantity(await rpc.request("eth_chainId"))
    except (Unavailable, Failure) as error:
        problem = str(error).removeprefix(f"{rpc.name}: ")
        remedy = "start the chain, or correct chain.rpc_urls"
        raise ChainError(rpc.name, f"no JSON-RPC answer: {problem}", remedy) from None


async def _find_contracts(endpoint: Rpc, jobs: Address, chain_id: int) -> Addresses:
    remedy = "correct chain.jobs, or deploy with `skynet deploy`"
    try:
        code = await endpoint.request("eth_getCode", jobs, "latest")
        if code in (None, "0x"):
            raise ChainError(jobs, f"no contract at this address on chain {chain_id}", remedy)
        names = ("workers", "verifiers", "beacon")
        found = [(await _view(endpoint, "Jobs", jobs, name))[0] for name in names]
        if (await _view(endpoint, "Workers", found[0], "jobs"))[0] != jobs.lower():
            raise ValueError("its Workers contract belongs to another one")
    except (Failure, ValueError) as error:
        raise ChainError(jobs, f"not SkyNet's Jobs contract on chain {chain_id} ({error})", remedy) from None
    except Unavailable as error:
        raise ChainError(endpoint.name, f"no JSON-RPC answer: {error}", "start the chain, or try again") from None
    workers, verifiers, beacon = (checksum_address(bytes.fromhex(address[2:])) for address in found)
    return Addresses(jobs, workers, verifiers, beacon)


async def _view(endpoint: Rpc, contract: Name, address: Address, function: str, *arguments: Any) -> Any:
    call = {"to": address, "data": to_hex(encode_function(contract, function, *arguments))}
    answer = await endpoint.request("eth_call", call, "latest")
    return decode_result(contract, function, read_data(answer))


class EvmChain:
    """Implements `actors.ports.Chain`."""

    def __init__(
        self,
        endpoint: Pool | Endpoint,
        addresses: Addresses,
        signer: Signer | ExternalSigner,
        chain_id: int,
        care: Care = Care(),
    ) -> None:
        self._endpoint = endpoint if isinstance(endpoint, Pool) else Pool((endpoint,))
        self._addresses = addresses
        self._signer = signer
        self._wallet = signer.wallet
        self._chain_id = chain_id
        self._sender = Sender(
            self._endpoint, signer, chain_id, journal=care.journal, policy=care.policy, limits=care.limits
        )
        self._logs = LogReader(self._endpoint, (addresses.jobs, addresses.workers))

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
        """The highest block that a quorum of the endpoints has."""
        try:
            return await self._endpoint.head()
        except (Failure, Unavailable) as error:
            return Unreachable(str(error))

    async def header(self, number: int) -> Head | Unreachable | None:
        try:
            return await self._endpoint.header(number)
        except (Failure, Unavailable) as error:
            return Unreachable(str(error))

    async def wait_head(self, timeout_s: float) -> None:
        await self._endpoint.wait_head(timeout_s)

    async def read(self, first: int, last: int, pin: bytes) -> Sequence[Located] | Unreachable:
        try:
            if first == last:
                return locate(await self._logs.in_block(pin))
            located = locate(await self._logs.between(first, last))
        except (Failure, Unavailable, ValueError, KeyError, TypeError) as error:
            return _unreadable(error)
        after = await self.header(last)
        if isinstance(after, Head) and after.hash == pin:
            return located
        return after if isinstance(after, Unreachable) else Unreachable("the chain was reorganised while it was read")

    async def read_job(
        self, job: JobId, first: int, last: int, pin: bytes
    ) -> Sequence[tuple[Located, int]] | Unreachable:
        """Of one job, each with the gas that its transaction used."""
        try:
            traced = await self._logs.trace(await self._logs.of_job(job, first, last))
        except (Failure, Unavailable, ValueError, KeyError, TypeError) as error:
            return _unreadable(error)
        after = await self.header(last)
        if isinstance(after, Head) and after.hash == pin:
            return traced
        return after if isinstance(after, Unreachable) else Unreachable("the chain was reorganised while it was read")

    async def events(self, first: int, last: int) -> Sequence[ChainEvent] | Unreachable:
        """Of blocks first … last, in order, whichever blocks these are now."""
        try:
            return tuple(located.event for located in locate(await self._logs.between(first, last)))
        except (Failure, Unavailable, ValueError, KeyError, TypeError) as error:
            return _unreadable(error)

    async def traced_events(
        self, first: int, last: int, job: JobId | None = None
    ) -> Sequence[tuple[ChainEvent, int]] | Unreachable:
        """Events, of one job or of all, with the gas of their transactions: what things cost."""
        try:
            of_job = None if job is None else await self._logs.of_job(job, first, last)
            traced = await self._logs.trace(await self._logs.between(first, last) if of_job is None else of_job)
            return tuple((located.event, gas_used) for located, gas_used in traced)
        except (Failure, Unavailable, ValueError, KeyError, TypeError) as error:
            return _unreadable(error)

    async def balance(self, address: Address) -> Wei | Unreachable:
        try:
            return Wei(read_quantity(await self._endpoint.request("eth_getBalance", address, "latest")))
        except (Failure, Unavailable) as error:
            return Unreachable(str(error))

    async def credit(self, address: Address, token: Address = ZERO_ADDRESS) -> Wei | Unreachable:
        answer = await self._read("Jobs", self._addresses.jobs, "creditIn", token, address)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def free_stake(self, address: Address) -> Wei | Unreachable:
        answer = await self._read("Workers", self._addresses.workers, "freeStake", address)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def locked_stake(self, address: Address) -> Wei | Unreachable:
        answer = await self._read("Workers", self._addresses.workers, "lockedStake", address)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def unbonding_stake(self, address: Address) -> tuple[Wei, int] | Unreachable:
        """(what is on its way out, since when it may be taken out, in seconds)."""
        answer = await self._read("Workers", self._addresses.workers, "unbondingStake", address)
        return answer if isinstance(answer, Unreachable) else (Wei(answer[0]), int(answer[1]))

    async def beacon(self, number: int) -> Digest | Unreachable | None:
        try:
            answer = await _view(self._endpoint, "TestBeacon", self._addresses.beacon, "randomness", number)
        except Failure as failure:
            if failure.is_revert and name_revert(failure.data or b"") == "BeaconNotOut":
                return None
            return Unreachable(str(failure))
        except (Unavailable, ValueError) as error:
            return Unreachable(str(error))
        return Digest(answer[0])

    async def is_test_beacon(self) -> bool | Unreachable:
        """Whether anybody can compute its rounds; if not, somebody has to post them."""
        answer = await self._read("TestBeacon", self._addresses.beacon, "isTest")
        return answer if isinstance(answer, Unreachable) else bool(answer[0])

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
        return await self._sender.send(_intent(self._addresses.of(encoded.contract), encoded.data, encoded.value_wei))

    @property
    def rpc(self) -> Pool:
        return self._endpoint

    async def view(self, contract: Name, address: Address, function: str, *arguments: Any) -> Any:
        """What a view of another contract of ours returns; Unreachable where nothing sensible comes back."""
        return await self._read(contract, address, function, *arguments)

    async def execute(self, to: Address, data: bytes, value_wei: Wei) -> Outcome:
        """A call to another contract, with the same care as `send`."""
        return await self._sender.send(_intent(to, data, value_wei))

    # -- Paying in a token

    async def token(self, address: Address) -> token_module.Token | token_module.NoToken | Unreachable:
        return await _asked(token_module.read_token(self._endpoint, address))

    async def token_balance(self, token: Address) -> Wei | token_module.NoToken | Unreachable:
        """What this wallet holds of it."""
        return await _asked(token_module.read_balance(self._endpoint, token, self._wallet))

    async def allow(self, token: Address, amount: Wei, spender: Address | None = None) -> Outcome | None:
        """Let `Jobs`, or another contract, take so much of a token; None where it may already.

        Some tokens change no allowance but to 0.
        """
        taker = spender or self._addresses.jobs
        allowed = await _asked(token_module.read_allowance(self._endpoint, token, self._wallet, taker))
        if isinstance(allowed, Unreachable):
            return allowed
        if isinstance(allowed, token_module.NoToken):
            return Reverted(f"{token} is no ERC-20: {allowed}")
        if allowed >= amount:
            return None
        for wanted in (Wei(0), amount) if allowed else (amount,):
            outcome = await self._sender.send(_intent(token, token_module.encode_approve(taker, wanted), 0))
            if not isinstance(outcome, Mined):
                return outcome
        return outcome

    async def post_with_permit(self, terms: Terms, nonce: bytes, amount: Wei, deadline_s: int) -> Outcome | None:
        """Post and pay in one transaction; None for a token without permits, or a signer that can't sign one."""
        if hasattr(self._signer, "sign_transaction"):
            return None
        jobs = self._addresses.jobs
        permit = await _asked(
            token_module.sign_permit(self._endpoint, self._signer, terms.token, jobs, amount, deadline_s)
        )
        if not isinstance(permit, token_module.Permit):
            return permit if isinstance(permit, Unreachable) else None
        data = encode_function("Jobs", "postWithPermit", plain(terms), nonce, plain(permit))
        return await self._sender.send(_intent(jobs, data, 0))

    async def post_beacon(self, number: int, signature: bytes) -> Outcome:
        data = encode_function("Beacon", "post", number, split_signature(signature))
        return await self._sender.send(_intent(self._addresses.beacon, data, 0))

    async def send_rest(self, to: Address, keep_gas: int = 0) -> tuple[Outcome, int] | None:
        """Transfer the whole balance but what that and `keep_gas` more may cost; None where nothing is left."""
        return await self._sender.send_rest(to, keep_gas)

    async def tend(self) -> None:
        """For ever: see to transactions that nobody waits for any more."""
        await self._sender.tend()

    @property
    def under_way(self) -> int:
        """Transactions of ours that are recorded and not mined."""
        return self._sender.under_way

    def spent_wei(self) -> int:
        """What left the wallet in the last 24 hours, as far as this data folder knows."""
        return self._sender.spent_wei()


async def _asked(reading: Awaitable[T]) -> T | token_module.NoToken | Unreachable:
    try:
        return await reading
    except token_module.NoToken as error:
        return error
    except (Failure, Unavailable) as error:
        return Unreachable(str(error))


def _unreadable(error: Exception) -> Unreachable:
    said = str(error) if isinstance(error, Failure | Unavailable) else f"malformed logs ({error})"
    return Unreachable(said)


def _intent(to: Address, data: bytes, value_wei: int) -> Request:
    # A call that is asked for again while it is under way is the same call.
    key = keccak256(to.lower().encode() + value_wei.to_bytes(32, "big") + data)
    return Request(to, data, value_wei, key)
