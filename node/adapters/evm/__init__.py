"""The contracts over Ethereum JSON-RPC, under trio: the `Chain` port, and deployment.

    rpc.py       one endpoint: requests, retries, what failed      pool.py     several as one, agreement on blocks
    bell.py      a websocket that says when to look                logs.py     our contracts' logs, in order
    coding.py    calls to calldata, logs to events                 signing.py  transactions, wallet keys in memory
    sending.py   the outbox performed; outbox.py: on the disk      external.py signers outside this process
    chain.py     `connect` and the port                            deploy.py   a development chain's contracts
    create2.py   the contracts at addresses that follow from their code, on any chain

Nothing here knows which chain it talks to: it takes chain id, fees and gas from the endpoint.
"""

from node.adapters.evm.chain import Care, EvmChain, connect
from node.adapters.evm.deploy import Deployment, deploy
from node.adapters.evm.external import CommandSigner, RpcSigner
from node.adapters.evm.outbox import Journal
from node.adapters.evm.rpc import Endpoint, open_endpoint
from node.adapters.evm.signing import ExternalSigner, LocalSigner, Signer

__all__ = [
    "Care",
    "CommandSigner",
    "Deployment",
    "Endpoint",
    "EvmChain",
    "ExternalSigner",
    "Journal",
    "LocalSigner",
    "RpcSigner",
    "Signer",
    "connect",
    "deploy",
    "open_endpoint",
]
