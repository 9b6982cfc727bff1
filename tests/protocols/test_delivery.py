"""Delivery: what is acknowledged, resent, asked for and given up, by hand and over a network that loses much."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import delivery as machine
from protocols.bloom import MAX_IDS, build_filter, may_contain
from protocols.delivery import (
    ACK_DELAY_S,
    ACKS_AT_ONCE,
    ANSWERS,
    FIRST_RESEND_S,
    GIVE_UP_S,
    HISTORY,
    HOLD_S,
    JITTER,
    MAX_RESEND_S,
    QUIET_SYNCS,
    RESENDS_BURST,
    RESENDS_S,
    SEEN_S,
    SILENT_S,
    SYNC_S,
    WANTED,
    WANTS,
    Delivery,
)
from protocols.delivery_event import (
    AcknowledgementReceived,
    Counts,
    Effect,
    Event,
    HandOn,
    HeardBefore,
    JobLeft,
    MessageArrived,
    MessageSent,
    MessageTakenUp,
    Publish,
    SendAcknowledgements,
    SendSync,
    Settle,
    SyncReceived,
    TimePassed,
)
from protocols.ids import JobId
from protocols.message import MessageId

JOB, OTHER = JobId(b"j" * 32), JobId(b"o" * 32)
ALICE, BOB = b"alice", b"bob"


def name(number: int) -> MessageId:
    return MessageId(hashlib.sha256(b"%d" % number).digest())


def sent(number: int, *to: bytes, now_s: float = 0.0, job: JobId = JOB) -> MessageSent:
    return MessageSent(name(number), job, b"wire%d" % number, frozenset(to), now_s)


def arrived(
    number: int, now_s: float = 0.0, *, acknowledge: bool = True, after: tuple[int, ...] = (), ordered: bool = False
) -> MessageArrived:
    history = tuple(map(name, after))
    return MessageArrived(name(number), JOB, history, ordered, acknowledge, b"wire%d" % number, now_s)


def acknowledged(sender: bytes, *numbers: int, now_s: float = 0.0) -> AcknowledgementReceived:
    return AcknowledgementReceived(sender, tuple(map(name, numbers)), now_s)


def asked(*numbers: int, sender: bytes = BOB, now_s: float = 0.0) -> SyncReceived:
    return SyncReceived(sender, JOB, (), b"", tuple(map(name, numbers)), now_s)


def run(*events: Event, state: Delivery) -> list[Effect]:
    return [effect for event in events for effect in state.handle(event)]


def wait(state: Delivery, until_s: float) -> list[Effect]:
    """Let time pass, task by task."""
    effects = []
    while (due_s := state.next_deadline_s()) is not None and due_s <= until_s:
        effects += state.handle(TimePassed(due_s))
    return effects


def without_syncs(effects: list[Effect]) -> list[Effect]:
    return [e for e in effects if not isinstance(e, SendSync)]


@pytest.fixture
def state() -> Delivery:
    return Delivery(b"seed")


def adds_up(state: Delivery) -> bool:
    counts = state.counts
    return counts.sent == counts.acknowledged + counts.given_up + counts.withdrawn + len(state.pending)


# -- The sender --------------------------------------------------------------------


def test_a_message_is_done_when_everybody_said_so(state: Delivery) -> None:
    effects = run(sent(1, ALICE, BOB), acknowledged(ALICE, 1), state=state)
    assert effects == [Publish(JOB, b"wire1")]
    effects = run(acknowledged(BOB, 1, now_s=0.5), state=state)
    assert effects == [Settle(name(1), JOB, frozenset({ALICE, BOB}), frozenset(), 0.0, 0.5)]
    assert state.counts == Counts(sent=1, acknowledged=1)
    assert without_syncs(wait(state, 1000)) == []


def test_only_recipients_count(state: Delivery) -> None:
    assert run(sent(1, ALICE), acknowledged(BOB, 1, 2), state=state)[1:] == []
    assert state.pending[name(1)].missing == {ALICE}


def test_a_message_for_nobody_in_particular_is_published_once(state: Delivery) -> None:
    assert run(sent(1), state=state) == [Publish(JOB, b"wire1")]
    assert without_syncs(wait(state, 1000)) == []
    assert state.counts == Counts()


def test_resends_back_off_with_jitter(state: Delivery) -> None:
    run(sent(1, ALICE), state=state)
    dues = []
    while (due_s := state.next_deadline_s()) is not None and due_s < GIVE_UP_S:
        if Publish(JOB, b"wire1") in state.handle(TimePassed(due_s)):
            dues.append(due_s)
    gaps = [b - a for a, b in zip([0.0, *dues], dues, strict=False)]
    for gap, wanted in zip(gaps, [FIRST_RESEND_S, 2, 4, 8, *[MAX_RESEND_S] * 9], strict=False):
        assert wanted * (1 - JITTER) <= gap <= wanted * (1 + JITTER)
    assert state.counts.resent == len(dues) >= 8
    assert len({round(gap % 1, 3) for gap in gaps}) > 4


def test_what_was_lost_together_is_not_sent_again_together(state: Delivery) -> None:
    run(*(sent(n, ALICE) for n in range(200)), state=state)
    early = [e for e in wait(state, FIRST_RESEND_S) if isinstance(e, Publish)]
    assert 50 < len(early) < 150


def test_in_the_end_it_gives_up_and_names_who_is_missing(state: Delivery) -> None:
    run(sent(1, ALICE, BOB), acknowledged(BOB, 1), state=state)
    (verdict,) = [e for e in wait(state, GIVE_UP_S + 30) if isinstance(e, Settle)]
    assert (verdict.reached, verdict.missing, verdict.since_s) == ({BOB}, {ALICE}, 0.0)
    assert verdict.at_s >= GIVE_UP_S
    assert (state.counts.given_up, state.pending) == (1, {})
    assert run(acknowledged(ALICE, 1), state=state) == []


def test_who_leaves_a_job_wants_nothing_of_it_any_more(state: Delivery) -> None:
    run(sent(1, ALICE), sent(2, ALICE, job=OTHER), state=state)
    assert run(JobLeft(JOB, 3.0), state=state) == [Settle(name(1), JOB, frozenset(), frozenset({ALICE}), 0.0, 3.0)]
    assert set(state.pending) == {name(2)}
    assert state.counts == Counts(sent=2, withdrawn=1)
    assert Publish(JOB, b"wire1") not in wait(state, GIVE_UP_S)


def test_the_same_message_twice_is_one(state: Delivery) -> None:
    run(sent(1, ALICE), acknowledged(ALICE, 1), sent(2, BOB), sent(2, BOB), state=state)
    assert state.counts.sent == 2
    assert adds_up(state)


def test_the_outbox_is_taken_up_again_and_keeps_its_time(state: Delivery) -> None:
    taken = MessageTakenUp(name(1), JOB, b"wire1", frozenset({ALICE}), since_s=10.0, now_s=100.0)
    assert run(taken, state=state) == []
    assert Publish(JOB, b"wire1") in wait(state, 100 + FIRST_RESEND_S * (1 + JITTER))
    (verdict,) = [e for e in wait(state, 10 + GIVE_UP_S + 20) if isinstance(e, Settle)]
    assert verdict.since_s == 10.0
    assert verdict.at_s < 100 + GIVE_UP_S


def test_where_everybody_is_slow_nobody_is_hurried(state: Delivery) -> None:
    """Round trips of three seconds are learned, and then nothing is sent twice."""
    for n in range(300):
        run(sent(n, ALICE, now_s=10.0 * n), acknowledged(ALICE, n, now_s=10.0 * n + 3), state=state)
    run(sent(1000, ALICE, now_s=4000.0), state=state)
    assert Publish(JOB, b"wire1000") not in wait(state, 4002.0)
    assert state._patience_s > 3


def test_resends_of_a_node_are_bounded(state: Delivery) -> None:
    run(*(sent(n, ALICE, BOB) for n in range(3000)), state=state)
    for second in range(1, 10):
        run(acknowledged(BOB, now_s=float(second)), state=state)
        wait(state, float(second))
    assert state.counts.resent <= RESENDS_BURST + 9 * RESENDS_S
    assert len(state.pending) == 3000


def test_who_is_silent_is_probed_and_told_the_rest_when_it_is_back(state: Delivery) -> None:
    run(*(sent(n, ALICE) for n in range(100)), state=state)
    wait(state, 2 * SILENT_S)
    before = state.counts.resent
    wait(state, 6 * SILENT_S)
    assert state.counts.resent - before < 20
    has = build_filter([name(1000)])
    effects = run(SyncReceived(ALICE, JOB, (), has, (), 6 * SILENT_S), state=state)
    assert len([e for e in effects if isinstance(e, Publish)]) > 90


# -- The recipient --------------------------------------------------------------------


def test_what_arrives_is_handed_on_once_and_acknowledged_each_time(state: Delivery) -> None:
    effects = run(arrived(1), TimePassed(ACK_DELAY_S), arrived(1, 5.0), TimePassed(5.0 + ACK_DELAY_S), state=state)
    said = SendAcknowledgements(JOB, (name(1),))
    assert without_syncs(effects) == [HandOn(name(1)), said, said]
    assert state.counts.duplicates == 1


def test_acknowledgements_wait_for_each_other_but_not_for_long(state: Delivery) -> None:
    effects = run(arrived(1, 1.0), arrived(2, 1.04), arrived(1, 1.045), state=state)
    assert effects == [HandOn(name(1)), HandOn(name(2))]
    assert state.next_deadline_s() == 1.0 + ACK_DELAY_S
    assert run(TimePassed(1.0 + ACK_DELAY_S), state=state) == [SendAcknowledgements(JOB, (name(1), name(2)))]


def test_acknowledgements_are_cut_to_fit_an_envelope(state: Delivery) -> None:
    run(*(arrived(n) for n in range(ACKS_AT_ONCE + 1)), state=state)
    effects = run(TimePassed(1.0), state=state)
    assert [len(e.messages) for e in effects if isinstance(e, SendAcknowledgements)] == [ACKS_AT_ONCE, 1]


def test_a_reader_along_acknowledges_nothing_and_says_nothing(state: Delivery) -> None:
    assert run(arrived(1, acknowledge=False), state=state) == [HandOn(name(1))]
    assert state.next_deadline_s() is None


def test_what_a_former_life_heard_is_not_handed_on_again(state: Delivery) -> None:
    effects = run(HeardBefore(JOB, (name(1), name(2)), 0.0), arrived(2, 10.0), arrived(3, 10.0), state=state)
    assert effects == [HandOn(name(3))]
    assert state.history(JOB) == (name(1), name(2), name(3))


def test_ids_are_forgotten_when_their_envelopes_are_too_old_to_come_again(state: Delivery) -> None:
    run(arrived(1), state=state)
    run(TimePassed(SEEN_S - 1), state=state)
    assert state.has_heard(name(1))
    run(TimePassed(SEEN_S * 1.2), state=state)
    assert not state.has_heard(name(1))


# -- Order ----------------------------------------------------------------------------


def test_a_message_names_the_last_that_its_sender_knew(state: Delivery) -> None:
    run(*(arrived(n) for n in range(5)), sent(5), state=state)
    assert state.history(JOB) == tuple(name(n) for n in (2, 3, 4, 5))
    assert state.history(OTHER) == ()


def test_order_is_kept_where_it_is_asked_for(state: Delivery) -> None:
    effects = run(
        arrived(4, after=(3,), ordered=True),
        arrived(3, after=(2,), ordered=True),
        arrived(9, after=(2,)),
        arrived(2, after=(1,), ordered=True),
        arrived(1),
        state=state,
    )
    assert effects == [HandOn(name(n)) for n in (9, 1, 2, 3, 4)]
    assert state.history(JOB) == tuple(name(n) for n in (1, 2, 3, 4))
    assert state.counts.late == 0


def test_a_history_that_never_was_holds_nobody_up_for_long(state: Delivery) -> None:
    run(arrived(2, after=(77,), ordered=True), state=state)
    effects = without_syncs(wait(state, HOLD_S))
    assert HandOn(name(2)) in effects
    assert state.counts.late == 1


def test_history_after_a_restart_or_of_ours_is_known(state: Delivery) -> None:
    run(sent(1), HeardBefore(JOB, (name(2),), 0.0), state=state)
    assert run(arrived(3, after=(1, 2), ordered=True), state=state) == [HandOn(name(3))]
    assert state.counts.asked == 0


# -- Gaps -----------------------------------------------------------------------------


def test_what_others_name_and_we_lack_is_asked_for_until_it_comes(state: Delivery) -> None:
    run(arrived(2, after=(1,)), state=state)
    requests = [e for e in wait(state, 2.5) if isinstance(e, SendSync) and e.wanted]
    assert [e.wanted for e in requests] == [(name(1),)] * 2
    assert run(arrived(1, 2.5), state=state)[0] == HandOn(name(1))
    assert (state.counts.asked, state.counts.recovered) == (1, 1)
    assert not [e for e in wait(state, 1000) if isinstance(e, SendSync) and e.wanted]


def test_what_nobody_has_is_not_asked_for_for_ever(state: Delivery) -> None:
    run(arrived(2, after=(1,)), state=state)
    effects = wait(state, 1000)
    assert len([e for e in effects if isinstance(e, SendSync) and e.wanted]) == WANTS
    run(arrived(3, 1000, after=(1,), ordered=True), state=state)
    assert not [e for e in wait(state, 2000) if isinstance(e, SendSync) and e.wanted]
    assert state.counts.late == 0


def test_what_we_sent_we_send_again_at_once(state: Delivery) -> None:
    run(sent(1, ALICE), state=state)
    assert run(asked(1, now_s=0.1), state=state) == []  # it is on its way
    assert run(asked(1, now_s=0.6), asked(1, now_s=0.7), state=state) == [Publish(JOB, b"wire1")]


def test_of_those_who_have_a_message_one_answers(state: Delivery) -> None:
    """Each waits for a time of its own, and who sees another's answer is silent."""
    run(arrived(1), state=state)
    assert run(asked(1, now_s=5.0), state=state) == []
    assert Publish(JOB, b"wire1") in wait(state, 5.5)
    run(asked(1, now_s=10.0), arrived(1, 10.01), state=state)
    assert Publish(JOB, b"wire1") not in wait(state, 11)
    assert state.counts.answered == 1


