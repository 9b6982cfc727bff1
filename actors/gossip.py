"""Gossip: signed envelopes over Waku relay, delivered end to end.

Consumes  GossipMail (blocks), Gossip from the network (bounded there, counted)
Emits     JobMail (blocks: what was acknowledged must not be shed), HoldersHeard, AddressesKnown
Restart   permanent, after transport; the outbox and the ids heard are in the Store, memberships come from the wiring

Spec: protocols/README.md, "Messages" and "Delivery".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog
import trio

from actors.letters import Letters
from actors.mail import (
    AddressesKnown,
    CatchUp,
    FollowJob,
    GossipMail,
    HoldersHeard,
    JobMail,
    JoinJob,
    LeaveJob,
    SendToJob,
    SendToLobby,
)
from actors.outbox import Letter, MailRecord, Outbox
from actors.ports import Inbox, NoAnswer, Ports, Record
from actors.ports import Outbox as Channel
from protocols import delivery_event as delivery
from protocols import waku
from protocols.delivery import Delivery
from protocols.ids import JobId, PeerId, PubsubTopic
from protocols.keccak import keccak256
from protocols.message import (
    MAX_SKEW_S,
    NAMES,
    ORDERED,
    PASSING,
    SEALED,
    Acknowledged,
    Body,
    Hello,
    JobAnnounced,
    MessageId,
    Opened,
    ResultSealed,
    Synced,
    decode_body,
)
from protocols.record import encode
from protocols.verdict import Accept, Ignore, Reject, Verdict

log = structlog.get_logger("skynet.actors.gossip")

T = TypeVar("T")

AT_ONCE = 128  # messages of a burst that share one write; more would keep the first waiting
VERDICTS = 256  # remembered for whoever asks
RECALLS, RECALL_RETRY_S = 3, 5.0  # after a disconnect a peer with an archive may be the last to come back


@dataclass(frozen=True, slots=True)
class GossipPlan:
    """Where this network's topics are, and where what arrives goes."""

    cluster: int
    shards: int
    inbox: Inbox[GossipMail]
    to_watcher: Channel[HoldersHeard]
    to_discovery: Channel[AddressesKnown]
    carries_all: bool = False
    """Relay every shard, for others too."""
    joined: dict[JobId, JoinJob] = field(default_factory=dict)
    """Owned by the wiring, so that memberships survive a restart."""
    followed: dict[JobId, frozenset[bytes]] = field(default_factory=dict)
    waiting: dict[MessageId, tuple[JobId, JobMail]] = field(default_factory=dict)
    """Arrived and on disk, not handed on; the wiring's for the same reason."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A member's message, unsealed."""

    opened: Opened
    body: Body
    plain: bytes = field(repr=False)

    @property
    def job(self) -> JobId:
        return JobId(self.opened.envelope.job)


