"""The light client's choice of full peers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import PeerId
from protocols.waku import pubsub_topic
from protocols.waku_event import HeartbeatPassed, Joined, Left, PeerAdded, PeerRemoved
from protocols.waku_filter import FilterKind
from protocols.waku_light import COPIES, MISSED_PINGS, PING_S, REST_S, Answered, Ask, LightClient

A, B, C, D = (PeerId(name) for name in "abcd")
TOPIC, OTHER = pubsub_topic(1717, 0), pubsub_topic(1717, 1)
SUBSCRIBE, UNSUBSCRIBE, PING = FilterKind.SUBSCRIBE, FilterKind.UNSUBSCRIBE, FilterKind.PING


def subscribed(*peers: PeerId) -> LightClient:
    """A client that follows TOPIC, and has asked the first COPIES of the peers, who agreed."""
    client = LightClient()
    client.handle(Joined(TOPIC), 0.0)
    for peer in peers:
        for ask in client.handle(PeerAdded(peer), 0.0):
            client.handle(Answered(ask.peer, ask.kind, ask.topic, 200), 0.0)
    return client


def test_two_peers_are_asked_for_each_topic_whichever_comes_first() -> None:
    client = LightClient()
    assert client.handle(Joined(TOPIC), 0.0) == []
    assert client.handle(PeerAdded(A), 0.0) == [Ask(A, SUBSCRIBE, TOPIC)]
    assert client.handle(PeerAdded(B), 0.0) == [Ask(B, SUBSCRIBE, TOPIC)]
    assert client.handle(PeerAdded(C), 0.0) == []
    assert client.handle(Joined(OTHER), 0.0) == [Ask(A, SUBSCRIBE, OTHER), Ask(B, SUBSCRIBE, OTHER)]
    assert client.is_asked(A, TOPIC)
    assert client.holders(TOPIC) == ()
    client.handle(Answered(A, SUBSCRIBE, TOPIC, 200), 0.0)
    assert client.holders(TOPIC) == (A,)


def test_who_leaves_or_refuses_is_replaced_and_rests() -> None:
    client = subscribed(A, B, C)
    assert client.holders(TOPIC) == (A, B)
    assert client.handle(PeerRemoved(A), 1.0) == [Ask(C, SUBSCRIBE, TOPIC)]
    assert client.handle(Answered(C, SUBSCRIBE, TOPIC, 503), 1.0) == []
    assert client.publishers(TOPIC, 1.0) == (B,)
    assert client.handle(HeartbeatPassed(), REST_S) == []
    assert client.handle(HeartbeatPassed(), 1.0 + REST_S) == [Ask(C, SUBSCRIBE, TOPIC)]


def test_pings_find_out_who_has_forgotten_us_or_died() -> None:
    client = subscribed(A, B, C)
    assert client.handle(HeartbeatPassed(), PING_S - 1) == []
    assert client.handle(HeartbeatPassed(), PING_S) == [Ask(A, PING, None), Ask(B, PING, None)]
    assert client.handle(Answered(A, PING, None, 200), PING_S) == []
    assert client.handle(Answered(B, PING, None, 404), PING_S) == [Ask(B, SUBSCRIBE, TOPIC)]
    client.handle(Answered(B, SUBSCRIBE, TOPIC, 200), PING_S)
    for n in range(2, 2 + MISSED_PINGS):
        assert Ask(A, PING, None) in client.handle(HeartbeatPassed(), PING_S * n)
        asks = client.handle(Answered(A, PING, None, None), PING_S * n)
    assert asks == [Ask(C, SUBSCRIBE, TOPIC)]


def test_a_topic_that_is_left_is_given_up_everywhere() -> None:
    client = subscribed(A, B)
    assert client.handle(Left(TOPIC), 1.0) == [Ask(A, UNSUBSCRIBE, TOPIC), Ask(B, UNSUBSCRIBE, TOPIC)]
    assert not client.is_asked(A, TOPIC)
    assert client.handle(Answered(A, SUBSCRIBE, TOPIC, 200), 1.0) == []  # late
    assert client.holders(TOPIC) == ()
    assert client.handle(Left(OTHER), 1.0) == []


def test_publishers_are_those_that_hold_the_topic_before_those_that_may() -> None:
    client = subscribed(A, B, C)
    client.handle(PeerRemoved(A), 0.0)
    client.handle(PeerAdded(A), 0.0)  # now the youngest
    assert client.publishers(TOPIC, 0.0) == (B, C, A)
    client.rest(B, 0.0)
    assert client.publishers(TOPIC, 0.0) == (C, A)
    client.rest(D, 0.0)  # gone meanwhile


events = st.one_of(
    st.builds(PeerAdded, st.sampled_from([A, B, C, D])),
    st.builds(PeerRemoved, st.sampled_from([A, B, C, D])),
    st.builds(Joined, st.sampled_from([TOPIC, OTHER])),
    st.builds(Left, st.sampled_from([TOPIC, OTHER])),
    st.builds(
        Answered,
        st.sampled_from([A, B, C, D]),
        st.sampled_from([SUBSCRIBE, UNSUBSCRIBE]),
        st.sampled_from([TOPIC, OTHER]),
        st.sampled_from([200, 400, 404, None]),
    ),
    st.builds(Answered, st.sampled_from([A, B, C, D]), st.just(PING), st.none(), st.sampled_from([200, 404, None])),
    st.builds(HeartbeatPassed),
)


@given(st.lists(st.tuples(events, st.floats(0, 40)), max_size=40))
def test_no_topic_is_ever_at_more_peers_than_wanted(steps: list[tuple[object, float]]) -> None:
    client, now_s = LightClient(), 0.0
    for event, later_s in steps:
        now_s += later_s
        for ask in client.handle(event, now_s):  # type: ignore[arg-type]
            assert ask.kind is PING or ask.kind is UNSUBSCRIBE or client.is_asked(ask.peer, ask.topic)
        for topic in (TOPIC, OTHER):
            assert sum(client.is_asked(peer, topic) for peer in (A, B, C, D)) <= COPIES
