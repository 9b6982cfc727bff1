"""Mplex with bounds, for js peers, whose light nodes speak no other multiplexer.

    frame = varint(stream << 3 | tag) · varint(length) · data

Mends, by not using it, py-libp2p 0.8.1's Mplex: a stream that nobody reads stops every other one for 5 s,
writes and resets wait for ever on a shut TCP window, a name that isn't UTF-8 ends the task of the whole host,
and nothing bounds streams or what they hold.

Mplex has no flow control: a stream whose reader is slow gets STALL_S to be read, then it is reset.
Source: libp2p specs, mplex/README.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from node.adapters.libp2p.memory import UNBOUNDED
from node.adapters.libp2p.pace import Pace
from protocols.waku_wire import Malformed, decode_varint, encode_varint

MPLEX = "/mplex/6.7.0"

FRAME_BYTES = 1024 * 1024  # what go and js accept
WRITE_BYTES = 64 * 1024  # of one frame of ours: a large one would keep small streams waiting
STREAMS = 256  # open at a time, both directions together
NAME_BYTES = 64  # of a stream; ours are a number
UNREAD_BYTES = 4 * 1024 * 1024  # on one stream, as js-libp2p has it
STALL_S = 1.0  # for the reader of a stream that holds so much; the whole connection waits
WRITE_TIMEOUT_S = 10.0  # for one frame: below 6.5 KB/s a connection is no use to anybody
CLOSE_TIMEOUT_S = 0.5
PROBE_S = 2.0
PROBE = b"\x13/multistream/1.0.0\n"

NEW, MESSAGE, CLOSE, RESET = 0, 1, 3, 5
"""Tags as the receiver of a stream sends them; the opener's are one higher, and NEW is the opener's only."""


class BoundedMplex(IMuxedConn):  # type: ignore[misc]  # libp2p publishes no types
    """Many streams on one secured connection."""

    on_close: Callable[[], Awaitable[None]] | None = None
    """Set by the swarm's connection."""
    upload = download = Pace(0)
    memory = UNBOUNDED
    held = 0

    def __init__(self, secured_conn: Any, peer_id: Any) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self._streams: dict[tuple[int, bool], MplexStream] = {}
        self._count = 0
        self._accepted_in, self._accepted = trio.open_memory_channel[MplexStream](STREAMS)
        self._write_lock = trio.Lock()
        self._closing = False

    @property
    def is_initiator(self) -> bool:
        return bool(self.secured_conn.is_initiator)

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and not self.is_closed

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    @property
    def unread(self) -> int:
        return sum(stream.unread for stream in self._streams.values())

    # -- Life ------------------------------------------------------------------

    async def start(self) -> None:
        """Read frames until the connection ends."""
        self.event_started.set()
        try:
            with suppress(Exception):  # Noise, sockets, websockets and liars each end it in their own way
                await self._read_frames()
        finally:
            with trio.CancelScope(shield=True):
                await self.close()

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        with trio.move_on_after(CLOSE_TIMEOUT_S), suppress(Exception):
            await self.secured_conn.close()
        self._accepted_in.close()
        for stream in list(self._streams.values()):
            stream.fail()
        self._streams.clear()
        self.event_closed.set()
        if self.on_close is not None:
            await self.on_close()

    async def is_alive(self) -> bool:
        """Whether the peer answers within PROBE_S. Mplex has no ping: we begin to negotiate a protocol."""
        try:
            with trio.fail_after(PROBE_S):
                stream = await self.open_stream()
                await stream.write(PROBE)
                answered = bool(await stream.read(1))
                await stream.reset()
        except (trio.TooSlowError, MuxedStreamError, MuxedConnUnavailable, ConnectionClosedError):
            return False
        return answered

    # -- Streams ---------------------------------------------------------------

    async def open_stream(self) -> MplexStream:
        if self._closing:
            raise MuxedConnUnavailable("the connection is closed")
        if len(self._streams) >= STREAMS:
            raise MuxedStreamError("every stream that the connection allows is open")
        stream = MplexStream(self, self._count, ours=True)
        self._count += 1
        self._streams[stream.key] = stream
        try:
            await self.send(stream, NEW, str(stream.key[0]).encode())
        except BaseException:
            self.forget(stream)
            raise
        return stream

    async def accept_stream(self) -> MplexStream:
        try:
            return await self._accepted.receive()
        except trio.EndOfChannel:
            raise MuxedConnUnavailable("the connection is closed") from None

    def forget(self, stream: MplexStream) -> None:
        self._streams.pop(stream.key, None)

    # -- Frames ----------------------------------------------------------------

    async def send(self, stream: MplexStream, tag: int, data: bytes = b"") -> None:
        """Write one frame, whole or not at all; shielded, since half a frame ends the connection."""
        identifier, ours = stream.key
        header = encode_varint(identifier << 3 | (tag + 1 if ours and tag != NEW else tag))
        frame = header + encode_varint(len(data)) + data
        await self.upload.spend(len(frame))  # before the lock: its holder has a deadline
        async with self._write_lock:
            if self._closing:
                raise MuxedConnUnavailable("the connection is closed")
            with trio.CancelScope(deadline=trio.current_time() + WRITE_TIMEOUT_S, shield=True) as scope:
                await self.secured_conn.write(frame)
            if scope.cancelled_caught:
                await self.secured_conn.close()  # the reading task sees it and cleans up
                raise ConnectionClosedError(f"the peer read nothing for {WRITE_TIMEOUT_S:g} s", transport="tcp")

    async def _read_frames(self) -> None:
        buffer = bytearray()
        while True:
            read = await self.secured_conn.read(None)
            await self.download.spend(len(read))
            buffer += read
            while (frame := _take_frame(buffer)) is not None:
                await self._handle(*frame)

    async def _handle(self, header: int, data: bytes) -> None:
        identifier, tag = header >> 3, header & 7
        if tag > RESET + 1:
            raise Malformed(f"tag {tag}")
        if tag == NEW:
            await self._accept(MplexStream(self, identifier, ours=False), data)
            return
        stream = self._streams.get((identifier, bool(tag & 1)))
        if stream is None:
            return  # of a stream that we reset
        kind = tag if tag & 1 else tag - 1
        if kind == MESSAGE:
            await self._deliver(stream, data)
        elif kind == CLOSE:
            stream.end()
        else:
            stream.fail()

    async def _accept(self, stream: MplexStream, name: bytes) -> None:
        if stream.key in self._streams or len(name) > NAME_BYTES:
            raise Malformed("a stream is opened twice, or has a long name")
        if len(self._streams) >= STREAMS:
            await self.send(stream, RESET)
            return
        self._streams[stream.key] = stream
        with suppress(trio.WouldBlock):  # it holds as many as there may be
            self._accepted_in.send_nowait(stream)

    async def _deliver(self, stream: MplexStream, data: bytes) -> None:
        if not self.memory.admits(self, len(data)):
            raise Malformed("more than the peer's share of memory")
        stream.feed(data)
        if stream.unread > UNREAD_BYTES:
            with trio.move_on_after(STALL_S):
                await stream.wait_read()
        if stream.unread > UNREAD_BYTES:
            await stream.reset()

    # -- What the swarm asks ---------------------------------------------------

    def get_remote_address(self) -> Any:
        return self.secured_conn.get_remote_address()

    def get_transport_addresses(self) -> Any:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> Any:
        return self.secured_conn.get_connection_type()


