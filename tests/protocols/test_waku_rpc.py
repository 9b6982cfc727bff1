"""Gossipsub RPCs: py-libp2p's generated code as the oracle, StrictNoSign, bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from protocols.ids import PubsubTopic
from protocols.verdict import Reject
from protocols.waku_rpc import (
    MAX_ENTRIES,
    MAX_RPC_BYTES,
    IHave,
    Prune,
    Publication,
    Rpc,
    Subscription,
    decode_rpc,
    encode_publication,
    encode_rpc,
)

topics = st.text(st.characters(codec="ascii"), min_size=1, max_size=30).map(PubsubTopic)
ids = st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple)
rpcs = st.builds(
    Rpc,
    subscriptions=st.lists(st.builds(Subscription, topics, st.booleans()), max_size=4).map(tuple),
    publications=st.lists(st.builds(Publication, topics, st.binary(max_size=80)), max_size=4).map(tuple),
    ihave=st.lists(st.builds(IHave, topics, ids), max_size=3).map(tuple),
    iwant=ids,
    graft=st.lists(topics, max_size=3).map(tuple),
    prune=st.lists(st.builds(Prune, topics, st.integers(0, 2**63)), max_size=3).map(tuple),
)


@given(rpcs)
def test_rpcs_come_back(rpc: Rpc) -> None:
    assert decode_rpc(encode_rpc(rpc)) == rpc


@given(rpcs)
def test_protobuf_reads_ours_and_we_read_protobufs(rpc: Rpc) -> None:
    oracle = rpc_pb2.RPC.FromString(encode_rpc(rpc))
    assert [(s.topicid, s.subscribe) for s in oracle.subscriptions] == [
        (s.topic, s.subscribe) for s in rpc.subscriptions
    ]
    assert [(list(m.topicIDs), m.data) for m in oracle.publish] == [([p.topic], p.data) for p in rpc.publications]
    assert [p.backoff for p in oracle.control.prune] == [p.backoff_s for p in rpc.prune]
    assert decode_rpc(oracle.SerializeToString()) == rpc


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(data: bytes) -> None:
    assert isinstance(decode_rpc(data), Rpc | Reject)


@given(rpcs.filter(lambda rpc: rpc != Rpc()), st.data())
def test_mutations_never_raise(rpc: Rpc, data: st.DataObject) -> None:
    encoded = bytearray(encode_rpc(rpc))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(decode_rpc(bytes(encoded)), Rpc | Reject)


@pytest.mark.parametrize("field", ["from_id", "seqno", "signature", "key"])
def test_signed_publications_are_left_out_and_counted(field: str) -> None:
    signed = rpc_pb2.Message(data=b"x", topicIDs=["t"], **{field: b"1"})
    honest = rpc_pb2.Message(data=b"y", topicIDs=["t"])
    rpc = decode_rpc(rpc_pb2.RPC(publish=[signed, honest]).SerializeToString())
    assert isinstance(rpc, Rpc)
    assert rpc.refused == 1
    assert rpc.publications == (Publication(PubsubTopic("t"), b"y"),)


@pytest.mark.parametrize(
    "bad",
    [rpc_pb2.Message(data=b"x", topicIDs=["a", "b"]), rpc_pb2.Message(data=b"x"), rpc_pb2.Message(topicIDs=["a"])],
)
def test_a_publication_has_data_and_one_topic(bad: rpc_pb2.Message) -> None:
    rpc = decode_rpc(rpc_pb2.RPC(publish=[bad]).SerializeToString())
    assert isinstance(rpc, Rpc)
    assert (rpc.refused, rpc.publications) == (1, ())


def test_frames_are_bounded_in_bytes_and_entries() -> None:
    assert isinstance(decode_rpc(bytes(MAX_RPC_BYTES + 1)), Reject)
    assert isinstance(decode_rpc(b"\x12\x00" * (MAX_ENTRIES + 1)), Reject)
    ids_of_another_network = rpc_pb2.RPC(
        control=rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"short", bytes(32)])])
    )
    assert decode_rpc(ids_of_another_network.SerializeToString()) == Rpc(iwant=(bytes(32),))


def test_one_publication_is_the_rpc_that_carries_it() -> None:
    publication = Publication(PubsubTopic("/waku/2/rs/1717/0"), b"data")
    assert encode_publication(publication) == encode_rpc(Rpc(publications=(publication,)))


def test_peer_exchange_and_idontwant_are_skipped() -> None:
    prune = rpc_pb2.ControlPrune(topicID="t", backoff=5, peers=[rpc_pb2.PeerInfo(peerID=b"p")] * 2)
    control = rpc_pb2.ControlMessage(prune=[prune], idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[bytes(32)])])
    assert decode_rpc(rpc_pb2.RPC(control=control).SerializeToString()) == Rpc(prune=(Prune(PubsubTopic("t"), 5),))
