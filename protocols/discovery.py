"""Who to stay connected to: an address book with back-off, as a pure state machine.

    known --dial--> connected --lost--> known (again after a back-off that doubles)

Spec: protocols/README.md, "Discovery".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.ids import PeerId

FIRST_RETRY_S = 0.5  # a neighbour that restarts is back within seconds
MAX_RETRY_S = 60.0
MAX_PEERS = 256  # contacts kept; a stranger can't fill memory with invented ones
MAX_FAILURES = 3  # dials in a row; a contact that failed more makes room for a new one when the book is full
MAX_ADDRESSES = 8  # of one peer
MAX_ADDRESS_CHARS = 256
MAX_DIALS = 8  # at a time
TARGET = 32  # connections sought; a mesh needs 6 to 8, the rest is choice
HELLO_S = 15.0  # between our own announcements

# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddressesHeard:
    """From the configuration, a Hello, or a job's holders."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerConnected:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: PeerId
    now_s: float


@dataclass(frozen=True, slots=True)
class DialFailed:
    peer: PeerId
    now_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = AddressesHeard | PeerConnected | PeerLost | DialFailed | TimePassed


@dataclass(frozen=True, slots=True)
class Dial:
    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SayHello:
    pass


Effect = Dial | SayHello

# -- State ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    addresses: tuple[str, ...]
    failures: int = 0
    due_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Book:
    me: PeerId
    contacts: Mapping[PeerId, Contact] = field(default_factory=dict)
    connected: frozenset[PeerId] = frozenset()
    dialling: frozenset[PeerId] = frozenset()
    hello_due_s: float = 0.0


Step = tuple[Book, tuple[Effect, ...]]

# -- Transition ----------------------------------------------------------------


def step(book: Book, event: Event) -> Step:
    match event:
        case AddressesHeard(addresses):
            return _with_addresses(book, addresses), ()
        case PeerConnected(peer):
            contacts = dict(book.contacts)
            if peer in contacts:
                contacts[peer] = replace(contacts[peer], failures=0)
            connected, dialling = book.connected | {peer}, book.dialling - {peer}
            # A newcomer hears of us now, not at the next interval.
            return replace(book, contacts=contacts, connected=connected, dialling=dialling, hello_due_s=0.0), ()
        case PeerLost(peer, now_s):
            return _backed_off(replace(book, connected=book.connected - {peer}), peer, now_s), ()
        case DialFailed(peer, now_s):
            return _backed_off(replace(book, dialling=book.dialling - {peer}), peer, now_s), ()
        case TimePassed(now_s):
            return _time_passed(book, now_s)


def peer_of(address: str) -> PeerId | None:
    """Return the peer that a multiaddr ends in."""
    head, marker, peer = address.rpartition("/p2p/")
    usable = marker and head.startswith("/") and peer and "/" not in peer and len(address) <= MAX_ADDRESS_CHARS
    return PeerId(peer) if usable else None


def _with_addresses(book: Book, addresses: tuple[str, ...]) -> Book:
    contacts = dict(book.contacts)
    for address in addresses[:MAX_PEERS]:
        peer = peer_of(address)
        if peer is None or peer == book.me:
            continue
        if peer not in contacts and len(contacts) >= MAX_PEERS:
            gone = _dead(book, contacts)
            if gone is None:
                continue
            del contacts[gone]
        contact = contacts.get(peer, Contact(()))
        if address not in contact.addresses:
            newest = (address, *contact.addresses)[:MAX_ADDRESSES]
            contacts[peer] = replace(contact, addresses=newest)
    return replace(book, contacts=contacts)


def _dead(book: Book, contacts: Mapping[PeerId, Contact]) -> PeerId | None:
    """Return whom to forget for a newcomer: invented contacts must not keep the true ones out."""
    alive = book.connected | book.dialling
    failing = [(c.failures, p) for p, c in contacts.items() if c.failures > MAX_FAILURES and p not in alive]
    return max(failing)[1] if failing else None


def _backed_off(book: Book, peer: PeerId, now_s: float) -> Book:
    if peer not in book.contacts:
        return book
    contact = book.contacts[peer]
    wait_s = min(FIRST_RETRY_S * 2**contact.failures, MAX_RETRY_S)
    contact = replace(contact, failures=min(contact.failures + 1, 16), due_s=now_s + wait_s)
    return replace(book, contacts={**book.contacts, peer: contact})


def _time_passed(book: Book, now_s: float) -> Step:
    effects: list[Effect] = []
    wanted = min(TARGET - len(book.connected), MAX_DIALS) - len(book.dialling)
    due = [
        peer
        for peer, contact in sorted(book.contacts.items(), key=lambda item: (item[1].failures, item[0]))
        if peer not in book.connected and peer not in book.dialling and now_s >= contact.due_s
    ]
    chosen = due[: max(wanted, 0)]
    effects += [Dial(peer, book.contacts[peer].addresses) for peer in chosen]
    book = replace(book, dialling=book.dialling | frozenset(chosen))
    if now_s >= book.hello_due_s and book.connected:
        book = replace(book, hello_due_s=now_s + HELLO_S)
        effects.append(SayHello())
    return book, tuple(effects)
