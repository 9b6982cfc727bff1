"""Plain transfers from a wallet: development money for new nodes."""

from __future__ import annotations

from collections.abc import Sequence

from actors.ports import Mined, Reverted, Unreachable
from node.adapters.evm.chain import read_chain_id
from node.adapters.evm.rpc import Endpoint
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import Signer
from node.errors import CallReverted, ChainError
from protocols.ids import Address, Wei


async def transfer(endpoint: Endpoint, signer: Signer, to: Sequence[Address], amount_wei: Wei) -> None:
    """Send `amount_wei` to each address in turn. Raises ChainError or CallReverted."""
    sender = Sender(endpoint, signer, await read_chain_id(endpoint))
    for address in to:
        match await sender.send(Request(address, b"", amount_wei)):
            case Mined():
                pass
            case Reverted(reason):
                raise CallReverted(f"transfer to {address}", reason, f"fund {signer.wallet}")
            case Unreachable(reason):
                raise ChainError(endpoint.name, reason, "check that the chain runs and try again")
