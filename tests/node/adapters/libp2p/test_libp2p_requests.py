"""Requests between hosts on loopback."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import trio

from actors.ports import NoAnswer
from node.adapters.libp2p.streams import LENGTH
from protocols.ids import PeerId

BLOB = "/skynet/blob/1"
MEGABYTE = 1024 * 1024


async def echo(_peer: PeerId, question: bytes) -> bytes | None:
    return question


async def pair(world: Any, responder: Any = echo, limit_bytes: int = 8 * MEGABYTE) -> tuple[Any, Any]:
    a, b = await world.node(), await world.node()
    b.network.respond(BLOB, responder, limit_bytes=limit_bytes)
    assert await a.network.dial(b.address) == b.peer
    return a, b


async def ask(node: Any, peer: PeerId, question: bytes = b"?", limit_bytes: int = 1000, timeout_s: float = 5.0) -> Any:
    return await node.network.request(peer, BLOB, question, limit_bytes=limit_bytes, timeout_s=timeout_s)


async def test_question_and_answer_of_five_megabytes(world: Any) -> None:
    a, b = await pair(world)
    blob = hashlib.shake_256(b"blob").digest(5 * MEGABYTE)
    began_s = trio.current_time()
    assert await ask(a, b.peer, blob, 5 * MEGABYTE, 30) == blob
    assert trio.current_time() - began_s < 5.0  # 0.4 s when the machine is idle


async def test_the_responder_learns_who_asks_and_may_answer_nothing(world: Any) -> None:
    async def answer(peer: PeerId, question: bytes) -> bytes | None:
        return {b"who": peer.encode(), b"empty": b""}.get(question)

    a, b = await pair(world, answer)
    assert await ask(a, b.peer, b"who") == a.peer.encode()
    assert await ask(a, b.peer, b"empty") == b""
    assert isinstance(await ask(a, b.peer, b"unknown"), NoAnswer)


async def test_limits_are_checked_on_both_sides(world: Any) -> None:
    a, b = await pair(world, limit_bytes=100)
    assert await ask(a, b.peer, bytes(100)) == bytes(100)
    assert isinstance(await ask(a, b.peer, bytes(101)), NoAnswer)
    refused = await ask(a, b.peer, bytes(50), limit_bytes=49)
    assert isinstance(refused, NoAnswer)
    assert "limit" in refused.reason


async def test_many_at_once_and_far_more_than_256_in_a_row(world: Any) -> None:
    """Stock: the 257th stream of which the others were never closed waits for ever."""
    a, b = await pair(world, lambda _p, q: _reply(q))
    answers: dict[int, Any] = {}

    async def one(number: int) -> None:
        answers[number] = await ask(a, b.peer, b"%d" % number, timeout_s=60)

    async with trio.open_nursery() as nursery:
        for number in range(400):
            nursery.start_soon(one, number)
    for number, answer in answers.items():
        assert isinstance(answer, NoAnswer) if number % 3 == 0 else answer == b"%d" % number
    (connection,) = a.network._swarm.get_connections()
    await world.until(lambda: len(connection.muxed_conn.streams) <= 3 and len(connection.streams) <= 3)
    assert connection.muxed_conn.stream_backlog_semaphore.value >= 254  # the relay's stays open


async def _reply(question: bytes) -> bytes | None:
    return None if int(question) % 3 == 0 else question


async def test_a_slow_answer_is_given_up_and_leaves_nothing_behind(world: Any) -> None:
    async def sleep(_peer: PeerId, _question: bytes) -> bytes | None:
        await trio.sleep_forever()

    a, b = await pair(world, sleep)
    began_s = trio.current_time()
    refused = await ask(a, b.peer, timeout_s=0.3)
    assert isinstance(refused, NoAnswer)
    assert "0.3 s" in refused.reason
    assert trio.current_time() - began_s < 2.0
    (connection,) = a.network._swarm.get_connections()
    await world.until(lambda: len(connection.streams) <= 3)


async def test_requests_cancelled_at_any_moment_leave_the_connection_whole(world: Any) -> None:
    """Stock: a write that is cancelled leaves half a frame, and the connection dies of it."""
    a, b = await pair(world)
    await a.event()
    for n in range(40):
        with trio.move_on_after(0.002 * n):
            await ask(a, b.peer, bytes(2 * MEGABYTE), 8 * MEGABYTE, 5)
    assert await ask(a, b.peer, b"whole") == b"whole"
    with pytest.raises(trio.WouldBlock):
        a.events.receive_nowait()  # never lost


async def test_cancelled_requests_leave_no_streams(world: Any) -> None:
    """Stock: a cancelled opening keeps one of the 256 slots for ever."""
    a, b = await pair(world)
    (connection,) = a.network._swarm.get_connections()
    for n in range(100):
        with trio.move_on_after(0.0001 * (n % 50)):
            await ask(a, b.peer, b"?")
    await world.until(lambda: connection.muxed_conn.stream_backlog_semaphore.value == 255)  # the relay's
    await world.until(lambda: len(connection.streams) <= 2 and len(connection.muxed_conn.streams) <= 2)


async def test_a_responder_that_raises_harms_nobody(world: Any) -> None:
    """Stock: ends the host."""

    async def fail(_peer: PeerId, question: bytes) -> bytes | None:
        return bytes([100 // len(question)])

    a, b = await pair(world, fail)
    assert isinstance(await ask(a, b.peer, b""), NoAnswer)
    assert await ask(a, b.peer, b"1234") == bytes([25])
    assert b.network.counts().responder_faults == 1


async def test_unreachable_unknown_and_unserved(world: Any) -> None:
    a, b = await pair(world)
    nobody = (await world.stranger()).peer
    assert isinstance(await ask(a, nobody), NoAnswer)
    assert isinstance(await ask(a, PeerId("nonsense!")), NoAnswer)
    assert isinstance(await a.network.request(b.peer, "/unserved/1", b"", limit_bytes=9, timeout_s=5), NoAnswer)
    assert await ask(a, b.peer, b"still") == b"still"


async def test_a_request_reconnects_to_a_peer_that_is_known(world: Any) -> None:
    a, b = await pair(world)
    await a.network._peers.disconnect(b.peer, "test")
    await world.until(lambda: not a.network.connected() and not b.network.connected())
    assert await ask(a, b.peer, b"back") == b"back"


async def test_an_answer_from_a_liar(world: Any) -> None:
    """Too much, too little, nothing, garbage: each is a NoAnswer."""
    a = await world.node()
    liar = await world.stranger()
    says = {
        "huge": LENGTH.pack(2**32 - 1) + b"x" * 100,
        "short": LENGTH.pack(50) + b"x" * 10,
        "half a length": b"\0\0",
        "nothing": b"",
    }
    await liar.connect(a)
    await world.until(lambda: a.network.connected() == (liar.peer,))
    for name, said in says.items():

        async def lie(stream: Any, said: bytes = said) -> None:
            await stream.write(said) if said else None

        liar.host.set_stream_handler("/lie/1", lie)
        answer = await a.network.request(liar.peer, "/lie/1", b"?", limit_bytes=1000, timeout_s=3)
        assert isinstance(answer, NoAnswer), name


async def test_half_a_question_holds_nobody_up(world: Any) -> None:
    a, b = await pair(world)
    stranger = await world.stranger()
    await stranger.connect(b)
    for _ in range(20):
        stream = await stranger.stream(b, BLOB)
        await stream.write(LENGTH.pack(1000) + b"to be continued")
    assert await ask(a, b.peer, b"quick", timeout_s=1) == b"quick"


async def test_one_peer_may_not_open_any_number_of_streams(world: Any) -> None:
    node = await world.node(max_peer_streams=8)
    honest, greedy = await world.node(), await world.stranger()
    node.network.respond(BLOB, echo, limit_bytes=100)
    await greedy.connect(node)
    opened = 0
    for _ in range(30):
        try:
            stream = await greedy.stream(node, BLOB)
            await stream.write(b"\0")
            opened += 1
        except Exception:  # noqa: BLE001  refused
            pass
    assert opened <= 8
    assert node.network.counts().streams_refused >= 20
    await honest.network.dial(node.address)
    assert await ask(honest, node.peer, b"hello") == b"hello"
