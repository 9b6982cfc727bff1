"""The specification: its numbers are the code's, and every section that the code cites is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "protocols" / "README.md").read_text(encoding="utf-8")
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
CONSTANTS = re.findall(r"^\| `(\w+)\.(\w+)` \| ([\d.]+)(?: (KiB|MiB))? \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("module", "name", "value", "unit"), CONSTANTS)
def test_constants_are_what_the_code_has(module: str, name: str, value: str, unit: str) -> None:
    assert getattr(importlib.import_module(f"protocols.{module}"), name) == float(value) * UNITS.get(unit, 1)


def test_constants_were_found() -> None:
    assert len(CONSTANTS) > 60


@pytest.mark.parametrize("package", ["protocols", "actors", "node", "sim"])
def test_sections_that_are_cited_exist(package: str) -> None:
    sections = set(re.findall(r"^## (.+)$", TEXT, re.MULTILINE))
    for path in (ROOT / package).rglob("*.py"):
        for cited in re.findall(r'protocols/README\.md, ("[^;.]*")', path.read_text(encoding="utf-8")):
            assert set(re.findall(r'"([^"]+)"', cited)) <= sections, path


def test_every_module_is_described() -> None:
    modules = {p.stem for p in (ROOT / "protocols").glob("*.py")} - {"__init__"}
    assert {m for m in modules if f"`{m}`" not in TEXT} == set()


def test_the_rationale_is_last() -> None:
    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE)[-1] == "Rationale"
