"""Streams that always end: guarded handlers, opened streams, and frames read within bounds."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.peer.id import ID

from protocols.ids import PeerId
from protocols.waku_wire import encode_varint

log = logging.getLogger("skynet.node.adapters.libp2p")

RESET_TIMEOUT_S = 2.0  # a reset is 12 bytes; longer only when the peer has stalled, and then it is pointless
FAREWELL_S = 2.0  # between our last byte and the peer's end of stream
OPEN_TIMEOUT_S = 5.0
CHUNK_BYTES = 1024 * 1024  # of a write: with 64 KiB the Python between the layers costs a third of the speed
READ_BYTES = 64 * 1024
LENGTH = struct.Struct(">I")

Stream = Any
"""libp2p's NetStream: read, write, close, close_write, reset; libp2p publishes no types."""
Handler = Callable[[Stream], Awaitable[None]]


class StreamFault(Exception):
    """The peer, or the way to it, failed us on one stream; never leaves this package."""


def peer_of(stream: Stream) -> PeerId:
    return PeerId(stream.muxed_conn.peer_id.to_base58())


# -- Inbound -------------------------------------------------------------------


class GuardedStreams:
    """Stands before a host's inbound streams: what goes wrong on one stays on it.

    Faults of the stock library that it mends: an exception that leaves any stream handler ends the whole
    host (51 garbage bytes are enough); handlers that return leave their stream open; one peer may open
    any number of streams.
    """

    def __init__(self, inner: Handler, max_peer_streams: int) -> None:
        self._inner = inner
        self._limit = max_peer_streams
        self._open: Counter[PeerId] = Counter()
        self.faults = 0
        self.refused = 0
        self.closed = False
        """Set at shutdown: no handler starts any more."""

    async def __call__(self, stream: Stream) -> None:
        peer = peer_of(stream)
        if self.closed or self._open[peer] >= self._limit:
            self.refused += 1
            await reset(stream)
            return
        self._open[peer] += 1
        try:
            await self._inner(stream)
        except StreamFault as fault:
            log.debug("stream of %s: %s", peer, fault)
            await reset(stream)
        except Exception as error:  # noqa: BLE001  whatever a stranger's bytes bring about ends here
            self.faults += 1
            log.info("stream of %s failed: %r", peer, error)
            await reset(stream)
        except BaseException:
            await reset(stream)
            raise
        else:
            await finish(stream)
        finally:
            release(stream)
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


# -- Outbound ------------------------------------------------------------------


@asynccontextmanager
async def open_stream(
    host: Any, peer: PeerId, protocol: str, farewell: Callable[[Stream], Awaitable[None]] | None = None
) -> AsyncIterator[Stream]:
    """Open a stream to a connected peer; it is over when the block is. `farewell` may do `finish` at its leisure.

    Mends: 256 streams that nobody closed make the stock `new_stream` wait for ever; an unconnected peer
    makes it dial, over one address only. Raises StreamFault, whatever libp2p raised.
    """
    try:
        with trio.fail_after(OPEN_TIMEOUT_S):
            if not is_connected(host, peer):
                raise StreamFault("not connected")
            stream = await host.new_stream(ID.from_base58(peer), [protocol])
    except trio.TooSlowError:
        raise StreamFault(f"no {protocol} stream within {OPEN_TIMEOUT_S:.0f} s") from None
    except StreamFault:
        raise
    except Exception as error:
        raise StreamFault(f"no {protocol} stream: {type(error).__name__}: {error}") from error
    try:
        yield stream
    except BaseException:
        await reset(stream)
        raise
    finally:
        release(stream)
    await (farewell or finish)(stream)


def is_connected(host: Any, peer: PeerId) -> bool:
    return any(not c.is_closed for c in host.get_network().get_connections(ID.from_base58(peer)))


async def finish(stream: Stream) -> None:
    """End the stream in friendship: half-close, wait for the peer's end, drop what it still says."""
    try:
        with trio.move_on_after(FAREWELL_S):
            await stream.close_write()
            while await read_some(stream):
                pass
            await stream.close()
            return
    except Exception as error:  # noqa: BLE001  the peer was quicker, or is gone
        log.debug("finish: %r", error)
    except BaseException:
        await reset(stream)
        raise
    await reset(stream)


