"""A child process seen from its parent: started with limits, asked with a deadline, killed when in doubt.

The child handles what strangers sent, so it is believed no more than they are. A wrong reply, a missed
deadline, a closed pipe: each ends the child and comes back as `Refused`, never as an exception.

    RUNNING --deadline, hostile reply, end of stream, cancelled request--> LOST

The child's side is `node/sandbox/`; the bytes between them are `protocols/frames.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import trio

from actors.ports import Refused
from node.sandbox.policy import Enclosure, Limits, encode_enclosure
from protocols import frames
from protocols.frames import Frame, Refusal
from protocols.verdict import Reject

TERMINATE_GRACE_S = 0.5  # between SIGTERM and SIGKILL; a child has nothing to save
RECEIVE_BYTES = 64 * 1024
LOG_LINE_CHARS = 400
LOG_BYTES = 64 * 1024  # of a child's whole life; a hostile one writes without end
ENDED = "the child closed its pipe"

Log = Callable[[str], None]

# -- What to start -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """A child program: a module of ours that calls `sandbox.enter` and `sandbox.serve`."""

    module: str
    limits: Limits
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the minimum; never holds a secret."""
    writable: tuple[Path, ...] = ()
    """Folders beside the scratch folder; what others left there it can't change where mounts are to be had."""
    is_sandbox_demanded: bool = False
    """Where a protection can't be had the child refuses everything; otherwise it works with those that there are."""