def _take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take one whole frame, as (header, data), or None. Raises Malformed."""
    head = bytes(buffer[:20])
    try:
        header, position = decode_varint(head, 0)
        size, position = decode_varint(head, position)
    except Malformed:
        if len(head) == 20:
            raise
        return None
    if size > FRAME_BYTES:
        raise Malformed(f"frame of {size} bytes")
    if len(buffer) < position + size:
        return None
    data = bytes(buffer[position : position + size])
    del buffer[: position + size]
    return header, data


class MplexStream(IMuxedStream):  # type: ignore[misc]  # libp2p publishes no types
    """One stream; `close` ends our half only, as the stock library's callers expect."""

    def __init__(self, connection: BoundedMplex, identifier: int, *, ours: bool) -> None:
        self.muxed_conn = connection
        self.key = (identifier, ours)
        self._buffer = bytearray()
        self._changed = trio.Event()
        self._written_out = False  # our half is closed
        self._read_out = False  # the peer's half is closed
        self._failed = False

    @property
    def unread(self) -> int:
        return len(self._buffer)

    async def read(self, n: int | None = None) -> bytes:
        """Return what is there, at most n bytes; raise at the end or after a reset."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._failed:
                raise MuxedStreamReset("the stream was reset")
            if self._read_out:
                raise MuxedStreamEOF("the stream ended")
            await self._changed.wait()
        size = len(self._buffer) if n is None else n
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._wake()
        return data

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), WRITE_BYTES):
            if self._failed:
                raise MuxedStreamReset("the stream was reset")
            if self._written_out:
                raise MuxedStreamClosed("our half is closed")
            await self.muxed_conn.send(self, MESSAGE, data[start : start + WRITE_BYTES])

    async def close(self) -> None:
        if self._written_out or self._failed:
            return
        self._written_out = True
        self._settle()
        await self.muxed_conn.send(self, CLOSE)

    async def reset(self) -> None:
        if self._failed or (self._written_out and self._read_out):
            self.fail()
            return
        self.fail()
        with suppress(MuxedConnUnavailable, ConnectionClosedError):
            await self.muxed_conn.send(self, RESET)

    # -- The connection's ------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if not self._read_out and not self._failed:
            self._buffer += data
            self._wake()

    def end(self) -> None:
        self._read_out = True
        self._settle()
        self._wake()

    def fail(self) -> None:
        self._failed = True
        self._buffer.clear()
        self.muxed_conn.forget(self)
        self._wake()

    async def wait_read(self) -> None:
        """Wait until the stream holds no more than it may."""
        while self.unread > UNREAD_BYTES and not self._failed:
            await self._changed.wait()

    def _settle(self) -> None:
        if self._written_out and self._read_out:
            self.muxed_conn.forget(self)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- What libp2p asks ------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._failed or (self._written_out and self._read_out)

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("callers set their deadlines with trio")

    def get_remote_address(self) -> Any:
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> MplexStream:
        return self