class GossipActor:
    """Translates between envelopes on the wire and mail in the house."""

    def __init__(self, ports: Ports, plan: GossipPlan) -> None:
        self._ports = ports
        self._plan = plan
        self._letters = Letters(ports)
        self._outbox = Outbox(ports)
        self._delivery = Delivery(ports.entropy(32))
        self._joined = plan.joined
        self._arriving = trio.Lock()
        self._changed = trio.Event()
        self._wakes_s: float | None = None
        self._heard_s: float | None = None
        """When a former life last heard a job's message."""
        self.verdicts: deque[delivery.Settle] = deque(maxlen=VERDICTS)
        """On our last messages, the newest at the end."""

    @property
    def counts(self) -> delivery.Counts:
        return replace(self._delivery.counts)

    @property
    def letters(self) -> Letters:
        """For what it knows of peers' clocks."""
        return self._letters

    async def run(self, started: Callable[[], None]) -> None:
        await self._restore()
        topics = {self._lobby_topic(), *(self._job_topic(j) for j in set(self._plan.followed) | set(self._joined))}
        if self._plan.carries_all:
            topics |= {waku.pubsub_topic(self._plan.cluster, shard) for shard in range(self._plan.shards)}
        for topic in sorted(topics):
            await self._ports.network.subscribe(topic, self._validate)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._incoming)
            nursery.start_soon(self._timers)
            started()
            with self._plan.inbox.reader() as inbox:
                async for mail in inbox:
                    await self._take((mail, *_drain(inbox)))

    async def _restore(self) -> None:
        for heard in await self._outbox.read_heard():
            self._delivery.handle(heard)
            self._heard_s = heard.now_s
        for letter in await self._outbox.read_letters():
            self._delivery.handle(letter)
        for message in tuple(self._plan.waiting):
            await self._hand_on(message)

    # -- Mail from the house

    async def _take(self, burst: Sequence[GossipMail]) -> None:
        letters: list[SendToJob] = []
        for mail in burst:
            if isinstance(mail, SendToJob):
                letters.append(mail)
                continue
            await self._send(letters)
            letters = []
            await self._obey(mail)
        await self._send(letters)

    async def _obey(self, mail: SendToLobby | FollowJob | JoinJob | LeaveJob | CatchUp) -> None:
        match mail:
            case SendToLobby(body):
                wire = self._letters.write_open(b"", body, encode(body))
                await self._publish(self._lobby_topic(), NAMES[type(body)], wire)
            case FollowJob(job, members):
                self._plan.followed[job] = members
                await self._ports.network.subscribe(self._job_topic(job), self._validate)
            case JoinJob(job):
                self._joined[job] = mail
                await self._ports.network.subscribe(self._job_topic(job), self._validate)
            case LeaveJob(job):
                self._joined.pop(job, None)
                for message in [m for m, (of, _) in self._plan.waiting.items() if of == job]:
                    del self._plan.waiting[message]
                await self._perform(self._delivery.handle(delivery.JobLeft(job, self._ports.time_s())))
            case CatchUp(since_s):
                since_s = self._heard_s if since_s is None else since_s
                if since_s is not None:
                    self._nursery.start_soon(self._catch_up, since_s)

    async def _send(self, burst: Sequence[SendToJob]) -> None:
        if not burst:
            return
        now_s, effects, letters = self._ports.time_s(), list[delivery.Effect](), list[Letter]()
        for mail in burst:
            letter = self._write(mail)
            if NAMES[type(mail.body)] in SEALED:
                # At once, so that the next of the burst names it; it is published when it is on disk.
                sent = delivery.MessageSent(letter.id, letter.job, letter.wire, letter.recipients, now_s)
                effects += self._delivery.handle(sent)
            else:
                effects.append(delivery.Publish(letter.job, letter.wire))
            letters.append(letter)
        await self._outbox.keep_letters(letters, now_s)
        await self._perform(effects)

    def _write(self, mail: SendToJob) -> Letter:
        after = self._delivery.history(mail.job) if NAMES[type(mail.body)] in SEALED else ()
        letter = self._letters.write_sealed(mail.job, mail.body, encode(mail.body), self._members(mail.job), after)
        return replace(letter, recipients=mail.recipients)

    def _members(self, job: JobId) -> frozenset[bytes]:
        return self._joined[job].members if job in self._joined else frozenset()

    # -- From the network

    def _validate(self, _peer: PeerId, data: bytes) -> Verdict:
        opened = self._letters.check(data)
        return opened if isinstance(opened, Ignore | Reject) else Accept()

    async def _incoming(self) -> None:
        with self._ports.gossip.reader() as gossip:
            async for item in gossip:
                opened = [self._letters.take(each.data) for each in (item, *_drain(gossip))]
                await self._arrive([each for each in opened if isinstance(each, Opened)])

    async def _catch_up(self, since_s: float) -> None:
        """Ask archives for what jobs said while nobody was connected; what was heard before is not handed on."""
        until_s = self._ports.time_s() + MAX_SKEW_S
        for topic in sorted({self._job_topic(job) for job in self._joined}):
            for _ in range(RECALLS):
                found = await self._ports.network.history(topic, since_s - MAX_SKEW_S, until_s)
                if not isinstance(found, NoAnswer):
                    stored = [self._letters.open(data, fresh=False) for data in found]
                    recent = [o for o in stored if isinstance(o, Opened) and o.envelope.sent_s > since_s - MAX_SKEW_S]
                    log.info("caught up", topic=topic, messages=len(recent), gap_s=round(until_s - since_s, 1))
                    await self._arrive(recent)
                    break
                log.info("no archive", topic=topic, reason=found.reason)
                await trio.sleep(RECALL_RETRY_S)

    async def _arrive(self, burst: Sequence[Opened]) -> None:
        async with self._arriving:
            arrivals = []
            for opened in burst:
                envelope = opened.envelope
                if envelope.sender == self._ports.vault.node_key:
                    continue
                if envelope.job and envelope.kind in SEALED:
                    arrivals += self._unseal(opened)
                    continue
                body = decode_body(envelope.kind, envelope.body)
                if not isinstance(body, Reject):
                    await self._hear_open(opened, body)
            await self._keep(arrivals)
            for arrival in arrivals:
                await self._hear_sealed(arrival)
            self._wake()

    async def _hear_open(self, opened: Opened, body: Body) -> None:
        envelope = opened.envelope
        match body:
            case Hello(addresses):
                self._letters.greet(envelope.sender, body, envelope.sent_s)
                await self._plan.to_discovery.send(AddressesKnown(addresses))
            case JobAnnounced(job, holders):
                await self._plan.to_discovery.send(AddressesKnown(holders))
                await self._plan.to_watcher.send(HoldersHeard(job, holders))
            case ResultSealed(job) if job == envelope.job and envelope.sender in self._plan.followed.get(job, ()):
                # One a member: a stranger can neither fill the disk nor hide it.
                await self._ports.store.write(Record("result", job + envelope.sender, opened.wire))
            case _:
                pass

    def _unseal(self, opened: Opened) -> list[_Arrival]:
        envelope = opened.envelope
        joined = self._joined.get(JobId(envelope.job))
        if joined is None or envelope.sender not in joined.members:
            return []
        plain = self._letters.unseal(opened)
        body = Reject("not sealed to the job") if plain is None else decode_body(envelope.kind, plain)
        if isinstance(body, Reject):
            log.info("message dropped", sender=envelope.sender.hex()[:12], reason=body.reason)
            return []
        return [_Arrival(opened, body, plain or b"")]

    async def _keep(self, arrivals: Sequence[_Arrival]) -> None:
        """On disk before the timer may acknowledge it: a kill must not lose what the sender forgets."""
        kept: dict[MessageId, tuple[JobId, MessageId, MailRecord]] = {}
        for arrival in arrivals:
            envelope, identity = arrival.opened.envelope, arrival.opened.id
            if (
                envelope.kind in PASSING
                or self._delivery.has_heard(identity)
                or not self._joined[arrival.job].acknowledge
            ):
                continue
            kept[identity] = arrival.job, identity, MailRecord(envelope.sender, envelope.kind, arrival.plain)
        await self._outbox.keep_mail(tuple(kept.values()), self._ports.time_s())

    async def _hear_sealed(self, arrival: _Arrival) -> None:
        envelope, body, now_s = arrival.opened.envelope, arrival.body, self._ports.time_s()
        joined = self._joined.get(arrival.job)
        if joined is None:  # left while the disk was written
            return
        match body:
            case Acknowledged(messages):
                event: delivery.Event = delivery.AcknowledgementReceived(envelope.sender, messages, now_s)
            case Synced(heads, has, wanted):
                event = delivery.SyncReceived(envelope.sender, arrival.job, heads, has, wanted, now_s)
            case _:
                identity, ordered = arrival.opened.id, envelope.kind in ORDERED
                if not self._delivery.has_heard(identity):
                    self._plan.waiting[identity] = arrival.job, JobMail(envelope.sender, identity, body)
                event = delivery.MessageArrived(
                    identity, arrival.job, envelope.after, ordered, joined.acknowledge, arrival.opened.wire, now_s
                )
        await self._perform(self._delivery.handle(event))

    # -- Delivery

    async def _perform(self, effects: Sequence[delivery.Effect]) -> None:
        settled = [effect.message for effect in effects if isinstance(effect, delivery.Settle)]
        for effect in effects:
            match effect:
                case delivery.Publish(job, wire):
                    await self._publish(self._job_topic(job), "job", wire)
                case delivery.SendAcknowledgements(job, messages):
                    await self._say(job, Acknowledged(messages))
                case delivery.SendSync(job, heads, has, wanted):
                    await self._say(job, Synced(heads, has, wanted))
                case delivery.HandOn(message):
                    await self._hand_on(message)
                case delivery.Settle():
                    self._tell(effect)
        if settled:
            await self._outbox.forget_letters(settled)
        self._wake()

    async def _hand_on(self, message: MessageId) -> None:
        job, mail = self._plan.waiting.get(message, (JobId(b""), None))
        if mail is not None and job in self._joined:  # else the job was left a moment ago
            await self._joined[job].mail.send(mail)
            self._plan.waiting.pop(message, None)

    async def _say(self, job: JobId, body: Acknowledged | Synced) -> None:
        """To the members, about other messages; if it is lost, the next one says it again."""
        joined = self._joined.get(job)
        if joined is not None and joined.acknowledge and self._ports.vault.holds(job):
            letter = self._letters.write_sealed(job, body, encode(body), joined.members)
            await self._publish(self._job_topic(job), NAMES[type(body)], letter.wire, passing=True)

    def _tell(self, verdict: delivery.Settle) -> None:
        self.verdicts.append(verdict)
        reached, of = len(verdict.reached), len(verdict.reached | verdict.missing)
        names = [key.hex()[:12] for key in sorted(verdict.missing)]
        tell = log.warning if names and verdict.job in self._joined else log.debug
        tell(
            f"message delivered to {reached} of {of}",
            job=verdict.job.hex()[:12],
            message=verdict.message.hex()[:12],
            after_s=round(verdict.at_s - verdict.since_s, 3),
            missing=names,
        )

    async def _timers(self) -> None:
        while True:
            self._wakes_s = self._delivery.next_deadline_s()
            changed = self._changed
            wait_s = 3600.0 if self._wakes_s is None else max(self._wakes_s - self._ports.time_s(), 0.0)
            with trio.move_on_after(wait_s):
                await changed.wait()
                continue
            await self._perform(self._delivery.handle(delivery.TimePassed(self._ports.time_s())))

    def _wake(self) -> None:
        """Let the timer see that something is due before what it waits for."""
        due_s = self._delivery.next_deadline_s()
        if due_s is not None and (self._wakes_s is None or due_s < self._wakes_s):
            self._changed.set()
            self._changed = trio.Event()

    # -- Wire

    async def _publish(self, topic: PubsubTopic, kind: str, wire: bytes, *, passing: bool = False) -> None:
        # A resent message carries a new timestamp, or the relays' seen-cache would swallow it.
        stamp_ns = int(self._ports.time_s() * 1e9)
        message = waku.WakuMessage(wire, waku.content_topic(kind), timestamp_ns=stamp_ns, ephemeral=passing)
        await self._ports.network.publish(topic, waku.encode_message(message))

    def _lobby_topic(self) -> PubsubTopic:
        shard = waku.autoshard(waku.content_topic("hello"), self._plan.shards)
        assert isinstance(shard, int)  # our own content topic is well formed
        return waku.pubsub_topic(self._plan.cluster, shard)

    def _job_topic(self, job: JobId) -> PubsubTopic:
        return waku.pubsub_topic(self._plan.cluster, waku.job_shard(keccak256(job), self._plan.shards))


def _drain(inbox: trio.MemoryReceiveChannel[T]) -> list[T]:
    """What lies there already."""
    found: list[T] = []
    while len(found) < AT_ONCE - 1:
        try:
            found.append(inbox.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    return found