def test_whoever_asks_much_gets_little(state: Delivery) -> None:
    run(*(arrived(n) for n in range(200)), state=state)
    run(asked(*range(200), now_s=5.0), state=state)
    answers = [e for e in wait(state, 5.5) if isinstance(e, Publish)]
    assert len(answers) == ANSWERS


def test_invented_histories_are_bounded(state: Delivery) -> None:
    for n in range(WANTED):
        run(arrived(n, after=tuple(range(10**6 + 8 * n, 10**6 + 8 * n + 8))), state=state)
    assert len(state._channels[JOB].wanted) == WANTED
    wait(state, 1000)
    assert len(state._channels[JOB].lost) == WANTED
    assert not state._channels[JOB].wanted


def test_kept_messages_are_bounded(state: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "KEPT_BYTES", 20)
    run(*(arrived(n) for n in range(9)), state=state)
    assert list(state._channels[JOB].kept.values()) == [b"wire%d" % n for n in (5, 6, 7, 8)]


# -- Sync -----------------------------------------------------------------------------


def test_after_messages_a_member_says_what_it_has_and_then_is_silent(state: Delivery) -> None:
    run(arrived(1), sent(2), state=state)
    syncs = [e for e in wait(state, 1000) if isinstance(e, SendSync)]
    assert len(syncs) == QUIET_SYNCS
    assert {(e.heads, e.wanted) for e in syncs} == {((name(1), name(2)), ())}
    assert all(may_contain(syncs[0].has, name(n)) for n in (1, 2))
    assert state.next_deadline_s() is None


