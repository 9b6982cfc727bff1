"""A job's child over its whole life: opened by a first request, started again when it was lost.

What a request names as a `Path` is lent: linked into a folder that the child can read and not write, so that of
the Store it sees what it was asked about and nothing else.

An answer depends on the blobs that a request names alone, so after a crash the same request goes to a new child
once. A child that outran its deadline would do so again: it is replaced, but not asked again.

    NONE --first request--> RUNNING --crash or deadline--> NONE, at most MAX_RESTARTS times, then refused
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from actors.ports import Refused
from node.adapters.child import Child, Log, Loss, Program, start_child
from protocols.frames import Frame

WATCH_S = 1.0  # between two looks at what a child wrote; higher lets a fast disk fill
SMALLEST_BYTES = 4096  # what a file takes at least, its name included
MAX_RESTARTS = 3  # lower and two strokes of the system's memory guard end a job


@dataclass(frozen=True, slots=True)
class Opening:
    """The request that makes a fresh child ready."""

    do: str
    fields: Mapping[str, object] | Callable[[], Mapping[str, object]]
    """A function is called at each start: the Store may have moved a blob since the last."""
    timeout_s: float


class JobChild:
    """Starts nothing until it is asked. Its folder is its own: made at the start, removed at the end.

    FOLDER/work   the child's working folder, emptied before each start
    FOLDER/inputs hard links to blobs: they last while the Store moves or drops what they were made from
    """

    def __init__(self, nursery: trio.Nursery, program: Program, folder: Path, log: Log, opening: Opening) -> None:
        self._nursery = nursery
        self._program = program
        self._folder = folder
        self._scratch = folder / "work"
        self._inputs = folder / "inputs"
        self._log = log
        self._opening = opening
        self._child: Child | None = None
        self._restarts = 0
        self._outputs = 0
        self._lock = trio.Lock()
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def new_output(self, name: str) -> Path:
        """Return a path in the scratch folder that no other request is given."""
        self._outputs += 1
        return self._scratch / f"{self._outputs}-{name}"

    async def ask(self, do: str, fields: Mapping[str, object], *, timeout_s: float) -> Frame | Refused:
        refused: Refused | None = None
        for _ in range(2):
            child = await self._ensure()
            if isinstance(child, Refused):
                return refused or child
            reply = await child.request(do, await self._lend(fields), timeout_s=timeout_s)
            if not isinstance(reply, Refused) or child.loss is not Loss.CRASHED:
                return reply
            refused = reply
        assert refused is not None
        return refused

    async def open(self) -> Refused | None:
        """Start the child if it is not running; otherwise `ask` does. One that can't be opened is not kept."""
        child = await self._ensure()
        return child if isinstance(child, Refused) else None

    async def close(self) -> None:
        self._is_closed = True
        async with self._lock:
            if self._child is not None:
                await self._child.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ensure(self) -> Child | Refused:
        async with self._lock:
            if self._is_closed:
                return Refused("closed")
            if self._child is None or self._child.lost is not None:
                return await self._replace(self._child)
            return self._child

    async def _replace(self, lost: Child | None) -> Child | Refused:
        if lost is not None and lost.loss is not Loss.CANCELLED:
            if self._restarts >= MAX_RESTARTS:
                return Refused(f"lost too often, last: {lost.lost}")
            self._restarts += 1
            self._log(f"child {lost.pid} was lost: {lost.lost}; starting another")
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, mode=0o700)
        self._inputs.mkdir(exist_ok=True)
        child = self._child = await start_child(
            self._nursery, self._program, self._scratch, self._log, inputs=self._inputs
        )
        self._nursery.start_soon(self._watch_disk, child)
        opening = self._opening
        fields = await self._lend(opening.fields() if callable(opening.fields) else opening.fields)
        opened = await child.request(opening.do, fields, timeout_s=opening.timeout_s)
        if isinstance(opened, Refused):
            await child.close()
            return opened
        return child

    async def _watch_disk(self, child: Child) -> None:
        limit = self._program.limits.disk_bytes
        while child.lost is None:
            with trio.move_on_after(WATCH_S):
                await child.wait_gone()
            if await trio.to_thread.run_sync(_exceeds, self._scratch, limit):
                await child.end(f"its files are more than {limit} bytes")

    async def _lend(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return the fields with each `Path`, alone or in a list, as the path of its link."""
        return await trio.to_thread.run_sync(_lend_fields, self._inputs, fields)


def _lend_fields(inputs: Path, fields: Mapping[str, object]) -> dict[str, object]:
    return {name: _lend_value(inputs, value) for name, value in fields.items()}


def _lend_value(inputs: Path, value: object) -> object:
    match value:
        case Path():
            return _link(inputs, value)
        case list():
            return [_lend_value(inputs, item) for item in value]
        case _:
            return value


def _link(inputs: Path, path: Path) -> str:
    """Return the path of the link; names of blobs are hashes, so one name is one content.

    Where the file is gone the child finds none and says so.
    """
    link = inputs / path.name
    with suppress(FileExistsError, FileNotFoundError):
        try:
            os.link(path, link)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            shutil.copyfile(path, link)  # another disk, or one without links
    return str(link)


def _exceeds(folder: Path, limit_bytes: int) -> bool:
    """Whether the files in a folder, and in those in it, are more than that; ends at the first that is too much."""
    taken = 0
    waiting = [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                taken += max(SMALLEST_BYTES, status.st_blocks * 512)
                if taken > limit_bytes:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return False
