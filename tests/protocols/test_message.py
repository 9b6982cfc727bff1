"""Envelopes: what is let in, ignored and rejected; bodies: what they may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest
from any_record import any_of, mutations
from hypothesis import given
from hypothesis import strategies as st

from protocols import delivery, record
from protocols.bloom import MAX_FILTER_BYTES, MAX_IDS
from protocols.chain import Entry
from protocols.ids import Address, Commitment, ContentId, Digest, RoundNumber
from protocols.message import (
    KINDS,
    MAX_AFTER,
    MAX_AGE_S,
    MAX_ENVELOPE_BYTES,
    MAX_INLINE_BYTES,
    MAX_SEATS,
    MAX_SKEW_S,
    MAX_VIEW,
    NAMES,
    SEALED,
    SIGNED_PREFIX,
    Acknowledged,
    Body,
    Envelope,
    Hello,
    MessageId,
    Opened,
    Proposal,
    Synced,
    UpdateAnnounced,
    ViewChanged,
    VoteCast,
    decode_body,
    encode_envelope,
    message_id,
    open_envelope,
    seal_context,
    signed_part,
)
from protocols.verdict import Ignore, Reject

NOW_S = 1_000_000.0
KEY = b"k" * 32
JOB = b"j" * 32
LOBBY = Envelope(1, "hello", KEY, b"", 7, int(NOW_S), record.encode(Hello((), (1, 1), True)))
MAIL = replace(LOBBY, kind="vote", job=JOB, body=b"sealed")
VOTE = VoteCast(
    RoundNumber(1), 0, Digest(bytes(32)), Digest(bytes(32)), 3, ContentId(bytes(32)), Commitment(bytes(64)), b"s"
)

UPDATE = UpdateAnnounced(
    RoundNumber(1),
    Digest(bytes(32)),
    Entry(Address("0x" + 40 * "a"), ContentId(bytes(32)), Digest(bytes(32))),
    Commitment(bytes(64)),
    (Digest(bytes(32)),) * 12,
    (Digest(bytes(32)),) * 12,
    bytes(65),
    bytes(MAX_INLINE_BYTES),
    0.5,
)


def sign_as(key: bytes) -> Callable[[bytes], bytes]:
    """A signature scheme of the test's own: what counts is who may make it, not how."""
    return lambda message: hashlib.sha512(key + message).digest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return sign_as(key)(message) == signature


def opened(envelope: Envelope, *, key: bytes = KEY, fresh: bool = True) -> Envelope | Ignore | Reject:
    data = encode_envelope(envelope, sign_as(key))
    found = open_envelope(data, now_s=NOW_S, verify=verify, fresh=fresh)
    if not isinstance(found, Opened):
        return found
    assert (found.id, found.wire) == (message_id(envelope), data)
    return found.envelope


@pytest.mark.parametrize("envelope", [LOBBY, MAIL])
def test_a_proper_envelope_is_let_in(envelope: Envelope) -> None:
    assert opened(envelope) == envelope


# -- REJECT ------------------------------------------------------------------------


def test_reject_what_does_not_decode() -> None:
    assert isinstance(open_envelope(b"\x92\x01", now_s=NOW_S, verify=verify), Reject)


def test_reject_what_is_too_large() -> None:
    assert isinstance(opened(replace(MAIL, body=bytes(MAX_ENVELOPE_BYTES))), Reject)


def test_reject_a_bad_signature() -> None:
    assert opened(LOBBY, key=b"x" * 32) == Reject("bad signature")


@pytest.mark.parametrize("changes", [{"sequence": 8}, {"sent_s": int(NOW_S) + 1}, {"body": b""}, {"sender": b"s" * 32}])
def test_reject_what_was_changed_on_the_way(changes: dict[str, object]) -> None:
    signature = sign_as(KEY)(signed_part(LOBBY))
    changed = encode_envelope(replace(LOBBY, **changes), lambda _: signature)  # type: ignore[arg-type]
    assert open_envelope(changed, now_s=NOW_S, verify=verify) == Reject("bad signature")


@pytest.mark.parametrize("changes", [{"sender": b"short"}, {"sender": bytes(33)}, {"job": b"short"}])
def test_reject_keys_and_ids_of_the_wrong_length(changes: dict[str, object]) -> None:
    assert isinstance(opened(replace(MAIL, **changes)), Reject)  # type: ignore[arg-type]


def test_reject_a_signature_of_the_wrong_length() -> None:
    data = encode_envelope(LOBBY, lambda _: bytes(63))
    assert isinstance(open_envelope(data, now_s=NOW_S, verify=lambda *_: True), Reject)


@pytest.mark.parametrize("kind", KINDS)
def test_reject_a_kind_on_the_wrong_topic(kind: str) -> None:
    in_lobby = kind in ("hello", "job")
    wrong, right = (JOB, b"") if in_lobby else (b"", JOB)
    assert isinstance(opened(replace(LOBBY, kind=kind, job=wrong)), Reject)
    assert isinstance(opened(replace(LOBBY, kind=kind, job=right)), Envelope)


@pytest.mark.parametrize("sequence", [-1, 2**63, 2**200])
def test_reject_a_sequence_out_of_range(sequence: int) -> None:
    assert isinstance(opened(replace(LOBBY, sequence=sequence)), Reject)


def test_reject_a_history_without_end() -> None:
    assert isinstance(opened(replace(MAIL, after=(MessageId(bytes(32)),) * MAX_AFTER)), Envelope)
    assert isinstance(opened(replace(MAIL, after=(MessageId(bytes(32)),) * (MAX_AFTER + 1))), Reject)