async def start_child(
    nursery: trio.Nursery, program: Program, scratch: Path, log: Log, *, inputs: Path | None = None
) -> Child:
    """Start the program; it ends with the nursery at the latest. OSError if this machine can't start processes.

    It writes to `scratch`, its working folder, and reads what lies in `inputs`: of this user's files no others.
    """
    far_end, lifeline = os.pipe()
    try:
        process = await trio.lowlevel.open_process(
            [
                sys.executable,
                "-s",
                "-P",
                "-m",
                program.module,
                encode_enclosure(_enclosure(program, scratch, inputs)),
                str(far_end),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=scratch,
            env={**child_environment(scratch), **program.environment},
            pass_fds=(far_end,),
            start_new_session=True,  # Ctrl-C on the terminal is for the node
        )
    except OSError:
        os.close(lifeline)
        raise
    finally:
        os.close(far_end)
    child = Child(process, lifeline, log)
    nursery.start_soon(child._attend, name=f"child {program.module} {process.pid}")
    return child


def _enclosure(program: Program, scratch: Path, inputs: Path | None) -> Enclosure:
    return Enclosure(
        program.limits,
        tuple(str(path.absolute()) for path in (scratch, *program.writable)),
        () if inputs is None else (str(inputs.absolute()),),
        tuple(str(path.absolute()) for path in program.writable),
        program.is_sandbox_demanded,
    )


def child_environment(scratch: Path | str) -> dict[str, str]:
    """Return the least that a program of ours needs; its home is its scratch folder."""
    minimum = {"HOME": str(scratch), "TMPDIR": str(scratch), "LANG": "C.UTF-8"}
    root = Path(__file__).resolve().parents[2]
    if str(root) != sysconfig.get_path("purelib"):
        # A checkout: the child runs the same code as we do, wherever it was started.
        minimum["PYTHONPATH"] = str(root)
    return minimum


# -- The child -----------------------------------------------------------------


class Loss(Enum):
    """How a child came to answer no more."""

    CRASHED = "crashed"
    """It ended, or answered what nobody could read: another one may do better."""
    OVERDUE = "overdue"
    CANCELLED = "cancelled"
    """Our own doing: whoever asked gave up."""
    CLOSED = "closed"


class Child:
    """One running program. Requests are answered in turn; after the first fault every one is refused."""

    def __init__(self, process: trio.Process, lifeline: int, log: Log) -> None:
        self._process = process
        self._lifeline = lifeline
        self._log = log
        self._turn = trio.Lock()
        self._lost: str | None = None
        self._loss: Loss | None = None
        self._gone = trio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lost(self) -> str | None:
        """Why it answers no more; None while it does. A refusal that is the child's own loses nothing."""
        return self._lost

    @property
    def loss(self) -> Loss | None:
        return self._loss

    async def request(self, do: str, fields: Mapping[str, object], *, timeout_s: float) -> Frame | Refused:
        """Ask and wait. The fields of the answer have plain types, but which ones is for the caller to check.

        A caller that is cancelled meanwhile costs the child its life: its stream is out of step.
        """
        async with self._turn:
            if self._lost is not None:
                return Refused(self._lost)
            answer: Frame | Refusal | Reject | None = None
            try:
                with trio.move_on_after(timeout_s):
                    answer = await self._exchange(frames.request(do, fields))
            except trio.Cancelled:
                self._lost, self._loss = f"{do} was cancelled", Loss.CANCELLED
                self._signal(signal.SIGKILL)
                raise
            match answer:
                case None:
                    return Refused(await self._lose(f"no answer to {do} within {timeout_s:g} s", Loss.OVERDUE))
                case Refusal(reason):
                    return Refused(reason)
                case Reject(reason):
                    return Refused(await self._lose(reason, Loss.CRASHED))
                case _:
                    return answer

    async def end(self, reason: str) -> None:
        """End it for a fault that its parent saw; a request that waits is refused for that. Idempotent."""
        if self._lost is None:
            await self._lose(reason, Loss.OVERDUE)

    async def wait_gone(self) -> None:
        await self._gone.wait()

    async def close(self) -> None:
        """End it and wait until it is gone. Idempotent."""
        if self._lost is None:
            self._lost, self._loss = "closed", Loss.CLOSED
        await self._end()

    async def _exchange(self, request: bytes) -> Frame | Refusal | Reject:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            await stdin.send_all(request)
            header = await _receive(stdout, frames.HEADER_BYTES)
            length = frames.decode_length(header) if header else Reject(ENDED)
            if isinstance(length, Reject):
                return length
            body = await _receive(stdout, length)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return Reject(ENDED)
        return frames.decode_reply(body) if len(body) == length else Reject(ENDED)

    async def _lose(self, reason: str, loss: Loss) -> str:
        """End the child for its fault and return how that reads; the first fault counts."""
        if self._lost is not None:
            await self._end()
            return self._lost
        self._lost, self._loss = reason, loss  # nobody else may use it while it ends
        with trio.CancelScope(shield=True):
            if reason == ENDED:
                with trio.move_on_after(TERMINATE_GRACE_S):
                    self._lost = reason = _describe_exit(await self._process.wait())
            await self._end()
        return reason

    async def _end(self) -> None:
        with trio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
            with trio.move_on_after(TERMINATE_GRACE_S):
                await self._process.wait()
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # The whole session: what a child taken over has started goes with it. Before it is reaped
        # its number can't belong to anybody else.
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS says so of a zombie
                os.killpg(self._process.pid, number)

    async def _attend(self) -> None:
        """Read the child's log until it closes it, and see the child out whatever happens to us."""
        try:
            await _follow(self._process.stderr, self._log)
            await self._process.wait()
        finally:
            await self._end()
            self._gone.set()
            os.close(self._lifeline)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with trio.CancelScope(shield=True):
                        await stream.aclose()


async def _receive(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """Return `count` bytes, or fewer where the stream ends before."""
    parts, missing = [], count
    while missing and (part := await stream.receive_some(min(missing, RECEIVE_BYTES))):
        parts.append(bytes(part))
        missing -= len(part)
    return b"".join(parts)


async def _follow(stream: trio.abc.ReceiveStream | None, log: Log) -> None:
    """Pass lines to the log, cut, cleaned and bounded in sum; read on beyond that: a full pipe stops the child."""
    assert stream is not None
    line, left, dropped = b"", LOG_BYTES, 0
    async for part in stream:
        taken = bytes(part[:left])
        left -= len(taken)
        dropped += len(part) - len(taken)
        *lines, line = (line + taken).split(b"\n")
        for whole in lines:
            _pass_on(whole, log)
        line = line[: LOG_LINE_CHARS + 1]
    _pass_on(line, log)
    if dropped:
        log(f"{dropped} more bytes were dropped")


def _pass_on(line: bytes, log: Log) -> None:
    if text := frames.printable(line[:LOG_LINE_CHARS].decode("utf-8", "replace")).strip():
        log(text)


def _describe_exit(code: int) -> str:
    if code == -signal.SIGALRM:
        return "the child was killed by SIGALRM: a part of its work took longer than that may"
    if code >= 0:
        return f"the child ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the child was killed by {name}"
