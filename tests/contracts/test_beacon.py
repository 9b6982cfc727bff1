"""Beacon.sol: rounds of drand's evmnet, checked by the curve's precompiles.

The two rounds are real: what drand published for round 1 and round 9,337,227.
"""

from __future__ import annotations

from hashlib import sha256

import pytest
from contract_world import Done, Refused, World
from evm_backends import PyEvm

from protocols.ids import Digest
from protocols.job import DRAND_EVMNET

FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583

ROUNDS = {
    1: (
        "11f812d738a36b2210dc88c2d635ad8039588205f42445d6de09e6530165c346"
        "2a23aca348c84badcf8df5321ac24577b7963d5b0d780bc4626baedb45cde373",
        "781b75698adc3af62cfa55db83cf0c73ae54e1ac8c0d4c3a2224126b65369ec5",
    ),
    9_337_227: (
        "01d65d6128f4b2df3d08de85543d8efe06b0281d0770246ae3672e8ddd3efda0"
        "269373123458f0b5c0073eeed1c816a06809e127421513e34ee07df6987910b3",
        "a1e645cd6193837f626716851f5c42ad4bf63ad75193b2cae40f88c08c8f3bd8",
    ),
}


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.deploy("Beacon")
    return world


def point_of(number: int) -> tuple[int, int]:
    raw = bytes.fromhex(ROUNDS[number][0])
    return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")


def post(world: World, number: int, point: tuple[int, int]) -> Done | Refused:
    data = world.interfaces["Beacon"].encode("post", (number, point))
    return world.transact(world.deployer, world.addresses["Beacon"], data)


def test_the_vectors_are_drands() -> None:
    for signature, randomness in ROUNDS.values():
        assert sha256(bytes.fromhex(signature)).hexdigest() == randomness


@pytest.mark.parametrize("number", ROUNDS)
def test_a_real_round_is_taken_and_kept(number: int) -> None:
    world = World()
    world.deploy("Beacon")
    with pytest.raises(ValueError, match="BeaconNotOut"):
        world.read("Beacon", "randomness", number)
    for _ in range(2):  # again: harmless
        assert isinstance(post(world, number, point_of(number)), Done)
        assert world.read("Beacon", "randomness", number) == Digest(bytes.fromhex(ROUNDS[number][1]))


def test_another_rounds_signature_and_every_bent_one_are_refused(world: World) -> None:
    x, y = point_of(1)
    bent = ((x, FIELD - y), (x + FIELD, y), (x, y + FIELD), (x ^ 1, y), (x, y ^ 1), (0, 0), (1, 2))
    for point in bent:
        assert post(world, 1, point) == Refused("BadBeacon", (1,)), point
    assert post(world, 2, (x, y)) == Refused("BadBeacon", (2,))
    assert post(world, 0, (x, y)) == Refused("BadBeacon", (0,))
    with pytest.raises(ValueError, match="BeaconNotOut"):
        world.read("Beacon", "randomness", 1)


@pytest.mark.parametrize("time_s", [0, 1_727_521_044, 1_727_521_045, 1_727_521_075, 1_727_521_078, 1_760_000_000])
def test_rounds_and_times_are_those_of_the_twin(world: World, time_s: int) -> None:
    number = world.read("Beacon", "roundAt", time_s)
    assert number == DRAND_EVMNET.round_at(time_s)
    assert world.read("Beacon", "timeOf", number) == DRAND_EVMNET.time_of(number)
    # Out half a minute later at the earliest: a sequencer's clock may be slow.
    assert DRAND_EVMNET.time_of(number) > time_s + 30
    assert number == 1 or DRAND_EVMNET.time_of(number) <= time_s + 33


def test_it_is_no_test_beacon(world: World) -> None:
    assert world.read("Beacon", "isTest") is False
    assert world.read("TestBeacon", "isTest") is True


@pytest.mark.slow
def test_what_a_round_costs() -> None:
    world = World(PyEvm())
    world.deploy("Beacon")
    outcome = post(world, 1, point_of(1))
    assert isinstance(outcome, Done)
    assert outcome.gas_used < 400_000, outcome.gas_used
