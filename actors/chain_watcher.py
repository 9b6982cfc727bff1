"""Chain watcher: reads the contracts' events, runs our part in each job, and sends our calls.

Consumes  WatcherMail (blocks), the chain by polling
Emits     events into each job's EventLog, FollowJob / JoinJob / LeaveJob and JobAnnounced to gossip,
          start and stop of a job's actors
Restart   permanent; parts are folded from the chain again, what was under way is asked for again

Spec: protocols/README.md, "Seats"; DESIGN §4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from actors.exchange import Exchange
from actors.intake import Intake
from actors.mail import CallWanted, EventLog, FollowJob, GossipMail, HoldersHeard, JobContext, SendToLobby, WatcherMail
from actors.ports import Head, Inbox, Mined, Outbox, Outcome, Ports, Reverted, Unreachable
from protocols import seat
from protocols.chain import (
    Apply,
    Assigned,
    Call,
    ChainEvent,
    JobPosted,
    Ready,
    Release,
    Terms,
    Withdraw,
    WorkerEvent,
)
from protocols.ids import JobId, Wei
from protocols.message import JobAnnounced

log = structlog.get_logger("skynet.actors.chain_watcher")

BLOCKS_AT_ONCE = 2000  # what public RPC endpoints commonly allow in one eth_getLogs


class Work(Protocol):
    """The wiring's hand on a job's three actors."""

    async def start(self, context: JobContext) -> None: ...
    async def stop(self, job: JobId) -> None: ...


@dataclass(frozen=True, slots=True)
class WatcherPlan:
    inbox: Inbox[WatcherMail]
    to_gossip: Outbox[GossipMail]
    logs: dict[JobId, EventLog]
    """Owned by the wiring: the actors of a job follow theirs across our restarts."""
    offers_work: bool
    max_jobs: int
    poll_s: float
    confirmations: int
    first_block: int
    min_pay_wei: Wei
    max_stake_wei: Wei


class ChainWatcherActor:
    def __init__(self, ports: Ports, plan: WatcherPlan, exchange: Exchange, work: Work) -> None:
        self._ports = ports
        self._plan = plan
        self._work = work
        self._intake = Intake(ports, exchange)
        self._parts: dict[JobId, seat.Part] = {}
        self._logs = plan.logs
        self._heard: dict[JobId, int] = {}
        self._announced: set[JobId] = set()
        self._cursor = plan.first_block - 1
        self._clock_s = 0.0
        self._clock_read_s = 0.0

    async def run(self, started: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._poll, started)
            with self._plan.inbox.reader() as inbox:
                async for mail in inbox:
                    match mail:
                        case HoldersHeard(job, holders):
                            self._intake.note_holders(job, holders)
                        case CallWanted(call):
                            nursery.start_soon(self._send, call)

    # -- Reading the chain

    async def _poll(self, started: Callable[[], None]) -> None:
        caught_up = False
        while True:
            head = await self._ports.chain.head()
            if isinstance(head, Head):
                self._set_clock(head)
                if await self._read_to(head.number - self._plan.confirmations) and not caught_up:
                    caught_up = True
                    started()
                    log.info("chain read to its head", block=head.number, jobs=len(self._parts))
            else:
                log.warning("chain unreachable", reason=head.reason)
            if caught_up:
                for job in sorted(self._parts):
                    await self._step(job, seat.CaughtUp())
                    await self._step(job, seat.TimePassed(self._chain_time_s()))
            await trio.sleep(self._plan.poll_s)

    def _set_clock(self, head: Head) -> None:
        self._clock_s = max(float(head.timestamp_s), self._chain_time_s())
        self._clock_read_s = trio.current_time()

    def _chain_time_s(self) -> float:
        """An idle development chain mines no blocks: its clock runs on from the last one."""
        return self._clock_s + trio.current_time() - self._clock_read_s

    async def _read_to(self, last: int) -> bool:
        while self._cursor < last:
            until = min(self._cursor + BLOCKS_AT_ONCE, last)
            events = await self._ports.chain.events(self._cursor + 1, until)
            if isinstance(events, Unreachable):
                log.warning("chain unreachable", reason=events.reason)
                return False
            for event in events:
                await self._hear(event)
            self._cursor = until
        return True

    async def _hear(self, event: ChainEvent) -> None:
        if isinstance(event, WorkerEvent):
            return
        if isinstance(event, JobPosted):
            idle = sum(map(seat.is_engaged, self._parts.values())) < self._plan.max_jobs
            offers = self._plan.offers_work and idle and self._suits(event.terms)
            self._parts[event.job] = seat.hear(event, self._ports.chain.wallet, offers_work=offers)
            self._logs.setdefault(event.job, EventLog())
            await self._plan.to_gossip.send(FollowJob(event.job))
            self._nursery.start_soon(self._announce, event)
        if event.job in self._parts:
            index = self._heard.get(event.job, 0)
            self._logs[event.job].put(index, event)
            self._heard[event.job] = index + 1
            if isinstance(event, Assigned):
                self._nursery.start_soon(self._follow_members, event)
            await self._step(event.job, seat.OnChain(event))

    async def _follow_members(self, event: Assigned) -> None:
        keys: list[bytes] = []
        for worker in event.workers:
            registered = await self._ports.chain.worker_keys(worker)
            while not isinstance(registered, tuple):
                await trio.sleep(self._plan.poll_s)
                registered = await self._ports.chain.worker_keys(worker)
            keys.append(registered[0])
        await self._plan.to_gossip.send(FollowJob(event.job, frozenset(keys)))

    def _suits(self, terms: Terms) -> bool:
        """Whether the operator would work for this pay and lock this stake."""
        pay_wei = terms.budget_wei // max(terms.seats, 1)
        return pay_wei >= self._plan.min_pay_wei and terms.stake_wei <= self._plan.max_stake_wei

    async def _announce(self, event: JobPosted) -> None:
        """Say that the job's package and data are to be had here, if they are."""
        if event.job not in self._announced and await self._intake.is_held(event.terms):
            self._announced.add(event.job)
            holders = self._ports.network.addresses
            await self._plan.to_gossip.send(SendToLobby(JobAnnounced(event.job, holders)))

    # -- Our parts

    async def _step(self, job: JobId, event: seat.Event) -> None:
        before = self._parts[job]
        after, effects = seat.step(before, event)
        self._parts[job] = after
        if before.state is not after.state:
            log.info("job", job=job.hex()[:12], state=after.state.name.lower())
        for effect in effects:
            self._nursery.start_soon(self._perform, job, effect)

    async def _perform(self, job: JobId, effect: seat.Effect) -> None:
        part = self._parts[job]
        match effect:
            case seat.FetchPackage():
                await self._finish(job, seat.Action.FETCH, self._intake.fetch(part))
            case seat.CheckPackage():
                await self._finish(job, seat.Action.CHECK, self._intake.check(part))
            case seat.OpenPages(wrap):
                await self._finish(job, seat.Action.OPEN, self._intake.open_pages(part, wrap))
            case seat.StartWork():
                await self._finish(job, seat.Action.START, self._start(part))
            case seat.StopWork():
                await self._finish(job, seat.Action.STOP, self._stop(job))
            case seat.Perform(action, call):
                await self._finish(job, action, self._call(call))

    async def _finish(self, job: JobId, action: seat.Action, doing: Awaitable[seat.ActionDone]) -> None:
        done = await doing
        await self._step(job, done)
        if action is seat.Action.FETCH and done.ok:
            await self._step(job, seat.TimePassed(self._chain_time_s()))

    async def _start(self, part: seat.Part) -> seat.ActionDone:
        context = await self._intake.context(part, self._logs[part.job])
        if context is None:
            return seat.ActionDone(seat.Action.START, ok=False)
        await self._work.start(context)
        return seat.ActionDone(seat.Action.START, ok=True)

    async def _stop(self, job: JobId) -> seat.ActionDone:
        await self._work.stop(job)
        await self._intake.close(job)
        return seat.ActionDone(seat.Action.STOP, ok=True)

    # -- Sending calls

    async def _call(self, call: Call) -> seat.ActionDone:
        action = _ACTIONS.get(type(call), seat.Action.MOVE)
        if isinstance(call, Withdraw):
            credit_wei = await self._ports.chain.credit(self._ports.chain.wallet)
            if credit_wei == 0:
                return seat.ActionDone(action, ok=True)
        outcome = await self._send(call)
        # A release leaves no event: after a restart we ask again, and this is how we hear that it is done.
        nothing_left = isinstance(outcome, Reverted) and outcome.reason == "NothingLocked"
        return seat.ActionDone(action, ok=isinstance(outcome, Mined), permanent=nothing_left)

    async def _send(self, call: Call) -> Outcome:
        name = type(call).__name__
        outcome = await self._ports.chain.send(call)
        match outcome:
            case Mined(_, gas_used):
                log.info("call mined", call=name, gas=gas_used)
            case Reverted(reason):
                log.info("call refused", call=name, reason=reason)
            case Unreachable(reason):
                log.warning("chain unreachable", call=name, reason=reason)
        return outcome


_ACTIONS = {
    Apply: seat.Action.APPLY,
    Ready: seat.Action.READY,
    Release: seat.Action.RELEASE,
    Withdraw: seat.Action.WITHDRAW,
}
