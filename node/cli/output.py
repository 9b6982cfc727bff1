"""How every command ends: one line for a user's error, a documented status, JSON where it was asked for."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.config import address_fault, peer_address_fault
from node.errors import Escalated, ExitCode, UsageError, UserError, find_error
from node.secret import redact
from protocols.abi import address_bytes, checksum_address
from protocols.ids import Address


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


# -- Arguments -----------------------------------------------------------------


def hex_job(text: str) -> bytes:
    """Read a job id. Raises ArgumentTypeError."""
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no job id: 0x and 64 hex digits, as `skynet job list` shows")
    return bytes.fromhex(text.removeprefix("0x"))


def hex_id(text: str) -> bytes:
    """Read a listing's or an order's id. Raises ArgumentTypeError."""
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no id: 0x and 64 hex digits, as `skynet model list` shows")
    return bytes.fromhex(text.removeprefix("0x"))


def peer_address(text: str) -> str:
    """Read a node's address. Raises ArgumentTypeError."""
    if fault := peer_address_fault(text):
        raise argparse.ArgumentTypeError(f"{fault}: copy it from the node's addresses.json")
    return text


def chain_address(text: str) -> Address:
    """Read an address. Raises ArgumentTypeError."""
    if fault := address_fault(text):
        raise argparse.ArgumentTypeError(fault)
    return checksum_address(address_bytes(Address(text)))


def require_new_file(path: Path) -> None:
    """Raise UsageError for a file that is there already, or can't be written: before the work, not after it."""
    if path.exists():
        raise UsageError(path, "is there already", "choose another name for --out, or add --force")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(path, "its folder is missing or can't be written", "choose another name for --out")
