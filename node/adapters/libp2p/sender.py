"""Our relay stream to one peer, and the frames that wait for it: kept open, bounded, shed when it stalls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from node.adapters.libp2p.queue import SheddingQueue
from node.adapters.libp2p.streams import Stream, StreamFault, log, open_stream, read_some, write_all
from protocols.ids import PeerId
from protocols.waku import RELAY

BATCH_BYTES = 128 * 1024  # of a write: many small messages cost one encryption
QUEUE_ITEMS, QUEUE_BYTES = 8192, 16 * 1024 * 1024  # to one peer; above, the oldest publication is shed
ROOM_ITEMS, ROOM_BYTES = 2048, 4 * 1024 * 1024  # above, our own publishing waits for a peer that still reads
STALLED_S = 0.5  # without a finished write; such a peer is not waited for
CONTROL_FRAMES = 4096  # unsent; above, the stream starts anew and greets
RETRIES, RETRY_S = 5, 0.05  # of a stream in a row, doubling: a peer that doesn't read for 30 s is disconnected
SETTLED_S = 30.0  # a stream that lived so long was no failure


class Sender:
    """Our stream to one peer and the frames that wait for it."""

    def __init__(self, host: Any, peer: PeerId, on_open: Callable[[PeerId], None]) -> None:
        self._host = host
        self._peer = peer
        self._on_open = on_open
        self._control: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._publications: SheddingQueue[bytes] = SheddingQueue(QUEUE_ITEMS, QUEUE_BYTES)
        self._progress_s = 0.0
        self._stream_scope = trio.CancelScope()
        self.scope = trio.CancelScope()
        """Of the whole; cancelled when the peer is lost."""
        self.opened = False
        """Whether there ever was a stream: a light client takes none."""

    @property
    def shed(self) -> int:
        return self._publications.shed

    def put_control(self, frame: bytes, *, first: bool = False) -> None:
        if first:
            self._control.appendleft(frame)
        else:
            self._control.append(frame)
        if len(self._control) > CONTROL_FRAMES:
            self._control.clear()
            self._stream_scope.cancel()
        self._publications.wake()

    def put(self, frame: bytes) -> None:
        if not self._publications:
            self._progress_s = trio.current_time()
        self._publications.put(frame, len(frame))

    def has_room(self) -> bool:
        """Whether a publication need not wait: there is room, or waiting would be in vain."""
        queue = self._publications
        if len(queue) < ROOM_ITEMS and queue.size_bytes < ROOM_BYTES:
            return True
        return trio.current_time() > self._progress_s + STALLED_S

    async def run(self) -> None:
        """Keep a stream to the peer until it is lost, or until RETRIES attempts in a row have failed."""
        failures = 0
        with self.scope:
            while failures < RETRIES:
                began_s = trio.current_time()
                self._stream_scope = trio.CancelScope()
                try:
                    with self._stream_scope:
                        await self._send()
                except* StreamFault as faults:
                    log.info("relay stream to %s: %s", self._peer, faults.exceptions[0])
                failures = 0 if trio.current_time() > began_s + SETTLED_S else failures + 1
                await trio.sleep(RETRY_S * 2**failures)

    async def _send(self) -> None:
        async with open_stream(self._host, self._peer, RELAY) as stream, trio.open_nursery() as nursery:
            self.opened = True
            self._on_open(self._peer)
            nursery.start_soon(self._watch, stream)
            while True:
                if self._control:
                    frames, self._control = list(self._control), deque()  # lost with the stream: the next one greets
                    await write_all(stream, b"".join(frames))
                elif self._taken:
                    await write_all(stream, b"".join(self._taken))
                    self._taken = []
                else:
                    self._taken = await self._publications.take(BATCH_BYTES)
                self._progress_s = trio.current_time()

    async def _watch(self, stream: Stream) -> None:
        """Notice a reset while we have nothing to write; nobody writes to us on this stream."""
        while await read_some(stream):
            pass
