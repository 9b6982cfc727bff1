"""From the `[chain]` section of a configuration to the contracts: endpoints, limits, and who signs."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from node.adapters.evm import Care, EvmChain, ExternalSigner, Journal, Signer, connect
from node.config import ChainConfig, Config
from protocols.chain_outbox import Policy
from protocols.chain_spending import Limits
from protocols.ids import Address

GWEI = 10**9
SETTLE_BLOCKS = 32  # a reorganisation of so many blocks loses no transaction, whatever `confirmations` says


def connect_chain(
    config: Config, jobs: Address, signer: Signer | ExternalSigner, journal: Journal | None = None
) -> AbstractAsyncContextManager[EvmChain]:
    """Without a journal nothing is remembered: for those who only look. Raises ChainError when entered."""
    chain = config.chain
    policy = Policy(settle_blocks=max(SETTLE_BLOCKS, chain.confirmations))
    return connect(
        [url.reveal() for url in chain.rpc_urls],
        jobs=jobs,
        signer=signer,
        chain_id=chain.chain_id,
        development=chain.development,
        ws_urls=[url.reveal() for url in chain.ws_urls],
        care=Care(journal, read_limits(chain), policy),
    )


def read_limits(chain: ChainConfig) -> Limits:
    return Limits(chain.daily_limit_wei or None, int(chain.max_fee_gwei * GWEI), chain.low_balance_wei)
