"""How every command ends: one line for a user's error, a documented status, JSON where it was asked for."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio

from node.errors import Escalated, ExitCode, UserError, find_error
from node.secret import redact


def run(main: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    """Run a command's coroutine; turn what it raises into a line and a status."""
    try:
        return trio.run(partial(main, *arguments), strict_exception_groups=True)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the last place that may
        return fail(error)


def fail(error: BaseException) -> int:
    """Say what went wrong on standard error; return the exit status."""
    found = find_error(error)
    if isinstance(found, UserError):
        sys.stderr.write(redact(f"error: {found}\n"))
        return found.code
    if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt) is not None:
        return ExitCode.INTERRUPTED
    sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if isinstance(found, Escalated):
        sys.stderr.write(redact(f"error: {found}\n"))
        return found.code
    return ExitCode.BUG


def print_json(value: object) -> None:
    """One object on one line; bytes as 0x-hex."""
    sys.stdout.write(json.dumps(value, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value)


def hex_job(text: str) -> bytes:
    """Read a job id. Raises ValueError, which argparse shows."""
    raw = bytes.fromhex(text.removeprefix("0x"))
    if len(raw) != 32:
        raise ValueError(text)
    return raw


__all__: Sequence[str] = ("fail", "hex_job", "print_json", "run")