async def reset(stream: Stream) -> None:
    """End the stream at once, also while we are being cancelled."""
    with trio.move_on_after(RESET_TIMEOUT_S) as scope:
        scope.shield = True
        try:
            await stream.reset()
        except Exception as error:  # noqa: BLE001  the connection is gone, and the stream with it
            log.debug("reset: %r", error)


# -- Memory --------------------------------------------------------------------


def hold(stream: Stream, size_bytes: int) -> None:
    """Count what is read from a stream, or about to be written, until the stream ends. StreamFault beyond the share."""
    connection = stream.muxed_conn
    if not connection.memory.admits(connection, size_bytes):
        raise StreamFault("more than the peer's share of memory")
    connection.held += size_bytes
    stream.held_bytes = getattr(stream, "held_bytes", 0) + size_bytes


def release(stream: Stream) -> None:
    stream.muxed_conn.held -= getattr(stream, "held_bytes", 0)
    stream.held_bytes = 0


# -- Frames --------------------------------------------------------------------


async def read_exactly(stream: Stream, size: int) -> bytes:
    """Read `size` bytes; StreamFault if the stream ends before. The caller has checked the size."""
    parts: list[bytes] = []
    missing = size
    while missing:
        part = await read_some(stream, missing)
        if not part:
            raise StreamFault(f"the stream ended {missing} bytes early")
        hold(stream, len(part))
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


async def read_some(stream: Stream, limit: int = READ_BYTES) -> bytes:
    """Read what is there, at least a byte; empty at the end of the stream."""
    try:
        data: bytes = await stream.read(limit)
    except EOFError:  # libp2p's StreamEOF
        return b""
    except Exception as error:
        raise StreamFault(f"{type(error).__name__}: {error}") from error
    return data


async def write_all(stream: Stream, data: bytes) -> None:
    """Write in large pieces. StreamFault when the peer stopped reading for 5 s, which is yamux's patience."""
    try:
        for start in range(0, len(data), CHUNK_BYTES):
            await stream.write(data[start : start + CHUNK_BYTES])
    except Exception as error:
        raise StreamFault(f"{type(error).__name__}: {error}") from error


async def read_frame(stream: Stream, limit: int) -> bytes:
    """Read a frame with a 4-byte big-endian length, which is checked before anything is read."""
    (size,) = LENGTH.unpack(await read_exactly(stream, LENGTH.size))
    if size > limit:
        raise StreamFault(f"{size} bytes announced, the limit is {limit}")
    return await read_exactly(stream, size)


async def write_frame(stream: Stream, data: bytes) -> None:
    if len(data) < CHUNK_BYTES:
        await write_all(stream, LENGTH.pack(len(data)) + data)
    else:
        await write_all(stream, LENGTH.pack(len(data)))
        await write_all(stream, data)


async def read_varint_frame(stream: Stream, limit: int, first: bytes = b"") -> bytes:
    """Read a frame with a varint length, as Waku's request protocols use; `first` is a byte that was read before."""
    size, shift = 0, 0
    while True:
        byte = (first or await read_exactly(stream, 1))[0]
        first = b""
        size |= (byte & 0x7F) << shift
        shift += 7
        if size > limit or shift > 35:
            raise StreamFault(f"more than {limit} bytes announced")
        if byte < 0x80:
            return await read_exactly(stream, size)


async def read_question(stream: Stream, limit: int, *, idle_s: float, question_s: float) -> bytes:
    """Read a frame with a varint length from a peer that may open a stream long before it asks, as js does."""
    try:
        with trio.fail_after(idle_s):
            first = await read_exactly(stream, 1)
        with trio.fail_after(question_s):
            return await read_varint_frame(stream, limit, first)
    except trio.TooSlowError:
        raise StreamFault("no question in time") from None


async def write_varint_frame(stream: Stream, data: bytes) -> None:
    await write_all(stream, encode_varint(len(data)) + data)
