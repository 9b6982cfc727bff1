"""End-to-end delivery above gossip: a message is done when every recipient said so.

    Sent --all acknowledged--> settled, n of n
         --somebody silent--> resent, with back-off and jitter --> … --> settled, k of n, naming who is missing
    Arrived --its history is here, or it needs no order--> handed on
            --something it comes after is missing--> asked for, held for HOLD_S at most --> handed on

Gossip loses messages silently. After Waku's SDS (scalable data sync), each message names the last few that its
sender knew, so that a gap shows with the next message; what is missing is asked for by id, and whoever has it
answers. Once a while a member says what it has, in a Bloom filter: what isn't in it, it certainly lacks.

State changes in place, as in `waku_relay` and for its reason: a copy of the ids heard for every message would
cost more than the message. Source: vac.dev, SDS. Spec: protocols/README.md, "Delivery"; DESIGN §5.8.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from protocols.bloom import MAX_IDS, build_filter, may_contain
from protocols.delivery_event import (
    AcknowledgementReceived,
    Counts,
    Effect,
    Event,
    HandOn,
    HeardBefore,
    JobLeft,
    MessageArrived,
    MessageSent,
    MessageTakenUp,
    Publish,
    SendAcknowledgements,
    SendSync,
    Settle,
    SyncReceived,
    TimePassed,
)
from protocols.ids import JobId
from protocols.message import MAX_AGE_S, MAX_SKEW_S, MessageId
from protocols.seen import Seen
from protocols.waku_allowance import Allowances

ACK_DELAY_S = 0.2  # batches the answers to a burst; nobody but the sender's outbox waits for them
FIRST_RESEND_S = 1.0  # several round trips across the internet
MAX_RESEND_S = 15.0
JITTER = 0.25  # of every wait, both ways: what was lost together is not sent again together
RESENDS_S, RESENDS_BURST = 64, 256  # of a node: where everybody is slow, sending again makes everybody slower
SILENT_S = 10.0  # without a word from a recipient; it is probed with one message, and told the rest when it is back
GIVE_UP_S = 120.0  # a round's time-out is shorter; later nobody needs the message
ACKS_AT_ONCE = 1024  # ids in one acknowledgement, 35 KB; more would not fit an envelope
SEEN_S = MAX_AGE_S + MAX_SKEW_S  # after it an envelope is too old to be let in, so its id may be forgotten
SEEN_IDS = 131_072  # about 13 MB; too few and a late duplicate is handed on twice
HISTORY = 4  # ids that a message names; one lost in four messages' worth of time still shows
WANT_S = 0.25  # before a missing message is asked for: the mesh reorders by less
MAX_WANT_S = 4.0
WANTS = 5  # times that it is asked for; by then nobody has it
WANTED = 1024  # missing messages of a job at a time: a member may name any number that never was
HOLD_S = 1.0  # for which a message waits for its history; a round's view lasts 3 s
ANSWER_S = 0.3  # at most, before somebody else's message is sent again: another holder may be first
REPEAT_S = 0.5  # between two sendings of one message, whoever asks
ANSWERS = 64  # messages sent again for one request
KEPT_BYTES = 2 * 1024 * 1024  # of a job's last messages, for others who lack them
SYNC_S = 2.0  # between a member's words on what it has
QUIET_SYNCS = 3  # after the last message, then silence


_ALL = MessageId(b"")
"""Of a task that is about no one message."""


class _Task(IntEnum):
    RESEND = 0
    ACKNOWLEDGE = 1
    WANT = 2
    RELEASE = 3
    ANSWER = 4
    SYNC = 5


# -- State ---------------------------------------------------------------------


@dataclass(slots=True)
class _Pending:
    """A message of ours that somebody has not acknowledged."""

    job: JobId
    wire: bytes
    recipients: frozenset[bytes]
    missing: set[bytes]
    since_s: float
    sent_s: float
    due_s: float
    attempt: int = 0


@dataclass(slots=True)
class _Want:
    due_s: float
    attempt: int = 0


@dataclass(slots=True)
class _Held:
    waits_for: set[MessageId]
    due_s: float


@dataclass(slots=True)
class _Channel:
    """One job's messages."""

    log: deque[MessageId] = field(default_factory=lambda: deque(maxlen=MAX_IDS))
    """Sent or handed on, in order."""
    owed: dict[MessageId, None] = field(default_factory=dict)
    owed_due_s: float = 0.0
    held: dict[MessageId, _Held] = field(default_factory=dict)
    wanted: dict[MessageId, _Want] = field(default_factory=dict)
    want_due_s: float | None = None
    lost: dict[MessageId, None] = field(default_factory=dict)
    """Asked for in vain."""
    kept: dict[MessageId, bytes] = field(default_factory=dict)
    kept_bytes: int = 0
    repeated_s: dict[MessageId, float] = field(default_factory=dict)
    answers: dict[MessageId, float] = field(default_factory=dict)
    syncs_left: int = 0
    sync_due_s: float | None = None


