"""Deployment by CREATE2: what is planned, on a chain, and again."""

from __future__ import annotations

import pytest
from evm_net import Net

from node.adapters.evm import connect, open_endpoint
from node.adapters.evm.create2 import (
    Step,
    compute_create2_address,
    deploy_plan,
    estimate_gas,
    plan_deployment,
    read_gas_price,
    survey,
)
from node.errors import ChainError


def test_addresses_follow_from_the_code_alone() -> None:
    plan = plan_deployment(development=False)
    assert plan == plan_deployment(development=False)
    assert [p.name for p in plan.contracts] == [
        "Beacon", "Halo2VerifierReusable", "Verifiers", "Jobs", "Models", "Market",
    ]  # fmt: skip
    marked = plan_deployment(development=True)
    shared = {p.address for p in plan.contracts} & {p.address for p in marked.contracts}
    assert shared == {plan.address_of("Halo2VerifierReusable")}  # all else is marked by what it is built on
    assert all(p.address == compute_create2_address(p.code) for p in plan.contracts)


async def test_deploying_stops_anywhere_and_goes_on(net: Net) -> None:
    plan, steps = plan_deployment(development=True), list[Step]()
    signer = net.signers[8]

    class Enough(Exception):
        pass

    async def stop_at_jobs(step: Step) -> None:
        steps.append(step)
        if step.name == "Verifiers":
            raise Enough

    async def note(step: Step) -> None:
        steps.append(step)

    async with open_endpoint(net.url) as endpoint:
        before = await survey(endpoint, plan, net.chain_id)
        assert not any(step.is_there for step in before)
        assert await read_gas_price(endpoint) >= 0
        with pytest.raises(Enough):
            await deploy_plan(endpoint, signer, plan, net.chain_id, stop_at_jobs)
        assert [step.is_there for step in await survey(endpoint, plan, net.chain_id)] == [True] * 3 + [False] * 3
        first, steps[:] = tuple(steps), []
        await deploy_plan(endpoint, net.signers[9], plan, net.chain_id, note)  # another wallet goes on
        assert [step.is_there for step in steps] == [True] * 3 + [False] * 3
        for step, planned in zip((*first, *steps[3:]), plan.contracts, strict=True):
            assert step.address == planned.address
            assert 0.7 * estimate_gas(planned.code) < step.gas < 1.05 * estimate_gas(planned.code), step.name
        steps.clear()
        await deploy_plan(endpoint, signer, plan, net.chain_id, note)
        assert all(step.is_there and step.gas == 0 for step in steps)
    async with connect(net.url, jobs=plan.address_of("Jobs"), signer=signer, chain_id=net.chain_id) as chain:
        assert chain.addresses.workers == plan.workers
        assert await chain.is_development() is True


async def test_a_wrong_chain_is_refused_before_anything_is_sent(net: Net) -> None:
    async with open_endpoint(net.url) as endpoint:
        counted = ("eth_getTransactionCount", net.signers[9].wallet, "latest")
        before = await endpoint.request(*counted)
        with pytest.raises(ChainError, match=f"serves chain {net.chain_id}, not 534352"):
            await survey(endpoint, plan_deployment(development=False), 534352)

        async def never(_: Step) -> None:
            raise AssertionError

        with pytest.raises(ChainError, match="serves chain"):
            await deploy_plan(endpoint, net.signers[9], plan_deployment(development=False), 534352, never)
        assert await endpoint.request(*counted) == before
