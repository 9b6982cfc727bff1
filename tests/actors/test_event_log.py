"""A job's log: what a reorganisation withdraws is said, and what is read again is not said twice."""

from __future__ import annotations

import trio

from actors.mail import EventLog, Follower, Reorganized
from protocols.chain import Applied, ChainEvent
from protocols.ids import Address, JobId

JOB = JobId(b"j" * 32)
A, B, C = (Applied(JOB, Address("0x" + digit * 40)) for digit in "abc")


async def taken(follower: Follower, count: int) -> list[ChainEvent | Reorganized]:
    with trio.fail_after(5):
        return [await anext(follower) for _ in range(count)]


async def test_a_watcher_that_restarted_says_nothing_twice() -> None:
    log = EventLog()
    _, follower = log.open()
    for _ in range(2):
        log.put(0, A)
        log.put(1, B)
    log.put(2, C)
    assert await taken(follower, 3) == [A, B, C]
    assert log.so_far() == (A, B, C)


async def test_withdrawn_events_are_said_and_gone() -> None:
    log = EventLog()
    for number, event in enumerate((A, B)):
        log.put(number, event)
    past, follower = log.open()
    assert past == (A, B)
    log.withdraw(1)
    log.withdraw(1)
    log.put(1, C)
    assert await taken(follower, 2) == [Reorganized(1), C]
    assert log.so_far() == (A, C)


async def test_another_event_in_an_old_place_withdraws_what_came_after() -> None:
    log = EventLog()
    for number, event in enumerate((A, B, C)):
        log.put(number, event)
    _, follower = log.open()
    log.put(1, C)  # the chain was reorganised while no watcher ran
    assert await taken(follower, 2) == [Reorganized(1), C]
    assert log.so_far() == (A, C)
