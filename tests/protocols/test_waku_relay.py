"""The relay machine: objects joined directly, a virtual clock, no sockets."""

from collections import Counter, deque
from collections.abc import Callable

import pytest

from protocols import waku_conduct, waku_history, waku_relay
from protocols.ids import PeerId, PubsubTopic
from protocols.verdict import Accept, Ignore, Reject, Verdict
from protocols.waku import MAX_MESSAGE_BYTES, gossip_id
from protocols.waku_event import (
    Deliver,
    Disconnect,
    Effect,
    Event,
    Forward,
    HeartbeatPassed,
    Joined,
    Judge,
    Judged,
    Left,
    PeerAdded,
    PeerRemoved,
    Published,
    ReceivingOpened,
    RpcReceived,
    Send,
    SendingOpened,
)
from protocols.waku_history import History
from protocols.waku_mesh import DEGREE_HIGH, DEGREE_LOW
from protocols.waku_relay import Relay
from protocols.waku_rpc import IHave, Prune, Publication, Rpc, Subscription, decode_rpc, encode_publication, encode_rpc

T = PubsubTopic("/waku/2/rs/1717/0")
U = PubsubTopic("/waku/2/rs/1717/1")


class World:
    """Relays that send each other real bytes; `lose` drops what it is true of."""

    def __init__(self, count: int, seed: bytes = b"seed") -> None:
        self.names = [PeerId(f"peer{n:02}") for n in range(count)]
        self.relays = {name: Relay(seed + name.encode()) for name in self.names}
        self.delivered: dict[PeerId, list[bytes]] = {name: [] for name in self.names}
        self.disconnected: list[tuple[PeerId, PeerId]] = []
        self.links: set[frozenset[PeerId]] = set()
        self.wire: deque[tuple[PeerId, PeerId, bytes]] = deque()
        self.frames: Counter[str] = Counter()
        self.verdict: Callable[[PeerId, bytes], Verdict] = lambda _peer, _data: Accept()
        self.lose: Callable[[PeerId, PeerId, bytes], bool] = lambda _a, _b, _data: False
        self.now_s = 100.0

    def feed(self, name: PeerId, event: Event) -> None:
        for effect in self.relays[name].handle(event, self.now_s):
            self._perform(name, effect)

    def _perform(self, name: PeerId, effect: Effect) -> None:
        match effect:
            case Send(peer, rpc):
                self.wire.append((name, peer, encode_rpc(rpc)))
            case Forward(peers, publication):
                self.frames["publication"] += len(peers)
                self.wire.extend((name, peer, encode_publication(publication)) for peer in peers)
            case Judge(peer, message, publication):
                verdict = self.verdict(name, publication.data)
                self.feed(name, Judged(peer, message, publication, verdict))
            case Deliver(publication):
                self.delivered[name].append(publication.data)
            case Disconnect(peer, _reason):
                self.disconnected.append((name, peer))

    def settle(self) -> None:
        while self.wire:
            sender, receiver, data = self.wire.popleft()
            if frozenset((sender, receiver)) in self.links and not self.lose(sender, receiver, data):
                self.feed(receiver, RpcReceived(sender, decode_rpc(data)))

    def connect(self, a: PeerId, b: PeerId) -> None:
        self.links.add(frozenset((a, b)))
        for here, there in ((a, b), (b, a)):
            self.feed(here, PeerAdded(there))
        for here, there in ((a, b), (b, a)):
            self.feed(here, ReceivingOpened(there))
            self.feed(here, SendingOpened(there))
        self.settle()

    def cut(self, a: PeerId, b: PeerId) -> None:
        self.links.discard(frozenset((a, b)))
        self.feed(a, PeerRemoved(b))
        self.feed(b, PeerRemoved(a))

    def connect_all(self) -> None:
        for index, a in enumerate(self.names):
            for b in self.names[:index]:
                self.connect(a, b)

    def join_all(self, topic: PubsubTopic = T) -> None:
        for name in self.names:
            self.feed(name, Joined(topic))
        self.settle()

    def publish(self, name: PeerId, data: bytes, topic: PubsubTopic = T) -> None:
        self.feed(name, Published(Publication(topic, data)))
        self.settle()

    def beat(self, times: int = 1) -> None:
        for _ in range(times):
            self.now_s += waku_relay.HEARTBEAT_S
            for name in self.names:
                self.feed(name, HeartbeatPassed())
            self.settle()

    def mesh(self, name: PeerId, topic: PubsubTopic = T) -> tuple[PeerId, ...]:
        return self.relays[name].meshes.members(topic)


