"""Libraries of transports and services that we don't use, kept out while py-libp2p is imported.

py-libp2p imports QUIC, TLS, mDNS, metrics and an HTTP client whether one uses them or not: 16 MB of a node's memory.
While `left_out` is open they are empty names; after it whoever imports one of them gets the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LIBRARIES = ("aioquic", "OpenSSL", "service_identity", "zeroconf", "requests", "prometheus_client", "psutil")


@contextmanager
def left_out(libraries: Sequence[str] = LIBRARIES) -> Iterator[None]:
    """Let imports of what is not loaded yet find nothing but names."""
    finder = _Finder(tuple(name for name in libraries if name not in sys.modules))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, module in sys.modules.items() if isinstance(module, _AbsentModule)]:
            del sys.modules[name]


class _Absent(type):
    """A class of which every attribute is a class."""

    def __getattr__(cls, name: str) -> Any:
        return _name(name)


class _AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _name(name)


def _name(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Absent(name, (Exception,), {})  # an exception, so that `except` clauses that name it are sound


class _Finder(MetaPathFinder, Loader):
    def __init__(self, libraries: tuple[str, ...]) -> None:
        self._libraries = libraries

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in self._libraries else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""
