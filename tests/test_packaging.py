"""The four package names are ours alone: a plain name that somebody else installs too would shadow code."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest


@pytest.mark.parametrize("name", ["protocols", "actors", "node", "sim"])
def test_nobody_else_owns_our_names(name: str) -> None:
    assert set(packages_distributions().get(name, ["skynet-node"])) == {"skynet-node"}
