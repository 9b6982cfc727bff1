"""The same traffic over each transport and multiplexer, and what a hostile peer gets out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamReset
from multiaddr import Multiaddr

from actors.ports import NoAnswer
from node.adapters.libp2p.mplex import MPLEX, STREAMS, UNREAD_BYTES, BoundedMplex
from node.adapters.libp2p.muxer import Muxers
from node.adapters.libp2p.websocket import WebSocket
from protocols.ids import PeerId
from protocols.verdict import Accept, Verdict
from protocols.waku import MAX_MESSAGE_BYTES

PLAIN = ("/ip4/127.0.0.1/tcp/0/ws",)
SECURE = ("/ip4/127.0.0.1/tcp/0/tls/ws",)
ECHO = "/test/echo/1"


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Accept()


async def echo(_peer: PeerId, question: bytes) -> bytes:
    return question


async def exchange(world: Any, a: Any, b: Any) -> None:
    """Messages both ways, small and of the largest size, and requests of a megabyte."""
    for node in (a, b):
        await node.network.subscribe(world.topic, accept)
        node.network.respond(ECHO, echo, limit_bytes=2**21)
    assert await a.network.dial(b.address) == b.peer
    await world.until(lambda: b.peer in a.network.mesh(world.topic) and a.peer in b.network.mesh(world.topic))
    for sender, reader in ((a, b), (b, a)):
        await sender.network.publish(world.topic, b"small from " + sender.peer.encode())
        await sender.network.publish(world.topic, sender.peer.encode().ljust(MAX_MESSAGE_BYTES, b"."))
        heard = await reader.heard(2 if reader is b else 4)
        assert b"small from " + sender.peer.encode() in heard
        large = bytes(range(256)) * 4096
        answer = await sender.network.request(reader.peer, ECHO, large, limit_bytes=2**21, timeout_s=10)
        assert answer == large


async def test_over_plain_websocket(world: Any) -> None:
    a, b = await world.node(), await world.node(listen=PLAIN)
    assert b.address.endswith(f"/ws/p2p/{b.peer}")
    await exchange(world, a, b)


async def test_over_websocket_under_tls(world: Any, certificate: Path) -> None:
    a = await world.node(tls_authorities=certificate)
    b = await world.node(listen=SECURE, tls_certificate=certificate)
    await exchange(world, a, b)


async def test_a_certificate_that_nobody_vouches_for_is_refused(world: Any, certificate: Path) -> None:
    a, b = await world.node(), await world.node(listen=SECURE, tls_certificate=certificate)
    refused = await a.network.dial(b.address)
    assert isinstance(refused, NoAnswer)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.reason


async def test_tls_without_a_certificate_is_an_error_at_the_start(world: Any) -> None:
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        await world.node(listen=SECURE)


async def test_one_node_listens_on_all_of_them(world: Any, certificate: Path) -> None:
    tcp = "/ip4/127.0.0.1/tcp/0"
    host = await world.node(listen=(tcp, *PLAIN, *SECURE), tls_certificate=certificate)
    assert len(host.network.addresses) == 3
    for address in host.network.addresses:
        guest = await world.node(tls_authorities=certificate)
        assert await guest.network.dial(address) == host.peer


@pytest.fixture
def mplex_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts made from now on speak mplex only, like a js light node."""
    monkeypatch.setattr(
        "node.adapters.libp2p.host.Muxers", lambda _preferred: Muxers({MPLEX: BoundedMplex}), raising=True
    )


@pytest.mark.usefixtures("mplex_only")
async def test_over_mplex(world: Any) -> None:
    a, b = await world.node(), await world.node()
    await exchange(world, a, b)
    (connection,) = a.network._swarm.get_connections()
    assert isinstance(connection.muxed_conn, BoundedMplex)
    assert await connection.muxed_conn.is_alive()


@pytest.mark.usefixtures("mplex_only")
async def test_mplex_with_a_peer_that_speaks_both(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = await world.node()
    monkeypatch.undo()
    await exchange(world, a, await world.node(listen=PLAIN))


@pytest.mark.usefixtures("mplex_only")
async def test_a_stream_that_nobody_reads_is_reset_and_the_others_go_on(world: Any) -> None:
    """Stock: such a stream stops every other one for 5 s."""
    node, stranger = await world.node(), await world.stranger()
    read = trio.Event()

    async def wait(_stream: Any) -> None:
        await read.wait()

    node.network._host.set_stream_handler("/test/idle/1", wait)
    node.network.respond(ECHO, echo, limit_bytes=2**21)
    connection = await stranger.connect(node)
    idle = await stranger.stream(node, "/test/idle/1")
    await idle.write(bytes(UNREAD_BYTES + 1))
    began_s = trio.current_time()
    asking = await stranger.stream(node, ECHO)
    await asking.write(b"\0\0\0\5hello")
    assert await asking.read(9) == b"\0\0\0\5hello"
    assert trio.current_time() - began_s < 3
    with pytest.raises(StreamReset):
        await idle.read(1)
    assert not connection.is_closed
    read.set()


@pytest.mark.usefixtures("mplex_only")
@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00" + b"\xff" * 30,  # an endless length
        b"\x00\x04\xff\xfe\xfd\xfc" * 2,  # the same stream opened twice, with a name that is no text
        b"\x07\x00",  # tag 7
        b"\x02\x80\x80\x80\x01",  # a frame of 2 MiB
    ],
)
async def test_what_is_no_mplex_costs_the_connection_only(world: Any, frame: bytes) -> None:
    node, stranger, friend = await world.node(), await world.stranger(), await world.node()
    connection = await stranger.connect(node)
    await connection.muxed_conn.secured_conn.write(b"\x00\x010" + b"\x08\x011" + frame)
    await world.until(lambda: stranger.peer not in node.network.connected() and connection.is_closed)
    assert await friend.network.dial(node.address) == node.peer


@pytest.mark.usefixtures("mplex_only")
async def test_streams_beyond_the_limit_are_reset(world: Any) -> None:
    node, stranger = await world.node(), await world.stranger()
    connection = await stranger.connect(node)
    await world.until(lambda: stranger.peer in node.network.connected())
    frames = b"".join(encode_new(number) for number in range(1000, 1000 + 2 * STREAMS))
    await connection.muxed_conn.secured_conn.write(frames)
    await trio.sleep(0.3)
    (ours,) = node.network._swarm.get_connections()
    assert len(ours.muxed_conn._streams) <= STREAMS
    assert not ours.is_closed


def encode_new(number: int) -> bytes:
    key = number << 3
    return bytes(
        (key & 0x7F | 0x80, key >> 7 & 0x7F | (0x80 if key >> 14 else 0), *((key >> 14,) if key >> 14 else ()), 0)
    )


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000, b""])
async def test_what_is_no_websocket_is_shown_the_door(world: Any, garbage: bytes) -> None:
    node, friend = await world.node(listen=PLAIN), await world.node()
    port = int(Multiaddr(node.address).value_for_protocol("tcp"))
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream, world.within(5):
        try:
            await stream.send_all(garbage)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    assert await friend.network.dial(node.address) == node.peer


def test_which_addresses_are_websockets() -> None:
    transport = WebSocket(lambda _socket: None, None, None)
    for address in ("/ip4/1.2.3.4/tcp/1/ws", "/dns4/a.b/tcp/1/wss", "/dns/a.b/tcp/1/tls/sni/a.b/ws"):
        assert transport.can_dial(Multiaddr(address))
    for address in ("/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/tcp/1/tls"):
        assert not transport.can_dial(Multiaddr(address))
