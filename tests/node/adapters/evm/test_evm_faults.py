"""On a real anvil: kills between record and send, lost answers, reorganisations, strangers, stuck fees."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from random import Random

import pytest
import trio
from faults import CHAIN_ID, PROGRAM, Faulty, MemoryRecords, Schedule, open_faulty_chain

from actors.ports import Mined
from node.adapters.evm.outbox import Journal
from node.adapters.evm.pool import Pool
from node.adapters.evm.rpc import Endpoint
from node.adapters.evm.sending import Sender
from node.adapters.evm.signing import LocalSigner
from node.secret import Secret
from protocols.chain_outbox import Intent, Policy
from protocols.ids import Address

pytestmark = [
    pytest.mark.anvil,
    pytest.mark.skipif(not PROGRAM, reason="no anvil: `make tools` fetches it"),
]
SCHEDULES = 12 if os.environ.get("SKYNET_PROFILE") == "ci" else 3
TARGET = Address("0x" + "7a" * 20)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with open_faulty_chain() as opened:
        yield opened


async def received_wei(endpoint: Endpoint) -> int:
    return int(await endpoint.request("eth_getBalance", TARGET, "latest"), 16)


async def funded(endpoint: Endpoint) -> LocalSigner:
    signer = LocalSigner(Secret(b"\x33" * 32))
    await endpoint.request("anvil_setBalance", signer.wallet, hex(10**20))
    await endpoint.request("anvil_mine", "0x10")
    return signer


async def test_random_faults_lose_and_double_nothing(endpoint: Endpoint) -> None:
    for seed in range(1000, 1000 + SCHEDULES):
        schedule = Schedule(endpoint, seed)
        assert await schedule.run() == (0, 0), schedule.happened


async def test_killed_between_record_and_send_it_is_sent_by_the_next_life(endpoint: Endpoint) -> None:
    signer, records = await funded(endpoint), MemoryRecords()
    with trio.CancelScope() as life:
        records.kill = life
        await Sender(endpoint, signer, CHAIN_ID, journal=Journal(records)).send(Intent(TARGET, b"", 5, key=b"a"))
    assert life.cancelled_caught
    assert await received_wei(endpoint) == 0
    second = Sender(endpoint, signer, CHAIN_ID, journal=Journal(records))
    assert isinstance(await second.send(Intent(TARGET, b"", 5, key=b"a")), Mined)
    assert await received_wei(endpoint) == 5
    assert second.spent_wei() > 5


@pytest.mark.parametrize("depth", [1, 6, 12])
async def test_an_orphaned_transaction_is_mined_again(endpoint: Endpoint, depth: int) -> None:
    signer = await funded(endpoint)
    sender = Sender(endpoint, signer, CHAIN_ID, policy=Policy(settle_blocks=20))
    assert isinstance(await sender.send(Intent(TARGET, b"", 5)), Mined)
    if depth > 1:
        await endpoint.request("anvil_mine", hex(depth - 1))
    await endpoint.request("anvil_reorg", depth, [])
    assert await received_wei(endpoint) == 0
    with trio.fail_after(20):
        while await received_wei(endpoint) == 0:
            await sender._look(0.0)
            await endpoint.request("evm_mine")
    assert await received_wei(endpoint) == 5


async def test_a_stuck_transaction_pays_more(endpoint: Endpoint) -> None:
    signer = await funded(endpoint)
    sender = Sender(endpoint, signer, CHAIN_ID, policy=Policy(bump_s=0.2))
    await endpoint.request("evm_setAutomine", False)
    async with trio.open_nursery() as nursery:
        outcomes = list[object]()

        async def send() -> None:
            outcomes.append(await sender.send(Intent(TARGET, b"", 5)))

        nursery.start_soon(send)
        with trio.fail_after(20):
            while not sender.under_way:
                await trio.sleep(0.02)
            await endpoint.request("anvil_setNextBlockBaseFeePerGas", hex(10**11))
            await endpoint.request("evm_mine")
            while not outcomes:
                await endpoint.request("evm_mine")
                await trio.sleep(0.1)
    assert isinstance(outcomes[0], Mined)
    assert await received_wei(endpoint) == 5


async def test_an_endpoint_that_is_down_is_stood_in_for(endpoint: Endpoint) -> None:
    signer = await funded(endpoint)
    dead = Faulty(endpoint, Random(1), 1.0)
    sender = Sender(Pool((dead, endpoint)), signer, CHAIN_ID)
    assert isinstance(await sender.send(Intent(TARGET, b"", 5)), Mined)
    assert await received_wei(endpoint) == 5
