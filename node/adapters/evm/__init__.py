"""The contracts over Ethereum JSON-RPC, under trio: the `Chain` port, and deployment.

    rpc.py       one endpoint: requests, retries, what failed      coding.py   calls to calldata, logs to events
    signing.py   transactions, and the one place that may hold a wallet key
    chain.py     `connect` and the port                            deploy.py   a development chain's contracts
    create2.py   the contracts at addresses that follow from their code, on any chain

Nothing here knows which chain it talks to: it takes chain id, fees and gas from the endpoint.
"""

from node.adapters.evm.chain import EvmChain, connect
from node.adapters.evm.deploy import Deployment, deploy
from node.adapters.evm.rpc import Endpoint, open_endpoint
from node.adapters.evm.signing import LocalSigner, Signer

__all__ = ["Deployment", "Endpoint", "EvmChain", "LocalSigner", "Signer", "connect", "deploy", "open_endpoint"]
