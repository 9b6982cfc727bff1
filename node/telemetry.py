"""Logs: structlog for us and for the libraries, pretty on a terminal, one JSON object a line otherwise.

The one rule: no secret is rendered. The types that hold secrets hide themselves; here, as a second line of
defence, fields with telling names are hidden and every living `Secret` is removed from every string.
Loggers are named `skynet.<package>.<module>`; tracebacks come without local variables.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from node.secret import HIDDEN, Secret, redact

_TELLING = re.compile(
    r"(^|_)(secret|passphrase|password|passwd|token|mnemonic|authorization|cookie|(api|private|job|wallet)_key)s?($|_)",
    re.IGNORECASE,
)
_BIG = 1 << 64  # a larger integer may be a key
_MAX_DEPTH = 8  # deeper nesting is rendered by repr; a cycle ends there

# Say too much at info, or whole URLs, which may hold access tokens.
_CHATTY = ("httpx", "httpcore", "libp2p", "multiaddr", "urllib3", "web3", "asyncio", "jax", "matplotlib")

# Call a dial that nobody answers an error; who dialled says what there is to say.
_REPEATING = ("libp2p.network.swarm", "libp2p.transport.tcp")

# -- Set-up --------------------------------------------------------------------


class LogSettings(Protocol):
    """`node.config.LogConfig` is one."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None, **fields: str) -> None:
    """Send all logs of the process, ours and the libraries', to `stream` (stderr). `fields` are on each line.

    Call it after the adapters are imported: libp2p sets up logging of its own at import.
    """
    out = sys.stderr if stream is None else stream
    pretty = settings.format == "pretty" or (settings.format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_fields(fields),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # modules make their loggers before this runs
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_finish(pretty, out.isatty()))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _CHATTY:
        library = logging.getLogger(name)
        library.setLevel(max(logging.WARNING, root.level))
        # libp2p cuts itself off when it is imported, and its warnings go to stderr unformatted.
        library.handlers.clear()
        library.propagate = True
    for name in _REPEATING:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def logger(module: str) -> FilteringBoundLogger:
    """The logger of a module: `logger(__name__)`. Actors, which can't import this, ask structlog by the same name."""
    log: FilteringBoundLogger = structlog.get_logger(f"skynet.{module}")
    return log


def _finish(pretty: bool, colors: bool) -> list[Processor]:
    render: Processor = structlog.processors.JSONRenderer()
    if pretty:
        # Its default formatter draws tracebacks with local variables where rich is installed.
        render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact_event,
        render,
    ]


def _add_fields(fields: Mapping[str, str]) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**fields, **event}

    return add


# -- Redaction -----------------------------------------------------------------


def redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Processor: make every value plain and without secrets. After it nothing may render objects."""
    return {redact(str(key)): _clean_field(str(key), value, 0) for key, value in event.items()}


def _clean_field(name: str, value: Any, depth: int) -> Any:
    is_count = isinstance(value, int | float) and abs(value) < _BIG  # "tokens": 12
    return HIDDEN if _TELLING.search(name) and value is not None and not is_count else _clean(value, depth)


def _clean(value: Any, depth: int) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) < _BIG else redact(str(value))
        case str():
            return redact(value)
        case Secret():
            return HIDDEN
        case bytes() | bytearray() | memoryview():
            return redact("0x" + bytes(value).hex())
        case Mapping() if depth < _MAX_DEPTH:
            return {redact(str(k)): _clean_field(str(k), v, depth + 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            return [_clean(item, depth + 1) for item in value]
        case _:
            return redact(repr(value))
