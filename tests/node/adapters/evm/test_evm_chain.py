"""The port against the real contracts on the development chain: one job from registration to payment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from evm_net import Net

from actors.ports import Mined, Outcome, Reverted, Unreachable
from node.adapters.evm import EvmChain, LocalSigner, connect
from node.adapters.evm import rpc as rpc_module
from node.errors import ChainError
from node.secret import Secret
from protocols.abi import checksum_address
from protocols.chain import (
    Applied,
    Apply,
    Assign,
    Assigned,
    Call,
    Cancel,
    Certificate,
    ChainEvent,
    CommitRound,
    DeliverKeys,
    Entry,
    Evidence,
    Expire,
    FeePaid,
    JobEnded,
    JobPosted,
    JobState,
    KeysDelivered,
    NullRound,
    Post,
    ProofAccepted,
    ProofPolicy,
    ProvingStarted,
    Ready,
    Register,
    RegisterKey,
    Release,
    RoundCommitted,
    RoundNulled,
    Settle,
    StakeUnbonding,
    SubmitProof,
    Terms,
    TrainingStarted,
    Unbond,
    Withdraw,
    WithdrawStake,
    WorkerPaid,
    WorkerReady,
    WorkerRegistered,
)
from protocols.chain_follow import Head
from protocols.draw import compute_challenge_seed, draw_sample
from protocols.eip712 import Binding, Domain, Vote, compute_digest
from protocols.evidence import (
    certificate_digest,
    compute_job_id,
    hash_commitment,
    pages_root,
    set_root,
    step_leaf,
)
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Seat, Wei
from protocols.job import compute_key_digest
from protocols.merkle import ZERO_DIGEST, compute_root

WORD = bytes(32)
TINY_PROOF = Path(__file__).parents[3] / "contracts" / "tiny_proof.py"
TERMS = Terms(
    package=ContentId(b"p" * 32),
    data=ContentId(b"d" * 32),
    initial_state=ContentId(b"i" * 32),
    srs=ContentId(b"s" * 32),
    requester_key=b"r" * 32,
    initial_commitment=Digest(bytes(32)),
    pages_root=Digest(WORD),
    vk_digest=Digest(WORD),
    delegate=checksum_address(bytes(20)),
    pages=1,
    seats=2,
    rounds=3,
    steps=4,
    samples=1,
    proof_policy=ProofPolicy.EVALUATION,
    max_applicants=256,
    join_window_s=1000,
    ready_window_s=1000,
    round_timeout_s=1000,
    proof_window_s=1000,
    stake_wei=Wei(10**17),
    budget_wei=Wei(6 * 10**17),
    move_fee_wei=Wei(10**15),
    max_loss=0,
)


@asynccontextmanager
async def views(net: Net, *numbers: int) -> AsyncIterator[list[EvmChain]]:
    """The chain as several wallets see it."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connect(net.url, jobs=net.contracts.jobs, signer=net.signers[i]))
            for i in numbers
        ]


async def events_since(chain: EvmChain, first: int) -> tuple[ChainEvent, ...]:
    head = await chain.head()
    assert isinstance(head, Head)
    events = await chain.events(first, head.number)
    assert not isinstance(events, Unreachable), events
    return tuple(events)


async def do(chain: EvmChain, call: Call) -> tuple[ChainEvent, ...]:
    """Send; return what it logged."""
    before = await chain.head()
    assert isinstance(before, Head)
    outcome = await chain.send(call)
    assert isinstance(outcome, Mined), (call, outcome)
    assert 21_000 < outcome.gas_used < 2_000_000
    return await events_since(chain, before.number + 1)


async def refusal(chain: EvmChain, call: Call) -> str:
    outcome = await chain.send(call)
    assert isinstance(outcome, Reverted), (call, outcome)
    return outcome.reason


def registration(net: Net, signer: LocalSigner, stake_wei: int) -> Register:
    keys = (b"n" * 32, b"e" * 32, Digest(b"c" * 32))
    domain = Domain(net.chain_id, net.contracts.workers)
    return Register(*keys, signer.sign_digest(compute_digest(domain, Binding(signer.wallet, *keys))), Wei(stake_wei))


