"""Whose wallet a configuration means, and who signs for it: the key file in the data folder, or a signer elsewhere.

The one rule: with a signer elsewhere the wallet's key file is not even opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from node.adapters.evm import CommandSigner, ExternalSigner, RpcSigner, open_endpoint
from node.adapters.evm.signing import SignerFailed
from node.config import Config, keys_folder
from node.errors import ConfigError
from node.identity import load_identity
from protocols.eip712 import Domain, Statement
from protocols.ids import Address

log = structlog.get_logger("skynet.node.signer")


def wallet_of(config: Config) -> Address:
    """Raises KeyFileError."""
    return config.wallet.address or load_identity(keys_folder(config)).wallet


def require_key_file(config: Config, path: Path) -> None:
    """Raises ConfigError where the wallet's key is elsewhere."""
    if config.wallet.address is not None:
        problem = f"[wallet] names a signer for {config.wallet.address}: its key is not in the data folder"
        raise ConfigError(path, problem, "do this where the key is, or take the signer out of [wallet]")


@asynccontextmanager
async def open_signer(config: Config) -> AsyncIterator[ExternalSigner | None]:
    """The signer elsewhere that `[wallet]` names; None where the key file signs."""
    wallet = config.wallet
    if wallet.address is None:
        yield None
    elif wallet.signer_url is not None:
        async with open_endpoint(wallet.signer_url.reveal()) as endpoint:
            yield RpcSigner(endpoint, wallet.address)
    else:
        yield CommandSigner(wallet.signer_command, wallet.address)


class Voice:
    """A signer elsewhere as the vault uses it: no signature is a value."""

    def __init__(self, signer: ExternalSigner) -> None:
        self._signer = signer
        self.wallet = signer.wallet

    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes | None:
        try:
            return await self._signer.sign_statement(domain, statement)
        except SignerFailed as error:
            log.warning("no signature", statement=type(statement).__name__, reason=str(error))
            return None
