"""Meshes that strangers can't fill: a share of peers that we dialled, and of several parts of the internet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import PeerId, PubsubTopic
from protocols.prefix import NEAR, Prefix, prefix_of
from protocols.verdict import Accept
from protocols.waku_conduct import Conduct
from protocols.waku_event import Joined, Judge, Judged, PeerAdded, RpcReceived, SendingOpened
from protocols.waku_mesh import DEGREE, DEGREE_HIGH, DEGREE_LOW, DEGREE_OUT, PREFIX_SHARE, Meshes
from protocols.waku_relay import MESSAGES_BURST, MESSAGES_S, Relay
from protocols.waku_rpc import Publication, Rpc

TOPIC = PubsubTopic("/waku/2/rs/1717/0")


def open_mesh() -> Meshes:
    meshes = Meshes(b"seed", Conduct())
    meshes.open(TOPIC)
    return meshes


def meet(meshes: Meshes, name: str, count: int, *, outbound: bool = False, prefix: str = "") -> list[PeerId]:
    peers = [PeerId(f"{name}{n}") for n in range(count)]
    for peer in peers:
        meshes.meet(peer, outbound, Prefix(prefix))
    return peers


def test_strangers_that_dial_us_make_room_for_those_that_we_dial() -> None:
    meshes = open_mesh()
    strangers = meet(meshes, "stranger", 50)
    assert sum(meshes.grafted(TOPIC, p, 0.0) is None for p in strangers) == DEGREE_HIGH
    dialled = meet(meshes, "dialled", 3, outbound=True)
    assert meshes.grafted(TOPIC, dialled[0], 1.0) is None
    grafted = meshes.tend(TOPIC, [*strangers, *dialled], 1.0)
    assert len(grafted) == DEGREE_OUT - 1
    meshes.thin(TOPIC, 2.0)
    assert len(meshes.outbound(TOPIC)) == DEGREE_OUT
    assert len(meshes.members(TOPIC)) == DEGREE


def test_who_was_dialled_is_put_out_last() -> None:
    meshes = open_mesh()
    dialled = meet(meshes, "dialled", 2, outbound=True)
    strangers = meet(meshes, "stranger", 12)
    for peer in (*strangers[:6], *dialled):
        assert meshes.grafted(TOPIC, peer, 0.0) is None
    meshes._members[TOPIC] |= dict.fromkeys(strangers[6:])  # as many as never get in
    meshes.thin(TOPIC, 1.0)
    assert set(meshes.outbound(TOPIC)) == set(dialled)
    assert len(meshes.members(TOPIC)) == DEGREE


def test_one_part_of_the_internet_has_its_share_and_no_more() -> None:
    meshes = open_mesh()
    crowd = meet(meshes, "crowd", 20, prefix="1.2.0.0/16")
    others = [meet(meshes, f"other{n}-", 1, prefix=f"9.{n}.0.0/16")[0] for n in range(3)]
    assert sum(meshes.grafted(TOPIC, p, 0.0) is None for p in crowd) == PREFIX_SHARE
    assert all(meshes.grafted(TOPIC, p, 0.0) is None for p in others)
    meshes.part(crowd[0])
    meshes.drop(crowd[0])
    assert meshes.grafted(TOPIC, crowd[-1], 100.0) is None


def test_a_network_of_our_own_is_no_crowd() -> None:
    meshes = open_mesh()
    neighbours = meet(meshes, "n", 10, prefix=NEAR)
    assert len(meshes.tend(TOPIC, neighbours, 0.0)) >= DEGREE_LOW


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 4)), max_size=60))
def test_a_mesh_keeps_its_bounds_whatever_strangers_do(moves: list[tuple[int, bool, int]]) -> None:
    meshes = open_mesh()
    known: dict[PeerId, tuple[bool, int]] = {}
    for number, outbound, place in moves:
        peer = PeerId(f"p{number}")
        known.setdefault(peer, (outbound, place))
        meshes.meet(peer, known[peer][0], Prefix(f"9.{known[peer][1]}.0.0/16"))
        meshes.grafted(TOPIC, peer, 0.0)
        meshes.tend(TOPIC, tuple(known), 0.0)
        members = meshes.members(TOPIC)
        assert len(members) <= DEGREE_HIGH + DEGREE_OUT
        assert sum(not known[p][0] for p in members) <= DEGREE_HIGH
        for where in range(5):
            assert sum(known[p][1] == where for p in members) <= PREFIX_SHARE


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("8.8.4.4", "8.8.0.0/16"),
        ("::ffff:8.8.4.4", "8.8.0.0/16"),
        ("2a00:1450:4001::1", "2a00:1450::/32"),
        ("127.0.0.1", NEAR),
        ("192.168.1.7", NEAR),
        ("fe80::1%eth0", NEAR),
        ("nonsense", NEAR),
        (None, NEAR),
    ],
)
def test_where_an_address_is(address: str | None, prefix: str) -> None:
    assert prefix_of(address) == prefix


def test_a_peer_that_talks_faster_than_a_network_is_not_listened_to() -> None:
    relay, peer, other = Relay(b"seed"), PeerId("loud"), PeerId("calm")
    relay.handle(Joined(TOPIC), 0.0)
    for each in (peer, other):
        relay.handle(PeerAdded(each), 0.0)
        relay.handle(SendingOpened(each), 0.0)

    def say(who: PeerId, count: int, now_s: float) -> int:
        judged = 0
        for n in range(count):
            data = f"{who} {now_s} {n}".encode()
            rpc = Rpc(publications=(Publication(TOPIC, data),))
            for effect in relay.handle(RpcReceived(who, rpc), now_s):
                if isinstance(effect, Judge):
                    judged += 1
                    relay.handle(Judged(who, effect.message, effect.publication, Accept()), now_s)
        return judged

    assert say(peer, MESSAGES_BURST + 500, 0.0) == MESSAGES_BURST
    assert relay.limited == 500
    assert say(other, 10, 0.0) == 10
    assert say(peer, 2 * MESSAGES_S, 1.0) == MESSAGES_S
    assert not relay.conduct.is_banned(peer)