def test_everybody_gets_it_once() -> None:
    world = World(4)
    world.join_all()
    world.connect_all()
    for name in world.names:
        world.publish(name, b"from " + name.encode())
    for name in world.names:
        assert sorted(world.delivered[name]) == sorted(b"from " + n.encode() for n in world.names)


@pytest.mark.parametrize("subscribe_first", [True, False])
def test_a_small_network_meshes_without_a_heartbeat(subscribe_first: bool) -> None:
    world = World(4)
    steps = [world.join_all, world.connect_all]
    for step in steps if subscribe_first else reversed(steps):
        step()
    assert all(len(world.mesh(name)) == 3 for name in world.names)


def test_a_large_network_keeps_its_degrees_and_reaches_everybody() -> None:
    world = World(40)
    world.connect_all()
    world.join_all()
    world.beat(3)
    for name in world.names:
        assert DEGREE_LOW <= len(world.mesh(name)) <= DEGREE_HIGH
        assert all(name in world.mesh(peer) for peer in world.mesh(name))
    world.frames.clear()
    world.publish(world.names[0], b"news")
    assert all(world.delivered[name] == [b"news"] for name in world.names)
    assert world.frames["publication"] <= 40 * DEGREE_HIGH  # not 40 × 39


def test_the_same_events_give_the_same_meshes() -> None:
    def meshes() -> list[tuple[PeerId, ...]]:
        world = World(20)
        world.connect_all()
        world.join_all()
        world.beat(2)
        return [world.mesh(name) for name in world.names]

    assert meshes() == meshes()


def test_draws_depend_on_the_seed_and_change() -> None:
    names = [PeerId(f"peer{n}") for n in range(20)]
    one, again, two = (Relay(seed).meshes for seed in (b"one", b"one", b"two"))
    first, second = one.draw(names, 5), one.draw(names, 5)
    assert [again.draw(names, 5), again.draw(names, 5)] == [first, second]
    assert first != second
    assert two.draw(names, 5) != first
    assert one.draw(names[:3], 5) == names[:3]
    assert one.draw(names, -1) == []


def test_what_was_published_before_the_subscription_is_asked_for() -> None:
    world = World(2)
    a, b = world.names
    world.feed(a, Joined(T))
    world.publish(a, b"early")
    world.feed(b, Joined(T))
    world.connect(a, b)
    assert world.delivered[b] == [b"early"]


def test_a_short_disconnect_loses_nothing() -> None:
    world = World(3)
    world.join_all()
    world.connect_all()
    a, b, c = world.names
    world.cut(a, b)
    world.cut(b, c)
    world.publish(a, b"missed")
    world.beat(4)
    assert world.delivered[b] == []
    world.connect(a, b)
    assert world.delivered[b] == [b"missed"]
    assert set(world.mesh(b)) == {a}
    assert b in world.mesh(a)


def test_a_lost_forward_is_recovered_by_gossip() -> None:
    world = World(20)
    world.connect_all()
    world.join_all()
    world.beat(2)
    victim = world.names[-1]
    world.lose = lambda _a, b, data: b == victim and b"needle" in data
    world.publish(world.names[0], b"needle")
    assert world.delivered[victim] == []
    world.lose = lambda _a, _b, _data: False
    world.beat(2)
    assert world.delivered[victim] == [b"needle"]


def test_a_broken_promise_is_asked_of_another_and_charged() -> None:
    relay = Relay(b"seed")
    liar, honest = PeerId("liar"), PeerId("honest")
    relay.handle(Joined(T), 0.0)
    for peer in (liar, honest):
        relay.handle(PeerAdded(peer), 0.0)
        relay.handle(RpcReceived(peer, Rpc(subscriptions=(Subscription(T, True),))), 0.0)
    ids = (gossip_id(b"wanted"),)
    offer = Rpc(ihave=(IHave(T, ids),))
    assert relay.handle(RpcReceived(liar, offer), 0.0) == [Send(liar, Rpc(iwant=ids))]
    assert relay.handle(RpcReceived(honest, offer), 1.0) == []
    relay.handle(HeartbeatPassed(), 4.0)
    assert relay.conduct.faults(liar) > 0 == relay.conduct.faults(honest)
    assert relay.handle(RpcReceived(honest, offer), 4.0) == [Send(honest, Rpc(iwant=ids))]
    relay.handle(PeerRemoved(honest), 4.1)  # what it promised is free again at once
    assert relay.handle(RpcReceived(liar, offer), 4.2) == [Send(liar, Rpc(iwant=ids))]


# -- Verdicts and conduct ------------------------------------------------------


