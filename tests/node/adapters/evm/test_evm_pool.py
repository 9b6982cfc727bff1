"""Several endpoints: failover, agreement, a liar among three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from node.adapters.evm import pool as pool_module
from node.adapters.evm.pool import Pool
from node.adapters.evm.rpc import Endpoint, Failure, Unavailable

Chain = list[bytes]
"""Hashes of blocks, by number."""


class Fake(Endpoint):
    """An endpoint that has these blocks; `fault` may raise instead."""

    def __init__(self, name: str, chain: Chain, fault: Callable[[str], None] = lambda method: None) -> None:
        super().__init__(f"http://{name}", None)  # type: ignore[arg-type]  # nothing is sent
        self.chain, self.fault, self.asked, self.sent = chain, fault, 0, list[str]()

    async def request_once(self, method: str, *params: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        self.fault(method)
        match method:
            case "eth_getBlockByNumber":
                number = len(self.chain) - 1 if params[0] == "latest" else int(params[0], 16)
                return self.block(number) if number < len(self.chain) else None
            case "eth_sendRawTransaction":
                self.sent.append(params[0])
                return "0x"
            case _:
                return f"0x{len(self.chain):x}"

    request = request_once

    def block(self, number: int) -> dict[str, str]:
        parent = self.chain[number - 1] if number else bytes(32)
        hexed = {"hash": self.chain[number], "parentHash": parent}
        return {"number": hex(number), "timestamp": "0x1"} | {k: "0x" + v.hex() for k, v in hexed.items()}


def blocks(count: int, mark: bytes = b"t") -> Chain:
    return [mark + n.to_bytes(31, "big") for n in range(count)]


def down(method: str) -> None:
    raise Unavailable("no connection")


TRUTH = blocks(10)


async def test_the_second_stands_in_for_the_first(autojump_clock: trio.testing.MockClock) -> None:
    first, second = Fake("a", TRUTH, down), Fake("b", TRUTH)
    pool = Pool((first, second))
    assert (await pool.head()).number == 9
    assert pool.failovers == 1
    asked = first.asked
    await pool.head()
    assert first.asked == asked  # it rests
    first.fault = lambda method: None
    await trio.sleep(60)
    await pool.head()
    assert first.asked == asked + 1


async def test_all_down_is_unavailable(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Unavailable):
        await Pool((Fake("a", TRUTH, down), Fake("b", TRUTH, down))).request("eth_chainId")


async def test_one_that_never_answers_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    class Silent(Fake):
        async def request_once(self, method: str, *params: Any) -> Any:
            await trio.sleep_forever()

    assert (await Pool((Silent("a", TRUTH), Fake("b", TRUTH))).head()).number == 9
    assert trio.current_time() < pool_module.PATIENCE_S + 1


@pytest.mark.parametrize(
    "lie", [blocks(10, b"x"), blocks(500, b"x"), blocks(3, b"x"), [*TRUTH, *blocks(30, b"x")[10:]], TRUTH[:4]]
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_liar_of_three_is_not_believed(lie: Chain, place: int) -> None:
    endpoints = [Fake("a", TRUTH), Fake("b", TRUTH)]
    endpoints.insert(place, Fake("liar", lie))
    pool = Pool(endpoints)
    for _ in range(3):
        head = await pool.head()
        assert (head.number, head.hash) == (9, TRUTH[9])
    header = await pool.header(9)
    assert header is not None
    assert header.hash == TRUTH[9]


async def test_a_liar_is_asked_last_afterwards() -> None:
    liar = Fake("liar", blocks(10, b"x"))
    pool = Pool((liar, Fake("a", TRUTH), Fake("b", TRUTH)))
    await pool.head()
    assert pool.contradictions == 1
    asked = liar.asked
    for _ in range(5):
        await pool.request("eth_getLogs", {})
    assert liar.asked == asked


async def test_without_a_quorum_nothing_is_believed(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Unavailable, match="2 must"):
        await Pool((Fake("a", TRUTH, down), Fake("b", TRUTH, down), Fake("c", TRUTH))).head()
    with pytest.raises(Unavailable, match="agree"):
        await Pool((Fake("a", TRUTH), Fake("b", blocks(10, b"x")), Fake("c", blocks(10, b"y")))).head()


async def test_a_transaction_is_offered_to_all() -> None:
    def refuse(method: str) -> None:
        raise Failure(-32000, "underpriced", None)

    endpoints = [Fake("a", TRUTH, refuse), Fake("b", TRUTH), Fake("c", TRUTH)]
    await Pool(endpoints).broadcast(b"raw")
    assert [len(endpoint.sent) for endpoint in endpoints] == [0, 1, 1]
    with pytest.raises(Failure, match="underpriced"):
        await Pool([Fake(n, TRUTH, refuse) for n in "abc"]).broadcast(b"raw")


async def test_endpoints_of_different_chains_are_found() -> None:
    with pytest.raises(Unavailable, match="says"):
        await Pool((Fake("a", TRUTH), Fake("b", TRUTH[:5]))).same_everywhere("eth_chainId")


async def test_a_bell_that_never_stops_does_not_spin(autojump_clock: trio.testing.MockClock) -> None:
    pool = Pool((Fake("a", TRUTH),))
    pool.ring()
    await pool.wait_head(5)
    assert trio.current_time() == pytest.approx(pool_module.PACE_S)
    await pool.wait_head(5)
    assert trio.current_time() == pytest.approx(5 + pool_module.PACE_S)
