"""Envelopes of one node: ours are sealed and signed here, a stranger's are opened once.

The relay's check and gossip's reading of the same bytes share one opening: a signature is checked once.

Spec: protocols/README.md, "Messages" and "Clocks".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from actors.outbox import Letter
from actors.ports import Ports
from protocols import clock, waku
from protocols.ids import JobId
from protocols.message import (
    NAMES,
    PASSING,
    SEALED,
    VERSIONS,
    Body,
    Envelope,
    Hello,
    MessageId,
    Opened,
    encode_envelope,
    message_id,
    open_envelope,
    seal_context,
)
from protocols.verdict import Ignore, Reject
from protocols.version import Range, common_version, is_range

log = structlog.get_logger("skynet.actors.letters")

OPENED = 8192  # envelopes between the relay's check and gossip; as many as wait in the lane
PEERS = 1024  # whose versions are remembered; the one heard of longest ago is forgotten first


class Letters:
    def __init__(self, ports: Ports) -> None:
        self.clocks = clock.Clocks()
        self._ports = ports
        self._sequence = 0
        self._opened: dict[bytes, Opened] = {}
        self._versions: dict[bytes, Range] = {}

    # -- Opening

    def check(self, data: bytes) -> Opened | Ignore | Reject:
        """Open what the relay asks about; `take` finds it again."""
        opened = self.open(data)
        if isinstance(opened, Opened):
            self._opened[data] = opened
            if len(self._opened) > OPENED:
                del self._opened[next(iter(self._opened))]
        return opened

    def take(self, data: bytes) -> Opened | Ignore | Reject:
        return self._opened.pop(data, None) or self.open(data)

    def open(self, data: bytes, *, fresh: bool = True) -> Opened | Ignore | Reject:
        message = waku.decode_message(data)
        if isinstance(message, Reject):
            return message
        now_s, verify = self._ports.time_s(), self._ports.vault.verify
        opened = open_envelope(message.payload, now_s=now_s, verify=verify, fresh=fresh)
        if isinstance(opened, Ignore) and fresh and message.content_topic == waku.content_topic("hello"):
            self._note_stale(open_envelope(message.payload, now_s=now_s, verify=verify, fresh=False))
        return opened

    def unseal(self, opened: Opened) -> bytes | None:
        """Return the body's record; None if it was not sealed to the job, or we don't hold its key."""
        envelope = opened.envelope
        return self._ports.vault.open(JobId(envelope.job), envelope.body, context=seal_context(envelope))

    # -- What greetings say

    def greet(self, sender: bytes, hello: Hello, sent_s: int) -> None:
        """Note a peer's versions and clock; name what will not work."""
        if is_range(hello.versions):
            is_news = self._versions.pop(sender, None) != hello.versions
            self._versions[sender] = hello.versions
            if is_news and common_version((VERSIONS, hello.versions)) is None:
                ours, theirs = _text(VERSIONS), _text(hello.versions)
                older = "this node" if hello.versions[0] > VERSIONS[1] else "the peer"
                log.warning("no common version", peer=sender.hex()[:12], speaks=theirs, ours=ours, update=older)
        if len(self._versions) > PEERS:
            del self._versions[next(iter(self._versions))]
        self._note_clock(sender, sent_s)

    def _note_stale(self, opened: Opened | Ignore | Reject) -> None:
        """A greeting from another time is let in nowhere, but its sender should hear of it."""
        if isinstance(opened, Opened) and opened.envelope.kind == "hello":
            self._note_clock(opened.envelope.sender, opened.envelope.sent_s)

    def _note_clock(self, sender: bytes, sent_s: int) -> None:
        if sender == self._ports.vault.node_key:
            return
        greeted = clock.Greeted(sender, sent_s + 0.5, self._ports.time_s())  # whole seconds, cut off
        self.clocks, effects = clock.step(self.clocks, greeted)
        for effect in effects:
            match effect:
                case clock.NamePeerSkew(peer, ahead_s):
                    log.warning("a peer's clock is wrong", peer=peer.hex()[:12], ahead_s=round(ahead_s, 1))
                case clock.NameOwnSkew(ahead_s, peers):
                    log.warning("this node's clock is wrong: set it", ahead_s=round(ahead_s, 1), peers=peers)

    # -- Writing

    def write_open(self, job: bytes, body: Body, content: bytes) -> bytes:
        """Return the wire of a message that everybody may read; in the oldest version, which all know."""
        version = VERSIONS[0] if isinstance(body, Hello) else VERSIONS[1]
        return encode_envelope(self._head(version, job, body, content, ()), self._ports.vault.sign)

    def write_sealed(
        self, job: JobId, body: Body, content: bytes, members: Iterable[bytes], after: tuple[MessageId, ...] = ()
    ) -> Letter:
        """Return a message to the job's members, in the newest version that all of them know."""
        ranges = (self._versions.get(member, VERSIONS) for member in members)
        version = common_version((VERSIONS, *ranges)) or VERSIONS[1]
        envelope = self._head(version, job, body, b"", () if NAMES[type(body)] in PASSING else after)
        sealed = content
        if envelope.kind in SEALED:
            sealed = self._ports.vault.seal(job, content, context=seal_context(envelope))
        envelope = replace(envelope, body=sealed)
        wire = encode_envelope(envelope, self._ports.vault.sign)
        return Letter(message_id(envelope), job, wire, frozenset())

    def _head(self, version: int, job: bytes, body: Body, content: bytes, after: tuple[MessageId, ...]) -> Envelope:
        now_s = self._ports.time_s()
        # Microseconds: ahead of every number used before a restart, without writing each one down.
        self._sequence = max(self._sequence + 1, int(now_s * 1e6))
        node_key = self._ports.vault.node_key
        return Envelope(version, NAMES[type(body)], node_key, job, self._sequence, int(now_s), content, after)


def _text(said: Range) -> str:
    return f"{said[0]} to {said[1]}"
