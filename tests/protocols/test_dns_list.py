"""Node lists: a published tree, trees of our own, and what a name server can do to a walk."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import coincurve
import pytest
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from hypothesis import given
from hypothesis import strategies as st

from protocols.dns_list import (
    BRANCH,
    MAX_DEPTH,
    MAX_LISTS,
    MAX_LOOKUPS,
    MAX_RECORDS,
    MAX_TEXT_CHARS,
    ListUrl,
    Looked,
    Walk,
    begin,
    entry_name,
    is_entry_of,
    parse_url,
    step,
)
from protocols.ids import Digest
from protocols.keccak import keccak256
from protocols.verdict import Reject

PUBLISHED = {
    "n": (
        "enrtree-root:v1 e=JWXYDBPXYWG6FX3GMDIBFA6CJ4 l=C7HRFPF3BLGF3YR4DY5KX3SMBE seq=1 sig=o908WmNp7LibOfPs"
        "r4btQwatZJ5URBr2ZAuxvK4UWHlsB9sUOTJQaGAlLPVAhM__XJesCHxLISo94z5Z2a463gA"
    ),
    "C7HRFPF3BLGF3YR4DY5KX3SMBE.n": "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org",
    "JWXYDBPXYWG6FX3GMDIBFA6CJ4.n": "enrtree-branch:2XS2367YHAXJFGLZHVAWLQD4ZY,H4FHT4B454P6UXFD7JCYQ5PWDY,"
    "MHTDO6TMUBRIA2XWG5LUDACK24",
    "2XS2367YHAXJFGLZHVAWLQD4ZY.n": (
        "enr:-HW4QOFzoVLaFJnNhbgMoDXPnOvcdVuj7pDpqRvh6BRDO68aVi5ZcjB3vzQRZH2IcLBGHzo8uUN3snqmgTiE56CH3AMBgmlk"
        "gnY0iXNlY3AyNTZrMaECC2_24YYkYHEgdzxlSNKQEnHhuNAbNlMlWJxrJxbAFvA"
    ),
    "H4FHT4B454P6UXFD7JCYQ5PWDY.n": (
        "enr:-HW4QAggRauloj2SDLtIHN1XBkvhFZ1vtf1raYQp9TBW2RD5EEawDzbtSmlXUfnaHcvwOizhVYLtr7e6vw7NAf6mTuoCgmlk"
        "gnY0iXNlY3AyNTZrMaECjrXI8TLNXU0f8cthpAMxEshUyQlK-AM0PW2wfrnacNI"
    ),
    "MHTDO6TMUBRIA2XWG5LUDACK24.n": (
        "enr:-HW4QLAYqmrwllBEnzWWs7I5Ev2IAs7x_dZlbYdRdMUx5EyKHDXp7AV5CkuPGUPdvbv1_Ms1CPfhcGCvSElSosZmyoqAgmlk"
        "gnY0iXNlY3AyNTZrMaECriawHKWdDRk2xeZkrOXBQ0dfMFLHY4eENZwdufn1S1o"
    ),
}
"""A tree that go-ethereum's tool signed."""
PUBLISHED_URL = "enrtree://AKPYQIUQIL7PSIACI32J7FGZW56E5FKHEFCCOFHILBIMW3M6LWXS2@n"
KEY = coincurve.PrivateKey(b"\7" * 32)


def verify(public_key: bytes, digest: Digest, signature: bytes) -> bool:
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return bool(coincurve.PublicKey(public_key).verify(der, digest, hasher=None))
    except ValueError:
        return False


def url_of(domain: str, key: coincurve.PrivateKey = KEY) -> str:
    return f"enrtree://{base64.b32encode(key.public_key.format()).decode().rstrip('=')}@{domain}"


def publish(domain: str, records: Sequence[str], links: Sequence[str] = (), *, sequence: int = 1) -> dict[str, str]:
    """Return the TXT records of a signed list, by name."""
    found: dict[str, str] = {}

    def add(text: str) -> str:
        found[f"{entry_name(text)}.{domain}"] = text
        return entry_name(text)

    def tree(texts: Sequence[str]) -> str:
        labels = [add(text) for text in texts]
        while len(labels) != 1:
            groups = [labels[i : i + 13] for i in range(0, len(labels), 13)] or [[]]
            labels = [add(BRANCH + ",".join(group)) for group in groups]
        return labels[0]

    signed = f"enrtree-root:v1 e={tree(records)} l={tree(links)} seq={sequence}"
    signature = KEY.sign_recoverable(keccak256(signed.encode()), hasher=None)
    found[domain] = f"{signed} sig={base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    return found


def walk(url: str, zone: Mapping[str, str]) -> Walk:
    parsed = parse_url(url)
    assert isinstance(parsed, ListUrl), parsed
    state = begin(parsed)
    while state.waiting:
        text = zone.get(state.waiting[0].name)
        state = step(state, Looked(() if text is None else ("v=spf1 -all", text)), verify)
    return state


