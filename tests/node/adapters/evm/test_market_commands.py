"""`skynet model publish|list|buy|deliver|refund` as they are typed, through a node that runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from evm_net import Net
from test_token_jobs import deploy_token
from typed import ETHER, Typed, make_typed

from node.config import ADDRESS_FILE, load_config
from node.program import run_node
from protocols.goods import PART_BYTES

pytestmark = pytest.mark.parametrize("net", ["devchain"], indirect=True)  # which chain it is, others try

MODEL = bytes(range(256)) * (PART_BYTES // 256) + b"the second part"


@pytest.fixture
def typed(tmp_path: Path, net: Net, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    return make_typed(tmp_path, net, capsys, monkeypatch.chdir)


@asynccontextmanager
async def gateway(typed: Typed) -> AsyncIterator[str]:
    """A node that hosts what others give it; yield its address."""
    await trio.to_thread.run_sync(make, typed, "gateway", 0)
    path = typed.folder / "gateway" / "node.toml"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_node, load_config(path), path)
        with trio.fail_after(30):
            while not (path.parent / ADDRESS_FILE).exists():
                await trio.sleep(0.05)
        yield json.loads((path.parent / ADDRESS_FILE).read_text())["addresses"][0]
        nursery.cancel_scope.cancel()


def make(typed: Typed, name: str, ether: float = 2) -> Any:
    return typed.make(name, ether, **{"chain.market": typed.net.contracts.market, "work.offered": False})


async def type_in(typed: Typed, line: str, status: int = 0) -> str:
    return await trio.to_thread.run_sync(typed.run, line, status)


async def type_json(typed: Typed, line: str) -> Any:
    return await trio.to_thread.run_sync(typed.json, line)


async def test_a_model_is_sold_for_its_price_and_opens(typed: Typed) -> None:
    (typed.folder / "model.safetensors").write_bytes(MODEL)
    async with gateway(typed) as address:
        seller = await trio.to_thread.run_sync(make, typed, "seller")
        await trio.to_thread.run_sync(make, typed, "buyer")
        line = f"model publish model.safetensors --price 0.5 --license MIT --peer {address} --config seller/node.toml"
        listing = (await type_json(typed, line))["listing"]
        assert f"{listing}     0.5 ether  by {seller}" in await type_in(typed, "model list --config buyer/node.toml")
        assert listing not in await type_in(typed, "data list --config buyer/node.toml")

        buying = f"model buy {listing} --out bought --config buyer/node.toml"
        early = await type_in(typed, f"{buying} --wait 0.1", 12)
        assert "is not delivered yet" in early
        assert "key delivered" in await type_in(typed, "model deliver --config seller/node.toml")
        assert "nothing of yours" in await type_in(typed, "model deliver --config seller/node.toml")
        before = (await type_json(typed, "wallet show --config buyer/node.toml"))["balance_wei"]
        assert "as listed; licence: MIT" in await type_in(typed, buying)  # goes on, and pays no second time
        assert (await type_json(typed, "wallet show --config buyer/node.toml"))["balance_wei"] == before
        assert (typed.folder / "bought").read_bytes() == MODEL
        assert "is there already" in await type_in(typed, buying, 2)

        assert (await type_json(typed, "wallet withdraw --config seller/node.toml"))["amount_wei"] == ETHER // 2
        await type_in(typed, f"model delist {listing} --config seller/node.toml")
        assert listing not in await type_in(typed, "model list --config buyer/node.toml")
        other = f"model buy {listing} --out other --config gateway/node.toml"
        assert "in use by process" in await type_in(typed, other, 5)
        delisted = f"model buy {listing} --out other --config seller/node.toml"
        assert "is withdrawn" in await type_in(typed, delisted, 9)


async def test_data_for_a_token_and_a_seller_that_does_not_deliver(typed: Typed) -> None:
    (typed.folder / "rows.csv").write_text("1,2\n")
    async with gateway(typed) as address:
        await trio.to_thread.run_sync(make, typed, "seller")
        buyer = await trio.to_thread.run_sync(make, typed, "buyer")
        token = await deploy_token(typed.net, "GoodToken", buyer, 7 * ETHER)
        line = f"data publish rows.csv --price 2.5 --token {token} --window-s 600 --peer {address}"
        listing = (await type_json(typed, f"{line} --config seller/node.toml"))["listing"]
        assert "2.5 GOOD" in await type_in(typed, "data list --config buyer/node.toml")
        buying = f"data buy {listing} --out bought --wait 0.1 --config buyer/node.toml"
        await type_in(typed, buying, 12)
        await trio.to_thread.run_sync(typed.net.wait, 601)
        late = await type_in(typed, buying, 12)
        assert "did not deliver its key in time" in late
        order = late.split("refund ")[1].split("`")[0]
        assert "nothing of yours" in await type_in(typed, "data deliver --config seller/node.toml")
        assert "2.5 GOOD back" in await type_in(typed, f"data refund {order} --config buyer/node.toml")
        again = await type_in(typed, buying, 12)  # a new order
        assert "is not delivered yet" in again
        assert order not in again


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("model buy 0x{id} --out b --config a/node.toml", 12, "is not on this market"),
        ("model refund 0x{id} --config a/node.toml", 9, "is none; nothing can be given back"),
        ("model delist 0x{id} --config a/node.toml", 9, "no such listing at this market"),
        ("model publish none --price 1 --peer {peer} --royalty 5 --config a/node.toml", 2, "--royalty: is for nobody"),
        ("model list --config other/node.toml", 3, "chain.market is missing"),
        ("model list --config wrong/node.toml", 8, "is no Market contract"),
    ],
)
def test_what_does_not_work_is_a_line(typed: Typed, line: str, status: int, said: str) -> None:
    make(typed, "a", 0.5)
    typed.make("other", 0)
    typed.make("wrong", 0, **{"chain.market": typed.net.contracts.jobs})
    peer = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWSThNonPoQrDtAGHqqTt4AE2pY5LY4qPdjSVYSRo9sWRW"
    assert said in typed.run(line.format(id="ab" * 32, peer=peer), status)
