"""Requests between peers: one length-prefixed question and one length-prefixed answer a stream.

Lengths are 4 bytes, big-endian, checked before anything is read; answers go out in large writes. Everything
has a deadline and every stream an end.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import trio

from actors.ports import NoAnswer, Responder
from node.adapters.libp2p.streams import Stream, StreamFault, hold, log, open_stream, peer_of, read_frame, write_frame
from protocols.ids import PeerId

PEER_REQUESTS = 16  # of ours at a time to one peer; more would only share its bandwidth
ALL_REQUESTS = 64  # of ours at a time: each may hold an answer of its limit in memory
PEER_SERVED = 4  # answers for one peer at a time, until it has read them: the rest of its questions wait
SERVED = 64  # questions of others that responders work on at a time
QUESTION_S = 10.0  # for reading a question
RESPONDER_S = 60.0  # for our own answer; it is a lookup, not a computation
SLOWEST_BYTES_S = 50_000  # below, an answer is broken off: a slow reader holds it in our memory


class Requests:
    """Both sides of every request protocol of a host."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._all = trio.CapacityLimiter(ALL_REQUESTS)
        self._to_peer: defaultdict[PeerId, trio.CapacityLimiter] = defaultdict(
            lambda: trio.CapacityLimiter(PEER_REQUESTS)
        )
        self._for_peer: defaultdict[PeerId, trio.CapacityLimiter] = defaultdict(
            lambda: trio.CapacityLimiter(PEER_SERVED)
        )
        self._serving = trio.CapacityLimiter(SERVED)
        self.responder_faults = 0

    def forget(self, peer: PeerId) -> None:
        self._to_peer.pop(peer, None)
        self._for_peer.pop(peer, None)

    async def ask(self, peer: PeerId, protocol: str, question: bytes, *, limit_bytes: int) -> bytes | NoAnswer:
        """Ask a connected peer; the caller sets the deadline."""
        try:
            async with self._to_peer[peer], self._all, open_stream(self._host, peer, protocol) as stream:
                await write_frame(stream, question)
                answer = await read_frame(stream, limit_bytes)
        except StreamFault as fault:
            return NoAnswer(str(fault))
        return answer

    async def serve(self, stream: Stream, responder: Responder, limit_bytes: int) -> None:
        """Read one question and write the responder's answer; None ends the stream without one."""
        try:
            with trio.fail_after(QUESTION_S):
                question = await read_frame(stream, limit_bytes)
            async with self._for_peer[peer_of(stream)]:
                answer = await self._answer(peer_of(stream), responder, question)
                if answer is not None:
                    hold(stream, len(answer))
                    with trio.fail_after(QUESTION_S + len(answer) / SLOWEST_BYTES_S):
                        await write_frame(stream, answer)
        except trio.TooSlowError:
            raise StreamFault("too slow") from None

    async def _answer(self, peer: PeerId, responder: Responder, question: bytes) -> bytes | None:
        async with self._serving:
            with trio.fail_after(RESPONDER_S):
                try:
                    return await responder(peer, question)
                except Exception:  # noqa: BLE001
                    # Our fault, and a stranger's bytes can repeat it at will: restarting would be at his command.
                    log.exception("a responder raised")
                    self.responder_faults += 1
                    return None
