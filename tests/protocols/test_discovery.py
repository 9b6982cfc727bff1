"""The address book: whom it dials, when it waits, and what strangers can't do to it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.discovery import (
    ASK_S,
    FIRST_RETRY_S,
    HELLO_S,
    KEEP_S,
    LISTS_RETRY_S,
    LISTS_S,
    MAX_ADDRESS_CHARS,
    MAX_ADDRESSES,
    MAX_DIALS,
    MAX_FAILURES,
    MAX_HEARD,
    MAX_PEERS,
    MAX_PREFIX_CONTACTS,
    MAX_REPLACED,
    MAX_RETRY_S,
    TARGET,
    AddressesHeard,
    AskPeers,
    Book,
    Contact,
    ContactsRead,
    Dial,
    DialAnswered,
    DialFailed,
    Effect,
    Event,
    KeepContacts,
    PeerConnected,
    PeerLost,
    ReadList,
    SayHello,
    TimePassed,
    peer_of,
    step,
)
from protocols.ids import PeerId

ME = PeerId("me")
ALICE, BOB = PeerId("alice"), PeerId("bob")


def at(peer: str, port: int = 1, host: str = "192.168.0.1") -> str:
    return f"/ip4/{host}/tcp/{port}/p2p/{peer}"


def heard(*peers: str) -> AddressesHeard:
    """In our own network, where places are not counted."""
    return AddressesHeard(tuple(map(at, peers)))


def many(count: int, first: int = 0) -> list[Event]:
    return [
        heard(*(f"p{n}" for n in range(k, min(k + MAX_HEARD, first + count))))
        for k in range(first, first + count, MAX_HEARD)
    ]


def up(peer: str, now_s: float = 0.0) -> PeerConnected:
    return PeerConnected(PeerId(peer), now_s)


def down(peer: str, times: int = MAX_FAILURES + 1) -> list[Event]:
    return [DialFailed(PeerId(peer), float(n)) for n in range(times)]


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
    book, effects = run(up("alice"), TimePassed(3.0), TimePassed(4.0), book=book)
    assert effects[:2] == [SayHello(), AskPeers(ALICE)]
    assert not dialled(effects)
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
    book, _ = run(up("alice"), PeerLost(ALICE, now_s), book=book)
    assert book.contacts[ALICE].due_s == now_s + FIRST_RETRY_S


def test_connections_have_an_end() -> None:
    names = [f"p{i:02}" for i in range(TARGET + 20)]
    book, effects = run(heard(*names), TimePassed(0.0))
    assert len(dialled(effects)) == MAX_DIALS
    connected = [up(p) for p in names[: TARGET - 2]]
    book, _ = run(*(DialFailed(p, 0.0) for p in sorted(book.dialling)), *connected, book=book)
    assert len(dialled(run(TimePassed(100.0), book=book)[1])) == 2


def test_who_failed_least_is_dialled_first() -> None:
    names = [f"p{i:02}" for i in range(MAX_DIALS)]
    book, _ = run(heard(*names), *(DialFailed(PeerId(p), 0.0) for p in names), heard("zoe"))
    _, effects = run(TimePassed(100.0), book=book)
    assert dialled(effects)[0] == "zoe"


def test_then_who_is_from_elsewhere_and_who_answered_most() -> None:
    near = [at(f"a{n}", host=f"1.2.3.{n}") for n in range(4)]
    book, _ = run(AddressesHeard((*near, at("zoe", host="5.6.7.8"))), up("a0"), TimePassed(0.0))
    book = Book(ME, contacts=book.contacts, connected=frozenset({PeerId("a0")}))
    assert dialled(run(TimePassed(1.0), book=book)[1]) == ["zoe", "a1", "a2", "a3"]
    book, _ = run(DialAnswered(PeerId("a3"), near[3], 1.0), book=book)
    assert dialled(run(TimePassed(1.0), book=book)[1]) == ["zoe", "a3", "a1", "a2"]


def test_newcomers_hear_of_us_at_once_the_others_in_turn() -> None:
    book, effects = run(TimePassed(0.0), up("alice"), TimePassed(0.25), TimePassed(0.5))
    assert effects == [SayHello(), AskPeers(ALICE)]
    book, effects = run(TimePassed(0.25 + HELLO_S), book=book)
    assert effects == [SayHello()]
    assert run(up("bob"), TimePassed(1.0 + HELLO_S), book=book)[1] == [SayHello()]


# -- Where others are heard of -------------------------------------------------


def test_connected_peers_are_asked_in_turn_until_there_are_enough() -> None:
    book, effects = run(up("alice"), up("bob"), *(TimePassed(n * ASK_S) for n in range(4)))
    assert [e.peer for e in effects if isinstance(e, AskPeers)] == [ALICE, BOB, ALICE, BOB]
    enough = [up(f"p{n}") for n in range(TARGET)]
    assert not any(isinstance(e, AskPeers) for e in run(*enough, TimePassed(1e6), book=book)[1])


def test_lists_are_read_at_the_start_and_sooner_while_alone() -> None:
    book, effects = run(TimePassed(0.0), TimePassed(1.0), book=Book(ME, ("enrtree://a", "enrtree://b")))
    assert effects == [ReadList("enrtree://a"), ReadList("enrtree://b")]
    book, effects = run(TimePassed(LISTS_RETRY_S), up("alice"), TimePassed(2 * LISTS_RETRY_S), book=book)
    assert sum(isinstance(e, ReadList) for e in effects) == 4
    _, effects = run(TimePassed(LISTS_RETRY_S + LISTS_S), TimePassed(2 * LISTS_RETRY_S + LISTS_S), book=book)
    assert sum(isinstance(e, ReadList) for e in effects) == 2


# -- The book ------------------------------------------------------------------


def test_an_address_book_is_bounded() -> None:
    book, _ = run(*(AddressesHeard((at("alice", port),)) for port in range(20)))
    assert book.contacts[ALICE].addresses == tuple(at("alice", p) for p in range(19, 19 - MAX_ADDRESSES, -1))
    book, _ = run(*many(MAX_PEERS), heard("late"), book=book)
    assert len(book.contacts) == MAX_PEERS
    assert len(run(heard(*(f"p{n}" for n in range(1000))))[0].contacts) == MAX_HEARD


def test_the_address_that_answered_stays_first() -> None:
    book, _ = run(AddressesHeard((at("alice", 1), at("alice", 2))), DialAnswered(ALICE, at("alice", 1), 5.0))
    book, _ = run(*(AddressesHeard((at("alice", port),)) for port in range(3, 30)), book=book)
    assert book.contacts[ALICE].addresses == tuple(at("alice", p) for p in (1, 29, 28, 27, 26, 25, 24, 23))


def test_scores_follow_what_dials_came_to() -> None:
    book, _ = run(heard("alice"), *[DialAnswered(ALICE, at("alice"), 1.0)] * 20)
    assert book.contacts[ALICE].score > 0.99
    assert (book.contacts[ALICE].failures, book.contacts[ALICE].answered_s) == (0, 1.0)
    book, _ = run(DialFailed(ALICE, 2.0), book=book)
    assert 0.74 < book.contacts[ALICE].score < 0.76
    assert (book.contacts[ALICE].failures, book.contacts[ALICE].answered_s) == (1, 1.0)


def test_invented_contacts_make_room() -> None:
    book, _ = run(*many(MAX_PEERS), heard("late"))
    assert "late" not in book.contacts
    book, _ = run(*down("p7"), heard("late"), book=book)
    assert "late" in book.contacts
    assert "p7" not in book.contacts


def test_who_never_answered_goes_before_who_did() -> None:
    book, _ = run(*many(MAX_PEERS), DialAnswered(PeerId("p1"), at("p1"), 1.0), *down("p1", 9), *down("p2"))
    book, _ = run(heard("late"), book=book)
    assert "p1" in book.contacts
    assert "p2" not in book.contacts
    assert "p1" not in run(heard("later"), book=book)[0].contacts


@pytest.mark.parametrize("state", ["connected", "dialling", "fixed"])
def test_who_is_needed_is_not_forgotten(state: str) -> None:
    book, _ = run(*many(MAX_PEERS), *down("p7"))
    needed = Book(ME, contacts=book.contacts, **{state: frozenset({PeerId("p7")})})  # type: ignore[arg-type]
    assert "p7" in run(heard("late"), book=needed)[0].contacts


def test_one_message_pushes_out_few() -> None:
    book, _ = run(*many(MAX_PEERS), *(e for n in range(40) for e in down(f"p{n}")))
    book, _ = run(heard(*(f"new{n}" for n in range(40))), book=book)
    assert sum(peer.startswith("new") for peer in book.contacts) == MAX_REPLACED


def test_the_configuration_has_room_in_a_full_book() -> None:
    book, _ = run(*many(MAX_PEERS), AddressesHeard((at("alice"),), fixed=True))
    assert ALICE in book.contacts
    assert ALICE in book.fixed


def test_one_part_of_the_internet_has_so_many_places() -> None:
    flood = [AddressesHeard((at(f"f{n}", host=f"1.2.{n // 250}.{n % 250}"),)) for n in range(1000)]
    book, _ = run(*flood)
    assert len(book.contacts) == MAX_PREFIX_CONTACTS
    book, _ = run(*down("f3"), AddressesHeard((at("new", host="1.2.9.9"),)), book=book)
    assert "new" in book.contacts
    assert "f3" not in book.contacts
    names = [AddressesHeard((f"/dns4/h{n}.evil.org/tcp/1/p2p/n{n}",)) for n in range(1000)]
    assert len(run(*names)[0].contacts) == MAX_PREFIX_CONTACTS


def test_an_empty_part_of_the_internet_pushes_out_a_full_one() -> None:
    book, _ = run(*(AddressesHeard((at(f"f{n}", host=f"{n % 8 + 1}.2.0.{n // 8}"),)) for n in range(MAX_PEERS)))
    assert len(book.contacts) == MAX_PEERS
    book, _ = run(AddressesHeard((at("rare", host="99.1.1.1"),)), book=book)
    assert "rare" in book.contacts
    assert len(book.contacts) == MAX_PEERS
    answered = Book(ME, contacts={p: Contact(c.addresses, answered_s=1.0) for p, c in book.contacts.items()})
    assert "rare2" not in run(AddressesHeard((at("rare2", host="98.1.1.1"),)), book=answered)[0].contacts


# -- What is kept --------------------------------------------------------------


def kept(effects: list[Effect]) -> dict[PeerId, Contact | None]:
    return {peer: contact for e in effects if isinstance(e, KeepContacts) for peer, contact in e.contacts}


def test_who_answered_is_kept_and_comes_back_after_a_restart() -> None:
    book, effects = run(heard("alice", "bob"), DialAnswered(ALICE, at("alice"), 100.0), *down("bob"), TimePassed(101.0))
    assert kept(effects) == {ALICE: Contact((at("alice"),), 0, 0.0, 100.0, 0.25)}
    assert kept(run(TimePassed(101.0 + KEEP_S), book=book)[1]) == {}
    book, effects = run(DialFailed(ALICE, 150.0), TimePassed(150.0), book=book)
    ((peer, contact),) = kept(effects).items()
    assert contact is not None
    again, _ = run(ContactsRead(((peer, contact),), 151.0), AddressesHeard((at("alice", 9),)))
    assert again.contacts[ALICE] == Contact((at("alice"), at("alice", 9)), 1, 150.5, 100.0, 0.1875)


def test_who_is_forgotten_is_deleted() -> None:
    book, _ = run(*many(MAX_PEERS), DialAnswered(PeerId("p1"), at("p1"), 1.0), *down("p1", 9), TimePassed(0.0))
    _, effects = run(heard("late"), TimePassed(KEEP_S), book=book)
    assert kept(effects)[PeerId("p1")] is None


def test_times_from_a_wrong_clock_are_cut() -> None:
    book, _ = run(ContactsRead(((ALICE, Contact((at("alice"),), 3, 9e9, 9e9, 1.0)), (ME, Contact((at("me"),)))), 100.0))
    assert book.contacts == {ALICE: Contact((at("alice"),), 3, 100.0 + MAX_RETRY_S, 100.0, 1.0)}


@given(st.integers(0, 2**32))
def test_any_history_keeps_the_bounds(seed: int) -> None:
    numbers, book, now_s = random.Random(seed), Book(ME), 0.0
    for _ in range(50):
        peer = PeerId(f"p{numbers.randrange(400)}")
        now_s += numbers.random()
        hosts = [f"{numbers.randrange(1, 20)}.2.3.4" for _ in range(40)]
        events: list[Event] = [AddressesHeard(tuple(at(f"p{numbers.randrange(400)}", host=host) for host in hosts))]
        events += [PeerConnected(peer, now_s), PeerLost(peer, now_s), DialFailed(peer, now_s)]
        events += [DialAnswered(peer, at(peer), now_s), *[TimePassed(now_s)] * 3]
        book, effects = step(book, numbers.choice(events))
        assert len(book.contacts) <= MAX_PEERS
        assert len(book.dialling) <= MAX_DIALS
        assert all(e.peer in book.dialling and e.addresses for e in effects if isinstance(e, Dial))
        assert ME not in book.contacts
        assert all(0.0 <= c.score <= 1.0 and c.failures <= 16 for c in book.contacts.values())
