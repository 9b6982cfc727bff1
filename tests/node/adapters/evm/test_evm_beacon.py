"""Real rounds of drand on the real contracts: seats are drawn and the challenge opened by what nodes post.

The chain's clock begins before drand's first round, so that the seats are drawn by round 1, and is put forward to
where the challenge falls to round 9,337,227: for both there is a signature.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from evm_net import Net, devchain
from test_evm_chain import TERMS, certify, do, events_since, refusal, registration, views

from actors.beacon import BeaconPoster
from actors.ports import BeaconSource, Unreachable
from node.adapters.drand import open_sources
from node.adapters.evm import EvmChain, LocalSigner, deploy, open_endpoint
from node.client.ledger import Ledger
from node.errors import ConfigError
from node.secret import Secret
from protocols.chain import (
    Apply,
    Assign,
    Assigned,
    DeliverKeys,
    JobPosted,
    NullRound,
    Post,
    ProvingStarted,
    Ready,
    RegisterKey,
    TrainingStarted,
)
from protocols.chain_follow import Head
from protocols.evidence import compute_job_id
from protocols.ids import Digest, RoundNumber
from protocols.job import DRAND_EVMNET, compute_key_digest
from protocols.seat import CaughtUp, OnChain, Part, TimePassed, hear, step

sys.path.append(str(Path(__file__).parents[1]))
from drand_server import ANSWERS, LIES, ROUNDS, play_drand

FIRST, LATER = ROUNDS
GENESIS_S = DRAND_EVMNET.time_of(FIRST)
WORDS = tuple(range(1, 41))
LONG_S = 10**9


@pytest.fixture(scope="module")
def drand_net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """Development contracts with drand's beacon, a day before drand began."""
    with devchain(tmp_path_factory.mktemp("drand"), "--timestamp", str(GENESIS_S - 86_400)) as (url, chain_id, keys):
        signers = tuple(LocalSigner(Secret(key)) for key in keys)
        yield Net(url, chain_id, signers, trio.run(_deploy, url, signers[0]))


async def _deploy(url: str, signer: LocalSigner) -> object:
    async with open_endpoint(url) as endpoint:
        return await deploy(endpoint, signer, development=True, beacon_contract="Beacon")


async def time_of(chain: EvmChain) -> int:
    head = await chain.head()
    assert isinstance(head, Head)
    return head.timestamp_s


async def wait_until(net: Net, chain: EvmChain, timestamp_s: int) -> None:
    net.wait(timestamp_s - await time_of(chain))


async def fold(chain: EvmChain, part: Part, first: int) -> Part:
    for event in await events_since(chain, first):
        if not isinstance(event, JobPosted):
            part, _ = step(part, OnChain(event))
    for passed in (CaughtUp(), TimePassed(await time_of(chain))):
        part, _ = step(part, passed)
    return part


async def look(chain: EvmChain, sources: tuple[BeaconSource, ...], part: Part, first: int, later_s: float = 0) -> int:
    """One look of a node that starts now, `later_s` after the chain's time; return what it spent."""
    before = await chain.balance(chain.wallet)
    async with trio.open_nursery() as nursery:
        poster = BeaconPoster(chain, sources)
        poster.look([await fold(chain, part, first)], await time_of(chain) + later_s, nursery)
    after = await chain.balance(chain.wallet)
    assert not isinstance(before, Unreachable)
    assert not isinstance(after, Unreachable)
    return before - after


@asynccontextmanager
async def servers(*kinds: str) -> AsyncIterator[tuple[BeaconSource, ...]]:
    async with AsyncExitStack() as stack:
        urls = []
        for kind in kinds:
            answers = {"honest": ANSWERS, "lying": LIES, "down": {}}[kind]
            urls.append(stack.enter_context(play_drand(answers)).url)
        yield await stack.enter_async_context(open_sources(urls))


