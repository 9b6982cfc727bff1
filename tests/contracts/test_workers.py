"""Workers.sol: identities, stakes, and who may touch them."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from contract_world import Done, Refused, World, sign
from job_author import NONCE, TERMS
from job_twin import Station, Twin

from protocols.chain import Post, StakeAdded, StakeWithdrawn, TopUp, Unbond, WithdrawStake, WorkerRegistered
from protocols.ids import Digest, Wei
from protocols.job import UNBONDING_S, compute_price


def test_registering_binds_keys_and_deposits_stake(twin: Twin) -> None:
    worker = twin.crew[0]
    call = twin.world.sign_registration(worker, 100)
    assert twin.world.read("Workers", "keysOf", worker.address) == (call.node_key, call.encryption_key)
    assert twin.world.read("Workers", "isRegistered", worker.address)
    assert twin.world.stake(worker.address) == (100, 0)
    twin.audit()


def test_registering_again_replaces_keys_and_adds_stake(opened: Station) -> None:
    twin, worker = opened.twin, opened.twin.crew[0]
    event = WorkerRegistered(
        worker.address,
        *twin.world.read("Workers", "keysOf", worker.address),
    )
    added = StakeAdded(worker.address, Wei(7))
    assert twin.do(worker, twin.world.sign_registration(worker, 7)) == (event, added)
    assert twin.do(worker, twin.world.sign_registration(worker, 0)) == (event,)
    assert twin.world.stake(worker.address) == (7, 100)  # the first hundred answers for a job
    twin.audit()


def test_a_binding_is_worth_nothing_for_others_keys_or_elsewhere(twin: Twin) -> None:
    mine, yours = twin.crew[:2]
    good = twin.world.sign_registration(mine, 0)
    assert twin.refusal(yours, good) == "BadBinding"
    assert twin.refusal(mine, replace(good, encryption_key=b"e" * 32)) == "BadBinding"
    assert twin.refusal(mine, replace(good, capabilities=Digest(b"c" * 32))) == "BadBinding"
    assert twin.refusal(mine, replace(good, node_key=bytes(32))) == "EmptyKey"
    assert twin.refusal(mine, replace(good, binding=b"")) == "BadBinding"
    elsewhere = replace(good, binding=sign(mine, Digest(b"d" * 32)))
    assert twin.refusal(mine, elsewhere) == "BadBinding"


def test_an_unknown_worker_has_nothing(twin: Twin) -> None:
    world, address = twin.world, twin.requester.address
    assert world.read("Workers", "keysOf", address) == (bytes(32), bytes(32))
    assert not world.read("Workers", "isRegistered", address)
    assert world.send(address, Unbond(Wei(1))) == Refused("StakeTooLow", (0, 1))
    assert world.send(address, WithdrawStake()) == Refused("NothingUnbonding")


def test_topping_up_and_taking_out(twin: Twin) -> None:
    worker = twin.crew[0]
    twin.do(worker, TopUp(Wei(11)))
    assert twin.refusal(worker, TopUp(Wei(0))) == "NothingSent"
    assert twin.refusal(worker, Unbond(Wei(0))) == "StakeTooLow"
    assert twin.refusal(worker, Unbond(Wei(112))) == "StakeTooLow"
    twin.do(worker, Unbond(Wei(100)))
    assert twin.world.stake(worker.address) == (11, 0)
    twin.wait(UNBONDING_S - 1)
    assert twin.refusal(worker, WithdrawStake()) == "StillUnbonding"
    twin.do(worker, Unbond(Wei(1)))  # all waits for what joined last
    twin.wait(UNBONDING_S - 1)
    assert twin.refusal(worker, WithdrawStake()) == "StillUnbonding"
    twin.audit()
    twin.wait(1)
    assert twin.do(worker, WithdrawStake()) == (StakeWithdrawn(worker.address, Wei(101)),)
    assert twin.refusal(worker, WithdrawStake()) == "NothingUnbonding"
    twin.audit()


@pytest.mark.parametrize("function", ["lock", "unlock", "slash", "punish"])
@pytest.mark.parametrize("sender", ["deployer", "worker"])
def test_only_jobs_moves_locked_stake(opened: Station, function: str, sender: str) -> None:
    world, worker = opened.twin.world, opened.twin.crew[0].address
    arguments = (worker, 1, True, worker) if function == "punish" else (worker, 1)
    data = world.interfaces["Workers"].encode(function, arguments)
    caller = {"deployer": world.deployer, "worker": worker}[sender]
    assert world.transact(caller, world.workers, data) == Refused("OnlyJobs")


def test_jobs_creates_the_workers_that_obey_it() -> None:
    world = World()
    assert world.read("Jobs", "workers").lower() == world.workers.lower()
    assert world.read("Workers", "jobs").lower() == world.jobs.lower()


def test_a_predictable_beacon_is_for_development_networks() -> None:
    world = World(development=False)
    world.deploy("TestBeacon")
    with pytest.raises(ValueError, match="PredictableBeacon"):
        world.deploy("Jobs", world.addresses["Verifiers"], world.addresses["TestBeacon"])


def test_being_called_back_during_a_withdrawal_pays_once(twin: Twin) -> None:
    world = twin.world
    attacker = world.deploy("ReentrantRequester", world.jobs)
    twin.do(twin.requester, Post(TERMS, NONCE))  # somebody else's money is there to be stolen
    price = compute_price(TERMS)
    attack = world.interfaces["ReentrantRequester"].encode("attack", (astuple(TERMS),))
    assert isinstance(world.transact(twin.requester.address, attacker, attack, price), Done)
    assert world.read("ReentrantRequester", "called") is True
    assert world.read("ReentrantRequester", "succeeded") is False
    assert world.balance(world.jobs) == price
    assert world.balance(attacker) == price
    assert world.credit(attacker) == 0
