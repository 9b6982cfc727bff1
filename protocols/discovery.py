"""Who to stay connected to: an address book with scores and back-off, as a pure state machine.

    known --dial--> connected --lost--> known (again after a back-off that doubles)

The one rule: what strangers claim never costs a contact that answered its place. Names of others come from the
configuration, from messages, from lists in DNS and from connected peers. Spec: protocols/README.md, "Discovery".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from protocols.ids import PeerId
from protocols.prefix import NEAR, Prefix, prefix_of

FIRST_RETRY_S = 0.5  # a neighbour that restarts is back within seconds
MAX_RETRY_S = 60.0
MAX_PEERS = 256  # contacts kept; a stranger can't fill memory with invented ones
MAX_PREFIX_CONTACTS = 32  # of one part of the internet: with fewer than eight parts nobody fills the book
MAX_FAILURES = 3  # dials in a row; a contact that failed more makes room for a new one when the book is full
MAX_ADDRESSES = 8  # of one peer
MAX_ADDRESS_CHARS = 256
MAX_HEARD = 64  # addresses of one message that are looked at
MAX_REPLACED = 8  # contacts that one message may push out: choosing them costs 0.4 ms each
MAX_DIALS = 8  # at a time
TARGET = 32  # connections sought; a mesh needs 6 to 8, the rest is choice
HELLO_S = 15.0  # between our own announcements
ASK_S = 20.0  # between asking a connected peer for others, while there are fewer than TARGET
LISTS_S = 1800.0  # between readings of the node lists
LISTS_RETRY_S = 60.0  # the same while nobody is connected
KEEP_S = 10.0  # between writes of what changed in the book; a kill forgets as much
LEARNED = 0.25  # weight of the newest dial in a contact's score
NAMED = Prefix("dns")  # of addresses with a host name: one owner can have any number, wherever they lead

# -- State ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """What is remembered of a peer; stored as it is once the peer has answered."""

    addresses: tuple[str, ...]
    """The one that answered last comes first."""
    failures: int = 0
    """Dials in a row that failed."""
    due_s: float = 0.0
    """Not dialled before."""
    answered_s: float = 0.0
    """When it last was there; 0: never."""
    score: float = 0.0
    """Share of our dials that it answered, the newest counting most: 0 … 1."""


@dataclass(frozen=True, slots=True)
class Book:
    me: PeerId
    lists: tuple[str, ...] = ()
    """Node lists in DNS, from the configuration."""
    contacts: Mapping[PeerId, Contact] = field(default_factory=dict)
    fixed: frozenset[PeerId] = frozenset()
    """From the configuration: never forgotten."""
    connected: frozenset[PeerId] = frozenset()
    dialling: frozenset[PeerId] = frozenset()
    changed: frozenset[PeerId] = frozenset()
    """Contacts that the Store has otherwise, or still has."""
    asked: int = 0
    hello_due_s: float = 0.0
    ask_due_s: float = 0.0
    lists_due_s: float = 0.0
    keep_due_s: float = 0.0


# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContactsRead:
    """From the Store, at the start."""

    contacts: tuple[tuple[PeerId, Contact], ...]
    now_s: float


@dataclass(frozen=True, slots=True)
class AddressesHeard:
    """From a Hello, a job's holders, a list or a peer; `fixed` from the configuration."""

    addresses: tuple[str, ...]
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class PeerConnected:
    peer: PeerId
    now_s: float


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: PeerId
    now_s: float


@dataclass(frozen=True, slots=True)
class DialAnswered:
    peer: PeerId
    address: str
    now_s: float


@dataclass(frozen=True, slots=True)
class DialFailed:
    peer: PeerId
    now_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    now_s: float


Event = ContactsRead | AddressesHeard | PeerConnected | PeerLost | DialAnswered | DialFailed | TimePassed


@dataclass(frozen=True, slots=True)
class Dial:
    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SayHello:
    pass


