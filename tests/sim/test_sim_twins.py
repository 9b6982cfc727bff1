"""The other twins: a disk that survives, a chain that is one ledger, keys that are worth what real ones are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from actors.ports import Mined, Record, Reverted, Unreachable
from protocols.chain import Apply, Register, RegisterKey, StakeAdded, Withdraw, WorkerRegistered
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.ids import Digest, JobId, Wei
from protocols.job import MIN_KEY_WORDS
from sim import model, prover
from sim.chain import CHAIN_ID, GAS, GAS_PRICE_WEI, REVERT_GAS, WORKERS, SimChain, SimWallet
from sim.life import Life
from sim.packing import SIZES, pack_digits
from sim.store import Disk, SimStore
from sim.trace import Trace
from sim.vault import Keyring, SimVault, make_identity

JOB = JobId(b"j" * 32)
DIGEST = Digest(b"d" * 32)

# -- Store ---------------------------------------------------------------------


async def write_and_die(disk: Disk, after_s: float) -> None:
    life = Life()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(SimStore(disk, life).write, Record("a", b"1", b"x"), Record("b", b"2", b"y"))
            await trio.sleep(after_s)
            life.kill()
            scope.cancel()


async def test_a_kill_before_the_disk_has_it_loses_all_of_a_write(autojump_clock: MockClock) -> None:
    disk = Disk()
    await write_and_die(disk, 0.001)
    assert not any(disk.records.values())


async def test_what_the_disk_has_the_next_life_finds(autojump_clock: MockClock) -> None:
    disk = Disk()
    await write_and_die(disk, 0.01)
    store = SimStore(disk, Life())
    assert await store.read("a", b"1") == b"x"
    assert await store.scan("b") == [(b"2", b"y")]
    await store.write(Record("a", b"1", None))
    assert await store.read("a", b"1") is None


async def test_the_dead_get_no_answer(autojump_clock: MockClock) -> None:
    life = Life()
    store = SimStore(Disk(), life)
    life.kill()
    with trio.move_on_after(1000.0) as scope:
        await store.read("a", b"1")
    assert scope.cancelled_caught


async def test_a_private_blob_may_become_public_but_not_the_other_way(autojump_clock: MockClock) -> None:
    store = SimStore(Disk(), Life())
    content = await store.put_blob(b"data", public=False)
    assert not await store.is_public(content)
    assert await store.put_blob(b"data", public=True) == content
    await store.put_blob(b"data", public=False)
    assert await store.is_public(content)
    assert await store.blob(content) == b"data"


# -- Vault -----------------------------------------------------------------------


def make_vaults(keyring: Keyring) -> tuple[SimVault, SimVault]:
    numbers = count()
    identities = [make_identity(1, name) for name in ("alice", "bob")]
    for identity in identities:
        keyring.add(identity)
    alice, bob = (SimVault(keyring, i, lambda n: next(numbers).to_bytes(n, "big")) for i in identities)
    return alice, bob


def test_signatures_name_their_signer_and_no_other_message() -> None:
    alice, bob = make_vaults(Keyring())
    signature = alice.sign(b"message")
    assert len(signature) == 64
    assert bob.verify(alice.node_key, b"message", signature)
    assert not bob.verify(alice.node_key, b"other", signature)
    assert not bob.verify(bob.node_key, b"message", signature)
    signed = alice.sign_digest(DIGEST)
    assert len(signed) == 65
    assert bob.recover(DIGEST, signed) == alice.wallet
    assert bob.recover(Digest(b"e" * 32), signed) is None
    assert bob.recover(DIGEST, signed[:-1] + b"\x1c") is None


def test_a_job_key_opens_for_whom_it_was_wrapped() -> None:
    alice, bob = make_vaults(Keyring())
    alice.make_job_key(JOB)
    wrapped = alice.wrap(JOB, bob.encryption_key)
    assert bob.open(JOB, b"", context=b"") is None
    assert not alice.unwrap(JOB, wrapped)
    assert bob.unwrap(JOB, wrapped)
    sealed = alice.seal(JOB, b"plain", context=b"page")
    assert bob.open(JOB, sealed, context=b"page") == b"plain"
    assert bob.open(JOB, sealed, context=b"body") is None
    assert bob.open(JOB, sealed[:-1] + bytes([sealed[-1] ^ 1]), context=b"page") is None
    assert b"plain" not in sealed


def test_secrets_are_in_no_repr() -> None:
    identity = make_identity(1, "alice")
    assert identity.secret.hex() not in repr(identity)
    assert repr(identity.secret) not in repr(identity)


# -- Chain -----------------------------------------------------------------------


@asynccontextmanager
async def open_chain() -> AsyncIterator[tuple[SimChain, SimWallet, SimVault, set[str]]]:
    """With one rich wallet, and a set: when it is not empty the endpoint is out of reach."""
    keyring, lost = Keyring(), set[str]()
    alice, _ = make_vaults(keyring)
    chain = SimChain(keyring, Trace())
    chain.fund(alice.wallet, 10**18)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        yield chain, SimWallet(chain, alice.wallet, Life(), lambda: not lost), alice, lost
        nursery.cancel_scope.cancel()


def compose_register(vault: SimVault, *, signer: SimVault | None = None) -> Register:
    statement = Binding(vault.wallet, vault.node_key, vault.encryption_key, DIGEST)
    binding = (signer or vault).sign_digest(compute_digest(Domain(CHAIN_ID, WORKERS), statement))
    return Register(vault.node_key, vault.encryption_key, DIGEST, binding, Wei(1000))


async def test_a_call_is_mined_into_a_block_with_its_events(autojump_clock: MockClock) -> None:
    async with open_chain() as (chain, wallet, vault, _):
        outcome = await wallet.send(compose_register(vault))
        assert isinstance(outcome, Mined)
        head = await wallet.head()
        assert not isinstance(head, Unreachable)
        assert await wallet.events(1, head.number) == [
            WorkerRegistered(vault.wallet, vault.node_key, vault.encryption_key),
            StakeAdded(vault.wallet, Wei(1000)),
        ]
        assert await wallet.worker_keys(vault.wallet) == (vault.node_key, vault.encryption_key)
        assert await wallet.free_stake(vault.wallet) == 1000
        assert await wallet.balance(vault.wallet) == 10**18 - 1000 - GAS["Register"] * GAS_PRICE_WEI
        assert chain.blocks[-1].timestamp_s >= chain.blocks[0].timestamp_s


async def test_a_call_that_would_revert_is_not_sent(autojump_clock: MockClock) -> None:
    async with open_chain() as (chain, wallet, vault, _):
        _, bob = make_vaults(Keyring())
        assert await wallet.send(compose_register(vault, signer=bob)) == Reverted("BadBinding")
        assert await wallet.send(Apply(JOB)) == Reverted("WrongState")
        assert await wallet.send(Withdraw()) == Reverted("NothingOwed")
        assert len(chain.blocks) == 1
        assert await wallet.balance(vault.wallet) == 10**18


async def test_a_call_that_loses_a_race_reverts_on_chain_and_costs_gas(
    autojump_clock: MockClock,
) -> None:
    async with open_chain() as (chain, wallet, vault, _):
        rich_for_one = 1000 + (GAS["Register"] + GAS["RegisterKey"]) * GAS_PRICE_WEI - 1
        chain.funded[vault.wallet] = rich_for_one
        outcomes: list[object] = []

        async def send(call: Register | RegisterKey) -> None:
            outcomes.append(await wallet.send(call))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, compose_register(vault))
            nursery.start_soon(send, RegisterKey(tuple(range(MIN_KEY_WORDS))))
        assert Reverted("insufficient funds") in outcomes
        assert sum(isinstance(outcome, Mined) for outcome in outcomes) == 1
        assert REVERT_GAS in chain.gas.values()


async def test_an_endpoint_out_of_reach_is_a_value(autojump_clock: MockClock) -> None:
    async with open_chain() as (_, wallet, vault, lost):
        lost.add("everything")
        for answer in (await wallet.head(), await wallet.events(0, 1), await wallet.credit(vault.wallet)):
            assert isinstance(answer, Unreachable)
        assert isinstance(await wallet.send(Withdraw()), Unreachable)


async def test_the_beacon_keeps_its_secret_until_its_time(autojump_clock: MockClock) -> None:
    async with open_chain() as (chain, wallet, _, _lost):
        number = chain.ledger.beacon.round_at(chain.blocks[0].timestamp_s + 5)
        assert await wallet.beacon(number) is None
        await trio.sleep(6.0)
        assert await wallet.beacon(number) is not None


# -- Model and proofs --------------------------------------------------------------


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(1)
    sizes = model.Sizes(5, 4, 3)
    theta = model.draw_initial(sizes, rng)
    rows = model.Rows(rng.normal(size=(6, 5)), rng.normal(size=(6, 3)))
    loss, grad = model.compute_loss_and_grad(sizes, theta, rows)
    assert loss == pytest.approx(model.compute_loss(sizes, theta, rows))
    for index in range(len(theta)):
        step = np.zeros_like(theta)
        step[index] = 1e-6
        up, down = (model.compute_loss(sizes, theta + s, rows) for s in (step, -step))
        assert grad[index] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_pages_and_vectors_come_back_from_their_bytes() -> None:
    packed = pack_digits(1, lambda plain: plain)
    rows = packed.held_out[0]
    decoded = model.decode_page(model.encode_page(rows))
    assert decoded is not None
    np.testing.assert_array_equal(decoded.x, rows.x)
    assert model.decode_page(b"garbage") is None
    vector = np.array([1, -2, 2**31 - 1], np.int32)
    np.testing.assert_array_equal(model.decode_vector(model.encode_vector(vector)), vector)
    assert model.read_sizes(SIZES.layout) == SIZES
    assert model.read_sizes(SIZES.layout[:3]) is None


def test_a_simulated_proof_says_so_and_binds_what_a_real_one_would() -> None:
    commitments = tuple(prover.commit(name) for name in (b"theta", b"x", b"y"))
    proof = prover.build_proof(commitments, (7,), DIGEST)
    assert prover.MARK in proof
    assert proof[:64] == commitments[0]
    assert prover.is_proof(proof, (7,), DIGEST)
    assert not prover.is_proof(proof, (8,), DIGEST)
    assert not prover.is_proof(proof, (7,), Digest(b"e" * 32))
    assert not prover.is_proof(bytes([proof[0] ^ 1]) + proof[1:], (7,), DIGEST)
