"""A name server on loopback, and signed node lists for it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import trio

from node.adapters.libp2p.records import RecordKey
from protocols.dns_list import entry_name
from protocols.keccak import keccak256

Answer = Callable[[dns.message.Message], bytes | None]


@asynccontextmanager
async def name_server(answer: Answer) -> AsyncIterator[str]:
    """Yield `IP:PORT` of a server that answers by UDP."""
    socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await socket.bind(("127.0.0.1", 0))

    async def serve() -> None:
        while True:
            data, sender = await socket.recvfrom(4096)
            reply = answer(dns.message.from_wire(data))
            if reply is not None:
                await socket.sendto(reply, sender)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with socket:
            yield f"127.0.0.1:{socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()


def with_texts(*texts: str) -> Answer:
    def answer(question: dns.message.Message) -> bytes:
        reply = dns.message.make_response(question)
        name = question.question[0].name
        data = [" ".join(f'"{text[i : i + 255]}"' for i in range(0, len(text), 255)) for text in texts]
        reply.answer.append(dns.rrset.from_text(name, 60, dns.rdataclass.IN, dns.rdatatype.TXT, *data))
        return reply.to_wire(max_size=65535)

    return answer


def with_zone(zone: Mapping[str, str]) -> Answer:
    def answer(question: dns.message.Message) -> bytes:
        text = zone.get(str(question.question[0].name).rstrip("."))
        if text is not None:
            return with_texts(text)(question)
        reply = dns.message.make_response(question)
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()

    return answer


def publish(key: RecordKey, records: Sequence[str], domain: str = "nodes.test") -> tuple[str, dict[str, str]]:
    """Return a list's URL and its zone."""
    branch = "enrtree-branch:" + ",".join(map(entry_name, records))
    signed = f"enrtree-root:v1 e={entry_name(branch)} l={entry_name('enrtree-branch:')} seq=1"
    signature = base64.urlsafe_b64encode(key.sign(keccak256(signed.encode())) + b"\0").decode().rstrip("=")
    zone = {domain: f"{signed} sig={signature}"}
    zone |= {f"{entry_name(text)}.{domain}": text for text in (branch, "enrtree-branch:", *records)}
    return f"enrtree://{base64.b32encode(key.public).decode().rstrip('=')}@{domain}", zone