@dataclass(frozen=True, slots=True)
class AskPeers:
    """Ask a connected peer for others."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class ReadList:
    url: str


@dataclass(frozen=True, slots=True)
class KeepContacts:
    """Write these to the Store; None deletes."""

    contacts: tuple[tuple[PeerId, Contact | None], ...]


Effect = Dial | SayHello | AskPeers | ReadList | KeepContacts
Step = tuple[Book, tuple[Effect, ...]]

# -- Transition ----------------------------------------------------------------


def step(book: Book, event: Event) -> Step:
    match event:
        case ContactsRead(contacts, now_s):
            return _with_contacts(book, contacts, now_s), ()
        case AddressesHeard(addresses, fixed):
            return _with_addresses(book, addresses, fixed), ()
        case PeerConnected(peer, now_s):
            book = _changed(book, peer, failures=0, answered_s=now_s)
            # A newcomer hears of us now, not at the next interval.
            return replace(
                book, connected=book.connected | {peer}, dialling=book.dialling - {peer}, hello_due_s=0.0
            ), ()
        case PeerLost(peer, now_s):
            return _backed_off(replace(book, connected=book.connected - {peer}), peer, now_s), ()
        case DialAnswered(peer, address, now_s):
            return _answered(book, peer, address, now_s), ()
        case DialFailed(peer, now_s):
            book = _learned(replace(book, dialling=book.dialling - {peer}), peer, answered=False)
            return _backed_off(book, peer, now_s), ()
        case TimePassed(now_s):
            return _time_passed(book, now_s)


def peer_of(address: str) -> PeerId | None:
    """Return the peer that a multiaddr ends in."""
    head, marker, peer = address.rpartition("/p2p/")
    usable = marker and head.startswith("/") and peer and "/" not in peer and len(address) <= MAX_ADDRESS_CHARS
    return PeerId(peer) if usable else None


@lru_cache(maxsize=4 * MAX_PEERS)
def prefix_of_address(address: str) -> Prefix:
    """Return where on the internet a multiaddr leads, as far as it says."""
    _, kind, host, *_ = [*address.split("/", 3), "", ""]
    return prefix_of(host) if kind in ("ip4", "ip6") else NAMED


# -- Contacts ------------------------------------------------------------------


def _with_contacts(book: Book, contacts: tuple[tuple[PeerId, Contact], ...], now_s: float) -> Book:
    """Times are cut to what can be: the clock may have been wrong when they were written."""
    known = {
        peer: replace(c, due_s=min(c.due_s, now_s + MAX_RETRY_S), answered_s=min(c.answered_s, now_s))
        for peer, c in contacts[:MAX_PEERS]
        if peer != book.me and c.addresses
    }
    return replace(book, contacts={**known, **book.contacts})


def _with_addresses(book: Book, addresses: tuple[str, ...], fixed: bool) -> Book:
    crowds, chances = Counter(map(_prefix, book.contacts.values())), MAX_REPLACED
    for address in addresses if fixed else addresses[:MAX_HEARD]:
        peer = peer_of(address)
        if peer is None or peer == book.me:
            continue
        contact = book.contacts.get(peer)
        if contact is None:
            prefix = prefix_of_address(address)
            if not fixed and not _is_room(book, crowds, prefix):
                gone = _replaceable(book, crowds, prefix) if chances else None
                chances = max(chances - 1, 0)
                if gone is None:
                    continue
                crowds[_prefix(book.contacts[gone])] -= 1
                book = _without(book, gone)
            crowds[prefix] += 1
            contact = Contact(())
        if fixed:
            book = replace(book, fixed=book.fixed | {peer})
        if address not in contact.addresses:
            contact = replace(contact, addresses=_kept_addresses(contact, address))
            book = replace(book, contacts={**book.contacts, peer: contact})
    return book


def _kept_addresses(contact: Contact, address: str) -> tuple[str, ...]:
    """The newest first, but behind one that has answered: anybody may claim an address of anybody's."""
    proven = contact.addresses[:1] if contact.answered_s else ()
    return (*proven, address, *contact.addresses[len(proven) :])[:MAX_ADDRESSES]


def _is_room(book: Book, crowds: Counter[Prefix], prefix: Prefix) -> bool:
    return len(book.contacts) < MAX_PEERS and (prefix == NEAR or crowds[prefix] < MAX_PREFIX_CONTACTS)


def _replaceable(book: Book, crowds: Counter[Prefix], prefix: Prefix) -> PeerId | None:
    """Return whom to forget for a contact from there: the worst of who fails, or a mere name from a fuller place."""
    bound = book.connected | book.dialling | book.fixed
    movable = {peer: contact for peer, contact in book.contacts.items() if peer not in bound}
    mates = 0 if prefix == NEAR else crowds[prefix]
    if mates >= MAX_PREFIX_CONTACTS:
        movable = {peer: contact for peer, contact in movable.items() if _prefix(contact) == prefix}
    dead = [peer for peer, contact in movable.items() if contact.failures > MAX_FAILURES]
    if not dead and mates < MAX_PREFIX_CONTACTS:
        names = {peer: _crowd(crowds, contact) for peer, contact in movable.items() if not contact.answered_s}
        fullest = max(names.values(), default=0)
        dead = [peer for peer, crowd in names.items() if crowd == fullest > mates + 1]
    key = {peer: (not movable[peer].answered_s, movable[peer].failures, -movable[peer].score, peer) for peer in dead}
    return max(dead, key=lambda peer: key[peer], default=None)


