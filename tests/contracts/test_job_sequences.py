"""tests/vectors/job/sequences, replayed by the ledger and by the contracts; `job_sequences.py` writes them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from contract_world import Done, Refused, World
from job_sequences import FOLDER, SEQUENCES, Draft, families, write_family
from vector_format import Words, compute_changes, observe, parse_call

from protocols.job import Beacon, Ledger, Revert, step

IN_CI = os.environ.get("SKYNET_PROFILE") in ("ci", "long")
REPLAYED = SEQUENCES if IN_CI else 6
"""Of each family, on the contracts; the ledger replays all."""

FAMILIES = [f"{variant}-{stage}" for variant, stage in families()]


def read_family(name: str) -> dict[str, Any]:
    family: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    for described in chain(family["opening"], *family["sequences"]):
        described["data"] = Words.lengthen(described["data"], family["words"])
    return family


def draft_of(world: World) -> Draft:
    """The cast on an empty ledger."""
    empty = Ledger(world.chain_id, world.jobs, Beacon(genesis_s=0, period_s=1))
    return Draft(world.chain_id, world.jobs, world.workers, empty)


def replay_on_ledger(draft: Draft, world: World, steps: list[dict[str, Any]]) -> None:
    for described in steps:
        tx = parse_call(world, described)
        draft.now_s = tx.now_s
        result = step(draft.ledger, replace(tx, facts=draft.compute_facts(tx.sender, tx.call)))
        if "reverts" in described:
            assert result == Revert(described["reverts"]), described["call"]
            continue
        assert not isinstance(result, Revert), (described["call"], result)
        assert json.loads(json.dumps(compute_changes(draft.ledger, result[0]))) == described["changes"]
        draft.ledger = result[0]


def replay_on_contracts(world: World, steps: list[dict[str, Any]]) -> None:
    """At the end all that was ever said is still so: nothing changes beside what a step tells."""
    told: dict[str, Any] = {}
    for described in steps:
        world.pass_time(described["now_s"])
        data, to = bytes.fromhex(described["data"][2:]), world.addresses[described["to"]]
        outcome = world.transact(described["sender"], to, data, described["value_wei"])
        if "reverts" in described:
            # A call that takes no money reverts without a word when it gets some.
            name = "" if described["reverts"] == "NotPayable" else described["reverts"]
            assert isinstance(outcome, Refused), described["call"]
            assert outcome.name == name, described["call"]
            continue
        assert isinstance(outcome, Done), (described["call"], outcome)
        for what, value in described["changes"].items():
            assert observe(world, what) == value, (described["call"], what)
        told |= described["changes"]
    assert {what: observe(world, what) for what in told} == told


def test_there_are_enough_and_most_rules_are_broken() -> None:
    sequences = [sequence for name in FAMILIES for sequence in read_family(name)["sequences"]]
    reverts = {described["reverts"] for described in chain(*sequences) if "reverts" in described}
    assert len(sequences) >= 500
    assert len(reverts) >= 35


@pytest.mark.parametrize("name", FAMILIES)
def test_the_ledger_does_what_the_sequences_say(name: str) -> None:
    world, family = World(), read_family(name)
    draft = draft_of(world)
    replay_on_ledger(draft, world, family["opening"])
    opened = draft.ledger
    for sequence in family["sequences"]:
        draft.ledger = opened
        replay_on_ledger(draft, world, sequence)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_contracts_do_what_the_sequences_say(name: str) -> None:
    family, accounts = read_family(name), draft_of(World()).accounts.values()
    for sequence in family["sequences"][:REPLAYED]:
        world = World()
        assert {name: world.addresses[name] for name in family["contracts"]} == family["contracts"]
        world.enrich(*accounts)
        replay_on_contracts(world, [*family["opening"], *sequence])


def test_the_generator_writes_these_files() -> None:
    variant, stage = "training", "committed"
    assert write_family(variant, stage, World()) == (FOLDER / f"{variant}-{stage}.json").read_text()