def test_heads_that_we_lack_are_asked_for(state: Delivery) -> None:
    """The last message of a burst is named by no other."""
    run(SyncReceived(ALICE, JOB, (name(7),), b"", (), 0.0), state=state)
    assert any(isinstance(e, SendSync) and e.wanted == (name(7),) for e in wait(state, SYNC_S))


def test_who_certainly_lacks_a_message_gets_it_before_its_time(state: Delivery) -> None:
    run(sent(1, ALICE), sent(2, ALICE), state=state)
    has = build_filter([name(2)])
    assert run(SyncReceived(ALICE, JOB, (), has, (), 0.1), state=state) == []  # it may be on its way
    assert run(SyncReceived(BOB, JOB, (), has, (), 1.1), state=state) == []  # nobody asked it
    assert run(SyncReceived(ALICE, JOB, (), has, (), 1.1), state=state) == [Publish(JOB, b"wire1")]


@given(st.sets(st.integers(0, 2**200), max_size=200), st.integers(0, 2**32))
def test_a_filter_forgets_nothing_and_invents_little(numbers: set[int], salt: int) -> None:
    chance = random.Random(salt)
    ids = {n: chance.randbytes(32) for n in numbers}
    bits = build_filter(ids.values())
    assert all(may_contain(bits, each) for each in ids.values())
    strangers = [chance.randbytes(32) for _ in range(200)]
    assert sum(may_contain(bits, each) for each in strangers) <= 20