def _without(book: Book, peer: PeerId) -> Book:
    contacts = {known: contact for known, contact in book.contacts.items() if known != peer}
    return replace(book, contacts=contacts, changed=book.changed | {peer})


def _prefix(contact: Contact) -> Prefix:
    return prefix_of_address(contact.addresses[0]) if contact.addresses else NEAR


def _crowd(crowds: Counter[Prefix], contact: Contact) -> int:
    prefix = _prefix(contact)
    return 0 if prefix == NEAR else crowds[prefix]


def _changed(book: Book, peer: PeerId, **changes: object) -> Book:
    if peer not in book.contacts:
        return book
    contact = replace(book.contacts[peer], **changes)  # type: ignore[arg-type]  # named fields of Contact
    return replace(book, contacts={**book.contacts, peer: contact}, changed=book.changed | {peer})


def _answered(book: Book, peer: PeerId, address: str, now_s: float) -> Book:
    book = replace(book, dialling=book.dialling - {peer})
    if peer in book.contacts:
        others = tuple(a for a in book.contacts[peer].addresses if a != address)
        book = _changed(book, peer, addresses=(address, *others)[:MAX_ADDRESSES], failures=0, answered_s=now_s)
    return _learned(book, peer, answered=True)


def _learned(book: Book, peer: PeerId, *, answered: bool) -> Book:
    if peer not in book.contacts:
        return book
    score = book.contacts[peer].score
    return _changed(book, peer, score=score + LEARNED * (float(answered) - score))


def _backed_off(book: Book, peer: PeerId, now_s: float) -> Book:
    if peer not in book.contacts:
        return book
    failures = book.contacts[peer].failures
    wait_s = min(FIRST_RETRY_S * 2**failures, MAX_RETRY_S)
    return _changed(book, peer, failures=min(failures + 1, 16), due_s=now_s + wait_s)


# -- Time ----------------------------------------------------------------------


def _time_passed(book: Book, now_s: float) -> Step:
    effects: list[Effect] = []
    for part in (_dials, _hello, _questions, _kept):
        book, more = part(book, now_s)
        effects += more
    return book, tuple(effects)


def _dials(book: Book, now_s: float) -> Step:
    """Who failed least comes first, then who is from elsewhere, then who answered most."""
    wanted = min(TARGET - len(book.connected), MAX_DIALS) - len(book.dialling)
    if wanted <= 0:
        return book, ()
    busy = book.connected | book.dialling
    crowds = Counter(_prefix(book.contacts[peer]) for peer in busy if peer in book.contacts)
    due = [(peer, c) for peer, c in book.contacts.items() if peer not in busy and c.addresses and now_s >= c.due_s]
    due.sort(key=lambda item: (item[1].failures, _crowd(crowds, item[1]), -item[1].score, item[0]))
    chosen = due[:wanted]
    dialling = book.dialling | {peer for peer, _ in chosen}
    dials = (Dial(peer, tuple(sorted(c.addresses, key=_is_relayed))) for peer, c in chosen)
    return replace(book, dialling=dialling), tuple(dials)


def _is_relayed(address: str) -> bool:
    """A relay's line is the last resort."""
    return "/p2p-circuit/" in address


def _hello(book: Book, now_s: float) -> Step:
    if now_s < book.hello_due_s or not book.connected:
        return book, ()
    return replace(book, hello_due_s=now_s + HELLO_S), (SayHello(),)


def _questions(book: Book, now_s: float) -> Step:
    effects: list[Effect] = []
    if book.lists and now_s >= book.lists_due_s:
        book = replace(book, lists_due_s=now_s + (LISTS_S if book.connected else LISTS_RETRY_S))
        effects += map(ReadList, book.lists)
    if 0 < len(book.connected) < TARGET and now_s >= book.ask_due_s:
        peers = sorted(book.connected)
        effects.append(AskPeers(peers[book.asked % len(peers)]))
        book = replace(book, asked=book.asked + 1, ask_due_s=now_s + ASK_S)
    return book, tuple(effects)


def _kept(book: Book, now_s: float) -> Step:
    """Contacts that never answered are not worth a write: they are heard of again."""
    if not book.changed or now_s < book.keep_due_s:
        return book, ()
    known = ((peer, book.contacts.get(peer)) for peer in sorted(book.changed))
    kept = tuple((peer, c) for peer, c in known if c is None or c.answered_s)
    return replace(book, changed=frozenset(), keep_due_s=now_s + KEEP_S), (KeepContacts(kept),) if kept else ()