def test_a_published_tree() -> None:
    state = walk(PUBLISHED_URL, PUBLISHED)
    assert sorted(state.records) == sorted(text for text in PUBLISHED.values() if text.startswith("enr:"))
    assert state.faults == ("morenodes.example.org: no root of a list",)  # the link was followed


def test_trees_of_any_size_and_their_links() -> None:
    for count in (0, 1, 13, 14, 200):
        records = [f"enr:{n}" for n in range(count)]
        zone = publish("a.org", records, [url_of("b.org")]) | publish("b.org", ["enr:b"], [url_of("a.org")])
        state = walk(url_of("a.org"), zone)
        assert sorted(state.records) == sorted([*records, "enr:b"])
        assert state.faults == ()


def test_another_signer_or_a_changed_root_is_refused() -> None:
    zone = publish("a.org", ["enr:a"])
    assert walk(url_of("a.org", coincurve.PrivateKey(b"\3" * 32)), zone).faults == (
        "a.org: a root whose signature is not the list's",
    )
    forged = {**zone, "a.org": zone["a.org"].replace("seq=1", "seq=2")}
    assert walk(url_of("a.org"), forged).records == ()


def test_an_entry_must_hash_to_its_name() -> None:
    zone = publish("a.org", ["enr:a", "enr:b"])
    name = f"{entry_name('enr:b')}.a.org"
    state = walk(url_of("a.org"), {**zone, name: "enr:evil"})
    assert state.records == ("enr:a",)
    assert state.faults == (f"{name}: nothing that hashes to its name",)
    assert is_entry_of(entry_name("enr:b"), "enr:b")
    assert not is_entry_of(entry_name("enr:b")[:8], "enr:b")  # five bytes could be met by trying
    assert not is_entry_of("", "enr:b")


def test_the_newest_root_counts() -> None:
    older, newer = publish("a.org", ["enr:old"]), publish("a.org", ["enr:new"], sequence=2)
    parsed = parse_url(url_of("a.org"))
    assert isinstance(parsed, ListUrl)
    state = step(begin(parsed), Looked((newer["a.org"], older["a.org"])), verify)
    assert entry_name("enr:new") in {lookup.label for lookup in state.waiting}


def test_a_walk_has_an_end() -> None:
    many = walk(url_of("a.org"), publish("a.org", [f"enr:{n}" for n in range(1000)]))
    assert len(many.records) == MAX_RECORDS
    assert many.asked <= MAX_LOOKUPS

    branches = [BRANCH + ",".join(entry_name(f"gone {n} {m}") for m in range(60)) for n in range(60)]
    assert walk(url_of("b.org"), publish("b.org", branches)).asked == MAX_LOOKUPS

    text = "enr:deep"
    zone = publish("c.org", [])
    for _ in range(MAX_DEPTH + 2):
        zone[f"{entry_name(text)}.c.org"] = text
        text = BRANCH + entry_name(text)
    zone |= publish("c.org", [text])
    state = walk(url_of("c.org"), zone)
    assert state.records == ()
    assert state.faults[0].endswith("too deep")


def test_lists_that_link_to_ever_more_lists() -> None:
    zone: dict[str, str] = {}
    for n in range(30):
        zone |= publish(f"l{n}.org", [f"enr:{n}"], [url_of(f"l{n + 1}.org"), url_of(f"l{n + 2}.org")])
    state = walk(url_of("l0.org"), zone)
    assert len(state.records) == MAX_LISTS
    assert any(fault.endswith("too many lists") for fault in state.faults)


@pytest.mark.parametrize(
    "text", ["x" * (MAX_TEXT_CHARS + 1), "enr:" + "a" * 500, "hello", "enrtree://nobody", "enrtree-branch:"]
)
def test_entries_of_no_use(text: str) -> None:
    assert walk(url_of("a.org"), publish("a.org", [text])).records == ()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "enrtree://",
        "enrtree://x@y",
        PUBLISHED_URL[:-2],
        PUBLISHED_URL + "/x",
        "http://a",
        PUBLISHED_URL.replace("@n", "@" + "a." * 150),
    ],
)
def test_urls_that_are_none(url: str) -> None:
    assert isinstance(parse_url(url), Reject)


@given(st.lists(st.text(max_size=80), max_size=4), st.sampled_from(["", "JWXYDBPXYWG6FX3GMDIBFA6CJ4"]))
def test_any_texts_are_survived(texts: list[str], label: str) -> None:
    url = parse_url(PUBLISHED_URL)
    assert isinstance(url, ListUrl)
    state = begin(url)
    if label:
        state = step(state, Looked((PUBLISHED["n"],)), verify)
    assert step(state, Looked(texts), verify).records == ()
