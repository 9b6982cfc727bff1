"""What gossip keeps in the Store: letters on their way, mail not yet acted on, and which messages were heard.

The one rule: written before the effect that it belongs to. One write for a burst, however many it brings.

Spec: protocols/README.md, "Delivery" and "Records".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from actors.ports import Ports, Record
from protocols.delivery import SEEN_S
from protocols.delivery_event import HeardBefore, MessageTakenUp
from protocols.ids import JobId
from protocols.message import MessageId
from protocols.record import decode, encode
from protocols.verdict import Reject

MAX_RECORD_BYTES = 1 << 20

# -- Records -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """Kind `outbox`, key message id."""

    job: JobId
    wire: bytes = field(repr=False)
    missing: tuple[bytes, ...]
    since_s: float


@dataclass(frozen=True, slots=True)
class MailRecord:
    """Kind `mail`, key job ‖ message id: a message acknowledged but perhaps not acted on yet."""

    sender: bytes
    kind: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """One of ours, sealed and signed."""

    id: MessageId
    job: JobId
    wire: bytes = field(repr=False)
    recipients: frozenset[bytes]


# -- The Store -----------------------------------------------------------------


class Outbox:
    """The records of one incarnation of gossip. Kind `heard`, key job ‖ time: ids that came in one burst."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._heard: deque[tuple[float, bytes]] = deque()
        """(when, key) of the rows that are kept, oldest first."""
        self._last_us = 0

    async def keep_letters(self, letters: Sequence[Letter], now_s: float) -> None:
        """Letters that somebody must acknowledge, and that all of these are known."""
        records = [
            Record("outbox", each.id, encode(_outbox_record(each, now_s))) for each in letters if each.recipients
        ]
        if records:
            heard = self._heard_rows([(each.job, each.id) for each in letters], now_s)
            await self._ports.store.write(*records, *heard, *self._expired(now_s))

    async def forget_letters(self, messages: Iterable[MessageId]) -> None:
        await self._ports.store.write(*(Record("outbox", message, None) for message in messages))

    async def keep_mail(self, mail: Sequence[tuple[JobId, MessageId, MailRecord]], now_s: float) -> None:
        """Mail that will be acknowledged, and that it was heard; forget what is too old to come again."""
        if not mail:
            return
        records = [Record("mail", job + message, encode(kept)) for job, message, kept in mail]
        heard = self._heard_rows([(job, message) for job, message, _ in mail], now_s)
        await self._ports.store.write(*records, *heard, *self._expired(now_s))

    def _heard_rows(self, messages: Sequence[tuple[JobId, MessageId]], now_s: float) -> list[Record]:
        return [
            Record("heard", self._heard_key(job, now_s), b"".join(message for of, message in messages if of == job))
            for job in sorted({job for job, _ in messages})
        ]

    def _heard_key(self, job: JobId, now_s: float) -> bytes:
        self._last_us = max(self._last_us + 1, int(now_s * 1e6))
        key = job + self._last_us.to_bytes(8, "big")
        self._heard.append((now_s, key))
        return key

    def _expired(self, now_s: float) -> list[Record]:
        gone = []
        while self._heard and self._heard[0][0] < now_s - SEEN_S:
            gone.append(Record("heard", self._heard.popleft()[1], None))
        return gone

    # -- After a restart

    async def read_letters(self) -> list[MessageTakenUp]:
        """ValueError for a record that we can't have written."""
        now_s = self._ports.time_s()
        letters = []
        for key, value in await self._ports.store.scan("outbox"):
            kept = decode(OutboxRecord, value, limit_bytes=MAX_RECORD_BYTES)
            if isinstance(kept, Reject):
                raise ValueError(f"outbox record {key.hex()} is broken: {kept.reason}")
            missing = frozenset(kept.missing)
            letters.append(MessageTakenUp(MessageId(key), kept.job, kept.wire, missing, kept.since_s, now_s))
        return letters

    async def read_heard(self) -> list[HeardBefore]:
        """In the order in which they were heard; each with its own time."""
        rows = []
        for key, ids in await self._ports.store.scan("heard"):
            messages = tuple(MessageId(ids[i : i + 32]) for i in range(0, len(ids), 32))
            rows.append(HeardBefore(JobId(key[:32]), messages, int.from_bytes(key[32:], "big") / 1e6))
            self._heard.append((rows[-1].now_s, key))
        self._heard = deque(sorted(self._heard))
        await self._ports.store.write(*self._expired(self._ports.time_s()))
        return sorted(rows, key=lambda row: row.now_s)


def _outbox_record(letter: Letter, now_s: float) -> OutboxRecord:
    return OutboxRecord(letter.job, letter.wire, tuple(sorted(letter.recipients)), now_s)
