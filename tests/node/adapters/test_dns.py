"""TXT records from a name server on loopback, and servers of every bad kind."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest
from name_server import name_server, with_texts

from actors.ports import NoAnswer
from node.adapters import dns as our_dns
from node.adapters.dns import MAX_TEXTS, Names
from node.name_server import parse_server


async def test_texts_come_whole() -> None:
    long = "enr:" + "x" * 400
    async with name_server(with_texts("v=spf1", long)) as server:
        assert sorted(await Names([server]).texts("nodes.example.org")) == [long, "v=spf1"]
    async with name_server(with_texts(*map(str, range(30)))) as server:
        texts = await Names([server]).texts("nodes.example.org")
        assert not isinstance(texts, NoAnswer)
        assert len(texts) == MAX_TEXTS


async def test_servers_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_dns, "QUESTION_S", 0.3)

    def nothing(question: dns.message.Message) -> bytes:
        reply = dns.message.make_response(question)
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    for bad in (lambda _q: None, lambda _q: b"garbage", lambda q: q.to_wire()[:7], nothing):
        async with name_server(bad) as server:
            answer = await Names([server]).texts("nodes.example.org")
        assert isinstance(answer, NoAnswer), bad
        assert answer.reason.startswith("nodes.example.org: ")
    for name in ("", "a" * 64 + ".org", "a..b", "." * 9):
        assert isinstance(await Names(["127.0.0.1:9"]).texts(name), NoAnswer), name


def test_how_servers_are_written() -> None:
    assert parse_server("9.9.9.9") == ("9.9.9.9", 53)
    assert parse_server("127.0.0.1:5353") == ("127.0.0.1", 5353)
    assert parse_server("::1") == ("::1", 53)
    assert parse_server("[::1]:5353") == ("::1", 5353)
    for bad in ("", "dns.example.org", "1.2.3.4:0", "1.2.3.4:x", "[::1]:99999"):
        with pytest.raises(ValueError, match=r"."):
            parse_server(bad)
