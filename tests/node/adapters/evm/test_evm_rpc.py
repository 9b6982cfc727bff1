"""Endpoints that are slow, broken, limited or hostile: a real HTTP server that answers as each test says."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from actors.ports import Mined, Reverted, Unreachable
from node.adapters.evm import EvmChain, LocalSigner, open_endpoint
from node.adapters.evm import rpc as rpc_module
from node.adapters.evm import sending as sending_module
from node.adapters.evm.chain import Addresses, Care
from node.adapters.evm.rpc import AnswerTooLarge, Endpoint, Failure, Unavailable, public_name
from node.devchain.server import Server
from node.secret import Secret
from protocols.abi import checksum_address, encode_words
from protocols.chain import Apply, RoundNulled
from protocols.chain_follow import Head
from protocols.chain_outbox import Policy
from protocols.chain_spending import Limits
from protocols.ids import JobId, RoundNumber
from protocols.keccak import keccak256

ADDRESSES = Addresses(*(checksum_address(bytes([i]) * 20) for i in range(1, 5)))
SIGNER = LocalSigner(Secret(b"\x21" * 32))
JOB = JobId(b"j" * 32)
TOPIC = "0x" + keccak256(b"RoundNulled(bytes32,uint32,uint64)").hex()

Answer = Callable[[str, list[Any]], Any]


class RpcError(Exception):
    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})


@asynccontextmanager
async def serving(raw: Callable[[bytes], bytes]) -> AsyncIterator[Endpoint]:
    async def answer(body: bytes) -> bytes:
        return raw(body)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(Server(answer).serve, listeners)
        async with open_endpoint(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/token") as endpoint:
            yield endpoint
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def chain_of(answer: Answer, care: Care | None = None) -> AsyncIterator[EvmChain]:
    def raw(body: bytes) -> bytes:
        request = json.loads(body)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            reply["result"] = answer(request["method"], request["params"])
        except RpcError as error:
            reply["error"] = error.error
        return json.dumps(reply).encode()

    async with serving(raw) as endpoint:
        yield EvmChain(endpoint, ADDRESSES, SIGNER, 7, care or Care())


def log(block: int, index: int, number: int, **changes: Any) -> dict[str, Any]:
    data = "0x" + encode_words(number, 5).hex()
    place = {"blockNumber": hex(block), "logIndex": hex(index), "address": ADDRESSES.jobs.lower()}
    return place | {"topics": [TOPIC, "0x" + JOB.hex()], "data": data} | changes


# -- Transport ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b'{"id":99,"result":1}', b'{"id":1,"error":3}', b"[" * 50_000, b'{"error":{}}']
)
async def test_nonsense_is_no_answer(body: bytes) -> None:
    async with serving(lambda _: body) as endpoint:
        with pytest.raises((Unavailable, Failure)):
            await endpoint.request("eth_chainId")


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "MAX_ANSWER_BYTES", 10_000)
    async with serving(lambda _: b" " * 20_000) as endpoint:
        with pytest.raises(AnswerTooLarge):
            await endpoint.request("eth_chainId")


async def test_a_dead_endpoint_is_named_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "RETRY_DELAYS_S", (0.01, 0.01))
    async with open_endpoint("http://user:password@127.0.0.1:9/v3/token?key=secret") as endpoint:
        with pytest.raises(Unavailable, match=r"^http://127\.0\.0\.1:9: no connection$"):
            await endpoint.request("eth_chainId")
        for secret in ("token", "secret", "password"):
            assert secret not in repr(endpoint)


async def test_nothing_logs_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(lambda body: b'{"id":1,"result":"0x7"}') as endpoint:
        assert await endpoint.request("eth_chainId") == "0x7"
    assert "/token" not in caplog.text


def test_public_names() -> None:
    assert public_name("https://u:p@rpc.example/v3/abc?x=y") == "https://rpc.example"


async def test_a_flaky_endpoint_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "RETRY_DELAYS_S", (0.01, 0.01))
    attempts = 0

    async def flaky(stream: trio.SocketStream) -> None:
        nonlocal attempts
        attempts += 1
        await stream.receive_some(10_000)
        status = b"503 Busy" if attempts == 1 else b"200 OK"
        body = b'{"jsonrpc":"2.0","id":2,"result":"0x7"}'
        if attempts != 2:  # the second connection is closed without a word
            await stream.send_all(
                b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
            )
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, flaky, listeners)
        async with open_endpoint(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as endpoint:
            with pytest.raises(Unavailable, match="not JSON-RPC"):
                await endpoint.request("eth_chainId")  # ids: the third try has another one
        nursery.cancel_scope.cancel()
    assert attempts == 3


# -- Reading -----------------------------------------------------------------------


async def test_logs_come_in_order_and_from_our_contracts_only() -> None:
    logs = [
        log(2, 1, 3),
        log(2, 0, 2),
        log(1, 5, 1),
        log(3, 0, 4, removed=True),
        log(3, 1, 5, address="0x" + "99" * 20),
    ]
    async with chain_of(lambda method, params: logs) as chain:
        events = await chain.events(1, 3)
    assert events == tuple(RoundNulled(JOB, RoundNumber(n), 5) for n in (1, 2, 3))


async def test_too_many_logs_are_asked_for_in_halves() -> None:
    asked = []

    def answer(method: str, params: list[Any]) -> Any:
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        asked.append((first, last))
        if last - first > 3:
            raise RpcError(-32005, "query returned more than 10000 results")
        return [log(block, 0, block) for block in range(first, last + 1)]

    async with chain_of(answer) as chain:
        events = await chain.events(0, 15)
    assert not isinstance(events, Unreachable)
    assert [event.round for event in events if isinstance(event, RoundNulled)] == list(range(16))
    assert len(asked) == 7


async def test_a_rate_limit_does_not_become_a_flood() -> None:
    asked = 0

    def answer(method: str, params: list[Any]) -> Any:
        nonlocal asked
        asked += 1
        raise RpcError(-32005, "daily request limit exceeded")

    async with chain_of(answer) as chain:
        assert isinstance(await chain.events(0, 2000), Unreachable)
    assert asked <= 10


junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.sampled_from(["0x", "0x1", "0xzz"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["number", "hash", "topics", "data", "address", "blockNumber"]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


@given(answers=st.lists(junk, min_size=1, max_size=5))
def test_hostile_answers_are_unreachable_at_worst(answers: list[Any]) -> None:
    """Without a server: a hundred connections a test are slow. The endpoint's parsing is tested above."""

    class Hostile(Endpoint):
        async def request(self, method: str, *params: Any) -> Any:
            return answers[len(method) % len(answers)]

    async def ask() -> None:
        chain = EvmChain(Hostile("http://x", None), ADDRESSES, SIGNER, 7)  # type: ignore[arg-type]
        assert isinstance(await chain.head(), Head | Unreachable)
        assert isinstance(await chain.events(0, 3), tuple | Unreachable)
        for answer in (await chain.balance(SIGNER.wallet), await chain.credit(SIGNER.wallet)):
            assert isinstance(answer, int | Unreachable)
        assert isinstance(await chain.beacon(3), bytes | Unreachable | None)
        assert isinstance(await chain.worker_keys(SIGNER.wallet), tuple | Unreachable | None)

    trio.run(ask)


