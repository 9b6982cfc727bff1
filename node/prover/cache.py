"""A folder of finished things, shared by processes: each made once, whole or not at all.

    absent --lock; make in NAME.part-…; rename--> NAME --used by all, for ever-->

A process that is killed leaves a part folder, which the next one to hold the lock removes, and no lock: the kernel
holds it. What lies here is named by the hash of all that it was made from.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def obtain(folder: Path, name: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder NAME, and whether it was there; otherwise `make` fills it while others wait."""
    finished = folder / name
    if finished.is_dir():
        return finished, True
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{name}.lock"):
        if finished.is_dir():
            return finished, True
        for stale in folder.glob(f"{name}.part-*"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{name}.part-", dir=folder))
        try:
            make(part)
            _sync(part)
            part.rename(finished)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return finished, False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """See the files to the disk, so that a power cut can't leave a finished name over unfinished bytes."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