def test_the_largest_filter_is_small() -> None:
    chance = random.Random(1)
    bits = build_filter([chance.randbytes(32) for _ in range(MAX_IDS)])
    assert len(bits) == 1280
    assert sum(may_contain(bits, chance.randbytes(32)) for _ in range(10_000)) < 200


# -- Both ---------------------------------------------------------------------------

Wire = tuple[MessageId, tuple[MessageId, ...]]


@dataclass
class Net:
    """Peers who send each other messages over a network that loses, repeats and reorders; some forget all but disk."""

    numbers: random.Random
    loss: float
    peers: dict[bytes, Delivery] = field(default_factory=dict)
    flight: list[tuple[bytes, bytes, bytes | SendAcknowledgements | SendSync]] = field(default_factory=list)
    histories: dict[bytes, tuple[MessageId, ...]] = field(default_factory=dict)
    """By wire."""
    handed: dict[bytes, list[MessageId]] = field(default_factory=dict)
    heard: dict[bytes, dict[MessageId, None]] = field(default_factory=dict)
    """On disk: ours, and what arrived, with its body."""
    disk: dict[bytes, dict[MessageId, tuple[bytes, frozenset[bytes], float]]] = field(default_factory=dict)
    posted: dict[bytes, set[MessageId]] = field(default_factory=lambda: defaultdict(set))
    now_s: float = 0.0
    boots: int = 0

    def start(self, peer: bytes) -> None:
        self.boots += 1
        self.peers[peer] = Delivery(b"%d" % self.boots)
        heard, handed = self.heard.setdefault(peer, {}), self.handed.setdefault(peer, [])
        self.peers[peer].handle(HeardBefore(JOB, tuple(heard), self.now_s))
        handed += [m for m in heard if m not in handed and m not in self.posted[peer]]  # the actor reads kept mail
        for message, (wire, recipients, since_s) in self.disk.setdefault(peer, {}).items():
            self.peers[peer].handle(MessageTakenUp(message, JOB, wire, recipients, since_s, self.now_s))

    def post(self, peer: bytes, message: MessageId, recipients: frozenset[bytes]) -> None:
        self.histories[message] = self.peers[peer].history(JOB)
        self.disk[peer][message] = message, recipients, self.now_s
        self.heard[peer][message] = None
        self.posted[peer].add(message)
        self.step(peer, MessageSent(message, JOB, message, recipients, self.now_s))

    def step(self, peer: bytes, event: Event) -> None:
        for effect in self.peers[peer].handle(event):
            match effect:
                case Publish(_, wire):
                    self.send(peer, wire)
                case SendAcknowledgements() | SendSync():
                    self.send(peer, effect)
                case HandOn(message):
                    self.handed[peer].append(message)
                case Settle(message, missing=missing):
                    assert not missing, "given up"
                    del self.disk[peer][message]
        assert adds_up(self.peers[peer])

    def send(self, peer: bytes, what: bytes | SendAcknowledgements | SendSync) -> None:
        for to in self.peers:
            for _ in range(self.numbers.choice((1, 1, 2))):
                if to != peer and self.numbers.random() >= self.loss:
                    self.flight.append((to, peer, what))

    def deliver(self) -> None:
        to, sender, what = self.flight.pop(self.numbers.randrange(len(self.flight)))
        match what:
            case bytes() if MessageId(what) in self.posted[to]:
                pass  # our own: gossip knows its sender
            case bytes():
                self.heard[to][MessageId(what)] = None
                self.step(to, MessageArrived(MessageId(what), JOB, self.histories[what], True, True, what, self.now_s))
            case SendAcknowledgements(_, messages):
                self.step(to, AcknowledgementReceived(sender, messages, self.now_s))
            case SendSync(_, heads, has, wanted):
                self.step(to, SyncReceived(sender, JOB, heads, has, wanted, self.now_s))

    def run_until(self, end_s: float) -> None:
        while True:
            while self.flight:
                self.deliver()
            dues = [d for p in self.peers.values() if (d := p.next_deadline_s()) is not None]
            if not dues or min(dues) > end_s:
                return
            self.now_s = max(self.now_s, min(dues))
            for peer in self.peers:
                self.step(peer, TimePassed(self.now_s))


