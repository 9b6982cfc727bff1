"""The address book: whom it dials, when it waits, and what strangers can't do to it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.discovery import (
    FIRST_RETRY_S,
    HELLO_S,
    MAX_ADDRESS_CHARS,
    MAX_ADDRESSES,
    MAX_DIALS,
    MAX_FAILURES,
    MAX_PEERS,
    MAX_RETRY_S,
    TARGET,
    AddressesHeard,
    Book,
    Dial,
    DialFailed,
    Effect,
    Event,
    PeerConnected,
    PeerLost,
    SayHello,
    TimePassed,
    peer_of,
    step,
)
from protocols.ids import PeerId

ME = PeerId("me")
ALICE = PeerId("alice")


def at(peer: str, port: int = 1) -> str:
    return f"/ip4/192.0.2.1/tcp/{port}/p2p/{peer}"


def heard(*peers: str) -> AddressesHeard:
    return AddressesHeard(tuple(map(at, peers)))


def run(*events: Event, book: Book | None = None) -> tuple[Book, list[Effect]]:
    book, effects = book or Book(ME), []
    for event in events:
        book, more = step(book, event)
        effects += more
    return book, effects


def dialled(effects: list[Effect]) -> list[PeerId]:
    return [e.peer for e in effects if isinstance(e, Dial)]


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("/ip4/192.0.2.1/tcp/1/p2p/alice", "alice"),
        ("/dns4/example.org/tcp/443/p2p/alice", "alice"),
        ("/ip4/192.0.2.1/tcp/1/p2p/relay/p2p-circuit/p2p/alice", "alice"),
        ("/ip4/192.0.2.1/tcp/1", None),
        ("/ip4/192.0.2.1/tcp/1/p2p/", None),
        ("/ip4/192.0.2.1/tcp/1/p2p/alice/ws", None),
        ("192.0.2.1/p2p/alice", None),
        ("/p2p/alice", None),
        ("", None),
        ("/ip4/" + "1" * MAX_ADDRESS_CHARS + "/p2p/alice", None),
    ],
)
def test_which_peer_an_address_ends_in(address: str, peer: str | None) -> None:
    assert peer_of(address) == peer


def test_what_is_heard_of_is_dialled_once() -> None:
    book, effects = run(heard("alice", "me"), TimePassed(1.0), TimePassed(2.0))
    assert effects == [Dial(ALICE, (at("alice"),))]
    book, effects = run(PeerConnected(ALICE), TimePassed(3.0), TimePassed(4.0), book=book)
    assert effects == [SayHello()]
    assert not book.dialling


def test_a_failed_dial_is_tried_again_later_and_later() -> None:
    book, _ = run(heard("alice"), TimePassed(0.0))
    now_s, waits = 0.0, []
    for _ in range(9):
        book, _ = run(DialFailed(ALICE, now_s), book=book)
        due_s = book.contacts[ALICE].due_s
        assert dialled(run(TimePassed(due_s - 0.01), book=book)[1]) == []
        book, effects = run(TimePassed(due_s), book=book)
        assert dialled(effects) == [ALICE]
        waits.append(due_s - now_s)
        now_s = due_s
    assert waits == [FIRST_RETRY_S * 2**n for n in range(7)] + [MAX_RETRY_S] * 2
    book, _ = run(PeerConnected(ALICE), PeerLost(ALICE, now_s), book=book)
    assert book.contacts[ALICE].due_s == now_s + FIRST_RETRY_S


def test_connections_have_an_end() -> None:
    names = [f"p{i:02}" for i in range(TARGET + 20)]
    book, effects = run(heard(*names), TimePassed(0.0))
    assert len(dialled(effects)) == MAX_DIALS
    connected = [PeerConnected(PeerId(p)) for p in names[: TARGET - 2]]
    book, _ = run(*(DialFailed(p, 0.0) for p in sorted(book.dialling)), *connected, book=book)
    assert len(dialled(run(TimePassed(100.0), book=book)[1])) == 2


def test_who_failed_least_is_dialled_first() -> None:
    names = [f"p{i:02}" for i in range(MAX_DIALS)]
    book, _ = run(heard(*names), *(DialFailed(PeerId(p), 0.0) for p in names), heard("zoe"))
    _, effects = run(TimePassed(100.0), book=book)
    assert dialled(effects)[0] == "zoe"


def test_newcomers_hear_of_us_at_once_the_others_in_turn() -> None:
    book, effects = run(TimePassed(0.0), PeerConnected(ALICE), TimePassed(0.25), TimePassed(0.5))
    assert effects == [SayHello()]
    book, effects = run(TimePassed(0.25 + HELLO_S), book=book)
    assert effects == [SayHello()]
    assert run(PeerConnected(PeerId("bob")), TimePassed(1.0 + HELLO_S), book=book)[1] == [SayHello()]


def test_an_address_book_is_bounded() -> None:
    book, _ = run(*(AddressesHeard((at("alice", port),)) for port in range(20)))
    assert book.contacts[ALICE].addresses == tuple(at("alice", p) for p in range(19, 19 - MAX_ADDRESSES, -1))
    book, _ = run(heard(*(f"p{i}" for i in range(MAX_PEERS))), heard("late"), book=book)
    assert len(book.contacts) == MAX_PEERS


def test_invented_contacts_make_room() -> None:
    names = [PeerId(f"p{i}") for i in range(MAX_PEERS)]
    book, _ = run(heard(*names), heard("late"))
    assert "late" not in book.contacts
    failures = [DialFailed(names[7], float(n)) for n in range(MAX_FAILURES + 1)]
    book, _ = run(*failures, heard("late"), book=book)
    assert "late" in book.contacts
    assert names[7] not in book.contacts


def test_a_connected_peer_is_not_forgotten() -> None:
    names = [PeerId(f"p{i}") for i in range(MAX_PEERS)]
    failures = [DialFailed(names[7], float(n)) for n in range(MAX_FAILURES + 1)]
    book, _ = run(heard(*names), *failures)
    connected = Book(ME, book.contacts, frozenset({names[7]}))
    assert names[7] in run(heard("late"), book=connected)[0].contacts


@given(st.integers(0, 2**32))
def test_any_history_keeps_the_bounds(seed: int) -> None:
    numbers, book, now_s = random.Random(seed), Book(ME), 0.0
    for _ in range(200):
        peer = PeerId(f"p{numbers.randrange(400)}")
        now_s += numbers.random()
        events: list[Event] = [heard(*(f"p{numbers.randrange(400)}" for _ in range(60)))]
        events += [PeerConnected(peer), PeerLost(peer, now_s), DialFailed(peer, now_s), *[TimePassed(now_s)] * 3]
        book, effects = step(book, numbers.choice(events))
        assert len(book.contacts) <= MAX_PEERS
        assert len(book.dialling) <= MAX_DIALS
        assert all(e.peer in book.dialling and e.addresses for e in effects if isinstance(e, Dial))
        assert ME not in book.contacts