# -- Writing -----------------------------------------------------------------------


class Wallet:
    """An endpoint's view of our one account; what it takes is mined at once, from the `mine_after`th on."""

    def __init__(self) -> None:
        self.nonce = 0
        self.sent: list[str] = []
        self.mined: str | None = None
        self.mine_after = 1
        self.status = "0x1"

    def __call__(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_getTransactionCount":
                return hex(self.nonce)
            case "eth_estimateGas":
                return "0x10000"
            case "eth_getBalance":
                return hex(10**18)
            case "eth_getBlockByNumber":
                block = {"number": "0x1", "timestamp": "0x1", "hash": "0x" + "01" * 32, "parentHash": "0x" + "00" * 32}
                return block | {"baseFeePerGas": "0x64"}
            case "eth_maxPriorityFeePerGas":
                raise RpcError(-32601, "no such method")
            case "eth_sendRawTransaction":
                return self.accept(params[0])
            case "eth_getTransactionByHash":
                return None
            case "eth_getTransactionReceipt":
                if params[0] != self.mined:
                    return None
                return {"blockNumber": "0x2", "status": self.status, "gasUsed": "0x5208"}
            case "eth_call":
                raise RpcError(3, "execution reverted", "0x" + keccak256(b"NotSeated()")[:4].hex())
        raise AssertionError(method)

    def accept(self, raw: str) -> str:
        self.sent.append(raw)
        if len(self.sent) >= self.mine_after:
            self.mined = "0x" + keccak256(bytes.fromhex(raw[2:])).hex()
            self.nonce += 1
        return "0x" + keccak256(bytes.fromhex(raw[2:])).hex()


async def test_a_lost_transaction_is_sent_again_for_more() -> None:
    wallet = Wallet()
    wallet.mine_after = 3
    async with chain_of(wallet, Care(policy=Policy(bump_s=0.2))) as chain:
        outcome = await chain.send(Apply(JOB))
    assert isinstance(outcome, Mined)
    assert len(set(wallet.sent)) == 3


async def test_one_never_mined_stays_and_the_same_call_goes_on_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending_module, "GIVE_UP_S", 0.3)
    wallet = Wallet()
    wallet.mine_after = 10**6
    async with chain_of(wallet, Care(policy=Policy(bump_s=0.1))) as chain:
        assert isinstance(await chain.send(Apply(JOB)), Unreachable)
        assert chain.under_way == 1
        wallet.mine_after = 0
        monkeypatch.setattr(sending_module, "GIVE_UP_S", 30.0)
        assert isinstance(await chain.send(Apply(JOB)), Mined)
        assert wallet.nonce == 1


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_fee_wei=99), "chain.max_fee_gwei"),
        (Limits(daily_wei=10_000), "the daily limit"),
    ],
)
async def test_what_is_beyond_the_limits_is_not_sent(limits: Limits, words: str) -> None:
    wallet = Wallet()
    async with chain_of(wallet, Care(limits=limits)) as chain:
        outcome = await chain.send(Apply(JOB))
    assert isinstance(outcome, Reverted)
    assert words in outcome.reason
    assert wallet.sent == []


