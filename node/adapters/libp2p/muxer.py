"""Yamux with bounds: corrections to py-libp2p 0.8.1's multiplexer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    GO_AWAY_NORMAL,
    TYPE_PING,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)

from node.adapters.libp2p.memory import UNBOUNDED, Memory
from node.adapters.libp2p.pace import Pace

WRITE_TIMEOUT_S = 10.0  # for one frame of ≤ 64 KiB: below 6.5 KB/s a connection is no use to anybody
PING_TIMEOUT_S = 2.0  # twice the longest round trip on earth, with a busy peer at its end
CLOSE_TIMEOUT_S = 0.5  # for the farewell; the socket is closed after it in any case
UNREAD_BYTES = 64 * 1024 * 1024  # on all streams of a connection: four windows of the largest size
FRAME_BYTES = 16 * 1024 * 1024  # yamux's largest window


class Muxers(MuxerMultistream):  # type: ignore[misc]  # libp2p publishes no types
    """Builds the class that was registered for the negotiated protocol; the stock one builds its own Yamux."""

    async def new_conn(self, conn: Any, peer_id: Any) -> Any:
        protocol, muxer = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(muxer(conn, peer_id), conn, protocol)


class BoundedYamux(Yamux):  # type: ignore[misc]  # libp2p publishes no types
    """A connection that a stalled or lying peer can't use to hold our tasks or our memory.

    Faults of the stock class that it mends:
    - a write to a peer whose TCP window is shut waits for ever, with the connection's write lock held:
      `close`, resets under a shield and the shutdown of the host then wait as well;
    - a write that is cancelled, as by a request's deadline, leaves half a frame on the wire: the connection
      dies of it, with all its streams;
    - a peer that ignores its receive window is only logged: our memory is its to fill.
    """

    _closing = False
    upload = download = Pace(0)
    memory = UNBOUNDED
    held = 0

    @property
    def unread(self) -> int:
        return sum(map(len, self.stream_buffers.values()))

    async def _write_frame(self, data: bytes) -> None:
        if not self._closing:  # before the lock: its holder has a deadline
            await self.upload.spend(len(data))
        async with self._write_lock:
            patience_s = CLOSE_TIMEOUT_S if self._closing else WRITE_TIMEOUT_S
            with trio.CancelScope(deadline=trio.current_time() + patience_s, shield=True) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                # Half a frame is out: nothing can follow it. The read loop sees the socket go and cleans up.
                await self.secured_conn.close()
                raise ConnectionClosedError(f"the peer read nothing for {patience_s:g} s", transport="tcp")

    async def _read_data_body(self, length: int) -> bytes:
        beyond = length > FRAME_BYTES or self.unread + length > UNREAD_BYTES
        if beyond or not self.memory.admits(self, length):
            raise trio.TooSlowError  # the one exception after which the stock read loop closes the connection
        body: bytes = await super()._read_data_body(length)
        await self.download.spend(length)
        return body

    async def is_alive(self) -> bool:
        """Whether the peer answers a ping within PING_TIMEOUT_S."""
        self._ping_event = answered = trio.Event()
        self._ping_sent_time = trio.current_time()
        with trio.move_on_after(PING_TIMEOUT_S), suppress(ConnectionClosedError):
            await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
            await answered.wait()
        return bool(answered.is_set())

    async def open_stream(self) -> YamuxStream:
        if not self.stream_backlog_semaphore.value:
            raise MuxedStreamError("every stream that the connection allows is open")  # stock: waits for ever
        return _thrifty(await super().open_stream())

    async def accept_stream(self) -> YamuxStream:
        return _thrifty(await super().accept_stream())

    async def close(self, error_code: int = GO_AWAY_NORMAL) -> None:
        self._closing = True
        with trio.move_on_after(CLOSE_TIMEOUT_S):  # for the lock, which another write may hold for longer
            await super().close(error_code)
        if not self.event_closed.is_set():
            await self._cleanup_on_error()


Connection = TypeVar("Connection")


def shared(
    muxer: Callable[[Any, Any], Connection], memory: Memory, upload: Pace, download: Pace
) -> Callable[[Any, Any], Connection]:
    """Return what builds connections of this multiplexer that share memory and speeds."""

    def build(conn: Any, peer_id: Any) -> Connection:
        connection: Any = muxer(conn, peer_id)
        connection.upload, connection.download, connection.memory = upload, download, memory
        memory.add(connection)
        return cast(Connection, connection)

    return build


class ThriftyStream(YamuxStream):  # type: ignore[misc]  # libp2p publishes no types
    """A stream that returns credit by half windows, and keeps nothing once it is reset.

    Faults of the stock class that it mends:
    - its hysteresis never holds, so that every read is answered with a window update: a frame, an encryption
      and a system call for each of the single bytes that multistream-select reads; a request costs 110 frames;
    - what nobody will read any more of a stream that we reset stays for a minute.
    """

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        unread = len(self.conn.stream_buffers.get(self.stream_id, b""))
        if self.target_recv_window - self.recv_window - unread >= self._grow_threshold():
            await super()._auto_tune_and_send_window_update(bytes_read=bytes_read)

    async def reset(self) -> None:
        await super().reset()
        self.conn.stream_buffers.get(self.stream_id, bytearray()).clear()
        await self.conn._finalize_stream(self, fully_closed=True)  # again: it keeps a stream with unread bytes


def _thrifty(stream: YamuxStream) -> YamuxStream:
    stream.__class__ = ThriftyStream  # the stock connection names its class of streams in the middle of its methods
    return stream