def certify(
    net: Net, job: JobId, number: int, parent: Digest, theta: Commitment, seated: list[LocalSigner]
) -> tuple[CommitRound, Entry]:
    """A certificate in which only seat 0 took part, signed by all."""
    leaf = step_leaf(job, seated[0].wallet, RoundNumber(number), TERMS.steps, theta)
    entry = Entry(seated[0].wallet, ContentId(b"u" * 32), compute_root([leaf]))
    root, state, point = (
        set_root(job, RoundNumber(number), [entry]),
        ContentId(bytes([number]) * 32),
        Commitment(b"g" * 64),
    )
    vote = Vote(job, 1, RoundNumber(number), 0, parent, root, 0b01, state, hash_commitment(point))
    digest = compute_digest(Domain(net.chain_id, net.contracts.jobs), vote)
    signatures = tuple(signer.sign_digest(digest) for signer in seated)
    return CommitRound(
        job, Certificate(RoundNumber(number), 0, parent, root, state, point, 0b01, 0b11, signatures)
    ), entry


@pytest.fixture(scope="module")
def tiny_proof(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int, tuple[int, ...]]:
    """(proof, instance, key words) of a real, tiny evaluation circuit."""
    folder = tmp_path_factory.mktemp("proof")
    subprocess.run([sys.executable, str(TINY_PROOF), str(folder)], check=True, capture_output=True, timeout=200)
    made: dict[str, Any] = json.loads((folder / "proof.json").read_text())
    vka = (folder / "vka.bytes").read_bytes()
    words = tuple(int.from_bytes(vka[i : i + 32], "big") for i in range(8, len(vka), 32))
    instance = int.from_bytes(bytes.fromhex(made["instances"][0][0]), "little")
    return bytes.fromhex(made["hex_proof"].removeprefix("0x")), instance, words


