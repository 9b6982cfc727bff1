"""A development chain with the contracts on it, shared by this folder's tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio
from eth_account import Account

from node.adapters.evm import Deployment, LocalSigner, deploy, open_endpoint
from node.secret import Secret

MNEMONIC = "test test test test test test test test test test test junk"  # anvil's own


@dataclass(frozen=True)
class Net:
    url: str
    chain_id: int
    signers: tuple[LocalSigner, ...]
    """Funded; the first deployed the contracts."""
    contracts: Deployment

    def wait(self, seconds: int) -> None:
        for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            answer = httpx.post(self.url, json={"id": 1, "jsonrpc": "2.0", "method": method, "params": params}).json()
            assert "error" not in answer, answer


@pytest.fixture(scope="session", params=["devchain", pytest.param("anvil", marks=pytest.mark.anvil)])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """The same tests run on both: nothing in the adapter may know which it is."""
    chain = devchain(tmp_path_factory.mktemp("chain")) if request.param == "devchain" else _anvil()
    with chain as (url, chain_id, keys):
        signers = tuple(LocalSigner(Secret(key)) for key in keys)
        yield Net(url, chain_id, signers, trio.run(_deploy, url, signers[0]))


@contextmanager
def devchain(folder: Path, *more: str) -> Iterator[tuple[str, int, list[bytes]]]:
    command = [sys.executable, "-m", "node.devchain", "--port", "0", "--dir", str(folder), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            accounts = json.loads(Path(ready["accounts"]).read_text())["accounts"]
            yield ready["url"], ready["chain_id"], [bytes.fromhex(a["private_key"][2:]) for a in accounts]
        finally:
            process.kill()


@contextmanager
def _anvil() -> Iterator[tuple[str, int, list[bytes]]]:
    program = os.environ.get("SKYNET_ANVIL") or shutil.which("anvil")
    if program is None:
        pytest.skip("no anvil on PATH or in SKYNET_ANVIL: `make tools` fetches it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--accounts", "10", "--chain-id", "31338", "--mnemonic", MNEMONIC]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_listening(url)
            Account.enable_unaudited_hdwallet_features()
            paths = [f"m/44'/60'/0'/0/{number}" for number in range(10)]
            yield url, 31338, [bytes(Account.from_mnemonic(MNEMONIC, account_path=path).key) for path in paths]
        finally:
            process.kill()


def _wait_listening(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            httpx.post(url, json={"id": 1, "jsonrpc": "2.0", "method": "eth_chainId", "params": []})
            return
        time.sleep(0.1)
    raise TimeoutError(url)


async def _deploy(url: str, signer: LocalSigner) -> Deployment:
    async with open_endpoint(url) as endpoint:
        return await deploy(endpoint, signer, development=True)
