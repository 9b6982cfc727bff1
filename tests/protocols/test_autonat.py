"""Reachability: what most peers say counts, and their messages are libp2p's."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from protocols.autonat import (
    MAX_DIALLED,
    VOTERS,
    DialReply,
    DialRequest,
    Judgement,
    Reachability,
    decode_dial,
    decode_dial_reply,
    encode_dial,
    encode_dial_reply,
    step,
)
from protocols.ids import PeerId
from protocols.verdict import Reject


def judge(*answers: tuple[str, bool]) -> Judgement:
    judgement = Judgement()
    for peer, reached in answers:
        judgement = step(judgement, PeerId(peer), reached=reached)
    return judgement


def test_most_answers_decide() -> None:
    assert judge().verdict is Reachability.UNKNOWN
    assert judge(("a", True)).verdict is Reachability.PUBLIC
    assert judge(("a", True), ("b", False)).verdict is Reachability.PUBLIC  # no majority: as before
    assert judge(("a", True), ("b", False), ("c", False)).verdict is Reachability.PRIVATE
    assert judge(("a", True), ("a", False)).verdict is Reachability.PRIVATE  # its latest


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans())))
def test_any_answers_are_bounded(answers: list[tuple[str, bool]]) -> None:
    assert len(judge(*answers).answers) <= VOTERS


def test_messages_come_back() -> None:
    request = DialRequest(b"\x00\x24peer", (b"a", b"bc"))
    assert decode_dial(encode_dial(request.peer, request.addresses)) == request
    assert encode_dial(b"id", [b"a"]) == bytes.fromhex("080012090a070a026964120161")
    for reply in (DialReply(0, address=b"x"), DialReply(100, "no answer"), DialReply(101)):
        assert decode_dial_reply(encode_dial_reply(reply)) == reply
    many = decode_dial(encode_dial(b"id", [b"a"] * 50))
    assert isinstance(many, DialRequest)
    assert len(many.addresses) == MAX_DIALLED
    assert isinstance(decode_dial(encode_dial_reply(DialReply(0))), Reject)


def test_fuzzed_bytes_are_survived() -> None:
    chance = random.Random(6)
    seeds = (encode_dial(b"\x00\x24peer", [b"abc", b"d"]), encode_dial_reply(DialReply(100, "no answer", b"x")))
    for _ in range(4000):
        bad = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(bad) + 1)
            bad[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        assert isinstance(decode_dial(bytes(bad)), DialRequest | Reject)
        assert isinstance(decode_dial_reply(bytes(bad)), DialReply | Reject)