async def test_a_job_from_registration_to_payment(net: Net, tiny_proof: tuple[bytes, int, tuple[int, ...]]) -> None:
    proof, loss, words = tiny_proof
    theta, x, y = (Commitment(proof[i : i + 64]) for i in (0, 64, 128))
    terms = replace(TERMS, vk_digest=compute_key_digest(words), pages_root=pages_root([(x, y)]))
    async with views(net, 1, 2, 3, 4) as (requester, *workers):
        for number, worker in zip((2, 3, 4), workers, strict=True):
            registered, _ = await do(worker, registration(net, net.signers[number], 2 * 10**17))
            assert registered == WorkerRegistered(worker.wallet, b"n" * 32, b"e" * 32)
            assert await worker.worker_keys(worker.wallet) == (b"n" * 32, b"e" * 32)

        assert await refusal(requester, Post(terms, b"1" * 32)) == "UnknownKey"
        assert await do(requester, RegisterKey(words)) == ()
        assert await requester.is_key_registered(terms.vk_digest) is True
        job = compute_job_id(net.chain_id, net.contracts.jobs, requester.wallet, b"1" * 32)
        (posted,) = await do(requester, Post(terms, b"1" * 32))
        assert isinstance(posted, JobPosted)
        assert (posted.job, posted.requester, posted.terms) == (job, requester.wallet, terms)

        for worker in workers:
            assert await do(worker, Apply(job)) == (Applied(job, worker.wallet),)
        assert await requester.free_stake(workers[0].wallet) == 10**17
        assert await refusal(workers[0], Apply(job)) == "AlreadyApplied"
        assert await refusal(requester, Assign(job)) == "TooEarly"
        net.wait(1002)
        assigned, fee = await do(workers[2], Assign(job))
        assert isinstance(assigned, Assigned)
        assert fee == FeePaid(job, workers[2].wallet, terms.move_fee_wei)
        by_wallet = {signer.wallet: signer for signer in net.signers}
        seated = [by_wallet[wallet] for wallet in assigned.workers]
        seats = [next(w for w in workers if w.wallet == wallet) for wallet in assigned.workers]
        (left_out,) = (w for w in workers if w not in seats)

        wraps = (b"wrap for seat 0", b"wrap for seat 1")
        assert await do(requester, DeliverKeys(job, wraps)) == (KeysDelivered(job, wraps),)
        assert await do(seats[0], Ready(job)) == (WorkerReady(job, seats[0].wallet),)
        ready, started = await do(seats[1], Ready(job))
        assert isinstance(ready, WorkerReady)
        assert isinstance(started, TrainingStarted)
        await do(requester, Release(job, left_out.wallet))
        assert await requester.free_stake(left_out.wallet) == 2 * 10**17

        parent, entries = Digest(WORD), {}
        for number in (0, 1):
            call, entries[number] = certify(net, job, number, parent, theta, seated)
            forged = replace(call.certificate, participants=0b11)
            assert await refusal(left_out, CommitRound(job, forged)) == "BadSignature"
            (committed,) = await do(left_out, call)
            c = call.certificate
            parent = certificate_digest(job, c.round, c.set_root, c.state, c.commitment)
            assert isinstance(committed, RoundCommitted)
            assert (committed.certificate, committed.participants, committed.commitment) == (parent, 0b01, c.commitment)
        assert await refusal(left_out, NullRound(job, RoundNumber(2))) == "TooEarly"
        net.wait(1001)
        nulled, proving = await do(left_out, NullRound(job, RoundNumber(2)))
        assert isinstance(nulled, RoundNulled)
        assert isinstance(proving, ProvingStarted)

        net.wait(5)
        randomness = await requester.beacon(proving.beacon_round)
        assert isinstance(randomness, bytes)
        assert await requester.beacon(proving.beacon_round + 10**6) is None
        worker = seats[0].wallet
        seed = compute_challenge_seed(net.chain_id, net.contracts.jobs, job, worker, parent, randomness)
        drawn = draw_sample(seed, 0, [RoundNumber(0), RoundNumber(1)], terms, job, Seat(0))
        entry = entries[drawn.round]
        evidence = Evidence(drawn.round, ZERO_DIGEST, entry.update, entry.leaves, (), terms.steps, (), (), 0, ())
        submitted = SubmitProof(job, worker, 0, evidence, proof, (loss,), words)
        flipped = replace(submitted, proof=proof[:-1] + bytes([proof[-1] ^ 1]))
        assert await refusal(seats[0], flipped) == "ProofInvalid"
        assert await refusal(seats[0], replace(submitted, instances=(loss + 1,))) == "ProofInvalid"
        (accepted,) = await do(seats[0], submitted)
        assert accepted == ProofAccepted(job, worker, 0, drawn.round, terms.steps, 0, loss, earns=True)

        paid, fee, ended = await do(requester, Settle(job))
        share = terms.budget_wei * 2 // 6
        assert paid == WorkerPaid(job, worker, Wei(share))
        assert fee == FeePaid(job, requester.wallet, terms.move_fee_wei)
        assert ended == JobEnded(job, JobState.SETTLED, Wei(terms.budget_wei - share))
        assert await requester.credit(requester.wallet) == terms.budget_wei - share + terms.move_fee_wei

        before = await requester.balance(worker)
        assert isinstance(before, int)
        assert await do(seats[0], Withdraw()) == ()
        for seat in seats:
            await do(requester, Release(job, seat.wallet))
        (unbonding,) = await do(seats[0], Unbond(Wei(2 * 10**17)))
        assert isinstance(unbonding, StakeUnbonding)
        assert await refusal(seats[0], WithdrawStake()) == "StillUnbonding"
        after = await requester.balance(worker)
        assert isinstance(after, int)
        moved_wei = terms.move_fee_wei if seats[0] is workers[2] else 0  # it called `assign`, and may be drawn or not
        due_wei = share + moved_wei
        assert due_wei - 10**16 < after - before <= due_wei
        assert await refusal(seats[0], Withdraw()) == "NothingOwed"


async def test_cancelled_and_expired_jobs(net: Net) -> None:
    words = tuple(range(24))
    terms = replace(TERMS, vk_digest=compute_key_digest(words))
    async with views(net, 5, 6) as (requester, stranger):
        await do(requester, RegisterKey(words))
        ids = [compute_job_id(net.chain_id, net.contracts.jobs, requester.wallet, n * 32) for n in (b"2", b"3")]
        for nonce in (b"2", b"3"):
            await do(requester, Post(terms, nonce * 32))
        assert await refusal(stranger, Cancel(ids[0])) == "NotRequester"
        price = terms.budget_wei + 2 * terms.move_fee_wei
        assert await do(requester, Cancel(ids[0])) == (JobEnded(ids[0], JobState.CANCELLED, Wei(price)),)
        assert await refusal(stranger, Expire(ids[1])) == "TooEarly"
        net.wait(1001)
        fee, ended = await do(stranger, Expire(ids[1]))
        assert fee == FeePaid(ids[1], stranger.wallet, terms.move_fee_wei)
        assert ended == JobEnded(ids[1], JobState.EXPIRED, Wei(price - terms.move_fee_wei))
        assert await requester.credit(requester.wallet) == 2 * price - terms.move_fee_wei


