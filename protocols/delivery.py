"""End-to-end delivery above gossip: a message is done when every recipient said so.

    Sent --all acknowledged--> Delivered
         --a recipient silent--> resent with back-off --> … --> GaveUp, naming who is missing

Gossip loses messages silently; this machine counts `sent / acknowledged / resent / given up`. What is
pending is in the Store before it is published, so a restart resends it. Acknowledgements are batched,
and a message that arrives twice is acknowledged twice: the first acknowledgement may be what was lost.

Spec: protocols/README.md, "Delivery"; DESIGN §5.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.ids import JobId
from protocols.message import MessageId

ACK_DELAY_S = 0.05  # batches the answers to a burst; a round trip of gossip is 5–25 ms
FIRST_RESEND_S = 1.0  # several round trips across the internet
MAX_RESEND_S = 15.0
GIVE_UP_S = 120.0  # a round's time-out is shorter; later nobody needs the message
ACKS_AT_ONCE = 1024  # ids in one acknowledgement, 35 KB; more would not fit an envelope
SEEN = 8192  # ids remembered; too few and a late duplicate is handed on twice

# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageSent:
    """We want `wire` to reach `recipients` (node keys)."""

    message: MessageId
    job: JobId
    wire: bytes
    recipients: frozenset[bytes]
    now_s: float


@dataclass(frozen=True, slots=True)
class AcknowledgementReceived:
    sender: bytes
    messages: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class MessageArrived:
    message: MessageId
    job: JobId
    acknowledge: bool
    now_s: float


@dataclass(frozen=True, slots=True)
class JobLeft:
    job: JobId


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = MessageSent | AcknowledgementReceived | MessageArrived | JobLeft | TimePassed


@dataclass(frozen=True, slots=True)
class Publish:
    job: JobId
    wire: bytes


@dataclass(frozen=True, slots=True)
class SendAcknowledgements:
    job: JobId
    messages: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class HandOn:
    """First arrival: give it to its actor."""

    message: MessageId


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete from the persistent outbox."""

    message: MessageId


@dataclass(frozen=True, slots=True)
class GiveUp:
    message: MessageId
    job: JobId
    missing: frozenset[bytes]


Effect = Publish | SendAcknowledgements | HandOn | Forget | GiveUp

# -- State ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending:
    job: JobId
    wire: bytes
    missing: frozenset[bytes]
    since_s: float
    due_s: float
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """sent = acknowledged + given up + withdrawn + what is pending."""

    sent: int = 0
    """Messages that somebody must acknowledge, those taken up again after a restart included."""
    acknowledged: int = 0
    """Messages that every recipient acknowledged."""
    resent: int = 0
    given_up: int = 0
    withdrawn: int = 0
    """Not wanted any more: we left their job."""
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    pending: Mapping[MessageId, Pending] = field(default_factory=dict)
    owed: Mapping[JobId, tuple[MessageId, ...]] = field(default_factory=dict)
    """Acknowledgements not sent yet."""
    owed_due_s: float | None = None
    seen: Mapping[MessageId, None] = field(default_factory=dict)
    """Insertion-ordered."""
    counts: Counts = Counts()


# -- Transition ----------------------------------------------------------------


def step(state: Delivery, event: Event) -> tuple[Delivery, tuple[Effect, ...]]:
    match event:
        case MessageSent():
            return _sent(state, event)
        case AcknowledgementReceived():
            return _acknowledged(state, event)
        case MessageArrived():
            return _arrived(state, event)
        case JobLeft(job):
            gone = tuple(m for m, p in state.pending.items() if p.job == job)
            counts = replace(state.counts, withdrawn=state.counts.withdrawn + len(gone))
            return _without(replace(state, counts=counts), gone), tuple(Forget(m) for m in gone)
        case TimePassed(now_s):
            return _time_passed(state, now_s)


def next_deadline_s(state: Delivery) -> float | None:
    """Return when `TimePassed` is wanted next, if at all."""
    dues = [p.due_s for p in state.pending.values()]
    if state.owed_due_s is not None:
        dues.append(state.owed_due_s)
    return min(dues, default=None)


def _sent(state: Delivery, event: MessageSent) -> tuple[Delivery, tuple[Effect, ...]]:
    publish = Publish(event.job, event.wire)
    if not event.recipients or event.message in state.pending:
        return state, (publish,)
    counts = replace(state.counts, sent=state.counts.sent + 1)
    pending = Pending(event.job, event.wire, event.recipients, event.now_s, event.now_s + FIRST_RESEND_S)
    return replace(state, pending={**state.pending, event.message: pending}, counts=counts), (publish,)


def _acknowledged(state: Delivery, event: AcknowledgementReceived) -> tuple[Delivery, tuple[Effect, ...]]:
    changed = {
        m: replace(state.pending[m], missing=state.pending[m].missing - {event.sender})
        for m in event.messages
        if m in state.pending
    }
    done = tuple(m for m, p in changed.items() if not p.missing)
    counts = replace(state.counts, acknowledged=state.counts.acknowledged + len(done))
    state = replace(state, pending={**state.pending, **changed}, counts=counts)
    return _without(state, done), tuple(Forget(m) for m in done)


def _arrived(state: Delivery, event: MessageArrived) -> tuple[Delivery, tuple[Effect, ...]]:
    if event.acknowledge and event.message not in state.owed.get(event.job, ()):
        owed = {**state.owed, event.job: (*state.owed.get(event.job, ()), event.message)}
        due_s = state.owed_due_s if state.owed_due_s is not None else event.now_s + ACK_DELAY_S
        state = replace(state, owed=owed, owed_due_s=due_s)
    if event.message in state.seen:
        counts = replace(state.counts, duplicates=state.counts.duplicates + 1)
        return replace(state, counts=counts), ()
    seen = {**state.seen, event.message: None}
    while len(seen) > SEEN:
        del seen[next(iter(seen))]
    return replace(state, seen=seen), (HandOn(event.message),)


def _time_passed(state: Delivery, now_s: float) -> tuple[Delivery, tuple[Effect, ...]]:
    effects: list[Effect] = []
    if state.owed_due_s is not None and now_s >= state.owed_due_s:
        for job, messages in sorted(state.owed.items()):
            batches = range(0, len(messages), ACKS_AT_ONCE)
            effects += [SendAcknowledgements(job, messages[i : i + ACKS_AT_ONCE]) for i in batches]
        state = replace(state, owed={}, owed_due_s=None)
    late = [(m, p) for m, p in state.pending.items() if now_s >= p.due_s]
    lost = tuple(m for m, p in late if now_s - p.since_s >= GIVE_UP_S)
    for message, pending in late:
        if message in lost:
            effects += [GiveUp(message, pending.job, pending.missing), Forget(message)]
        else:
            effects.append(Publish(pending.job, pending.wire))
    again = {m: _backed_off(p, now_s) for m, p in late if m not in lost}
    counts = replace(state.counts, resent=state.counts.resent + len(again), given_up=state.counts.given_up + len(lost))
    state = replace(state, pending={**state.pending, **again}, counts=counts)
    return _without(state, lost), tuple(effects)


def _backed_off(pending: Pending, now_s: float) -> Pending:
    attempt = pending.attempt + 1
    wait_s = min(FIRST_RESEND_S * 2**attempt, MAX_RESEND_S)
    return replace(pending, attempt=attempt, due_s=now_s + wait_s)


def _without(state: Delivery, messages: tuple[MessageId, ...]) -> Delivery:
    gone = frozenset(messages)
    return replace(state, pending={m: p for m, p in state.pending.items() if m not in gone}) if gone else state
