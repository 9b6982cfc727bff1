"""The tests here need the js peers, which `make interop` installs by their lock file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # `interop_world`: importlib mode leaves folders of tests out


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (HERE / "node_modules" / ".package-lock.json").exists():
        return
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.skip(reason="the js peers are not installed: `make interop`"))