async def test_seats_are_drawn_and_the_challenge_is_opened_by_what_nodes_post(drand_net: Net) -> None:
    net = drand_net
    terms = replace(
        TERMS, vk_digest=compute_key_digest(WORDS), seats=2, rounds=2, max_applicants=2, join_window_s=3600,
        ready_window_s=LONG_S, proof_window_s=LONG_S,
    )  # fmt: skip
    async with views(net, 1, 2, 3) as (requester, *workers), servers("down", "lying", "honest") as sources:
        assert await requester.is_test_beacon() is False
        for number, worker in zip((2, 3), workers, strict=True):
            await do(worker, registration(net, net.signers[number], 2 * 10**17))
        await do(requester, RegisterKey(WORDS))
        head = await requester.head()
        assert isinstance(head, Head)
        first = head.number + 1
        job = compute_job_id(net.chain_id, net.contracts.jobs, requester.wallet, b"d" * 32)
        (posted,) = await do(requester, Post(terms, b"d" * 32))
        assert isinstance(posted, JobPosted)
        parts = [hear(posted, worker.wallet, offers_work=True) for worker in workers]
        for worker in workers:
            await do(worker, Apply(job))

        # The window is closed, and its round is not out: nobody posts, nobody can draw.
        await wait_until(net, requester, GENESIS_S - 60)
        assert await look(workers[0], sources, parts[0], first) == 0
        assert await refusal(workers[0], Assign(job)) == "BeaconNotOut"

        # It is out: the first mover posts it, though one server is down and one lies. The second finds it there.
        await wait_until(net, requester, GENESIS_S + 10)
        assert await look(workers[0], sources, parts[0], first) > 0
        assert await look(workers[1], sources, parts[1], first, later_s=60) == 0
        assert await requester.beacon(FIRST) == Digest(bytes.fromhex(ROUNDS[FIRST][1]))
        assigned, *_ = await do(workers[0], Assign(job))
        assert isinstance(assigned, Assigned)

        await do(requester, DeliverKeys(job, (b"a", b"b")))
        for worker in workers:
            started = (await do(worker, Ready(job)))[-1]
        assert isinstance(started, TrainingStarted)
        by_wallet = {signer.wallet: signer for signer in net.signers}
        commit, _ = certify(net, job, 0, Digest(bytes(32)), b"t" * 64, [by_wallet[w] for w in assigned.workers])
        await do(workers[0], commit)

        # The second round's deadline passes at the very moment that makes the challenge's round the later one.
        await wait_until(net, requester, DRAND_EVMNET.time_of(LATER) - 34)
        *_, proving = await do(workers[0], NullRound(job, RoundNumber(1)))
        assert isinstance(proving, ProvingStarted)
        assert proving.beacon_round == LATER
        seated = sorted(workers, key=lambda worker: assigned.workers.index(worker.wallet))
        mine = {part.me: part for part in parts}
        await wait_until(net, requester, DRAND_EVMNET.time_of(LATER))
        assert await look(seated[1], sources, mine[seated[1].wallet], first) == 0  # not yet its turn
        assert await requester.beacon(LATER) is None
        assert await look(seated[1], sources, mine[seated[1].wallet], first, later_s=7) > 0
        assert await requester.beacon(LATER) == Digest(bytes.fromhex(ROUNDS[LATER][1]))
        assert await look(seated[0], sources, mine[seated[0].wallet], first) == 0


@pytest.mark.parametrize("kinds", [("down",), ("lying",), ("lying", "down", "lying")])
async def test_without_an_honest_server_no_gas_is_spent(drand_net: Net, kinds: tuple[str, ...]) -> None:
    async with views(drand_net, 4) as (chain,), servers(*kinds) as sources:
        before = await chain.balance(chain.wallet)
        poster = BeaconPoster(chain, sources)
        assert await poster._post(LATER) is False
        assert await chain.balance(chain.wallet) == before


@pytest.mark.parametrize("net", ["devchain"], indirect=True)
async def test_a_job_leaves_the_beacon_time_to_draw_its_seats(drand_net: Net, net: Net) -> None:
    async with views(drand_net, 4) as (chain,):
        await Ledger(chain, 0, 0).require_time_to_draw(120)
        with pytest.raises(
            ConfigError, match=r"terms\.ready_window_s: is 60, but drand's round .* make it 120 or more"
        ):
            await Ledger(chain, 0, 0).require_time_to_draw(60)
    async with views(net, 4) as (chain,):
        await Ledger(chain, 0, 0).require_time_to_draw(1)


async def test_a_bent_signature_is_refused_by_a_sentence(drand_net: Net) -> None:
    async with views(drand_net, 4) as (chain,):
        outcome = await chain.post_beacon(2, bytes.fromhex(ROUNDS[FIRST][0]))
        assert outcome.reason == "BadBeacon"
        assert "not drand's signature of round 2" in outcome.detail