async def test_calls_at_once_from_one_wallet_are_all_mined(net: Net) -> None:
    """Nonces are given out one at a time, whatever order the tasks run in."""
    words = tuple(range(24))
    terms = replace(TERMS, vk_digest=compute_key_digest(words))
    outcomes: list[Outcome] = []
    async with views(net, 7) as (requester,):
        await do(requester, RegisterKey(words))

        async def post(number: int) -> None:
            outcomes.append(await requester.send(Post(terms, bytes([number]) * 32)))

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(post, number)
    assert [type(outcome) for outcome in outcomes] == [Mined] * 12


async def test_two_programs_with_one_wallet(net: Net) -> None:
    """The other program's transactions make our nonce stale; the endpoint says so and we ask again."""
    words = tuple(range(24))
    async with views(net, 8, 8) as (ours, other):
        for chain in (ours, other, other, ours, other):
            assert isinstance(await chain.send(RegisterKey(words)), Mined)


async def test_a_cancelled_call_leaves_the_wallet_usable(net: Net) -> None:
    words = tuple(range(24))
    async with views(net, 9) as (chain,):
        for delay_s in (0.0, 0.005, 0.01, 0.02, 0.03):
            with trio.move_on_after(delay_s):
                await chain.send(RegisterKey(words))
        assert isinstance(await chain.send(RegisterKey(words)), Mined)


async def test_a_poor_wallet_is_told_so(net: Net) -> None:
    signer = LocalSigner(Secret(b"\x11" * 32))
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        outcome = await chain.send(registration(net, signer, 0))
        assert isinstance(outcome, Reverted)
        assert "insufficient funds" in outcome.reason.lower()
        assert await chain.balance(signer.wallet) == 0
        assert await chain.worker_keys(signer.wallet) is None
        assert await chain.credit(signer.wallet) == 0


async def test_what_fits_no_parameter_is_not_sent(net: Net) -> None:
    async with views(net, 1) as (chain,):
        for field, value in (("seats", 2**32), ("stake_wei", 2**128), ("seats", -1), ("package", b"x" * 33)):
            outcome = await chain.send(Post(replace(TERMS, **{field: value}), WORD))
            assert isinstance(outcome, Reverted)
            assert "not sent" in outcome.reason


async def test_the_head_moves(net: Net) -> None:
    async with views(net, 1) as (chain,):
        first = await chain.head()
        net.wait(7)
        second = await chain.head()
        assert isinstance(first, Head)
        assert isinstance(second, Head)
        assert second.number > first.number
        assert second.timestamp_s >= first.timestamp_s + 7
        assert len(second.hash) == 32
        assert await chain.is_development() is True
        assert chain.chain_id == net.chain_id


@pytest.mark.parametrize(
    ("changes", "code_words"),
    [
        ({"chain_id": 1}, ", not 1;"),
        ({"jobs": checksum_address(b"\x42" * 20)}, "no contract at this address"),
        ({"url": "http://127.0.0.1:9/secret-token"}, "no JSON-RPC answer: no connection"),
        ({"url": "ftp://127.0.0.1"}, "not an http"),
        ({"jobs": Address("0x12")}, "not an address"),
    ],
)
async def test_wrong_settings_are_one_line(
    net: Net, changes: dict[str, Any], code_words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_module, "RETRY_DELAYS_S", (0.01,))
    settings = {"url": net.url, "jobs": net.contracts.jobs, "signer": net.signers[1]} | changes
    with pytest.raises(ChainError) as caught:
        async with connect(settings.pop("url"), **settings):
            pass
    assert code_words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret-token" not in str(caught.value)


async def test_another_contract_is_not_jobs(net: Net) -> None:
    with pytest.raises(ChainError, match="not SkyNet's Jobs"):
        async with connect(net.url, jobs=net.contracts.workers, signer=net.signers[1]):
            pass
