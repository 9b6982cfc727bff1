"""A deadline that native code can't outlive: the kernel's timer, whose signal nobody handles, ends the process.

For parts of a request; for the whole of it there is the parent's. A handler in Python would not run while a library
computes, so there is none: a child that is late is lost, and its parent says so.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def bounded(seconds: float) -> Iterator[Callable[[], object]]:
    """Let the body take so many seconds of real time, and as many again from each call of what is yielded.

    A timer that was running goes on behind it.
    """
    renew = partial(signal.setitimer, signal.ITIMER_REAL, seconds)
    before = renew()
    try:
        yield renew
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
