"""What we ask of full peers: their archives, and on a phone line to publish and to subscribe for us.

Every answer is a stranger's: it is bounded, and what it says of itself is computed anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from actors.ports import NoAnswer
from node.adapters.libp2p.streams import StreamFault, open_stream, read_varint_frame, write_varint_frame
from protocols.ids import PeerId, PubsubTopic
from protocols.verdict import Reject
from protocols.waku import WakuMessage, decode_message, message_hash
from protocols.waku_filter import (
    FILTER_SUBSCRIBE,
    MAX_FILTER_BYTES,
    FilterReply,
    FilterRequest,
    decode_filter_reply,
    encode_filter_request,
)
from protocols.waku_lightpush import (
    LIGHTPUSH,
    MAX_PUSH_REPLY_BYTES,
    Push,
    PushReply,
    decode_push_reply,
    encode_push,
)
from protocols.waku_peers import MAX_PEER_REPLY_BYTES, PEER_EXCHANGE, PeerReply, decode_peer_reply, encode_peer_query
from protocols.waku_store import (
    MAX_PAGE,
    MAX_STORE_REPLY_BYTES,
    STORE,
    StoreQuery,
    StoreReply,
    decode_store_reply,
    encode_query,
)

REQUEST_S = 15.0
ARCHIVES = 2  # asked for the same time: what one has missed, another has
TRIED = 8  # peers, until so many have answered
HISTORY_BYTES = 64 * 1024 * 1024  # of one answer to the actors; a longer absence is caught up in parts
PAGES = 1000


class Client:
    """Asks connected peers; each method's deadline is its own."""

    def __init__(self, host: Any) -> None:
        self._host = host

    async def push(self, peer: PeerId, topic: PubsubTopic, message: bytes) -> PushReply | NoAnswer:
        asked = encode_push(Push(_new_id(), topic, message))
        answer = await self._ask(peer, LIGHTPUSH, asked, MAX_PUSH_REPLY_BYTES)
        return answer if isinstance(answer, NoAnswer) else _readable(decode_push_reply(answer))

    async def filter(self, peer: PeerId, request: FilterRequest) -> FilterReply | NoAnswer:
        asked = encode_filter_request(replace(request, request_id=_new_id()))
        answer = await self._ask(peer, FILTER_SUBSCRIBE, asked, MAX_FILTER_BYTES)
        return answer if isinstance(answer, NoAnswer) else _readable(decode_filter_reply(answer))

    async def query(self, peer: PeerId, query: StoreQuery) -> StoreReply | NoAnswer:
        asked = encode_query(replace(query, request_id=_new_id()))
        answer = await self._ask(peer, STORE, asked, MAX_STORE_REPLY_BYTES)
        return answer if isinstance(answer, NoAnswer) else _readable(decode_store_reply(answer))

    async def peers(self, peer: PeerId, count: int) -> PeerReply | NoAnswer:
        answer = await self._ask(peer, PEER_EXCHANGE, encode_peer_query(count), MAX_PEER_REPLY_BYTES)
        return answer if isinstance(answer, NoAnswer) else _readable(decode_peer_reply(answer))

    async def _ask(self, peer: PeerId, protocol: str, question: bytes, limit: int) -> bytes | NoAnswer:
        try:
            with trio.fail_after(REQUEST_S):
                async with open_stream(self._host, peer, protocol) as stream:
                    await write_varint_frame(stream, question)
                    await stream.close_write()  # some read to the end before they answer
                    answer = await read_varint_frame(stream, limit)
        except StreamFault as fault:
            return NoAnswer(str(fault))
        except trio.TooSlowError:
            return NoAnswer(f"no answer within {REQUEST_S:g} s")
        except Exception as error:  # noqa: BLE001  half-closing a stream that the peer has reset
            return NoAnswer(f"{type(error).__name__}: {error}")
        return answer

    # -- History ---------------------------------------------------------------

    async def history(
        self, peers: Sequence[PeerId], topic: PubsubTopic, first_ns: int, last_ns: int
    ) -> Sequence[bytes] | NoAnswer:
        """Return a topic's encoded messages of that time, oldest first, as ARCHIVES of the peers have them together."""
        found: dict[bytes, tuple[WakuMessage, bytes]] = {}
        faults: list[str] = []
        answered = 0
        for peer in peers[:TRIED]:
            fault = await self._gather(peer, topic, first_ns, last_ns, found)
            if fault is None:
                answered += 1
            else:
                faults.append(f"{peer}: {fault}")
            if answered == ARCHIVES:
                break
        if not answered:
            return NoAnswer("; ".join(faults) or "nobody is connected")
        ordered = sorted((message.timestamp_ns, digest, data) for digest, (message, data) in found.items())
        return [data for _, _, data in ordered]

    async def _gather(
        self,
        peer: PeerId,
        topic: PubsubTopic,
        first_ns: int,
        last_ns: int,
        found: dict[bytes, tuple[WakuMessage, bytes]],
    ) -> str | None:
        """Add what the peer has; return why it has nothing to say."""
        query = StoreQuery("", True, topic, start_ns=first_ns, end_ns=last_ns, forward=True, limit=MAX_PAGE)
        size_bytes = 0
        for _ in range(PAGES):
            page = await self.query(peer, query)
            if isinstance(page, NoAnswer):
                return page.reason
            if page.status != 200:
                return f"status {page.status}: {page.description}"
            for entry in page.messages:
                message = Reject("empty") if entry.message is None else decode_message(entry.message)
                if entry.message is None or isinstance(message, Reject):
                    return "its archive holds what is no message"
                size_bytes += len(entry.message)
                found.setdefault(message_hash(topic, message), (message, entry.message))
            if page.cursor is None or page.cursor == query.cursor or size_bytes > HISTORY_BYTES:
                return None
            query = replace(query, cursor=page.cursor)
        return None


def _new_id() -> str:
    return secrets.token_hex(16)


def _readable(answer: PushReply | FilterReply | StoreReply | PeerReply | Reject) -> Any:
    return NoAnswer(answer.reason) if isinstance(answer, Reject) else answer
