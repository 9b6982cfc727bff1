"""Mailboxes: bounded channels that name what happens when they are full, and outlive their readers.

The one rule: the wiring owns a mailbox, an incarnation of an actor reads from a clone of its inbox
(`with box.reader() as inbox: async for mail in inbox: …`). What is queued survives the reader's restart; what the
reader had taken out when it fell does not, so whatever must survive is in the Store before it is acted on.

| policy | full means | for |
|---|---|---|
| `Block` | the sender waits (an edge that must not be part of a cycle) | events that may not be lost |
| `ShedOldest` | the oldest is dropped and counted | what peers send: they repeat what matters |
| `LatestOnly` | the one inside is replaced and counted | state, where only the present counts |
| `Reply` | holds exactly one, once | the answer to one question |

Close channels with plain `with`: `async with` on an error path can replace the error by `Cancelled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import trio

T = TypeVar("T")

# -- Statistics ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    name: str
    policy: str
    capacity: int
    queued: int
    sent: int
    """Accepted so far, those shed later included."""
    blocked: int
    """Sends that had to wait."""
    blocked_s: float
    """How long they waited, together."""
    shed: int
    """Dropped unread."""


# -- Channels ------------------------------------------------------------------


class Mailbox(Generic[T]):
    """What all policies share; made by its subclasses only."""

    policy: ClassVar[str]
    blocks: ClassVar[bool]
    """Whether a sender may wait for the reader: the wiring's test looks for cycles of such edges."""

    def __init__(self, name: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"mailbox {name}: a capacity of {capacity} holds nothing")
        self.name = name
        self.capacity = capacity
        # The bound is in the channel; its two ends stay open as long as the mailbox is.
        self._outbox, self._inbox = trio.open_memory_channel[T](capacity)
        self._sent = 0
        self._blocked = 0
        self._blocked_s = 0.0
        self._shed = 0

    def reader(self) -> trio.MemoryReceiveChannel[T]:
        """A clone of the inbox for one incarnation; it closes its own."""
        return self._inbox.clone()

    async def send(self, mail: T) -> None:
        """Send by policy; a checkpoint in every case."""
        raise NotImplementedError

    def send_nowait(self, mail: T) -> None:
        """Send without waiting; `trio.WouldBlock` where the policy is to block and the box is full."""
        raise NotImplementedError

    def close(self) -> None:
        """No more mail: readers get what is queued, then the end of the channel."""
        self._outbox.close()

    def statistics(self) -> MailboxStatistics:
        queued = self._inbox.statistics().current_buffer_used
        return MailboxStatistics(
            self.name, self.policy, self.capacity, queued, self._sent, self._blocked, self._blocked_s, self._shed
        )

    def _push_out(self, mail: T) -> None:
        """Send now, at the cost of the oldest."""
        while True:
            try:
                self._outbox.send_nowait(mail)
            except trio.WouldBlock:
                self._inbox.receive_nowait()
                self._shed += 1
            else:
                self._sent += 1
                return


class Block(Mailbox[T]):
    """The sender waits."""

    policy = "block"
    blocks = True

    async def send(self, mail: T) -> None:
        try:
            self.send_nowait(mail)
        except trio.WouldBlock:
            await self._wait_and_send(mail)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()  # it is sent: a cancellation here would deny it

    def send_nowait(self, mail: T) -> None:
        self._outbox.send_nowait(mail)
        self._sent += 1

    async def _wait_and_send(self, mail: T) -> None:
        self._blocked += 1
        began_s = trio.current_time()
        try:
            await self._outbox.send(mail)
            self._sent += 1
        finally:
            self._blocked_s += trio.current_time() - began_s


class ShedOldest(Mailbox[T]):
    """The oldest is dropped and counted."""

    policy = "shed_oldest"
    blocks = False

    async def send(self, mail: T) -> None:
        self._push_out(mail)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def send_nowait(self, mail: T) -> None:
        self._push_out(mail)


class LatestOnly(ShedOldest[T]):
    """Holds one: the latest."""

    policy = "latest_only"

    def __init__(self, name: str) -> None:
        super().__init__(name, 1)


# -- One-shot reply ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoReply:
    """The other side let go of the question, or time ran out."""


class Reply(Generic[T]):
    """Travels inside a question; the asker waits on it, the asked answers it once."""

    __slots__ = ("_answer", "_given")

    def __init__(self) -> None:
        self._given = trio.Event()
        self._answer: T | NoReply = NoReply()

    @property
    def is_given(self) -> bool:
        return self._given.is_set()

    def answer(self, value: T) -> None:
        """Answer; RuntimeError if it has been answered or abandoned."""
        if self.is_given:
            raise RuntimeError("a reply is given once")
        self._answer = value
        self._given.set()

    def abandon(self) -> None:
        """Let the asker go without an answer. Idempotent; no effect after an answer."""
        self._given.set()

    async def wait(self, *, timeout_s: float) -> T | NoReply:
        """Wait for the answer, at most this long: the asked may be restarted and know nothing of the question."""
        with trio.move_on_after(timeout_s):
            await self._given.wait()
        return self._answer
