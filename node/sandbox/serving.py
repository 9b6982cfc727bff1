"""The child's side of a child process: the walls first, then one request after another.

`enter` is called before anything large is imported, so that jax or ezkl already start inside the walls;
`serve` answers until the parent closes the pipe. Standard output belongs to frames: whatever a library
prints goes to the log. The parent's side is `node/adapters/child.py`. No third-party imports but msgpack.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from node.sandbox.enclosing import enclose
from node.sandbox.policy import Limits, decode_enclosure, refuse
from protocols import frames
from protocols.verdict import Reject

# -- Processor time ----------------------------------------------------------


def renew_cpu(limits: Limits) -> None:
    """Grant another request's processor time: the soft limit moves, since the kernel counts a process's whole life."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


# -- Serving -------------------------------------------------------------------

Answer = Callable[[str, frames.Frame], Mapping[str, object] | frames.Refusal]
"""Does what the first argument names with the fields of the second."""


@dataclass(frozen=True, slots=True)
class Channel:
    requests: BinaryIO
    replies: BinaryIO
    limits: Limits
    refusal: str | None = None
    """Why no request is answered: walls that were demanded can't be had here."""


def enter(arguments: list[str]) -> Channel:
    """Take enclosure and lifeline from the command line, enclose this process, and return the channel to the parent."""
    enclosure, lifeline = decode_enclosure(arguments[0]), int(arguments[1])
    hold_lifeline(lifeline)
    refusal = refuse(enclosure, enclose(enclosure))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Channel(sys.stdin.buffer, replies, enclosure.limits, refusal)


def hold_lifeline(descriptor: int) -> None:
    """End with the parent: when it closes its end, or dies, the kernel sends us SIGIO, whose default is death.

    A thread that waited for this would starve: ezkl holds the interpreter's lock while it proves.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):  # gone before we listened
        os.kill(os.getpid(), signal.SIGKILL)


def serve(channel: Channel, answer: Answer) -> None:
    """Answer requests in order until the parent closes the pipe.

    An exception is an answer: it says that the package was unfit, and the next request may be a good one.
    """
    while body := _read_request(channel.requests):
        renew_cpu(channel.limits)
        channel.replies.write(_reply(body, answer) if channel.refusal is None else frames.refused(channel.refusal))
        channel.replies.flush()


def _read_request(stream: BinaryIO) -> bytes:
    header = stream.read(frames.HEADER_BYTES)
    length = frames.decode_length(header, limit_bytes=frames.MAX_REQUEST_BYTES) if header else 0
    if isinstance(length, Reject):
        raise SystemExit(length.reason)
    return stream.read(length)


def _reply(body: bytes, answer: Answer) -> bytes:
    request = frames.decode_request(body)
    if isinstance(request, Reject):
        return frames.refused(request.reason)
    try:
        result = answer(*request)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes raise is their refusal
        return frames.refused(f"{type(error).__name__}: {error}")
    return frames.refused(result.reason) if isinstance(result, frames.Refusal) else frames.done(result)
