"""Deployment of the contracts by one account, in the order that their constructors ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from actors.ports import Mined, Reverted, Unreachable
from node.adapters.evm.chain import read_chain_id
from node.adapters.evm.coding import encode_constructor
from node.adapters.evm.rpc import Endpoint
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import Signer, compute_contract_address
from node.artifacts import Name
from node.errors import CallReverted, ChainError
from protocols.ids import Address


@dataclass(frozen=True, slots=True)
class Deployment:
    chain_id: int
    beacon: Address
    verifier: Address
    """ezkl's reusable verifier."""
    verifiers: Address
    workers: Address
    jobs: Address
    """The one that a configuration names."""
    market: Address
    gas_used: int


async def deploy(
    endpoint: Endpoint,
    signer: Signer,
    *,
    development: bool,
    beacon_contract: Literal["Beacon", "TestBeacon"] = "TestBeacon",
) -> Deployment:
    """Deploy all of them. Raises ChainError or CallReverted.

    `development` marks `Verifiers` for ever: it then takes keys of any SRS and `Jobs` takes evaluation jobs.
    """
    creator = _Creator(endpoint, signer, await read_chain_id(endpoint))
    beacon = await creator.create(beacon_contract)
    verifier = await creator.create("Halo2VerifierReusable")
    verifiers = await creator.create("Verifiers", verifier, development)
    jobs = await creator.create("Jobs", verifiers, beacon)
    workers = compute_contract_address(jobs, 1)  # which creates it
    market = await creator.create("Market", await creator.create("Models", verifiers))
    return Deployment(creator.chain_id, beacon, verifier, verifiers, workers, jobs, market, creator.gas_used)


class _Creator:
    def __init__(self, endpoint: Endpoint, signer: Signer, chain_id: int) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._sender = Sender(endpoint, signer, chain_id)
        self.chain_id = chain_id
        self.gas_used = 0

    async def create(self, name: Name, *arguments: Any) -> Address:
        nonce = await self._sender.next_nonce()
        match await self._sender.send(Request(None, encode_constructor(name, *arguments))):
            case Mined(_, gas_used):
                self.gas_used += gas_used
                return compute_contract_address(self._signer.wallet, nonce)
            case Reverted(reason):
                remedy = "fund the wallet, and let nothing else use it meanwhile"
                raise CallReverted(f"creation of {name} by {self._signer.wallet}", reason, remedy)
            case Unreachable(reason):
                raise ChainError(self._endpoint.name, f"{name} not deployed: {reason}", "try again")
