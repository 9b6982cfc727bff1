"""Mailboxes: what each policy does when it is full, and that mail outlives its reader."""

from __future__ import annotations

from contextlib import closing

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from node.supervision.mailbox import Block, LatestOnly, NoReply, Reply, ShedOldest
from node.supervision.policy import Backoff, Intensity, Rules
from node.supervision.supervisor import Child, Supervisor


async def test_block_waits_and_counts(autojump_clock: trio.testing.MockClock) -> None:
    box = Block[int]("events", 2)
    async with trio.open_nursery() as nursery:
        for i in range(2):
            await box.send(i)
        with pytest.raises(trio.WouldBlock):
            box.send_nowait(9)
        nursery.start_soon(box.send, 2)
        await trio.sleep(3)
        with box.reader() as inbox:
            assert [await inbox.receive() for _ in range(3)] == [0, 1, 2]
    statistics = box.statistics()
    assert (statistics.sent, statistics.blocked, statistics.blocked_s, statistics.shed) == (3, 1, 3.0, 0)


async def test_a_cancelled_send_is_not_sent(autojump_clock: trio.testing.MockClock) -> None:
    box = Block[int]("events", 1)
    await box.send(1)
    with trio.move_on_after(1):
        await box.send(2)
    assert box.statistics().sent == box.statistics().queued == 1


async def test_shed_oldest_keeps_the_newest_and_counts() -> None:
    box = ShedOldest[int]("gossip", 3)
    for i in range(10):
        await box.send(i)
    with box.reader() as inbox:
        assert [inbox.receive_nowait() for _ in range(3)] == [7, 8, 9]
    assert (box.statistics().sent, box.statistics().shed) == (10, 7)


async def test_latest_only_holds_one() -> None:
    box = LatestOnly[str]("head")
    for head in ("a", "b", "c"):
        box.send_nowait(head)
    with box.reader() as inbox:
        assert inbox.receive_nowait() == "c"
    assert box.statistics().shed == 2


async def test_close_ends_the_reader_after_what_is_queued() -> None:
    box = Block[int]("events", 4)
    await box.send(1)
    box.close()
    with box.reader() as inbox:
        assert [i async for i in inbox] == [1]


def test_a_box_holds_something() -> None:
    with pytest.raises(ValueError, match="mailbox events"):
        Block[int]("events", 0)


async def test_mail_survives_the_readers_restart(autojump_clock: trio.testing.MockClock) -> None:
    """The reader falls on every third mail; none of those still queued is lost, and the sender notices nothing."""
    box = Block[int]("events", 8)
    read: list[int] = []

    async def reader() -> None:
        with box.reader() as inbox:
            async for mail in inbox:
                if mail % 3 == 0:
                    raise RuntimeError(f"fell on {mail}")
                read.append(mail)

    rules = Rules(intensity=Intensity(100, 30.0), backoff=Backoff(0.1, 1.0, 0.1))
    root = Supervisor("root", [Child("reader", reader)], rules, report=lambda *_: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for i in range(1, 31):
            await box.send(i)
        await trio.sleep(60)
        root.stop()
    assert read == [i for i in range(1, 31) if i % 3]


async def test_reply_is_given_once(autojump_clock: trio.testing.MockClock) -> None:
    reply = Reply[int]()
    answers: list[int | NoReply] = []

    async def ask() -> None:
        answers.append(await reply.wait(timeout_s=5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        reply.answer(42)
    assert answers == [42]
    with pytest.raises(RuntimeError, match="once"):
        reply.answer(43)


async def test_nobody_waits_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    assert await Reply[int]().wait(timeout_s=5) == NoReply()
    abandoned = Reply[int]()
    abandoned.abandon()
    assert await abandoned.wait(timeout_s=1000) == NoReply()
    assert trio.current_time() == 5


async def test_closing_is_plain() -> None:
    with closing(ShedOldest[int]("gossip", 1)) as box:
        box.send_nowait(1)
    with pytest.raises(trio.ClosedResourceError):
        box.send_nowait(2)