async def test_a_low_balance_is_warned_of_once() -> None:
    with structlog.testing.capture_logs() as logs:
        async with chain_of(Wallet(), Care(limits=Limits(low_balance_wei=2 * 10**18))) as chain:
            for _ in range(2):
                assert isinstance(await chain.send(Apply(JOB)), Mined)
    assert [entry["event"] for entry in logs].count("the wallet runs low: send it money") == 1


async def test_one_that_reverts_when_mined_says_why() -> None:
    wallet = Wallet()
    wallet.status = "0x0"
    async with chain_of(wallet) as chain:
        assert await chain.send(Apply(JOB)) == Reverted("NotSeated")


async def test_a_simulation_that_reverts_is_not_sent() -> None:
    class Refusing(Wallet):
        def __call__(self, method: str, params: list[Any]) -> Any:
            if method == "eth_estimateGas":
                # Some clients put the data one level deeper.
                raise RpcError(-32015, "VM execution error", {"data": "0x" + keccak256(b"WrongState()")[:4].hex()})
            return super().__call__(method, params)

    wallet = Refusing()
    async with chain_of(wallet) as chain:
        outcome = await chain.send(Apply(JOB))
    assert isinstance(outcome, Reverted)
    assert wallet.sent == []


async def test_an_answer_that_was_lost_is_not_a_second_transaction() -> None:
    class Forgetful(Wallet):
        def accept(self, raw: str) -> str:
            super().accept(raw)
            raise RpcError(-32000, "already known")

    wallet = Forgetful()
    async with chain_of(wallet) as chain:
        assert isinstance(await chain.send(Apply(JOB)), Mined)
    assert len(wallet.sent) == 1


async def test_a_stale_nonce_is_asked_for_again() -> None:
    class Elsewhere(Wallet):
        def accept(self, raw: str) -> str:
            if not self.sent:
                self.sent.append(raw)
                self.nonce = 5  # another program's
                raise RpcError(-32000, "nonce too low: next nonce 5, tx nonce 0")
            return super().accept(raw)

    wallet = Elsewhere()
    async with chain_of(wallet) as chain:
        assert isinstance(await chain.send(Apply(JOB)), Mined)
    assert len(wallet.sent) == 2
