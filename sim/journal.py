"""The actors' logs in virtual time, and how often a supervised part of a node fell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio
from structlog.typing import EventDict

FAULTS = ("child_failed", "child_failed_while_stopping", "supervisor_gave_up")


class Journal:
    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        """`show` gets every line of the log; without it only warnings are looked at, and none is shown."""
        self._show = show
        self.faults: list[str] = []
        """A line for each failure of a supervised child: ours, in a simulation of an honest network."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take the place of the process's structlog configuration."""
        before = structlog.get_config()
        level = logging.WARNING if self._show is None else logging.INFO
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, self._keep],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _keep(self, _logger: Any, level: str, event: EventDict) -> EventDict:
        error = event.pop("exc_info", None)
        name, node = event.pop("event"), event.pop("node", "")
        fields = " ".join(f"{key}={value}" for key, value in event.items())
        line = f"{trio.current_time():10.3f} {node:<10} {level:<7} {name} {fields}"
        if isinstance(error, BaseException):
            line += f" {_describe(error)}"
        if name in FAULTS:
            self.faults.append(line)
        if self._show is not None:
            self._show(line)
        raise structlog.DropEvent


def _describe(error: BaseException) -> str:
    inner = [_describe(e) for e in getattr(error, "exceptions", ())]
    return f"{type(error).__name__}: {error}" + (f" [{'; '.join(inner)}]" if inner else "")
