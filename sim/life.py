"""A life: one incarnation of a simulated process, from its start to its kill.

    alive --kill--> dead   (a dead process's calls to its ports never return)

`kill -9` runs no handler. Tasks under trio do get cancelled in some order, and some run on for a moment; since
no port answers a dead process any more, nothing that they still do can be seen from outside.
"""

from __future__ import annotations

import trio


class Life:
    def __init__(self) -> None:
        self.is_alive = True

    def kill(self) -> None:
        self.is_alive = False

    async def breathe(self) -> None:
        """A checkpoint that the dead don't pass."""
        await trio.lowlevel.checkpoint()
        if not self.is_alive:
            await trio.sleep_forever()

    async def spend(self, seconds: float) -> None:
        """Take virtual time, and don't come back from it dead."""
        await trio.sleep(seconds)
        if not self.is_alive:
            await trio.sleep_forever()