class Delivery:
    """All jobs' messages of one node. `seed` decides the jitter."""

    def __init__(self, seed: bytes) -> None:
        self.counts = Counts()
        self.pending: dict[MessageId, _Pending] = {}
        self._seed = seed
        self._draws = 0
        self._seen = Seen(SEEN_S, SEEN_IDS)
        self._allowance = Allowances(RESENDS_S, RESENDS_BURST)
        self._word_s: dict[bytes, float] = {}
        """When recipients were last heard of."""
        self._round_trip_s, self._spread_s = FIRST_RESEND_S / 2, FIRST_RESEND_S / 8
        self._channels: dict[JobId, _Channel] = {}
        self._agenda: list[tuple[float, int, _Task, JobId, MessageId]] = []

    def history(self, job: JobId) -> tuple[MessageId, ...]:
        """What a message that is sent now comes after."""
        log = self._channel(job).log
        return tuple(log[i] for i in range(-min(HISTORY, len(log)), 0))

    def has_heard(self, message: MessageId) -> bool:
        return message in self._seen

    def next_deadline_s(self) -> float | None:
        """Return when `TimePassed` is wanted next, if at all; it may turn out to be for nothing."""
        return self._agenda[0][0] if self._agenda else None

    # -- Transition ------------------------------------------------------------

    def handle(self, event: Event) -> list[Effect]:
        match event:
            case MessageArrived():
                return self._arrived(event)
            case MessageSent():
                return self._sent(event)
            case AcknowledgementReceived():
                return self._acknowledged(event)
            case TimePassed(now_s):
                return self._time_passed(now_s)
            case SyncReceived():
                return self._synced(event)
            case MessageTakenUp():
                return self._taken_up(event)
            case HeardBefore(job, messages, now_s):
                self._seen.add(messages, now_s)
                self._channel(job).log.extend(messages)
                return []
            case JobLeft(job, now_s):
                self._channels.pop(job, None)
                gone = [m for m, p in self.pending.items() if p.job == job]
                self.counts.withdrawn += len(gone)
                return [self._settle(m, now_s) for m in gone]

    def _channel(self, job: JobId) -> _Channel:
        return self._channels.setdefault(job, _Channel())

    def _plan(self, due_s: float, task: _Task, job: JobId, message: MessageId = _ALL) -> float:
        heapq.heappush(self._agenda, (due_s, len(self._agenda), task, job, message))
        return due_s

    def _jittered(self, wait_s: float) -> float:
        self._draws += 1
        drawn = hashlib.sha256(self._seed + self._draws.to_bytes(8, "big")).digest()
        return wait_s * (1 - JITTER + 2 * JITTER * int.from_bytes(drawn[:4], "big") / 2**32)

    @property
    def _patience_s(self) -> float:
        """Until a message is sent again: as TCP reckons it (RFC 6298)."""
        return min(max(FIRST_RESEND_S, self._round_trip_s + 4 * self._spread_s), MAX_RESEND_S)

    # -- Sending ---------------------------------------------------------------

    def _sent(self, event: MessageSent) -> list[Effect]:
        channel = self._channel(event.job)
        if event.message not in self._seen:
            self._seen.add((event.message,), event.now_s)
            channel.log.append(event.message)
            self._keep(channel, event.message, event.wire)
        self._stir(event.job, channel, event.now_s)
        if event.recipients and event.message not in self.pending:
            self._await(event.message, event.job, event.wire, event.recipients, event.now_s, event.now_s)
        return [Publish(event.job, event.wire)]

    def _taken_up(self, event: MessageTakenUp) -> list[Effect]:
        """The timer publishes it: the network may not be up yet."""
        self._seen.add((event.message,), event.now_s)
        self._keep(self._channel(event.job), event.message, event.wire)
        self._await(event.message, event.job, event.wire, event.recipients, event.since_s, event.now_s)
        return []

    def _await(
        self, message: MessageId, job: JobId, wire: bytes, recipients: frozenset[bytes], since_s: float, now_s: float
    ) -> None:
        self.counts.sent += 1
        due_s = self._plan(now_s + self._jittered(self._patience_s), _Task.RESEND, job, message)
        self.pending[message] = _Pending(job, wire, recipients, set(recipients), since_s, now_s, due_s)

    def _acknowledged(self, event: AcknowledgementReceived) -> list[Effect]:
        done = []
        self._word_s[event.sender] = event.now_s
        for message in event.messages:
            pending = self.pending.get(message)
            if pending is None or event.sender not in pending.missing:
                continue
            pending.missing.discard(event.sender)
            if pending.attempt == 0:  # of one that was sent again nobody knows which sending it answers
                self._measure(event.now_s - pending.since_s)
            if not pending.missing:
                self.counts.acknowledged += 1
                done.append(message)
        return [self._settle(message, event.now_s) for message in done]

    def _measure(self, took_s: float) -> None:
        self._spread_s += (abs(took_s - self._round_trip_s) - self._spread_s) / 32
        self._round_trip_s += (took_s - self._round_trip_s) / 16

    def _settle(self, message: MessageId, now_s: float) -> Settle:
        pending = self.pending.pop(message)
        missing = frozenset(pending.missing)
        return Settle(message, pending.job, pending.recipients - missing, missing, pending.since_s, now_s)

    def _resend(self, message: MessageId, now_s: float) -> list[Effect]:
        pending = self.pending.get(message)
        if pending is None or pending.due_s > now_s:
            return []
        if now_s - pending.since_s >= GIVE_UP_S:
            self.counts.given_up += 1
            return [self._settle(message, now_s)]
        if self._is_vain(message, pending, now_s) or not self._allowance.take("", now_s):
            pending.due_s = self._plan(now_s + self._jittered(2 * self._patience_s), _Task.RESEND, pending.job, message)
            return []
        pending.attempt += 1
        wait_s = self._jittered(min(self._patience_s * 2**pending.attempt, MAX_RESEND_S))
        pending.sent_s = now_s
        pending.due_s = self._plan(now_s + wait_s, _Task.RESEND, pending.job, message)
        self.counts.resent += 1
        return [Publish(pending.job, pending.wire)]

    def _is_vain(self, message: MessageId, pending: _Pending, now_s: float) -> bool:
        """Whether all that it waits for are silent, and another message probes them."""
        if now_s - pending.since_s < SILENT_S:
            return False
        if any(now_s - self._word_s.get(recipient, 0.0) < SILENT_S for recipient in pending.missing):
            return False
        return message != next(iter(self.pending))

    # -- Receiving -------------------------------------------------------------

    def _arrived(self, event: MessageArrived) -> list[Effect]:
        channel = self._channel(event.job)
        if event.acknowledge:
            self._owe(event.job, channel, event.message, event.now_s)
        channel.answers.pop(event.message, None)  # somebody else was first
        if event.message in self._seen:
            self.counts.duplicates += 1
            channel.repeated_s[event.message] = event.now_s
            return []
        self._seen.add((event.message,), event.now_s)
        self._keep(channel, event.message, event.wire)
        self.counts.recovered += channel.wanted.pop(event.message, None) is not None
        if event.acknowledge:
            self._stir(event.job, channel, event.now_s)
        self._miss(event.job, channel, event.after, event.now_s)
        waits_for = {m for m in event.after if m in channel.held or m in channel.wanted}
        if event.ordered and waits_for:
            due_s = self._plan(event.now_s + HOLD_S, _Task.RELEASE, event.job, event.message)
            channel.held[event.message] = _Held(waits_for, due_s)
            return []
        return self._hand_on(channel, event.message)

    def _hand_on(self, channel: _Channel, message: MessageId) -> list[Effect]:
        """This one, and those that waited for it."""
        effects: list[Effect] = []
        ready = deque([message])
        while ready:
            each = ready.popleft()
            channel.held.pop(each, None)
            channel.log.append(each)
            effects.append(HandOn(each))
            for waiting, held in channel.held.items():
                held.waits_for.discard(each)
                if not held.waits_for and waiting not in ready:
                    ready.append(waiting)
        return effects

    def _release(self, job: JobId, message: MessageId, now_s: float) -> list[Effect]:
        channel = self._channel(job)
        held = channel.held.get(message)
        if held is None or held.due_s > now_s:
            return []
        self.counts.late += 1
        return self._hand_on(channel, message)

    def _owe(self, job: JobId, channel: _Channel, message: MessageId, now_s: float) -> None:
        if not channel.owed:
            channel.owed_due_s = self._plan(now_s + ACK_DELAY_S, _Task.ACKNOWLEDGE, job)
        channel.owed[message] = None

    def _acknowledge(self, job: JobId, now_s: float) -> list[Effect]:
        channel = self._channel(job)
        if not channel.owed or channel.owed_due_s > now_s:
            return []
        messages = tuple(channel.owed)
        channel.owed.clear()
        batches = range(0, len(messages), ACKS_AT_ONCE)
        return [SendAcknowledgements(job, messages[i : i + ACKS_AT_ONCE]) for i in batches]

    # -- Gaps ------------------------------------------------------------------

    def _miss(self, job: JobId, channel: _Channel, named: Iterable[MessageId], now_s: float) -> None:
        """Ask soon for what others name and we lack."""
        wait_s = max(WANT_S, 1.5 * self._round_trip_s)  # where everybody is slow, it is late rather than lost
        for message in named:
            known = message in self._seen or message in channel.wanted or message in channel.lost
            if not known and len(channel.wanted) < WANTED:
                due_s = now_s + self._jittered(wait_s)
                channel.wanted[message] = _Want(due_s)
                if channel.want_due_s is None or due_s < channel.want_due_s:
                    channel.want_due_s = self._plan(due_s, _Task.WANT, job)

    def _want(self, job: JobId, now_s: float) -> list[Effect]:
        """One request for all that is due."""
        channel = self._channel(job)
        if channel.want_due_s is None or channel.want_due_s > now_s:
            return []
        asked: list[MessageId] = []
        for message, want in tuple(channel.wanted.items()):
            if want.due_s > now_s or len(asked) >= ANSWERS:
                continue
            want.attempt += 1
            if want.attempt > WANTS:
                del channel.wanted[message]
                _remember(channel.lost, message)
                continue
            self.counts.asked += want.attempt == 1
            want.due_s = now_s + self._jittered(min(2 * WANT_S * 2**want.attempt, MAX_WANT_S))
            asked.append(message)
        dues = [want.due_s for want in channel.wanted.values()]
        channel.want_due_s = self._plan(max(min(dues), now_s + WANT_S / 4), _Task.WANT, job) if dues else None
        return [SendSync(job, (), b"", tuple(asked))] if asked else []

    def _synced(self, event: SyncReceived) -> list[Effect]:
        channel, now_s = self._channel(event.job), event.now_s
        self._word_s[event.sender] = now_s
        self._miss(event.job, channel, event.heads, now_s)
        effects: list[Effect] = []
        for message, pending in self.pending.items() if event.has else ():
            is_asked = pending.job == event.job and event.sender in pending.missing
            is_due = now_s - pending.sent_s >= max(REPEAT_S, self._patience_s)
            if is_asked and is_due and not may_contain(event.has, message) and self._allowance.take("", now_s):
                effects += self._repeat(channel, message, pending, now_s)
        for message in event.wanted[:ANSWERS]:
            ours = self.pending.get(message)
            if ours is not None and now_s - ours.sent_s >= REPEAT_S:
                effects += self._repeat(channel, message, ours, now_s)
            elif ours is None and message in channel.kept and message not in channel.answers:
                wait_s = self._jittered(ANSWER_S / (1 + JITTER))
                channel.answers[message] = self._plan(now_s + wait_s, _Task.ANSWER, event.job, message)
        return effects

    def _repeat(self, channel: _Channel, message: MessageId, pending: _Pending, now_s: float) -> list[Effect]:
        pending.sent_s = channel.repeated_s[message] = now_s
        self.counts.answered += 1
        return [Publish(pending.job, pending.wire)]

    def _answer(self, job: JobId, message: MessageId, now_s: float) -> list[Effect]:
        channel = self._channel(job)
        if channel.answers.get(message, now_s + 1) > now_s:
            return []
        del channel.answers[message]
        if message not in channel.kept or now_s - channel.repeated_s.get(message, 0.0) < REPEAT_S:
            return []
        channel.repeated_s[message] = now_s
        self.counts.answered += 1
        return [Publish(job, channel.kept[message])]

    def _keep(self, channel: _Channel, message: MessageId, wire: bytes) -> None:
        channel.kept[message] = wire
        channel.kept_bytes += len(wire)
        while channel.kept_bytes > KEPT_BYTES and len(channel.kept) > 1:
            oldest = next(iter(channel.kept))
            channel.kept_bytes -= len(channel.kept.pop(oldest))
            channel.repeated_s.pop(oldest, None)

    # -- Sync ------------------------------------------------------------------

    def _stir(self, job: JobId, channel: _Channel, now_s: float) -> None:
        """There is something to say about what we have."""
        channel.syncs_left = QUIET_SYNCS
        if channel.sync_due_s is None:
            channel.sync_due_s = self._plan(now_s + self._jittered(SYNC_S), _Task.SYNC, job)

    def _sync(self, job: JobId, now_s: float) -> list[Effect]:
        channel = self._channel(job)
        if channel.sync_due_s is None or channel.sync_due_s > now_s:
            return []
        channel.sync_due_s = None
        channel.syncs_left -= 1
        if channel.syncs_left > 0:
            channel.sync_due_s = self._plan(now_s + self._jittered(SYNC_S), _Task.SYNC, job)
        have = (*channel.log, *channel.held)[-MAX_IDS:]
        return [SendSync(job, self.history(job), build_filter(have), ())]

    # -- Time ------------------------------------------------------------------

    def _time_passed(self, now_s: float) -> list[Effect]:
        """Do what is due; of a task that was planned anew since, the old entry finds nothing to do."""
        self._seen.expire(now_s)
        effects: list[Effect] = []
        while self._agenda and self._agenda[0][0] <= now_s:
            _, _, task, job, message = heapq.heappop(self._agenda)
            if task is _Task.RESEND:
                effects += self._resend(message, now_s)
            elif job in self._channels:
                effects += self._do(task, job, message, now_s)
        return effects

    def _do(self, task: _Task, job: JobId, message: MessageId, now_s: float) -> list[Effect]:
        match task:
            case _Task.ACKNOWLEDGE:
                return self._acknowledge(job, now_s)
            case _Task.WANT:
                return self._want(job, now_s)
            case _Task.RELEASE:
                return self._release(job, message, now_s)
            case _Task.ANSWER:
                return self._answer(job, message, now_s)
            case _:
                return self._sync(job, now_s)


def _remember(table: dict[MessageId, None], message: MessageId) -> None:
    """Put it into a table of WANTED ids, the oldest forgotten first."""
    table[message] = None
    if len(table) > WANTED:
        del table[next(iter(table))]
