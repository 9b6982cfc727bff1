"""A websocket subscription to new heads, as a bell: it says when to look, never what there is.

The one rule: nothing that comes over it is believed. Without it, or with one that lies or falls silent, polling
finds the same blocks a little later.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import structlog
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from node.adapters.evm.rpc import public_name

log = structlog.get_logger("skynet.node.adapters.evm")

CONNECT_S = 10.0
MAX_MESSAGE_BYTES = 256 * 1024  # a head has one or two KB
BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
SUBSCRIBE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})


async def listen(url: str, ring: Callable[[], None]) -> None:
    """Ring at every new head, for ever; a connection that ends is made again."""
    logging.getLogger("trio-websocket").setLevel(logging.CRITICAL)  # it logs the whole URL
    failures = 0
    while True:
        try:
            async with open_websocket_url(
                url, connect_timeout=CONNECT_S, disconnect_timeout=1, max_message_size=MAX_MESSAGE_BYTES
            ) as socket:
                await socket.send_message(SUBSCRIBE)
                if not _is_subscribed(await socket.get_message()):
                    log.warning("no subscription to new heads: polling", endpoint=public_name(url))
                    await trio.sleep_forever()
                log.info("subscribed to new heads", endpoint=public_name(url))
                while True:
                    await socket.get_message()
                    failures = 0
                    ring()
        except (ConnectionClosed, HandshakeError, OSError) as error:
            reason = type(error).__name__
        if failures == 0:
            log.warning("subscription lost: polling", endpoint=public_name(url), reason=reason)
        await trio.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
        failures += 1


def _is_subscribed(message: str | bytes) -> bool:
    try:
        answer = json.loads(message)
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("result"), str)
