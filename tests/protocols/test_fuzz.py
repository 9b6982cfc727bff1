"""Every decoder of strangers' bytes, fuzzed: noise, and good messages damaged, half of them below a valid signature.

SKYNET_FUZZ is the number of inputs: 2,000 by default, 20,000 in CI, 1,000,000 by `make test-long`. The inputs follow
from the seed, which SKYNET_FUZZ_SEED changes; a failure names its seed and its bytes.
"""

from __future__ import annotations

import hashlib
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocols import enr, exchange, message, record, waku, waku_filter, waku_lightpush, waku_peers, waku_store
from protocols.bloom import build_filter, may_contain
from protocols.delivery import Delivery
from protocols.delivery_event import AcknowledgementReceived, MessageArrived, SyncReceived, TimePassed
from protocols.ids import ContentId, ContentTopic, JobId, PeerId, PubsubTopic, RoundNumber
from protocols.message import KINDS, NAMES, SEALED, Acknowledged, Envelope, MessageId, Opened, Synced
from protocols.verdict import Accept, Ignore, Reject
from protocols.waku_event import Judge, Judged, PeerAdded, RpcReceived, SendingOpened
from protocols.waku_relay import Joined, Relay
from protocols.waku_rpc import IHave, Prune, Publication, Rpc, Subscription, decode_rpc, encode_rpc

DEFAULTS = {"dev": 2_000, "ci": 20_000, "long": 1_000_000}
INPUTS = int(os.environ.get("SKYNET_FUZZ") or DEFAULTS[os.environ.get("SKYNET_PROFILE", "dev")])
SEED = int(os.environ.get("SKYNET_FUZZ_SEED", "1"))
JOB, NOW_S = JobId(b"j" * 32), 1_700_000_000.0
TOPIC = PubsubTopic("/waku/2/rs/1717/0")
KEY = b"k" * 32


def sign(data: bytes) -> bytes:
    return hashlib.sha512(KEY + data).digest()


def verify(_key: bytes, data: bytes, signature: bytes) -> bool:
    return sign(data) == signature


# -- Inputs ----------------------------------------------------------------------


