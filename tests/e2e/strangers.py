"""Strangers who throw bad bytes at a node: random ones, and good frames with a few bytes changed, cut or repeated.

On every protocol that a node serves, by libp2p hosts of their own; whoever is thrown out comes back as another.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.adapters.libp2p import LibP2PConfig
from node.adapters.libp2p.host import build_host, run_host
from node.adapters.libp2p.metadata import answer_metadata
from node.adapters.libp2p.streams import LENGTH
from protocols import exchange
from protocols.ids import ContentId, JobId, PubsubTopic, RoundNumber
from protocols.message import Envelope, Hello, JobAnnounced, encode_envelope
from protocols.record import encode
from protocols.waku import METADATA, RELAY, Metadata, WakuMessage, content_topic, encode_message, encode_metadata
from protocols.waku_filter import FILTER_SUBSCRIBE
from protocols.waku_lightpush import LIGHTPUSH, LIGHTPUSH_V2
from protocols.waku_rpc import IHave, Prune, Publication, Rpc, Subscription, encode_rpc
from protocols.waku_store import STORE
from protocols.waku_wire import bytes_field, encode_varint

COUNT = 200
CLUSTER = LibP2PConfig().cluster
SOCKET, IDENTIFY, PING = "socket", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"
GOSSIP = "messages on the relay"
SERVICES = (LIGHTPUSH, LIGHTPUSH_V2, FILTER_SUBSCRIBE, STORE)
PROTOCOLS = (SOCKET, RELAY, GOSSIP, METADATA, exchange.PROTOCOL, *SERVICES, IDENTIFY, PING)


async def throw_garbage(address: str, topics: Sequence[PubsubTopic], job: JobId, now_s: float) -> Counter[str]:
    """Throw COUNT byte strings at each protocol of a node, all at once; return how many it took of each."""
    thrown: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_throw_at_socket, address, thrown)
        for protocol in PROTOCOLS[1:]:
            frames = list(_bad_frames(protocol, topics, job, now_s))
            nursery.start_soon(_throw_at_protocol, address, protocol, frames, thrown)
    return thrown


# -- What is thrown --------------------------------------------------------------


def _bad_frames(protocol: str, topics: Sequence[PubsubTopic], job: JobId, now_s: float) -> Sequence[bytes]:
    chance = random.Random(protocol)
    wrap: Callable[[bytes], bytes] = lambda frame: frame  # noqa: E731
    match protocol:
        case exchange.PROTOCOL:  # framed well, so that what is inside gets to its reader
            good = [exchange.encode_request(request) for request in _requests(job)]
            wrap = _with_length
        case _ if protocol == RELAY:
            good = [_prefixed(encode_rpc(_rpc(topics[0])))]
        case _ if protocol == GOSSIP:
            good = [encode_message(message) for message in _messages(job, now_s)]
            wrap = lambda data: _prefixed(  # noqa: E731
                encode_rpc(Rpc(publications=(Publication(chance.choice(topics), data),)))
            )
        case _ if protocol in SERVICES:  # each is a request in protobuf: a name, a topic, a message
            message = encode_message(_messages(job, now_s)[0])
            fields = enumerate((b"name", topics[0].encode(), message), 1)
            request = b"".join(bytes_field(number, value) for number, value in fields)
            good, wrap = [request], _prefixed
        case _ if protocol == METADATA:
            good = [_prefixed(encode_metadata(Metadata(CLUSTER, (0, 1))))]
        case _:
            good = [b"\x20" + bytes(32)]
    half = COUNT // 2
    frames = [chance.randbytes(chance.randrange(1, 300)) for _ in range(half)]
    frames += [_mutated(chance, chance.choice(good)) for _ in range(half)]
    return [wrap(frame) for frame in frames]


def _mutated(chance: random.Random, good: bytes) -> bytes:
    bad = bytearray(good)
    for _ in range(chance.randrange(1, 4)):
        bad[chance.randrange(len(bad))] = chance.randrange(256)
    return bytes(bad[: chance.randrange(1, len(bad) + 1)] * chance.randrange(1, 3))


def _requests(job: JobId) -> Sequence[exchange.Request]:
    content = ContentId(b"c" * 32)
    return (
        exchange.Get((content, content)),
        exchange.GetPart(content, 7),
        exchange.Put((b"blob",)),
        exchange.GetSealed(job, content),
        exchange.GetSet(job, RoundNumber(0)),
        exchange.GetResult(job),
        exchange.GetPeers(3),
    )


def _rpc(topic: PubsubTopic) -> Rpc:
    return Rpc(
        subscriptions=(Subscription(topic, True),),
        publications=(Publication(topic, b"data" * 20),),
        ihave=(IHave(topic, (bytes(32), b"x" * 32)),),
        iwant=(bytes(32),),
        graft=(topic,),
        prune=(Prune(topic, 1),),
    )


def _messages(job: JobId, now_s: float) -> Sequence[WakuMessage]:
    """Envelopes that are well formed but for the signature: in the lobby, and a seat's vote."""
    bodies = (
        ("hello", b"", encode(Hello(("/ip4/127.0.0.1/tcp/1",), (1, 1), True))),
        ("job", b"", encode(JobAnnounced(job, ("/ip4/127.0.0.1/tcp/1",)))),
        ("vote", job, bytes(300)),
    )
    envelopes = (Envelope(1, kind, b"s" * 32, of, 1, int(now_s), body) for kind, of, body in bodies)
    return tuple(WakuMessage(encode_envelope(e, lambda _: bytes(64)), content_topic(e.kind)) for e in envelopes)


