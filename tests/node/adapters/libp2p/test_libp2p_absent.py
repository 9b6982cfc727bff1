"""Libraries that py-libp2p imports and we don't use: empty names while it is imported, themselves after it."""

from __future__ import annotations

import importlib
import sys

import pytest

from node.adapters.libp2p.absent import LIBRARIES, left_out


def test_what_is_left_out_is_names_only_and_only_meanwhile() -> None:
    with left_out(("no_such_library", "json")):
        module = importlib.import_module("no_such_library.deep")
        thing = module.Thing

        class Derived(thing):  # type: ignore[misc,valid-type]
            pass

        assert issubclass(Derived, Exception)
        assert issubclass(thing.part, Exception)
        assert importlib.import_module("json").dumps([]) == "[]"  # what is loaded stays itself
    assert not [name for name in sys.modules if name.startswith("no_such_library")]
    with pytest.raises(ImportError):
        importlib.import_module("no_such_library")


def test_nothing_absent_stays_behind() -> None:
    for name in LIBRARIES:
        assert getattr(sys.modules.get(name), "__file__", "real") is not None
