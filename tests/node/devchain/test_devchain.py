"""The development chain as its clients see it: a process, a URL, JSON-RPC; and as strangers may treat it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from eth_account import Account
from eth_utils.crypto import keccak

from node.artifacts import load
from node.devchain import evm
from node.devchain.chain import CallRequest, DevChain, LogFilter, Refused, Reverted
from node.devchain.rpc import Rpc
from protocols.abi import checksum_address, encode_words

KEY = Account.from_key(b"\x07" * 32)
SENDER = bytes.fromhex(KEY.address[2:])


def signed(nonce: int, to: bytes | None, data: bytes = b"", *, value: int = 0, gas: int = 3_000_000) -> bytes:
    fields: dict[str, Any] = {"nonce": nonce, "gas": gas, "value": value, "data": data, "chainId": 31337}
    fields |= {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**6}
    if to is not None:
        fields["to"] = checksum_address(to)
    return bytes(KEY.sign_transaction(fields).raw_transaction)


def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


@pytest.fixture
def chain() -> DevChain:
    return DevChain(31337, {SENDER: 10**20})


@pytest.fixture
def beacon(chain: DevChain) -> bytes:
    receipt = chain.receipt(chain.send(signed(0, None, load("TestBeacon").bytecode)))
    assert receipt is not None
    assert receipt["status"] == 1
    address: bytes = receipt["contractAddress"]
    return address


# -- In the process ----------------------------------------------------------------


def test_a_transfer_is_mined_at_once(chain: DevChain) -> None:
    receipt = chain.receipt(chain.send(signed(0, b"r" * 20, value=5, gas=21_000)))
    assert receipt is not None
    assert (receipt["status"], receipt["gasUsed"], receipt["blockNumber"]) == (1, 21_000, 1)
    assert chain.balance(b"r" * 20, 1) == 5
    assert chain.balance(b"r" * 20, 0) == 0
    assert chain.nonce(SENDER, 1) == 1
    assert chain.head()["parentHash"] == (chain.block(0) or {})["hash"]


def test_calls_and_reverts(chain: DevChain, beacon: bytes) -> None:
    answer = chain.call(CallRequest(beacon, selector("roundAt(uint64)") + encode_words(41)), 1)
    assert answer == encode_words(42)
    with pytest.raises(Reverted) as caught:
        chain.call(CallRequest(beacon, selector("randomness(uint64)") + encode_words(2**40)), 1)
    assert caught.value.data[4:] == encode_words(2**40)
    assert chain.code(beacon, 0) == b""
    assert len(chain.code(beacon, 1)) > 100


def test_a_reverting_transaction_is_mined_as_failed(chain: DevChain, beacon: bytes) -> None:
    data = selector("randomness(uint64)") + encode_words(2**40)
    receipt = chain.receipt(chain.send(signed(1, beacon, data)))
    assert receipt is not None
    assert receipt["status"] == 0


def test_an_estimate_suffices(chain: DevChain) -> None:
    code = load("TestBeacon").bytecode
    gas = chain.estimate(CallRequest(None, code, SENDER), 0)
    receipt = chain.receipt(chain.send(signed(0, None, code, gas=gas)))
    assert receipt is not None
    assert receipt["status"] == 1
    assert gas < 2 * receipt["gasUsed"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (signed(1, b"r" * 20), "nonce too high"),
        (signed(0, b"r" * 20, value=10**21), "insufficient funds"),
        (signed(0, b"r" * 20, gas=20_999), "intrinsic gas too low"),
        (signed(0, b"r" * 20, gas=100_000_000), "invalid transaction"),
        (b"", "undecodable"),
        (b"\x02\xc0", "undecodable"),
    ],
)
def test_refused_transactions_change_nothing(chain: DevChain, raw: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        chain.send(raw)
    assert chain.head()["number"] == 0
    first = signed(0, b"r" * 20)
    chain.send(first)
    with pytest.raises(Refused, match="already known"):
        chain.send(first)
    with pytest.raises(Refused, match="nonce too low"):
        chain.send(signed(0, b"s" * 20))


def test_time_follows_the_wall_clock_and_jumps(chain: DevChain, beacon: bytes) -> None:
    assert abs(chain.head()["timestamp"] - time.time()) < 3
    chain.increase_time(1000)
    late = encode_words(int(time.time()) + 900)
    # Already visible to calls: they run as the next transaction would.
    assert len(chain.call(CallRequest(beacon, selector("randomness(uint64)") + late), 1)) == 32
    chain.mine()
    assert abs(chain.head()["timestamp"] - time.time() - 1000) < 3


def test_logs_are_found_by_range_address_and_topic(chain: DevChain) -> None:
    halo = chain.receipt(chain.send(signed(0, None, load("Halo2VerifierReusable").bytecode, gas=5_000_000)))
    assert halo is not None
    address = halo["contractAddress"]
    data = selector("registerVka(bytes32[])") + encode_words(32, 1, 7)
    hashes = [chain.send(signed(nonce, address, data)) for nonce in (1, 2)]
    logs = chain.logs(LogFilter(0, 9))
    assert [log["transactionHash"] for log in logs] == hashes
    topic = logs[0]["topics"][0]
    assert chain.logs(LogFilter(3, 3)) == logs[1:]
    assert chain.logs(LogFilter(0, 9, frozenset({address}), (frozenset({topic}),))) == logs
    assert chain.logs(LogFilter(0, 9, frozenset({SENDER}))) == []
    assert chain.logs(LogFilter(0, 9, frozenset(), (frozenset({bytes(32)}),))) == []
    assert chain.logs(LogFilter(0, 9, frozenset(), (frozenset(),) * 4)) == logs


G1, G2 = (
    encode_words(1, 2),
    bytes.fromhex(
        "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c21800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
        "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
    ),
)
PRIME = 21888242871839275222246405745257275088696311157297823662689037894645226208583


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (6, G1 + G1),
        (6, G1),
        (6, b""),
        (6, encode_words(1, 3, 1, 2)),
        (7, G1 + encode_words(12345678901234567890)),
        (7, G1 + encode_words(2**256 - 1) + b"trailing"),
        (7, encode_words(PRIME + 1, 2, 3)),
        (8, b""),
        (8, G1 + G2),
        (8, G1 + G2 + encode_words(1, PRIME - 2) + G2),
        (8, G1 + G2 + b"x"),
        (8, G1 + bytes(128)),
        (8, G1 + G2[:-1] + b"x"),
    ],
)
def test_the_fast_curve_is_py_evms_own(number: int, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for library in (evm.pyrevm, None):
        monkeypatch.setattr(evm, "pyrevm", library)
        chain = DevChain(31337, {})
        request = CallRequest(number.to_bytes(20, "big"), data)
        try:
            answers.append((chain.call(request, 0), chain.estimate(request, 0)))
        except Refused:
            answers.append((b"refused", 0))
    assert answers[0] == answers[1]


# -- JSON-RPC ----------------------------------------------------------------------


async def ask(rpc: Rpc, method: str, *params: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    answer = json.loads(await rpc.answer(json.dumps(request).encode()))
    assert answer["id"] == 7
    return answer.get("result", answer.get("error"))


async def test_methods(chain: DevChain, beacon: bytes) -> None:
    rpc = Rpc(chain)
    assert await ask(rpc, "eth_chainId") == "0x7a69"
    assert await ask(rpc, "net_version") == "31337"
    assert "skynet" in await ask(rpc, "web3_clientVersion")
    assert await ask(rpc, "eth_blockNumber") == "0x1"
    block = await ask(rpc, "eth_getBlockByNumber", "latest", True)
    assert block["transactions"][0]["from"] == "0x" + SENDER.hex()
    assert await ask(rpc, "eth_getBlockByHash", block["hash"], False) == {
        **block,
        "transactions": [block["transactions"][0]["hash"]],
    }
    receipt = await ask(rpc, "eth_getTransactionReceipt", block["transactions"][0]["hash"])
    assert receipt["contractAddress"] == "0x" + beacon.hex()
    assert await ask(rpc, "eth_getTransactionReceipt", "0x" + "00" * 32) is None
    assert await ask(rpc, "eth_getBlockByNumber", "0x99", False) is None
    assert await ask(rpc, "eth_getTransactionCount", KEY.address, "latest") == "0x1"
    assert int(await ask(rpc, "eth_getBalance", KEY.address), 16) > 10**19
    assert await ask(rpc, "eth_getCode", KEY.address, "latest") == "0x"
    assert await ask(rpc, "eth_getStorageAt", KEY.address, "0x0", "latest") == "0x" + "00" * 32
    history = await ask(rpc, "eth_feeHistory", "0x5", "latest", [25])
    assert len(history["baseFeePerGas"]) == 3
    assert int(await ask(rpc, "eth_gasPrice"), 16) > int(await ask(rpc, "eth_maxPriorityFeePerGas"), 16)
    sent = await ask(rpc, "eth_sendRawTransaction", "0x" + signed(1, b"r" * 20).hex())
    assert (await ask(rpc, "eth_getTransactionByHash", sent))["nonce"] == "0x1"
    assert await ask(rpc, "evm_increaseTime", 60) == "0x3c"
    assert await ask(rpc, "evm_mine") == "0x0"
    assert await ask(rpc, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": KEY.address}) == []


async def test_errors_are_those_of_other_clients(chain: DevChain, beacon: bytes) -> None:
    rpc = Rpc(chain)
    data = selector("randomness(uint64)") + encode_words(2**40)
    error = await ask(rpc, "eth_call", {"to": "0x" + beacon.hex(), "data": "0x" + data.hex()}, "latest")
    assert (error["code"], error["message"]) == (3, "execution reverted")
    assert error["data"] == "0x" + (selector("BeaconNotOut(uint64)") + encode_words(2**40)).hex()
    assert (await ask(rpc, "eth_sendRawTransaction", "0x" + signed(9, b"r" * 20).hex()))["code"] == -32000
    assert (await ask(rpc, "eth_nonsense"))["code"] == -32601
    for method, params in (
        ("eth_getBalance", ()),
        ("eth_getBalance", ("0x12",)),
        ("eth_getBalance", (KEY.address, "yesterday")),
        ("eth_getBalance", (KEY.address, "0xé")),
        ("eth_call", ("no object",)),
        ("eth_getLogs", ({"topics": [1, 2, 3, 4, 5]},)),
        ("eth_getLogs", ({"address": [3]},)),
        ("evm_increaseTime", (-1,)),
        ("evm_increaseTime", (2**200,)),
        ("eth_getTransactionReceipt", ("0x" + "0" * 63,)),
    ):
        assert (await ask(rpc, method, *params))["code"] == -32602, (method, params)
    assert (await ask(rpc, "eth_getBalance", KEY.address, "0x63"))["message"] == "header not found"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"1", b'"x"', b"null", b"[" * 100_000, b"[1]", b"[{}]"])
async def test_a_body_that_is_no_request(chain: DevChain, body: bytes) -> None:
    answer = json.loads(await Rpc(chain).answer(body))
    for one in answer if isinstance(answer, list) else [answer]:
        assert one["error"]["code"] in (-32700, -32600)


async def test_polls_are_answered_while_the_evm_works(chain: DevChain) -> None:
    rpc = Rpc(chain)
    endless = {"data": "0x5b600056", "gas": hex(2_000_000)}  # JUMPDEST PUSH1 0 JUMP
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, rpc, "eth_call", endless, "latest")
        await trio.sleep(0.05)
        with trio.fail_after(0.5):
            assert await ask(rpc, "eth_blockNumber") == "0x0"


# -- The process -------------------------------------------------------------------


Ready = tuple["subprocess.Popen[str]", dict[str, Any]]


@contextmanager
def started(folder: Path) -> Iterator[Ready]:
    command = [sys.executable, "-m", "node.devchain", "--port", "0", "--dir", str(folder), "--block-time", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    with started(tmp_path_factory.mktemp("chain")) as ready:
        yield ready


def post(url: str, body: bytes) -> Any:
    return httpx.post(url, content=body, timeout=30).json()


def block_number(url: str) -> int:
    return int(post(url, b'{"id":1,"method":"eth_blockNumber"}')["result"], 16)


def test_what_it_says_when_ready(process: Ready) -> None:
    _, ready = process
    accounts = Path(ready["accounts"])
    assert accounts.stat().st_mode & 0o777 == 0o600
    first = json.loads(accounts.read_text())["accounts"][0]
    assert Account.from_key(first["private_key"]).address == first["address"]
    body = json.dumps({"id": 1, "method": "eth_getBalance", "params": [first["address"], "latest"]}).encode()
    assert int(post(ready["url"], body)["result"], 16) == 10**24
    deadline = time.monotonic() + 10
    while block_number(ready["url"]) < 2:
        assert time.monotonic() < deadline, "no empty blocks"
        time.sleep(0.1)
    assert httpx.get(ready["url"]).status_code == 405


def test_it_ends_when_told(tmp_path: Path) -> None:
    with started(tmp_path / "new" / "folder") as (running, _):
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def garbage(rng: random.Random) -> bytes:
    """Raw bytes, broken HTTP, and HTTP with a broken or random JSON-RPC body."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:
        return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: " + rng.randbytes(rng.randrange(12)) + b"\r\n\r\n{}"
    method = rng.choice(["eth_call", "eth_getLogs", "eth_sendRawTransaction", "eth_getBlockByNumber", "evm_mine", "x"])
    junk: list[Any] = [
        None,
        {},
        [],
        "0x",
        "0x" + rng.randbytes(40).hex(),
        -1,
        1e99,
        {"to": 3},
        "latest",
        {"topics": [[]]},
    ]
    params = [rng.choice(junk) for _ in range(rng.randrange(4))]
    body = json.dumps({"id": rng.choice([1, None, {}]), "method": method, "params": params}).encode()
    if kind == 2:
        position = rng.randrange(len(body))
        body = body[:position] + rng.randbytes(3) + body[position + 1 :]
    return b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def test_garbage_leaves_it_running(process: Ready) -> None:
    running, ready = process
    port = urlsplit(ready["url"]).port
    assert port is not None
    rng = random.Random(2026)
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(garbage(rng))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert block_number(ready["url"]) >= 0
    assert running.poll() is None


def test_what_is_too_large_is_refused(process: Ready) -> None:
    _, ready = process
    assert httpx.post(ready["url"], content=bytes(5 * 1024 * 1024)).status_code == 413
    assert httpx.post(ready["url"], headers={"x": "y" * 200_000}).status_code in (400, 431)
    assert block_number(ready["url"]) >= 0


def test_a_taken_port_is_one_line(process: Ready, tmp_path: Path) -> None:
    _, ready = process
    port = str(urlsplit(ready["url"]).port)
    command = [sys.executable, "-m", "node.devchain", "--port", port, "--dir", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ), check=False)
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.count("\n") == 1
    assert port in second.stderr


def test_four_pollers(process: Ready) -> None:
    """What four nodes ask each 0.3 s must cost a small part of that."""
    _, ready = process
    bodies = [
        {"id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]},
        {"id": 2, "method": "eth_getLogs", "params": [{"fromBlock": "0x0", "toBlock": "latest"}]},
    ]
    with httpx.Client() as client:
        start = time.monotonic()
        for _ in range(100):
            for body in bodies:
                client.post(ready["url"], json=body).raise_for_status()
        assert (time.monotonic() - start) / 100 < 0.05