def _prefixed(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _with_length(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


# -- Throwing --------------------------------------------------------------------


async def _throw_at_socket(address: str, thrown: Counter[str]) -> None:
    """Instead of the handshake, each on a connection of its own."""
    _, _, host, _, port, *_ = address.split("/")
    chance = random.Random(SOCKET)
    for number in range(2 * COUNT):  # a busy node may refuse some
        if thrown[SOCKET] == COUNT:
            return
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(2):
            stream = await trio.open_tcp_stream(host, int(port))
            try:
                hello = b"\x13/multistream/1.0.0\n\x07/noise\n" if number % 2 else b""
                await stream.send_all(hello + chance.randbytes(chance.randrange(1, 400)))
                thrown[SOCKET] += 1
            finally:
                await trio.aclose_forcefully(stream)


async def _throw_at_protocol(address: str, protocol: str, frames: Sequence[bytes], thrown: Counter[str]) -> None:
    wire = RELAY if protocol == GOSSIP else protocol
    left = list(frames)
    for _ in range(COUNT):  # strangers
        if not left:
            return
        async with _stranger(address) as open_stream:
            with suppress(Exception):  # thrown out, or libp2p's own way of saying so
                while left:
                    with trio.move_on_after(5):
                        stream = await open_stream(wire)
                        await stream.write(left[-1])
                        left.pop()
                        thrown[protocol] += 1
                        await stream.close()


@asynccontextmanager
async def _stranger(address: str) -> AsyncIterator[Any]:
    """A host of the right manners (Noise, yamux, our cluster) that is connected to the node."""
    target = ID.from_base58(address.rpartition("/p2p/")[2])
    host = build_host(LibP2PConfig(), random.randbytes(32))

    async def say_metadata(stream: Any) -> None:
        await answer_metadata(stream, Metadata(CLUSTER, ()))

    host.set_stream_handler(METADATA, say_metadata)
    stop = trio.Event()

    async def open_stream(protocol: str) -> Any:
        return await host.new_stream(target, [protocol])

    async with trio.open_nursery() as nursery:
        await nursery.start(run_host, host, [Multiaddr("/ip4/127.0.0.1/tcp/0")], stop)
        with suppress(Exception), trio.move_on_after(10):
            await host.get_network().dial_addr(Multiaddr(address.rpartition("/p2p/")[0]), target)
        try:
            yield open_stream
        finally:
            stop.set()
