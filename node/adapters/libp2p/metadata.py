"""Waku's metadata protocol: which cluster is the other side of?"""

from __future__ import annotations

from typing import Any

import trio

from node.adapters.libp2p.streams import (
    Stream,
    StreamFault,
    open_stream,
    read_varint_frame,
    write_varint_frame,
)
from protocols.ids import PeerId
from protocols.verdict import Reject
from protocols.waku import MAX_METADATA_BYTES, METADATA, Metadata, decode_metadata, encode_metadata

TIMEOUT_S = 5.0


async def ask_metadata(host: Any, peer: PeerId, own: Metadata) -> Metadata:
    """Tell the peer ours and return its; StreamFault if it doesn't answer properly in time."""
    try:
        with trio.fail_after(TIMEOUT_S):
            async with open_stream(host, peer, METADATA) as stream:
                await write_varint_frame(stream, encode_metadata(own))
                answer = await _read(stream)
            return answer
    except trio.TooSlowError:
        raise StreamFault(f"no metadata within {TIMEOUT_S:.0f} s") from None


async def answer_metadata(stream: Stream, own: Metadata) -> Metadata:
    """Answer one question and return what the peer said of itself."""
    with trio.fail_after(TIMEOUT_S):
        asked = await _read(stream)
        await write_varint_frame(stream, encode_metadata(own))
        return asked


async def _read(stream: Stream) -> Metadata:
    metadata = decode_metadata(await read_varint_frame(stream, MAX_METADATA_BYTES))
    if isinstance(metadata, Reject):
        raise StreamFault(metadata.reason)
    return metadata
