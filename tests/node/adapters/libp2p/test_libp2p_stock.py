"""The nine faults of stock py-libp2p 0.8.1: where it has one no more, a correction of ours is superfluous.

Stock is shown in a process of its own; ours is beside it here, or in the test that is named. The table of faults,
corrections and tests is in node/adapters/libp2p/README.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError

from node.adapters.libp2p import sender
from node.adapters.libp2p.queue import SheddingQueue
from protocols.waku import RELAY
from protocols.waku_history import SEEN_IDS, SEEN_S
from protocols.waku_relay import MESSAGES_BURST

SCRIPT = Path(__file__).with_name("stock_faults.py")
GARBAGE = b"\x32" + b"\xff" * 50
"""A frame of 50 bytes that is no RPC."""


@cache
def stock() -> Any:
    """What was seen of each fault; ten seconds of waiting, once."""
    ran = subprocess.run([sys.executable, "-W", "ignore", SCRIPT], capture_output=True, check=True, timeout=240)
    return json.loads(ran.stdout.splitlines()[-1])


async def test_1_garbage_on_the_pubsub_stream_ends_a_stock_host_and_not_ours(world: Any) -> None:
    assert stock()["garbage_ends_the_host"]
    node, stranger = await world.node(), await world.stranger()
    await stranger.connect(node)
    with suppress(Exception):
        stream = await stranger.stream(node, RELAY)
        await stream.write(GARBAGE)
    assert await (await world.node()).network.dial(node.address) == node.peer


def test_2_what_stock_drops_silently_by_default() -> None:
    """Ours: also test_a_burst_of_2000_arrives_whole."""
    assert stock()["delivered_of_200"] < 100
    queue: SheddingQueue[bytes] = SheddingQueue(sender.QUEUE_ITEMS, sender.QUEUE_BYTES)
    for _ in range(2000):
        queue.put(bytes(300), 300)
    assert (len(queue), queue.shed) == (2000, 0)
    assert MESSAGES_BURST >= 2000


async def test_3_stock_keeps_a_float_of_every_message_and_ours_nothing_for_long(world: Any) -> None:
    assert stock()["floats_kept_of_300"] == 300
    (node,) = await world.nodes(1)
    seen = node.network._relay._relay.seen
    for n in range(300):
        await node.network.publish(world.topic, b"%d" % n)
    assert 300 <= len(seen) <= SEEN_IDS
    seen.expire(trio.current_time() + 2 * SEEN_S)
    assert len(seen) == 0


def test_4_stock_tries_one_address_of_a_peer() -> None:
    """Ours: test_every_address_of_a_peer_is_tried."""
    assert not stock()["second_address_is_tried"]


async def test_5_stock_waits_for_a_second_connection_and_ours_does_not(world: Any) -> None:
    """Ours: also test_a_connect_is_quick."""
    assert stock()["quickest_connect_s"] >= 0.25  # however fast the machine is
    node = await world.node()
    assert node.network._swarm.connection_config.max_connections_per_peer == 1


@pytest.mark.parametrize("fault", ["idle_reader_loses_its_stream", "idle_reader_stalls_others"])
def test_6_a_stream_that_nobody_reads_is_lost_or_stalls_the_others(fault: str) -> None:
    """Ours: test_a_peer_that_reads_nothing_stalls_nobody; for mplex test_a_stream_that_nobody_reads_is_reset_and_…."""
    assert stock()[fault]


async def test_7_stock_waits_for_ever_for_the_257th_stream_and_ours_says_so(world: Any) -> None:
    """Ours: also test_many_at_once_and_far_more_than_256_in_a_row."""
    assert stock()["opened_of_300"] < 257
    a, b = await world.node(), await world.node()
    await a.network.dial(b.address)
    (connection,) = a.network._swarm.get_connections()
    while connection.muxed_conn.stream_backlog_semaphore.value:
        connection.muxed_conn.stream_backlog_semaphore.acquire_nowait()
    with pytest.raises(MuxedStreamError), trio.fail_after(5):
        await connection.muxed_conn.open_stream()


def test_8_a_cancelled_stock_host_leaves_its_port_open() -> None:
    """Ours: test_shutdown_under_traffic_is_clean_and_quick, which also cancels."""
    assert stock()["port_after_a_cancel"]


def test_9_the_wheel_brings_packages_that_are_none_of_its_business() -> None:
    """Ours: test_nobody_else_owns_our_names in tests/test_packaging.py."""
    owners = packages_distributions()
    assert {"docs", "examples", "interop"} <= {name for name, by in owners.items() if "libp2p" in by}