def test_rejected_messages_cost_and_ignored_ones_do_not() -> None:
    world = World(2)
    world.join_all()
    world.connect_all()
    a, b = world.names
    world.verdict = lambda name, _data: Ignore("no") if name == b else Accept()
    for n in range(100):
        world.publish(a, b"ignored %d" % n)
    assert world.relays[b].conduct.faults(a) == 0
    world.verdict = lambda name, _data: Reject("no") if name == b else Accept()
    for n in range(100):
        world.publish(a, b"rejected %d" % n)
    assert world.delivered[b] == []
    assert (b, a) in world.disconnected
    assert world.relays[b].conduct.is_banned(a)
    assert world.relays[b].subscribers(T) == []


def test_a_ban_outlives_a_reconnect_and_ends() -> None:
    relay, peer = Relay(b"seed"), PeerId("peer")
    relay.handle(PeerAdded(peer), 0.0)
    effects = [e for _ in range(5) for e in relay.handle(RpcReceived(peer, Reject("garbage")), 0.0)]
    assert effects == [Disconnect(peer, "misbehaved on the relay")]
    relay.handle(PeerRemoved(peer), 0.0)
    assert relay.handle(PeerAdded(peer), 1.0) == effects
    for second in range(120):
        relay.handle(HeartbeatPassed(), float(second))
    relay.handle(PeerRemoved(peer), 121.0)
    assert relay.handle(PeerAdded(peer), 122.0) == []


def test_signed_and_oversized_messages_cost() -> None:
    relay, peer = Relay(b"seed"), PeerId("peer")
    relay.handle(Joined(T), 0.0)
    relay.handle(PeerAdded(peer), 0.0)
    relay.handle(RpcReceived(peer, Rpc(refused=1)), 0.0)
    big = Publication(T, bytes(MAX_MESSAGE_BYTES + 1))
    assert relay.handle(RpcReceived(peer, Rpc(publications=(big,))), 0.0) == []
    assert relay.conduct.faults(peer) == 2 * waku_conduct.REJECTED


def test_messages_of_topics_that_we_do_not_follow_are_free_and_useless() -> None:
    relay, peer = Relay(b"seed"), PeerId("peer")
    relay.handle(PeerAdded(peer), 0.0)
    assert relay.handle(RpcReceived(peer, Rpc(publications=(Publication(T, b"x"),))), 0.0) == []
    assert relay.conduct.faults(peer) == 0
    assert len(relay.seen) == 0


def test_strangers_are_not_heard() -> None:
    relay = Relay(b"seed")
    relay.handle(Joined(T), 0.0)
    assert relay.handle(RpcReceived(PeerId("stranger"), Rpc(publications=(Publication(T, b"x"),))), 0.0) == []


# -- Mesh ----------------------------------------------------------------------


def meshed() -> tuple[Relay, PeerId]:
    relay, peer = Relay(b"seed"), PeerId("peer")
    relay.handle(Joined(T), 0.0)
    relay.handle(PeerAdded(peer), 0.0)
    relay.handle(RpcReceived(peer, Rpc(subscriptions=(Subscription(T, True),))), 0.0)
    assert relay.meshes.members(T) == (peer,)
    return relay, peer


def test_a_pruned_mesh_member_is_left_alone_for_its_backoff() -> None:
    relay, peer = meshed()
    relay.handle(RpcReceived(peer, Rpc(prune=(Prune(T, 5),))), 0.0)
    assert relay.meshes.members(T) == ()
    assert relay.handle(HeartbeatPassed(), 4.0) == []
    assert relay.handle(HeartbeatPassed(), 6.0) == [Send(peer, Rpc(graft=(T,)))]


def test_grafting_within_our_backoff_is_refused_and_charged() -> None:
    relay, peer = meshed()
    relay.handle(RpcReceived(peer, Rpc(prune=(Prune(T, 60),))), 0.0)
    (refusal,) = relay.handle(RpcReceived(peer, Rpc(graft=(T,))), 1.0)
    assert refusal == Send(peer, Rpc(prune=(Prune(T, 60),)))
    assert relay.conduct.faults(peer) == waku_conduct.EARLY_GRAFT


def test_an_absurd_backoff_is_cut() -> None:
    relay, peer = meshed()
    relay.handle(RpcReceived(peer, Rpc(prune=(Prune(T, 2**62),))), 0.0)
    assert relay.handle(HeartbeatPassed(), 3601.0) == [Send(peer, Rpc(graft=(T,)))]


def test_a_full_mesh_refuses() -> None:
    relay = Relay(b"seed")
    relay.handle(Joined(T), 0.0)
    peers = [PeerId(f"peer{n}") for n in range(DEGREE_HIGH + 1)]
    for peer in peers:
        relay.handle(PeerAdded(peer), 0.0)
        effects = relay.handle(RpcReceived(peer, Rpc(graft=(T,))), 0.0)
    assert len(relay.meshes.members(T)) == DEGREE_HIGH
    assert effects == [Send(peers[-1], Rpc(prune=(Prune(T, 60),)))]


