"""`skynet deploy` as it is typed: the costs, the deployment, the address file, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest
from evm_net import Net, devchain

from node.adapters.evm import LocalSigner
from node.cli.main import main
from node.errors import ExitCode
from node.secret import Secret


def ask(url: str, method: str, *params: str) -> int:
    answer = httpx.post(url, json={"id": 1, "jsonrpc": "2.0", "method": method, "params": params})
    return int(answer.json()["result"], 16)


def sent(url: str, key: bytes) -> int:
    """How many transactions the wallet has sent."""
    return ask(url, "eth_getTransactionCount", LocalSigner(Secret(key)).wallet, "latest")


def test_a_deployment_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with devchain(tmp_path / "chain") as (url, chain_id, keys):
        key = tmp_path / "key"
        key.write_text(keys[0].hex())
        os.chmod(key, 0o600)
        common = ["deploy", "--network", "local", "--rpc", url]

        before, block = sent(url, keys[0]), ask(url, "eth_blockNumber")
        assert main([*common, "--dry-run", "--json"]) == ExitCode.OK
        costs = json.loads(capsys.readouterr().out)
        assert sent(url, keys[0]) == before
        assert [c["is_there"] for c in costs["contracts"]] == [False] * 6
        assert costs["cost_wei"] == costs["gas"] * costs["gas_price_wei"] > 0

        assert main([*common, "--key", str(key), "--dir", str(tmp_path / "info")]) == ExitCode.OK
        assert "Market" in capsys.readouterr().out
        written = json.loads((tmp_path / "deployment-local.json").read_text())
        assert (written["network"], written["chain_id"]) == ("local", chain_id)
        assert block <= written["first_block"] <= ask(url, "eth_blockNumber") - 6
        assert {"Jobs", "Workers", "Verifiers", "Market", "Models", "TestBeacon"} < set(written["contracts"])
        info = json.loads((tmp_path / "info/chain.json").read_text())
        assert info["jobs"] == written["contracts"]["Jobs"]

        after = sent(url, keys[0])
        assert main([*common, "--key", str(key), "--json"]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out) == written  # nothing new, and the block is still the first
        assert sent(url, keys[0]) == after
        assert main([*common, "--dry-run"]) == ExitCode.OK
        assert "at most                0 gas" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--network", "scroll"), "not 534352"),
        (("--network", "scrol"), "did you mean scroll"),
        (("--network", "local"), "--key: is missing"),
        (("--network", "local", "--key", "nowhere"), "holds no key"),
    ],
)
def test_what_is_refused(net: Net, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    dry = () if "local" in arguments else ("--dry-run",)
    assert main(["deploy", "--rpc", net.url, *arguments, *dry]) != ExitCode.OK
    assert said in " ".join(capsys.readouterr().err.split())
