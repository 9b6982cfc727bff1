"""Fetching from peers and answering them: the exchange protocol over the `Network` and `Store` ports.

Not an actor of its own: discovery serves it, and whoever needs content calls `fetch_*`. Every byte is
checked against its name before it is kept. Spec: protocols/README.md, "Exchange".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import structlog

from actors.mail import round_key
from actors.ports import NoAnswer, Ports, Record
from protocols import exchange as rules
from protocols.chain import Entry
from protocols.ids import ContentId, JobId, PeerId, RoundNumber
from protocols.record import decode, encode
from protocols.verdict import Reject

T = TypeVar("T")

log = structlog.get_logger("skynet.actors.exchange")

REQUEST_S = 20.0  # a 32 MB reply at 2 MB/s
PUT_QUOTA_BYTES = 512 * 1024 * 1024  # by peer and process: a stranger can't fill the disk
MAX_FETCH_BYTES = 1024 * 1024 * 1024  # of one blob
MAX_PEERS_ANSWERED = 64


class Exchange:
    """Both ends of the exchange protocol for one node."""

    def __init__(self, ports: Ports, *, accept_puts: bool) -> None:
        self._ports = ports
        self._accept_puts = accept_puts
        self._put_bytes: dict[PeerId, int] = {}
        self.known_addresses: tuple[str, ...] = ()
        """Kept current by discovery."""

    def serve(self) -> None:
        self._ports.network.respond(rules.PROTOCOL, self._answer, limit_bytes=rules.MAX_REQUEST_BYTES)

    # -- Answering

    async def _answer(self, peer: PeerId, data: bytes) -> bytes | None:
        request = rules.decode_request(data)
        match request:
            case Reject(reason):
                log.info("bad request", peer=peer, reason=reason)
                return None
            case rules.Get(contents):
                return encode(await self._blobs(contents))
            case rules.GetPart(content, offset):
                return encode(await self._part(content, offset))
            case rules.Put(blobs):
                return encode(await self._keep(peer, blobs))
            case rules.GetSealed(job, content):
                owned = await self._ports.store.read("owned", job + content) is not None
                blob_ = await self._ports.store.blob(content) if owned else None
                return encode(self._seal(job, content, blob_))
            case rules.GetSet(job, number):
                entries = await self._ports.store.read("set", round_key(job, number))
                return encode(self._seal(job, rules.set_name(number), entries))
            case rules.GetResult(job):
                found = await self._ports.store.scan("result", job)
                return encode(rules.Results(tuple(value for _, value in found)))
            case rules.GetPeers(limit):
                return encode(rules.Addresses(self.known_addresses[: min(max(limit, 0), MAX_PEERS_ANSWERED)]))

    async def _blobs(self, contents: tuple[ContentId, ...]) -> rules.Blobs:
        blobs: list[bytes | None] = []
        room = rules.MAX_REPLY_BYTES - 64 * 1024
        for content in contents:
            public = await self._ports.store.is_public(content)
            blob = await self._ports.store.blob(content) if public else None
            room -= len(blob or b"") + 16
            if room < 0:
                break
            blobs.append(blob)
        return rules.Blobs(tuple(blobs))

    async def _part(self, content: ContentId, offset: int) -> rules.Part:
        blob = await self._ports.store.blob(content) if await self._ports.store.is_public(content) else None
        if blob is None:
            return rules.Part(0, b"")
        return rules.Part(len(blob), blob[offset : offset + rules.PART_BYTES])

    async def _keep(self, peer: PeerId, blobs: tuple[bytes, ...]) -> rules.Kept:
        if not self._accept_puts:
            return rules.Kept("this node hosts no jobs: set work.hosted = true, or submit to another peer")
        size = sum(map(len, blobs))
        used = self._put_bytes.get(peer, 0) + size
        if size > rules.MAX_PUT_BYTES or used > PUT_QUOTA_BYTES:
            return rules.Kept(f"over this peer's quota of {PUT_QUOTA_BYTES} bytes")
        self._put_bytes[peer] = used
        for blob in blobs:
            await self._ports.store.put_blob(blob, public=True, durable=False)
        return rules.Kept("")

    def _seal(self, job: JobId, name: bytes, data: bytes | None) -> rules.Sealed:
        if data is None or not self._ports.vault.holds(job):
            return rules.Sealed(b"")
        return rules.Sealed(self._ports.vault.seal(job, data, context=rules.sealed_context(job, name)))

    # -- Fetching

    async def fetch_blobs(self, contents: Iterable[ContentId], peers: Iterable[PeerId]) -> tuple[ContentId, ...]:
        """Bring public blobs into the Store from whoever has them; return those that nobody had."""
        missing = [c for c in dict.fromkeys(contents) if not await self._ports.store.has_blob(c)]
        for peer in peers:
            if not missing:
                break
            missing = await self._fetch_from(peer, missing)
        return tuple(missing)

    async def _fetch_from(self, peer: PeerId, wanted: list[ContentId]) -> list[ContentId]:
        lacking: list[ContentId] = []
        while wanted:
            batch = wanted[: rules.MAX_GET]
            reply = await self._ask(peer, rules.Get(tuple(batch)), rules.Blobs)
            if reply is None or len(reply.blobs) > len(batch):
                return lacking + wanted
            if not reply.blobs:  # the first alone is larger than a reply
                whole = await self._fetch_parts(peer, batch[0])
                reply = rules.Blobs((whole,))
            for content, blob in zip(batch, reply.blobs, strict=False):
                kept = blob is not None and await self._keep_if(content, blob)
                if not kept:
                    lacking.append(content)
            wanted = wanted[len(reply.blobs) :]
        return lacking

    async def _fetch_parts(self, peer: PeerId, content: ContentId) -> bytes | None:
        data = b""
        while True:
            part = await self._ask(peer, rules.GetPart(content, len(data)), rules.Part)
            if part is None or not part.data or part.total_bytes > MAX_FETCH_BYTES:
                return None
            data += part.data
            if len(data) >= part.total_bytes:
                return data

    async def _keep_if(self, content: ContentId, blob: bytes) -> bool:
        kept = await self._ports.store.put_blob(blob, public=True, durable=False)
        if kept != content:
            log.warning("a peer sent bytes that don't hash to their name", content=content.hex()[:12])
        return kept == content

    async def fetch_owned(self, job: JobId, content: ContentId, peers: Iterable[PeerId]) -> bool:
        """Bring a job's private blob (a state, an update) here; False if nobody had it."""
        if await self._ports.store.has_blob(content):
            await self.own(job, content)
            return True
        for peer in peers:
            data = await self._open_sealed(peer, job, rules.GetSealed(job, content), content)
            if data is not None and await self._ports.store.put_blob(data, public=False) == content:
                await self.own(job, content)
                return True
        return False

    async def own(self, job: JobId, *contents: ContentId) -> None:
        """Note that these blobs belong to a job: its members may ask for them."""
        await self._ports.store.write(*(Record("owned", job + c, b"") for c in contents))

    async def fetch_set(self, job: JobId, number: RoundNumber, peers: Iterable[PeerId]) -> list[tuple[Entry, ...]]:
        """Return the sets that peers hold for a round, unchecked: the caller compares roots."""
        found = []
        for peer in peers:
            data = await self._open_sealed(peer, job, rules.GetSet(job, number), rules.set_name(number))
            held = None if data is None else decode(rules.CertifiedSet, data, limit_bytes=1 << 20)
            if isinstance(held, rules.CertifiedSet):
                found.append(held.entries)
        return found

    async def _open_sealed(self, peer: PeerId, job: JobId, request: rules.Request, name: bytes) -> bytes | None:
        reply = await self._ask(peer, request, rules.Sealed)
        if reply is None or not reply.data:
            return None
        return self._ports.vault.open(job, reply.data, context=rules.sealed_context(job, name))

    async def put(self, peer: PeerId, blobs: Iterable[bytes]) -> str:
        """Give a peer public blobs, many a request; return why it refused, or the empty string."""
        for batch in _batches(blobs):
            reply = await self._ask(peer, rules.Put(batch), rules.Kept)
            if reply is None or reply.refused:
                return "no answer" if reply is None else reply.refused
        return ""

    async def ask_results(self, peer: PeerId, job: JobId) -> tuple[bytes, ...]:
        reply = await self._ask(peer, rules.GetResult(job), rules.Results)
        return reply.envelopes if reply else ()

    async def ask_peers(self, peer: PeerId) -> tuple[str, ...]:
        reply = await self._ask(peer, rules.GetPeers(MAX_PEERS_ANSWERED), rules.Addresses)
        return reply.addresses if reply else ()

    async def _ask(self, peer: PeerId, request: rules.Request, kind: type[T]) -> T | None:
        answer = await self._ports.network.request(
            peer,
            rules.PROTOCOL,
            rules.encode_request(request),
            limit_bytes=rules.MAX_REPLY_BYTES,
            timeout_s=REQUEST_S,
        )
        if isinstance(answer, NoAnswer):
            log.debug("no answer", peer=peer, reason=answer.reason)
            return None
        reply = decode(kind, answer, limit_bytes=rules.MAX_REPLY_BYTES)
        return None if isinstance(reply, Reject) else reply


def _batches(blobs: Iterable[bytes]) -> Iterable[tuple[bytes, ...]]:
    """Cut into requests that a peer takes: by bytes, and by number."""
    batch: list[bytes] = []
    size = 0
    for blob in blobs:
        if batch and (size + len(blob) > rules.MAX_PUT_BYTES or len(batch) == rules.MAX_GET):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(blob)
        size += len(blob)
    if batch:
        yield tuple(batch)
