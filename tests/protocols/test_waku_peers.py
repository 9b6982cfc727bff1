"""Peer exchange on the wire: what is said, and what a stranger may say instead."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from protocols import waku_wire as wire
from protocols.enr import MAX_ENR_BYTES
from protocols.verdict import Reject
from protocols.waku_peers import (
    MAX_PEERS,
    PeerReply,
    PeerStatus,
    decode_peer_query,
    decode_peer_reply,
    encode_peer_query,
    encode_peer_reply,
)


def test_as_other_implementations_write_it() -> None:
    assert encode_peer_query(5) == bytes.fromhex("0a020805")
    assert encode_peer_reply(PeerReply((b"ab",))) == bytes.fromhex("12090a040a02616250c801")
    assert decode_peer_reply(bytes.fromhex("12060a040a026162")) == PeerReply((b"ab",))  # without a status


@given(st.integers(0, 2**64 - 1))
def test_questions_come_back_cut_to_what_is_answered(count: int) -> None:
    assert decode_peer_query(encode_peer_query(count)) == min(count, MAX_PEERS)


@given(
    st.lists(st.binary(max_size=MAX_ENR_BYTES), max_size=MAX_PEERS), st.sampled_from(PeerStatus), st.text(max_size=20)
)
def test_answers_come_back(records: list[bytes], status: PeerStatus, description: str) -> None:
    reply = PeerReply(tuple(records), status, description)
    assert decode_peer_reply(encode_peer_reply(reply)) == reply


def test_what_is_too_much() -> None:
    reply = decode_peer_reply(encode_peer_reply(PeerReply((b"x",) * 100)))
    assert isinstance(reply, PeerReply)
    assert len(reply.records) == MAX_PEERS
    assert isinstance(decode_peer_reply(encode_peer_reply(PeerReply((bytes(MAX_ENR_BYTES + 1),)))), Reject)
    assert decode_peer_query(wire.bytes_field(1, b"")) == MAX_PEERS  # no number asked for
    for bad in (b"", b"\xff", wire.bytes_field(2, b""), wire.bytes_field(1, b"") * 2, wire.varint_field(1, 1)):
        refused = decode_peer_query(bad)
        assert isinstance(refused, PeerReply)
        assert refused.status == PeerStatus.BAD_REQUEST


def test_fuzzed_bytes_are_survived() -> None:
    chance = random.Random(5)
    seeds = (encode_peer_query(3), encode_peer_reply(PeerReply((b"abc", b"d" * 90), 429, "slow down")))
    for _ in range(4000):
        bad = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(bad) + 1)
            bad[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        assert isinstance(decode_peer_query(bytes(bad)), int | PeerReply)
        assert isinstance(decode_peer_reply(bytes(bad)), PeerReply | Reject)
