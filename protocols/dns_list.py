"""Lists of node records in DNS: a signed tree of TXT records, walked from its root.

    root (signed) --> branches --> records
                  \\-> links to other lists, each with the key that signs it

The one rule: an entry counts only if its text hashes to the name that it was found under, so whoever runs the name
server can withhold and replay, but not invent. Everything is bounded: a walk asks MAX_LOOKUPS names at most.

Source: EIP-1459. Spec: protocols/README.md, "Node lists".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocols.enr import MAX_ENR_CHARS, PREFIX, Verify
from protocols.ids import Digest
from protocols.keccak import keccak256
from protocols.verdict import Reject

SCHEME, ROOT, BRANCH = "enrtree://", "enrtree-root:v1 ", "enrtree-branch:"
MAX_LOOKUPS = 512  # of one walk, linked lists included
MAX_DEPTH = 8  # of a tree: 13 names fit a TXT record, so three levels hold two thousand records
MAX_LISTS = 8  # walked together with the one that was asked for
MAX_RECORDS = 256  # kept: the address book has no more places
MAX_TEXT_CHARS = 2048  # of an entry; EIP-1459 asks for less than 512
MIN_HASH_BYTES = 12  # of a name: shorter ones could be met by trying

# -- Entries -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListUrl:
    """`enrtree://KEY@DOMAIN`."""

    public_key: bytes
    """secp256k1, compressed, 33 bytes."""
    domain: str
    """Lower case, without a dot at the end."""


@dataclass(frozen=True, slots=True)
class Root:
    records: str
    links: str
    sequence: int


def parse_url(text: str) -> ListUrl | Reject:
    key, at, domain = text.removeprefix(SCHEME).partition("@")
    public_key = _base32(key)
    if not text.startswith(SCHEME) or not at or len(public_key) != 33:
        return Reject(f"{text:.120} is no list like enrtree://KEY@nodes.example.org")
    domain = domain.lower().rstrip(".")
    if not re.fullmatch(r"(?=.{1,200}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", domain):
        return Reject(f"{domain:.120} is no domain name")
    return ListUrl(public_key, domain)


def parse_root(text: str, public_key: bytes, verify: Verify) -> Root | Reject:
    found = re.fullmatch(
        r"(enrtree-root:v1 e=([A-Z2-7]{20,52}) l=([A-Z2-7]{20,52}) seq=(\d{1,20})) sig=([A-Za-z0-9_-]{87})", text
    )
    if found is None:
        return Reject("no root of a list")
    signed, records, links, sequence, signature = found.groups()
    raw = base64.urlsafe_b64decode(signature + "=")  # 65 bytes: r ‖ s ‖ recovery id, which nobody needs
    if not verify(public_key, keccak256(signed.encode()), raw[:64]):
        return Reject("a root whose signature is not the list's")
    return Root(records, links, int(sequence))


def entry_name(text: str) -> str:
    """Return the label under which an entry stands."""
    return base64.b32encode(keccak256(text.encode())[:16]).decode().rstrip("=")


def is_entry_of(label: str, text: str) -> bool:
    """Whether the entry's hash begins with what its label says."""
    wanted = _base32(label)
    digest: Digest = keccak256(text.encode())
    return MIN_HASH_BYTES <= len(wanted) <= 32 and digest.startswith(wanted)


def _base32(text: str) -> bytes:
    """Empty for what is none."""
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return b""


# -- Walk ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lookup:
    """A name whose TXT records are wanted."""

    url: ListUrl
    label: str
    """Empty for the root."""
    depth: int = 0

    @property
    def name(self) -> str:
        return f"{self.label}.{self.url.domain}" if self.label else self.url.domain


@dataclass(frozen=True, slots=True)
class Walk:
    """`waiting` is what to look up next, in order."""

    waiting: tuple[Lookup, ...]
    met: frozenset[tuple[ListUrl, str]]
    """Names that were looked up or wait: trees may share entries, and lists may link in circles."""
    asked: int = 0
    records: tuple[str, ...] = ()
    """Texts of node records; what they are is not checked here."""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Looked:
    """What the first of `waiting` came to: its TXT records, none if there was no answer."""

    texts: Sequence[str]


def begin(url: ListUrl) -> Walk:
    return Walk((Lookup(url, ""),), frozenset({(url, "")}))


def step(walk: Walk, event: Looked, verify: Verify) -> Walk:
    """Take what the name had, and queue what it leads to. The walk is over when nothing waits."""
    lookup, *rest = walk.waiting
    walk = replace(walk, waiting=tuple(rest), asked=walk.asked + 1)
    texts = [text for text in event.texts if len(text) <= MAX_TEXT_CHARS]
    walk = _take_root(walk, lookup, texts, verify) if not lookup.label else _take_entry(walk, lookup, texts)
    if walk.asked >= MAX_LOOKUPS or len(walk.records) >= MAX_RECORDS:
        return replace(walk, waiting=())
    return walk


def _take_root(walk: Walk, lookup: Lookup, texts: Sequence[str], verify: Verify) -> Walk:
    roots = [parse_root(text, lookup.url.public_key, verify) for text in texts if text.startswith(ROOT)]
    good = [root for root in roots if isinstance(root, Root)]
    if not good:
        reason = next((root.reason for root in roots if isinstance(root, Reject)), "no root of a list")
        return _fault(walk, lookup, reason)
    newest = max(good, key=lambda root: root.sequence)
    return _queue(walk, [Lookup(lookup.url, newest.records, 1), Lookup(lookup.url, newest.links, 1)])


def _take_entry(walk: Walk, lookup: Lookup, texts: Sequence[str]) -> Walk:
    text = next((text for text in texts if is_entry_of(lookup.label, text)), None)
    if text is None:
        return _fault(walk, lookup, "nothing that hashes to its name")
    if text.startswith(BRANCH):
        if lookup.depth >= MAX_DEPTH:
            return _fault(walk, lookup, "too deep")
        labels = [label for label in text.removeprefix(BRANCH).split(",") if label]
        return _queue(walk, [Lookup(lookup.url, label, lookup.depth + 1) for label in labels])
    if text.startswith(PREFIX) and len(text) <= MAX_ENR_CHARS:
        return replace(walk, records=(*walk.records, text))
    if text.startswith(SCHEME):
        return _follow(walk, lookup, parse_url(text))
    return _fault(walk, lookup, "neither branch, record nor link")


def _follow(walk: Walk, lookup: Lookup, url: ListUrl | Reject) -> Walk:
    if isinstance(url, Reject):
        return _fault(walk, lookup, url.reason)
    if len({known for known, _ in walk.met} | {url}) > MAX_LISTS:
        return _fault(walk, lookup, "too many lists")
    return _queue(walk, [Lookup(url, "")])


def _queue(walk: Walk, found: Sequence[Lookup]) -> Walk:
    fresh = {(each.url, each.label): each for each in found if (each.url, each.label) not in walk.met}
    room = MAX_LOOKUPS - walk.asked - len(walk.waiting)
    chosen = list(fresh.values())[:room]
    return replace(walk, waiting=(*walk.waiting, *chosen), met=walk.met | {(each.url, each.label) for each in chosen})


def _fault(walk: Walk, lookup: Lookup, reason: str) -> Walk:
    return replace(walk, faults=(*walk.faults, f"{lookup.name}: {reason}"))
