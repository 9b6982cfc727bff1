"""Delivery: what is acknowledged, resent and given up, by hand and over a network that loses half."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from protocols.delivery import (
    ACK_DELAY_S,
    ACKS_AT_ONCE,
    FIRST_RESEND_S,
    GIVE_UP_S,
    MAX_RESEND_S,
    SEEN,
    AcknowledgementReceived,
    Counts,
    Delivery,
    Effect,
    Event,
    Forget,
    GiveUp,
    HandOn,
    JobLeft,
    MessageArrived,
    MessageSent,
    Publish,
    SendAcknowledgements,
    TimePassed,
    next_deadline_s,
    step,
)
from protocols.ids import JobId
from protocols.message import MessageId

JOB, OTHER = JobId(b"j" * 32), JobId(b"o" * 32)
ALICE, BOB = b"alice", b"bob"


def name(number: int) -> MessageId:
    return MessageId(number.to_bytes(32, "big"))


def sent(number: int, *to: bytes, now_s: float = 0.0, job: JobId = JOB) -> MessageSent:
    return MessageSent(name(number), job, b"wire%d" % number, frozenset(to), now_s)


def arrived(number: int, now_s: float = 0.0, *, acknowledge: bool = True) -> MessageArrived:
    return MessageArrived(name(number), JOB, acknowledge, now_s)


def run(*events: Event, state: Delivery | None = None) -> tuple[Delivery, list[Effect]]:
    state, effects = state or Delivery(), []
    for event in events:
        state, more = step(state, event)
        effects += more
    return state, effects


def adds_up(state: Delivery) -> bool:
    counts = state.counts
    return counts.sent == counts.acknowledged + counts.given_up + counts.withdrawn + len(state.pending)


# -- The sender --------------------------------------------------------------------


def test_a_message_is_done_when_everybody_said_so() -> None:
    state, effects = run(sent(1, ALICE, BOB), AcknowledgementReceived(ALICE, (name(1),)))
    assert effects == [Publish(JOB, b"wire1")]
    state, effects = run(AcknowledgementReceived(BOB, (name(1),)), state=state)
    assert effects == [Forget(name(1))]
    assert state.counts == Counts(sent=1, acknowledged=1)
    assert next_deadline_s(state) is None


def test_only_recipients_count() -> None:
    state, _ = run(sent(1, ALICE), AcknowledgementReceived(BOB, (name(1), name(2))))
    assert state.pending[name(1)].missing == {ALICE}


def test_a_message_for_nobody_in_particular_is_published_once() -> None:
    state, effects = run(sent(1))
    assert (effects, state) == ([Publish(JOB, b"wire1")], Delivery())


def test_resends_back_off() -> None:
    state, _ = run(sent(1, ALICE))
    dues = []
    for _ in range(8):
        due_s = next_deadline_s(state)
        assert due_s is not None
        assert run(TimePassed(due_s - 0.01), state=state) == (state, [])
        state, effects = run(TimePassed(due_s), state=state)
        assert effects == [Publish(JOB, b"wire1")]
        dues.append(due_s)
    gaps = [b - a for a, b in zip([0.0, *dues], dues, strict=False)]
    assert gaps == [FIRST_RESEND_S, 2, 4, 8, *[MAX_RESEND_S] * 4]
    assert state.counts.resent == 8


def test_in_the_end_it_gives_up_and_names_who_is_missing() -> None:
    state, _ = run(sent(1, ALICE, BOB), AcknowledgementReceived(BOB, (name(1),)))
    state, effects = run(TimePassed(GIVE_UP_S), state=state)
    assert effects == [GiveUp(name(1), JOB, frozenset({ALICE})), Forget(name(1))]
    assert (state.counts.given_up, state.pending) == (1, {})
    assert run(AcknowledgementReceived(ALICE, (name(1),)), state=state) == (state, [])


def test_who_leaves_a_job_wants_nothing_of_it_any_more() -> None:
    state, effects = run(sent(1, ALICE), sent(2, ALICE, job=OTHER), JobLeft(JOB))
    assert effects[2:] == [Forget(name(1))]
    assert set(state.pending) == {name(2)}
    assert state.counts == Counts(sent=2, withdrawn=1)


def test_the_same_message_twice_is_one() -> None:
    state, _ = run(sent(1, ALICE), AcknowledgementReceived(ALICE, (name(1),)), sent(2, BOB), sent(2, BOB))
    assert state.counts.sent == 2
    assert adds_up(state)


# -- The recipient --------------------------------------------------------------------


def test_what_arrives_is_handed_on_once_and_acknowledged_each_time() -> None:
    state, effects = run(arrived(1), TimePassed(ACK_DELAY_S), arrived(1, 5.0), TimePassed(5.0 + ACK_DELAY_S))
    acknowledged = SendAcknowledgements(JOB, (name(1),))
    assert effects == [HandOn(name(1)), acknowledged, acknowledged]
    assert state.counts.duplicates == 1


def test_acknowledgements_wait_for_each_other_but_not_for_long() -> None:
    state, effects = run(arrived(1, 1.0), arrived(2, 1.04), arrived(1, 1.045))
    assert effects == [HandOn(name(1)), HandOn(name(2))]
    assert next_deadline_s(state) == 1.0 + ACK_DELAY_S
    _, effects = run(TimePassed(1.0 + ACK_DELAY_S), state=state)
    assert effects == [SendAcknowledgements(JOB, (name(1), name(2)))]


def test_acknowledgements_are_cut_to_fit_an_envelope() -> None:
    state, _ = run(*(arrived(n) for n in range(ACKS_AT_ONCE + 1)))
    _, effects = run(TimePassed(1.0), state=state)
    assert [len(e.messages) for e in effects if isinstance(e, SendAcknowledgements)] == [ACKS_AT_ONCE, 1]


def test_a_reader_along_acknowledges_nothing() -> None:
    state, effects = run(arrived(1, acknowledge=False))
    assert effects == [HandOn(name(1))]
    assert next_deadline_s(state) is None


def test_memory_of_ids_is_bounded() -> None:
    full = Delivery(seen=dict.fromkeys(map(name, range(SEEN))))
    state, effects = run(arrived(SEEN), state=full)
    assert effects == [HandOn(name(SEEN))]
    assert len(state.seen) == SEEN
    assert name(0) not in state.seen


# -- Both ---------------------------------------------------------------------------


@dataclass
class Net:
    """Peers who send each other messages over a network that loses, repeats and reorders."""

    numbers: random.Random
    loss: float
    peers: dict[bytes, Delivery] = field(default_factory=dict)
    flight: list[tuple[bytes, bytes, bytes | tuple[MessageId, ...]]] = field(default_factory=list)
    """(to, from, wire or acknowledgement)."""
    handed: dict[tuple[bytes, MessageId], int] = field(default_factory=dict)
    now_s: float = 0.0

    def step(self, peer: bytes, event: Event) -> None:
        self.peers[peer], effects = step(self.peers[peer], event)
        assert adds_up(self.peers[peer])
        for effect in effects:
            match effect:
                case Publish(_, wire):
                    self.send(peer, wire)
                case SendAcknowledgements(_, messages):
                    self.send(peer, messages)
                case HandOn(message):
                    self.handed[peer, message] = self.handed.get((peer, message), 0) + 1
                case GiveUp():
                    raise AssertionError("given up")
                case Forget():
                    pass

    def send(self, peer: bytes, what: bytes | tuple[MessageId, ...]) -> None:
        for to in self.peers:
            for _ in range(self.numbers.choice((1, 1, 2))):
                if to != peer and self.numbers.random() >= self.loss:
                    self.flight.append((to, peer, what))

    def deliver(self) -> None:
        to, sender, what = self.flight.pop(self.numbers.randrange(len(self.flight)))
        if isinstance(what, bytes):
            self.step(to, MessageArrived(MessageId(what), JOB, True, self.now_s))
        else:
            self.step(to, AcknowledgementReceived(sender, what))

    def run_until(self, end_s: float) -> None:
        while True:
            while self.flight:
                self.deliver()
            dues = [d for p in self.peers.values() if (d := next_deadline_s(p)) is not None]
            if not dues or min(dues) > end_s:
                return
            self.now_s = max(self.now_s, min(dues))
            for peer in self.peers:
                self.step(peer, TimePassed(self.now_s))


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([0.0, 0.2, 0.4]), st.integers(1, 12))
def test_everything_arrives_once_and_is_acknowledged(seed: int, peers: int, loss: float, messages: int) -> None:
    net = Net(random.Random(seed), loss, {b"%d" % i: Delivery() for i in range(peers)})
    everybody = frozenset(net.peers)
    for number in range(messages):
        sender = net.numbers.choice(sorted(everybody))
        recipients = everybody - {sender}
        net.step(sender, MessageSent(name(number), JOB, name(number), recipients, net.now_s))
        if net.flight and net.numbers.random() < 0.5:
            net.deliver()
    net.run_until(60.0)
    net.loss = 0.0  # half-lossy for a minute, then a good line: long before anybody gives up
    net.run_until(GIVE_UP_S - 1)
    assert all(not p.pending for p in net.peers.values())
    assert sum(p.counts.acknowledged for p in net.peers.values()) == messages
    assert len(net.handed) == messages * (peers - 1)
    assert set(net.handed.values()) == {1}