LENGTHS = (b"\xff" * 5, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", bytes(5))
"""Of arrays and strings of four gigabytes, and of nothing."""


def damage(chance: random.Random, data: bytes) -> bytes:
    """Change, cut, repeat, insert or exchange a few bytes."""
    bad = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(bad) + 1)
        match chance.randrange(5):
            case 0 if at < len(bad):
                bad[at] = chance.randrange(256)
            case 1:
                del bad[at : at + chance.randrange(1, 9)]
            case 2:
                bad[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                bad[at:at] = bad[at : at + chance.randrange(1, 40)]
            case _:
                bad[at : at + 5] = chance.choice(
                    (b"\xff" * 5, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\0" * 5)
                )
    return bytes(bad[: 1 << 16])


def bodies() -> list[Any]:
    ids = tuple(MessageId(hashlib.sha256(b"%d" % n).digest()) for n in range(3))
    return [
        message.Hello(("/ip4/1.2.3.4/tcp/1/p2p/x",), (1, 1), True),
        message.JobAnnounced(JOB, ("/ip4/1.2.3.4/tcp/1/p2p/x",)),
        Acknowledged(ids),
        Synced(ids, build_filter(ids), ids),
        message.RoundReported(RoundNumber(3), ContentId(bytes(32)), 0.5, 0.9, 3),
        message.Proposal(RoundNumber(1), 0, ids[0], ()),  # type: ignore[arg-type]
    ]


def signed(chance: random.Random, body: Any, content: bytes) -> bytes:
    """An envelope whose signature holds, whatever is in it."""
    kind = NAMES[type(body)]
    job = b"" if kind in ("hello", "job") else JOB
    after = tuple(MessageId(chance.randbytes(32)) for _ in range(chance.randrange(4)))
    envelope = Envelope(1, kind, b"s" * 32, job, chance.randrange(2**40), int(NOW_S), content, after)
    return message.encode_envelope(envelope, sign)


def signed_damaged(chance: random.Random, body: Any) -> bytes:
    """Damaged below the signature: its sender is a member who lies."""
    if chance.random() < 0.5:
        return signed(chance, body, damage(chance, record.encode(body)))
    envelope = record.encode(Envelope(1, NAMES[type(body)], b"s" * 32, JOB, 7, int(NOW_S), record.encode(body)))
    inner = damage(chance, envelope)
    return record.encode(message._Signed(inner, sign(message.SIGNED_PREFIX + inner)))


RPC = Rpc(
    subscriptions=(Subscription(TOPIC, True),),
    publications=(Publication(TOPIC, b"data" * 9),),
    ihave=(IHave(TOPIC, (bytes(32), b"x" * 32)),),
    iwant=(bytes(32),),
    graft=(TOPIC,),
    prune=(Prune(TOPIC, 1),),
)
REQUESTS = (
    exchange.Get((ContentId(bytes(32)),)),
    exchange.GetPart(ContentId(bytes(32)), 4),
    exchange.Put((b"blob",)),
    exchange.GetSealed(JOB, ContentId(bytes(32))),
    exchange.GetPeers(9),
)

WAKU = waku.encode_message(waku.WakuMessage(b"payload", ContentTopic("/a/1/b/c"), timestamp_ns=1))
SERVICE = (
    waku_lightpush.encode_push(waku_lightpush.Push("1", TOPIC, WAKU)),
    waku_lightpush.encode_push_v2(waku_lightpush.Push("1", TOPIC, WAKU)),
    waku_lightpush.encode_push_reply(waku_lightpush.PushReply("1", 200, "OK", 3)),
    waku_lightpush.encode_push_reply_v2(waku_lightpush.PushReply("1", 200, "OK")),
    *(
        waku_filter.encode_filter_request(waku_filter.FilterRequest("1", kind, TOPIC, (ContentTopic("/a/1/b/c"),)))
        for kind in waku_filter.FilterKind
    ),
    waku_filter.encode_filter_reply(waku_filter.FilterReply("1", 200)),
    waku_filter.encode_pushed(waku_filter.Pushed(TOPIC, WAKU)),
    waku_store.encode_query(waku_store.StoreQuery("1", True, TOPIC, (ContentTopic("/a/1/b/c"),), 1, 2, (), bytes(32))),
    waku_store.encode_query(waku_store.StoreQuery("1", hashes=(bytes(32),))),
    waku_peers.encode_peer_query(9),
    waku_peers.encode_peer_reply(waku_peers.PeerReply((b"record", b"r" * 99))),
    enr.encode_record(7, {"rs": b"\0\1\1\0\3", "ip": bytes(4), "tcp": b"\1"}, bytes(33), lambda _: bytes(64)),
    waku_store.encode_store_reply(
        waku_store.StoreReply("1", 200, "OK", (waku_store.StoredMessage(bytes(32), TOPIC, WAKU),), bytes(32))
    ),
)

# -- Targets ---------------------------------------------------------------------


class Node:
    """What a stranger's bytes reach, joined as the node joins it: relay, envelope, body, delivery."""

    def __init__(self) -> None:
        self.relay = Relay(b"seed")
        self.relay.handle(Joined(TOPIC), NOW_S)
        self.delivery = Delivery(b"seed")
        self.subscribers = waku_filter.Subscribers({TOPIC})
        self.now_s = NOW_S
        self.let_in = 0

    def take_rpc(self, data: bytes) -> None:
        peer = PeerId("p")
        if self.relay.conduct.is_banned(peer) or not self.relay.subscribers(TOPIC):
            self.relay = Relay(b"seed")
            self.relay.handle(Joined(TOPIC), self.now_s)
            self.relay.handle(PeerAdded(peer), self.now_s)
            self.relay.handle(SendingOpened(peer), self.now_s)
        self.now_s += 0.01
        for effect in self.relay.handle(RpcReceived(peer, decode_rpc(data)), self.now_s):
            if isinstance(effect, Judge):
                verdict = self.judge(effect.publication.data)
                self.relay.handle(Judged(effect.peer, effect.message, effect.publication, verdict), self.now_s)

    def judge(self, data: bytes) -> Accept | Ignore | Reject:
        outer = waku.decode_message(data)
        if isinstance(outer, Reject):
            return outer
        opened = message.open_envelope(outer.payload, now_s=NOW_S, verify=verify)
        if isinstance(opened, Ignore | Reject):
            return opened
        self.hear(opened)
        return Accept()

    def serve(self, data: bytes) -> None:
        """What light peers and full peers say to each other, whichever it is."""
        for decode_any_push in (waku_lightpush.decode_push, waku_lightpush.decode_push_v2):
            push = decode_any_push(data)
            if isinstance(push, waku_lightpush.Push):
                waku_lightpush.admit_push(push, {TOPIC}, cluster=1717, shards=8, now_ns=1)
        request = waku_filter.decode_filter_request(data)
        if isinstance(request, waku_filter.FilterRequest):
            self.subscribers.handle(PeerId(str(len(data) % 7)), request, self.now_s)
            self.subscribers.expire(self.now_s)
        waku_store.decode_query(data)
        waku_lightpush.decode_push_reply(data)
        waku_lightpush.decode_push_reply_v2(data)
        waku_filter.decode_filter_reply(data)
        waku_filter.decode_pushed(data)
        waku_store.decode_store_reply(data)
        waku_peers.decode_peer_query(data)
        waku_peers.decode_peer_reply(data)
        enr.decode_record(data, lambda *_: True)

    def hear(self, opened: Opened) -> None:
        envelope = opened.envelope
        body = message.decode_body(envelope.kind, envelope.body)
        if isinstance(body, Reject):
            return
        self.let_in += 1
        match body:
            case Acknowledged(messages):
                self.delivery.handle(AcknowledgementReceived(envelope.sender, messages, self.now_s))
            case Synced(heads, has, wanted):
                self.delivery.handle(SyncReceived(envelope.sender, JOB, heads, has, wanted, self.now_s))
            case _ if envelope.kind in SEALED:
                arrived = MessageArrived(opened.id, JOB, envelope.after, True, True, opened.wire, self.now_s)
                self.delivery.handle(arrived)
        self.delivery.handle(TimePassed(self.now_s))


def inputs(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """(which door, bytes): half of those at the relay's door are damaged below a valid signature."""
    good = encode_rpc(RPC)
    metadata = waku.encode_metadata(waku.Metadata(1717, (0, 1)))
    while True:
        body = chance.choice(bodies())
        inner = signed_damaged(chance, body)
        wrapped = waku.encode_message(waku.WakuMessage(inner, ContentTopic("/skynet/1/job/msgpack"), timestamp_ns=1))
        yield "rpc", encode_rpc(Rpc(publications=(Publication(TOPIC, wrapped),)))
        yield "rpc", damage(chance, good)
        yield "judge", damage(chance, wrapped)
        yield "judge", wrapped
        yield "request", damage(chance, exchange.encode_request(chance.choice(REQUESTS)))
        yield "judge", wrapped[:-1] + signed(chance, body, record.encode(body))[-1:]
        if chance.random() < 0.2:
            yield "metadata", damage(chance, metadata)
        else:
            yield "service", damage(chance, chance.choice(SERVICE))
        yield "rpc", encode_rpc(Rpc(publications=(Publication(TOPIC, waku.encode_message(
            waku.WakuMessage(signed(chance, body, damage(chance, record.encode(body))), ContentTopic("/a/1/b/c"))
        )),)))  # fmt: skip
        yield chance.choice(("rpc", "judge", "request", "metadata", "service")), chance.randbytes(chance.randrange(200))
        yield "body", signed_damaged(chance, body)


def doors(node: Node) -> dict[str, Callable[[bytes], object]]:
    return {
        "rpc": node.take_rpc,
        "judge": node.judge,
        "request": exchange.decode_request,
        "metadata": waku.decode_metadata,
        "service": node.serve,
        "body": lambda data: [message.decode_body(kind, data) for kind in KINDS],
    }


# -- Tests -----------------------------------------------------------------------


@pytest.mark.timeout(0)
def test_no_bytes_of_a_stranger_raise_or_leak() -> None:
    chance, node = random.Random(SEED), Node()
    targets = doors(node)
    tracemalloc.start()
    sizes = []
    for number, (door, data) in zip(range(INPUTS), inputs(chance), strict=False):
        try:
            targets[door](data)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, input {number}, {door}: {data.hex()}") from error
        if number % max(1, INPUTS // 4) == INPUTS // 8:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert node.let_in > INPUTS // 40, "too few got past the signature: this fuzzes the door only"
    assert max(sizes) < 64 << 20, "tables of a relay and a delivery have bounds"
    assert_works(node)


def assert_works(node: Node) -> None:
    """After all of it an honest message is let in, handed on and acknowledged."""
    chance = random.Random(2)
    body = bodies()[4]
    opened = message.open_envelope(signed(chance, body, record.encode(body)), now_s=NOW_S, verify=verify)
    assert isinstance(opened, Opened)
    before = node.let_in
    node.hear(opened)
    assert node.let_in == before + 1
    assert node.delivery.has_heard(opened.id)


@pytest.mark.parametrize("size", [0, 1, 5, 1279, 1280])
def test_any_bytes_are_a_filter(size: int) -> None:
    chance = random.Random(size)
    for _ in range(100):
        assert may_contain(chance.randbytes(size), chance.randbytes(32)) in (True, False)
