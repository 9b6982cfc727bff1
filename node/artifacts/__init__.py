"""The contracts as compiled: ABI and bytecode, written by `make abi` (contracts/build.mjs), never by hand.

A test recompiles the sources and compares. Spec: protocols/README.md, "Contracts".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Name = Literal["Beacon", "TestBeacon", "Halo2VerifierReusable", "Verifiers", "Workers", "Jobs", "Models", "Model", "Market"]

NAMES: tuple[Name, ...] = ("Beacon", "TestBeacon", "Halo2VerifierReusable", "Verifiers", "Workers", "Jobs", "Models", "Model", "Market")
"""In the order of deployment by one account. `Workers` takes the address that `Jobs` is going to get,
the next contract's; `Jobs` refuses any other: TestBeacon(), Halo2VerifierReusable(),
Verifiers(halo2, development), Workers(jobs), Jobs(workers, verifiers, beacon)."""


@dataclass(frozen=True, slots=True)
class Artifact:
    contract: str
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    """Creation code; constructor arguments are appended to it."""
    deployed_bytecode: bytes | None
    """Code on chain; None where immutables are filled in at deployment."""
    compiler: str
    settings: dict[str, Any]


@cache
def load(name: Name) -> Artifact:
    """Read one artifact; it is shared, so treat what is in it as constant."""
    raw = json.loads(files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    deployed = raw.get("deployedBytecode")
    return Artifact(
        contract=raw["contract"],
        abi=tuple(raw["abi"]),
        bytecode=bytes.fromhex(raw["bytecode"][2:]),
        deployed_bytecode=None if deployed is None else bytes.fromhex(deployed[2:]),
        compiler=raw["compiler"],
        settings=raw["settings"],
    )
