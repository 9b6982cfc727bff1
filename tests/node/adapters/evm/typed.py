"""Commands as they are typed, in this process and against the shared development chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from evm_net import Net

from node.adapters.evm import open_endpoint
from node.adapters.evm.fund import transfer
from node.cli.main import main
from node.initial import write_initial
from protocols.ids import Address, Wei

ETHER = 10**18


@dataclass(frozen=True)
class Typed:
    folder: Path
    net: Net
    capture: pytest.CaptureFixture[str]

    def make(self, name: str, ether: float = 2, **settings: Any) -> Address:
        """A node's folder on the chain, with money; return its wallet."""
        values = {
            "chain.rpc_urls": (self.net.url,),
            "chain.chain_id": self.net.chain_id,
            "chain.jobs": self.net.contracts.jobs,
        }
        wallet = write_initial(self.folder / name, "local", values | settings).identity.wallet
        if ether:
            trio.run(self._fund, wallet, int(ether * ETHER))
        return wallet

    async def _fund(self, wallet: Address, amount_wei: int) -> None:
        async with open_endpoint(self.net.url) as endpoint:
            await transfer(endpoint, self.net.signers[0], [wallet], Wei(amount_wei))

    def run(self, line: str, status: int = 0) -> str:
        """What the command says; on standard error where it fails."""
        found = main(line.split())
        said = self.capture.readouterr()
        assert found == status, (line, said)
        assert "Traceback" not in said.err
        return said.err if status else said.out

    def json(self, line: str) -> Any:
        return json.loads(self.run(line + " --json").splitlines()[-1])


def make_typed(tmp_path: Path, net: Net, capsys: pytest.CaptureFixture[str], chdir: Callable[[Path], None]) -> Typed:
    chdir(tmp_path)
    return Typed(tmp_path, net, capsys)