def play(seed: int, peers: int, loss: float, messages: int, kills: int) -> Net:
    net = Net(random.Random(seed), loss)
    everybody = frozenset(b"%d" % i for i in range(peers))
    for peer in sorted(everybody):
        net.start(peer)
    for number in range(messages):
        sender = net.numbers.choice(sorted(everybody))
        net.post(sender, name(number), everybody - {sender})
        if net.flight and net.numbers.random() < 0.5:
            net.deliver()
        if kills and net.numbers.random() < 0.3:
            kills -= 1
            net.run_until(net.now_s + net.numbers.random())
            net.start(net.numbers.choice(sorted(everybody)))
    net.run_until(60.0)
    net.loss = 0.0  # lossy for a minute, then a good line: long before anybody gives up
    net.run_until(GIVE_UP_S - 1)
    assert not any(p.pending for p in net.peers.values())
    assert not any(net.disk.values())
    assert sum(map(len, net.handed.values())) == messages * (peers - 1)
    assert all(len(set(handed)) == len(handed) for handed in net.handed.values())
    return net


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([0.0, 0.2, 0.4]), st.integers(1, 12))
def test_everything_arrives_once_and_is_acknowledged(seed: int, peers: int, loss: float, messages: int) -> None:
    net = play(seed, peers, loss, messages, kills=0)
    assert sum(p.counts.acknowledged for p in net.peers.values()) == messages


@given(st.integers(0, 2**32), st.integers(2, 4), st.sampled_from([0.0, 0.3]), st.integers(1, 12))
def test_restarts_lose_nothing_and_hand_nothing_on_twice(seed: int, peers: int, loss: float, messages: int) -> None:
    play(seed, peers, loss, messages, kills=3)


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(2, 20))
def test_a_network_that_only_reorders_keeps_causal_order(seed: int, peers: int, messages: int) -> None:
    net = play(seed, peers, 0.0, messages, kills=0)
    for peer, handed in net.handed.items():
        known = set(net.histories) - set(handed)  # its own
        for message in handed:
            assert set(net.histories[message]) <= known, peer
            known.add(message)


def test_a_history_covers_what_is_named() -> None:
    assert HISTORY <= 8