def test_fields_of_a_newer_release_stay_under_its_signature() -> None:
    """It adds a field at the end and still speaks our version: we open it, and name it as its sender does."""
    newer = msgpack.packb([*msgpack.unpackb(record.encode(MAIL)), "a field that we don't know"])
    signed = SIGNED_PREFIX + newer
    found = open_envelope(msgpack.packb([newer, sign_as(KEY)(signed)]), now_s=NOW_S, verify=verify)
    assert isinstance(found, Opened)
    assert found.envelope == MAIL
    assert found.id == hashlib.sha256(signed).digest()


# -- IGNORE ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 99])
def test_ignore_versions_that_we_do_not_speak(version: int) -> None:
    verdict = opened(replace(LOBBY, version=version))
    assert isinstance(verdict, Ignore)
    assert str(version) in verdict.reason


def test_ignore_a_kind_of_a_newer_peer() -> None:
    assert isinstance(opened(replace(LOBBY, kind="gradient")), Ignore)


@pytest.mark.parametrize(
    ("age_s", "let_in"),
    [(-MAX_SKEW_S - 1, False), (-MAX_SKEW_S, True), (0, True), (MAX_AGE_S, True), (MAX_AGE_S + 1, False)],
)
def test_ignore_what_is_from_another_time(age_s: int, let_in: bool) -> None:
    envelope = replace(LOBBY, sent_s=int(NOW_S) - age_s)
    assert isinstance(opened(envelope), Envelope if let_in else Ignore)
    assert opened(envelope, fresh=False) == envelope


def test_the_last_resend_is_not_too_old() -> None:
    assert delivery.GIVE_UP_S + delivery.MAX_RESEND_S + MAX_SKEW_S < MAX_AGE_S


# -- Hostile bytes -------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_random_bytes_are_a_verdict(data: bytes) -> None:
    assert isinstance(open_envelope(data, now_s=NOW_S, verify=verify), Ignore | Reject)


@given(any_of(Envelope), st.data())
def test_mutated_envelopes_never_raise(envelope: Envelope, data: st.DataObject) -> None:
    wire = mutations(data.draw, encode_envelope(envelope, sign_as(KEY)))
    let_in = open_envelope(wire, now_s=NOW_S, verify=lambda *_: True)
    if isinstance(let_in, Opened):
        seal_context(let_in.envelope)
        message_id(let_in.envelope)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_bodies_come_back_as_they_were_or_are_refused(kind: str, data: st.DataObject) -> None:
    body = data.draw(any_of(KINDS[kind]))
    decoded = decode_body(kind, record.encode(body))
    assert decoded == body or (isinstance(decoded, Reject) and kind in ("proposal", "vote", "view", "sync"))
    assert isinstance(decode_body(kind, mutations(data.draw, record.encode(body))), Body | Reject)


@pytest.mark.parametrize("view", [-1, MAX_VIEW + 1, 2**100])
@pytest.mark.parametrize(
    "body",
    [VOTE, Proposal(VOTE.round, 0, VOTE.parent, ()), ViewChanged(VOTE.round, VOTE.parent, 0, ())],
)
def test_a_view_fits_what_is_signed(body: Proposal | VoteCast | ViewChanged, view: int) -> None:
    kind = NAMES[type(body)]
    assert decode_body(kind, record.encode(body)) == body
    assert isinstance(decode_body(kind, record.encode(replace(body, view=view))), Reject)


@pytest.mark.parametrize("participants", [-1, 1 << MAX_SEATS, 2**255])
def test_participants_fit_what_is_signed(participants: int) -> None:
    assert isinstance(decode_body("vote", record.encode(replace(VOTE, participants=participants))), Reject)


# -- Sizes and names -------------------------------------------------------------------


def test_the_largest_inline_update_fits_an_envelope() -> None:
    assert decode_body("update", record.encode(UPDATE)) == UPDATE
    assert isinstance(opened(replace(MAIL, kind="update", body=record.encode(UPDATE) + bytes(28))), Envelope)


def test_the_largest_acknowledgement_fits_an_envelope() -> None:
    body = record.encode(Acknowledged((MessageId(bytes(32)),) * delivery.ACKS_AT_ONCE))
    assert isinstance(opened(replace(MAIL, kind="ack", body=body + bytes(28))), Envelope)


def test_the_largest_request_fits_an_envelope() -> None:
    body = Synced((MessageId(bytes(32)),) * MAX_AFTER, bytes(MAX_FILTER_BYTES), (MessageId(bytes(32)),) * MAX_IDS)
    assert decode_body("sync", record.encode(body)) == body
    assert isinstance(opened(replace(MAIL, kind="sync", body=record.encode(body) + bytes(28))), Envelope)
    for changes in ({"has": bytes(MAX_FILTER_BYTES + 1)}, {"heads": body.heads * 2}, {"wanted": body.wanted * 2}):
        assert isinstance(decode_body("sync", record.encode(replace(body, **changes))), Reject)  # type: ignore[arg-type]


def test_each_kind_has_one_name() -> None:
    assert {name: NAMES[cls] for name, cls in KINDS.items()} == {name: name for name in KINDS}
    assert set(KINDS) > SEALED


@given(any_of(Envelope), any_of(Envelope))
def test_an_id_is_of_one_message(one: Envelope, other: Envelope) -> None:
    assert (message_id(one) == message_id(other)) is (one == other)


def test_a_body_can_not_move_to_another_envelope() -> None:
    others = [{"kind": "ack"}, {"sender": b"s" * 32}, {"job": b"i" * 32}, {"sequence": 8}]
    contexts = {seal_context(replace(MAIL, **changes)) for changes in others}  # type: ignore[arg-type]
    assert len(contexts | {seal_context(MAIL)}) == 5
