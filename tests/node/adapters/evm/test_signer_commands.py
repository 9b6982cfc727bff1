"""A wallet whose key is elsewhere, with a JSON-RPC signer on loopback: commands as they are typed, a worker's node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trio
from eth_account import Account
from evm_net import Net
from test_evm_chain import views
from typed import ETHER, Typed, make_typed

from node.config import ADDRESS_FILE, load_config
from node.errors import ConfigError
from node.identity import load_keys
from node.program import run_node

pytestmark = pytest.mark.parametrize("net", ["devchain"], indirect=True)  # which chain it is, others try

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362319")
WALLET = Account.from_key(KEY).address


@dataclass
class RemoteSigner:
    url: str = ""
    signs_statements: bool = True
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, params: list[Any]) -> str:
        self.asked.append(method)
        if method == "eth_signTransaction":
            fields = dict(params[0])
            assert fields.pop("from") == WALLET
            return str(Account.from_key(KEY).sign_transaction(fields).raw_transaction.to_0x_hex())
        assert method == "eth_signTypedData"
        assert self.signs_statements
        assert params[0] == WALLET
        return str(Account.from_key(KEY).sign_typed_data(full_message=params[1]).signature.to_0x_hex())


@contextmanager
def play_signer(signer: RemoteSigner) -> Iterator[RemoteSigner]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            try:
                said: dict[str, Any] = {"result": signer.answer(asked["method"], asked["params"])}
            except AssertionError:
                said = {"error": {"code": -32601, "message": "method not found"}}
            body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        signer.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield signer
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def signer() -> Iterator[RemoteSigner]:
    with play_signer(RemoteSigner()) as playing:
        yield playing


@pytest.fixture
def typed(tmp_path: Path, net: Net, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    return make_typed(tmp_path, net, capsys, monkeypatch.chdir)


def make(typed: Typed, signer: RemoteSigner, **more: Any) -> None:
    elsewhere = {"wallet.address": WALLET, "wallet.signer_url": signer.url, "work.max_stake_wei": ETHER // 10}
    typed.make("a", ether=0, **elsewhere, **more)
    trio.run(typed._fund, WALLET, ETHER)


def test_commands_are_signed_elsewhere(typed: Typed, signer: RemoteSigner) -> None:
    make(typed, signer)
    (typed.folder / "a/keys/wallet.json").unlink()  # not even opened
    before = typed.json("wallet show --config a/node.toml")
    assert before["address"] == WALLET
    assert typed.json("wallet stake 0.25 --config a/node.toml")["address"] == WALLET
    after = typed.json("wallet show --config a/node.toml")
    assert after["free_stake_wei"] == before["free_stake_wei"] + ETHER // 4
    assert signer.asked == ["eth_signTransaction"]


@pytest.mark.parametrize("line", ["wallet backup --out b", "wallet restore b", "wallet rotate"])
def test_a_key_that_is_elsewhere_is_kept_there(typed: Typed, signer: RemoteSigner, line: str) -> None:
    make(typed, signer)
    assert f"names a signer for {WALLET}" in typed.run(f"{line} --config a/node.toml", 3)


def test_a_signer_that_is_gone_is_a_line(typed: Typed) -> None:
    with play_signer(RemoteSigner()) as gone:
        make(typed, gone)
    assert "no connection" in typed.run("wallet stake 0.1 --config a/node.toml", 9)


async def test_a_worker_whose_wallet_is_elsewhere_registers(typed: Typed, signer: RemoteSigner) -> None:
    await trio.to_thread.run_sync(make, typed, signer)
    path = typed.folder / "a" / "node.toml"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_node, load_config(path), path)
        with trio.fail_after(30):
            while not (path.parent / ADDRESS_FILE).exists():
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    keys = load_keys(path.parent / "keys").identity
    async with views(typed.net, 0) as (chain,):
        assert await chain.worker_keys(WALLET) == (keys.node_key, keys.encryption_key)
        free_wei = await chain.free_stake(WALLET)
        assert isinstance(free_wei, int)
        assert free_wei >= ETHER // 10


async def test_a_worker_whose_signer_signs_no_votes_does_not_start(typed: Typed, signer: RemoteSigner) -> None:
    await trio.to_thread.run_sync(make, typed, signer)
    signer.signs_statements = False
    path = typed.folder / "a" / "node.toml"
    fault = pytest.RaisesExc(ConfigError, match="signs no typed data")
    with pytest.RaisesGroup(fault, flatten_subgroups=True):
        await run_node(load_config(path), path)
    assert "eth_signTransaction" not in signer.asked


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('signer_command = ["sign"]', "wallet.address is missing"),
        (f'address = "{WALLET}"', "wallet.address is alone"),
        (f'address = "{WALLET}"\nsigner_command = ["x"]\nsigner_url = "http://h"', "are both there"),
    ],
)
def test_half_a_signer_is_a_wrong_configuration(typed: Typed, section: str, said: str) -> None:
    typed.make("a", ether=0)
    path = typed.folder / "a" / "node.toml"
    text = path.read_text().replace("signer_command = []", section)
    path.write_text(text)
    assert said in typed.run("wallet show --config a/node.toml", 3)
