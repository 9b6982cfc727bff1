"""Gossip: signed envelopes over Waku relay, delivered end to end.

Consumes  GossipMail (blocks), Gossip from the network (bounded there, counted)
Emits     JobMail (blocks: what was acknowledged must not be shed), HoldersHeard, AddressesKnown
Restart   permanent, after transport; the outbox is in the Store, memberships are told again by the wiring

Spec: protocols/README.md, "Messages" and "Delivery".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
import trio

from actors.mail import (
    AddressesKnown,
    FollowJob,
    GossipMail,
    HoldersHeard,
    JobMail,
    JoinJob,
    LeaveJob,
    SendToJob,
    SendToLobby,
)
from actors.ports import Gossip, Inbox, Outbox, Ports, Record
from protocols import delivery, waku
from protocols.ids import JobId, PeerId, PubsubTopic
from protocols.keccak import keccak256
from protocols.message import (
    NAMES,
    SEALED,
    VERSION,
    Acknowledged,
    Body,
    Envelope,
    Hello,
    JobAnnounced,
    MessageId,
    ResultSealed,
    decode_body,
    encode_envelope,
    message_id,
    open_envelope,
    seal_context,
)
from protocols.record import decode, encode
from protocols.verdict import Accept, Ignore, Reject, Verdict

log = structlog.get_logger("skynet.actors.gossip")


@dataclass(frozen=True, slots=True)
class GossipPlan:
    """Where this network's topics are, and where what arrives goes."""

    cluster: int
    shards: int
    inbox: Inbox[GossipMail]
    to_watcher: Outbox[HoldersHeard]
    to_discovery: Outbox[AddressesKnown]
    joined: dict[JobId, JoinJob] = field(default_factory=dict)
    """Owned by the wiring, so that memberships survive a restart."""
    followed: dict[JobId, frozenset[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """Kind `outbox`, key message id."""

    job: JobId
    wire: bytes
    missing: tuple[bytes, ...]


class GossipActor:
    """Translates between envelopes on the wire and mail in the house."""

    def __init__(self, ports: Ports, plan: GossipPlan) -> None:
        self._ports = ports
        self._plan = plan
        self._delivery = delivery.Delivery()
        self._joined = plan.joined
        self._sequence = 0
        self._changed = trio.Event()

    @property
    def counts(self) -> delivery.Counts:
        return self._delivery.counts

    async def run(self, started: Callable[[], None]) -> None:
        await self._restore()
        topics = {self._lobby_topic(), *(self._job_topic(j) for j in set(self._plan.followed) | set(self._joined))}
        for topic in sorted(topics):
            await self._ports.network.subscribe(topic, self._validate)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._incoming)
            nursery.start_soon(self._timers)
            started()
            with self._plan.inbox.reader() as inbox:
                async for mail in inbox:
                    await self._take(mail)

    # -- Mail from the house

    async def _take(self, mail: GossipMail) -> None:
        match mail:
            case SendToLobby(body):
                await self._publish(self._lobby_topic(), NAMES[type(body)], self._envelope(b"", body))
            case SendToJob():
                await self._send(mail)
            case FollowJob(job, members):
                self._plan.followed[job] = members
                await self._ports.network.subscribe(self._job_topic(job), self._validate)
            case JoinJob(job):
                self._joined[job] = mail
                await self._ports.network.subscribe(self._job_topic(job), self._validate)
            case LeaveJob(job):
                self._joined.pop(job, None)
                await self._step(delivery.JobLeft(job))

    async def _send(self, mail: SendToJob) -> None:
        envelope, wire = self._sealed(mail.job, mail.body)
        identity = message_id(envelope)
        if mail.recipients:
            kept = OutboxRecord(mail.job, wire, tuple(sorted(mail.recipients)))
            await self._ports.store.write(Record("outbox", identity, encode(kept)))
        await self._step(delivery.MessageSent(identity, mail.job, wire, mail.recipients, self._ports.time_s()))

    async def _restore(self) -> None:
        now_s = self._ports.time_s()
        for key, value in await self._ports.store.scan("outbox"):
            kept = decode(OutboxRecord, value, limit_bytes=1 << 20)
            if isinstance(kept, Reject):
                raise ValueError(f"outbox record {key.hex()} is broken: {kept.reason}")
            event = delivery.MessageSent(MessageId(key), kept.job, kept.wire, frozenset(kept.missing), now_s)
            self._delivery, _ = delivery.step(self._delivery, event)  # the timer publishes it

    # -- From the network

    def _validate(self, _peer: PeerId, data: bytes) -> Verdict:
        opened = self._open(data)
        return opened if isinstance(opened, Ignore | Reject) else Accept()

    def _open(self, data: bytes) -> Envelope | Ignore | Reject:
        message = waku.decode_message(data)
        if isinstance(message, Reject):
            return message
        return open_envelope(message.payload, now_s=self._ports.time_s(), verify=self._ports.vault.verify)

    async def _incoming(self) -> None:
        with self._ports.gossip.reader() as gossip:
            async for item in gossip:
                await self._arrive(item)

    async def _arrive(self, item: Gossip) -> None:
        envelope = self._open(item.data)
        if isinstance(envelope, Ignore | Reject) or envelope.sender == self._ports.vault.node_key:
            return
        if not envelope.job or envelope.kind not in SEALED:
            body = decode_body(envelope.kind, envelope.body)
            if not isinstance(body, Reject):
                await self._hear_open(envelope, body, item)
            return
        await self._hear_sealed(envelope)

    async def _hear_open(self, envelope: Envelope, body: Body, item: Gossip) -> None:
        match body:
            case Hello(addresses):
                await self._plan.to_discovery.send(AddressesKnown(addresses))
            case JobAnnounced(job, holders):
                await self._plan.to_discovery.send(AddressesKnown(holders))
                await self._plan.to_watcher.send(HoldersHeard(job, holders))
            case ResultSealed(job) if job == envelope.job and envelope.sender in self._plan.followed.get(job, ()):
                message = waku.decode_message(item.data)
                if not isinstance(message, Reject):  # one a member: a stranger can neither fill the disk nor hide it
                    await self._ports.store.write(Record("result", job + envelope.sender, message.payload))
            case _:
                pass

    async def _hear_sealed(self, envelope: Envelope) -> None:
        job = JobId(envelope.job)
        joined = self._joined.get(job)
        if joined is None or envelope.sender not in joined.members:
            return
        plain = self._ports.vault.open(job, envelope.body, context=seal_context(envelope))
        body = Reject("not sealed to the job") if plain is None else decode_body(envelope.kind, plain)
        if isinstance(body, Reject):
            log.info("message dropped", sender=envelope.sender.hex()[:12], reason=body.reason)
            return
        if isinstance(body, Acknowledged):
            await self._step(delivery.AcknowledgementReceived(envelope.sender, body.messages))
            return
        identity = message_id(envelope)
        if joined.acknowledge and identity not in self._delivery.seen:
            # On disk before the timer may acknowledge it: a kill must not lose what the sender forgets.
            kept = encode(MailRecord(envelope.sender, envelope.kind, plain or b""))
            await self._ports.store.write(Record("mail", job + identity, kept))
        arrived = delivery.MessageArrived(identity, job, joined.acknowledge, self._ports.time_s())
        self._delivery, effects = delivery.step(self._delivery, arrived)
        if effects:
            await joined.mail.send(JobMail(envelope.sender, identity, body))
        self._wake()

    # -- Delivery

    async def _step(self, event: delivery.Event) -> None:
        self._delivery, effects = delivery.step(self._delivery, event)
        for effect in effects:
            await self._perform(effect)
        self._wake()

    async def _perform(self, effect: delivery.Effect) -> None:
        match effect:
            case delivery.Publish(job, wire):
                await self._publish(self._job_topic(job), "job", wire)
            case delivery.SendAcknowledgements(job, messages):
                if self._ports.vault.holds(job):
                    _, wire = self._sealed(job, Acknowledged(messages))
                    await self._publish(self._job_topic(job), "ack", wire)
            case delivery.Forget(message):
                await self._ports.store.write(Record("outbox", message, None))
            case delivery.GiveUp(message, job, missing):
                names = [key.hex()[:12] for key in sorted(missing)]
                log.warning("message given up", job=job.hex()[:12], message=message.hex()[:12], missing=names)
            case delivery.HandOn():
                pass

    async def _timers(self) -> None:
        while True:
            deadline_s = delivery.next_deadline_s(self._delivery)
            changed = self._changed
            wait_s = 3600.0 if deadline_s is None else max(deadline_s - self._ports.time_s(), 0.0)
            with trio.move_on_after(wait_s):
                await changed.wait()
                continue
            await self._step(delivery.TimePassed(self._ports.time_s()))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- Wire

    def _envelope(self, job: bytes, body: Body) -> bytes:
        return encode_envelope(self._head(job, body, encode(body)), self._ports.vault.sign)

    def _sealed(self, job: JobId, body: Body) -> tuple[Envelope, bytes]:
        envelope = self._head(job, body, b"")
        plain = encode(body)
        if envelope.kind in SEALED:
            plain = self._ports.vault.seal(job, plain, context=seal_context(envelope))
        envelope = replace(envelope, body=plain)
        return envelope, encode_envelope(envelope, self._ports.vault.sign)

    def _head(self, job: bytes, body: Body, content: bytes) -> Envelope:
        now_s = self._ports.time_s()
        # Microseconds: ahead of every number used before a restart, without writing each one down.
        self._sequence = max(self._sequence + 1, int(now_s * 1e6))
        node_key = self._ports.vault.node_key
        return Envelope(VERSION, NAMES[type(body)], node_key, job, self._sequence, int(now_s), content)

    async def _publish(self, topic: PubsubTopic, kind: str, wire: bytes) -> None:
        # A resent message carries a new timestamp, or the relays' seen-cache would swallow it.
        stamp_ns = int(self._ports.time_s() * 1e9)
        message = waku.WakuMessage(wire, waku.content_topic(kind), timestamp_ns=stamp_ns)
        await self._ports.network.publish(topic, waku.encode_message(message))

    def _lobby_topic(self) -> PubsubTopic:
        shard = waku.autoshard(waku.content_topic("hello"), self._plan.shards)
        assert isinstance(shard, int)  # our own content topic is well formed
        return waku.pubsub_topic(self._plan.cluster, shard)

    def _job_topic(self, job: JobId) -> PubsubTopic:
        return waku.pubsub_topic(self._plan.cluster, waku.job_shard(keccak256(job), self._plan.shards))


@dataclass(frozen=True, slots=True)
class MailRecord:
    """Kind `mail`, key job ‖ message id: a message acknowledged but perhaps not acted on yet."""

    sender: bytes
    kind: str
    body: bytes = field(repr=False)