def test_grafts_of_unknown_topics_get_no_answer() -> None:
    relay, peer = meshed()
    assert relay.handle(RpcReceived(peer, Rpc(graft=(U,))), 0.0) == []


def test_leaving_tells_everybody_and_stops_delivery() -> None:
    world = World(3)
    world.join_all()
    world.connect_all()
    a, b, _ = world.names
    world.feed(b, Left(T))
    world.feed(b, Left(T))
    world.settle()
    assert b not in world.mesh(a)
    world.publish(a, b"without b")
    assert world.delivered[b] == []


def test_a_peer_that_begins_anew_is_greeted_anew() -> None:
    world = World(2)
    world.join_all()
    world.connect_all()
    a, b = world.names
    world.relays[b] = Relay(b"restarted")  # the process died; a's streams were replaced
    world.feed(b, Joined(T))
    world.connect(a, b)
    assert world.mesh(a) == (b,)
    assert world.mesh(b) == (a,)


def test_publishing_again_sends_again_and_delivers_once() -> None:
    world = World(2)
    world.join_all()
    world.connect_all()
    a, b = world.names
    world.lose = lambda _a, _b, data: b"stubborn" in data
    world.publish(a, b"stubborn")
    world.lose = lambda _a, _b, _data: False
    world.publish(a, b"stubborn")
    assert world.delivered == {a: [b"stubborn"], b: [b"stubborn"]}


def test_publishing_without_following() -> None:
    world = World(2)
    a, b = world.names
    world.feed(b, Joined(T))
    world.connect(a, b)
    world.publish(a, b"fan out")
    assert world.delivered == {a: [], b: [b"fan out"]}


# -- Bounds --------------------------------------------------------------------


def test_gossip_is_bounded_by_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waku_relay, "IDS_PER_HEARTBEAT", 10)
    monkeypatch.setattr(waku_relay, "SERVED_PER_HEARTBEAT", 3)
    relay, peer = meshed()
    ids = tuple(gossip_id(b"%d" % n) for n in range(25))
    (asked,) = relay.handle(RpcReceived(peer, Rpc(ihave=(IHave(T, ids),))), 0.0)
    assert isinstance(asked, Send)
    assert len(asked.rpc.iwant) == 10
    assert relay.handle(RpcReceived(peer, Rpc(ihave=(IHave(T, ids),))), 0.0) == []
    for n in range(5):
        relay.handle(Published(Publication(T, b"%d" % n)), 0.0)
    assert len(relay.handle(RpcReceived(peer, Rpc(iwant=ids)), 0.0)) == 3
    assert relay.handle(RpcReceived(peer, Rpc(iwant=ids)), 0.0) == []
    relay.handle(HeartbeatPassed(), 1.0)
    assert len(relay.handle(RpcReceived(peer, Rpc(iwant=ids)), 1.0)) == 3


def test_subscriptions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waku_relay, "TOPICS_PER_PEER", 2)
    relay, peer = Relay(b"seed"), PeerId("peer")
    relay.handle(PeerAdded(peer), 0.0)
    topics = [PubsubTopic(f"/t/{n}") for n in range(3)]
    relay.handle(RpcReceived(peer, Rpc(subscriptions=tuple(Subscription(t, True) for t in topics))), 0.0)
    assert [relay.subscribers(topic) for topic in topics] == [[peer], [peer], []]


def test_history_is_bounded_in_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waku_history, "HISTORY_BYTES", 25)
    history = History(2)
    for n in range(4):
        history.put(b"%d" % n, T, bytes(10))
    assert history.ids(T, 2, 10) == (b"2", b"3")
    assert history.ids(T, 2, 1) == (b"3",)
    history.shift()
    history.put(b"4", U, bytes(5))
    assert (history.ids(T, 2, 10), history.ids(T, 1, 10), history.ids(U, 1, 10)) == ((b"2", b"3"), (), (b"4",))
    history.shift()
    history.shift()
    assert len(history) == 0
    assert history.get(b"4") is None


def test_conduct_is_bounded_and_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waku_conduct, "REMEMBERED", 2)
    conduct = waku_conduct.Conduct()
    for peer in ("a", "b", "a", "c"):
        conduct.charge(peer, 1.0)
    assert [conduct.faults(peer) for peer in "abc"] == [2.0, 0.0, 1.0]
    for _ in range(400):
        conduct.decay()
    assert conduct.faults("a") == 0.0
