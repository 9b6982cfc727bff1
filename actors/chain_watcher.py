"""Chain watcher: reads the contracts' events, runs our part in each job, and sends our calls.

Consumes  WatcherMail (blocks), the chain by new heads or polling
Emits     calls, rounds of a public beacon, events, and what a reorganisation withdraws, into each job's EventLog,
          FollowJob / JoinJob / LeaveJob and JobAnnounced to gossip, start and stop of a job's actors
Restart   permanent; parts are folded from the chain again, what was under way is asked for again

Spec: protocols/README.md, "Seats"; DESIGN §4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from actors.beacon import BeaconPoster
from actors.exchange import Exchange
from actors.intake import Intake
from actors.mail import CallWanted, EventLog, FollowJob, GossipMail, HoldersHeard, JobContext, SendToLobby, WatcherMail
from actors.ports import Inbox, Mined, Outbox, Outcome, Ports, Reverted, Unreachable
from protocols import chain_follow, seat
from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Apply,
    Assigned,
    Call,
    JobPosted,
    Ready,
    Release,
    Terms,
    Withdraw,
    WithdrawIn,
    WorkerEvent,
)
from protocols.chain_follow import Head, Located
from protocols.ids import Address, JobId, Wei
from protocols.message import JobAnnounced

log = structlog.get_logger("skynet.actors.chain_watcher")


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
    tokens: frozenset[Address] = frozenset()
    """Taken as pay besides the native one, whatever the amount."""


class ChainWatcherActor:
    def __init__(self, ports: Ports, plan: WatcherPlan, exchange: Exchange, work: Work) -> None:
        self._ports = ports
        self._plan = plan
        self._work = work
        self._intake = Intake(ports, exchange)
        self._beacon = BeaconPoster(ports.chain, ports.beacon_sources)
        self._parts: dict[JobId, seat.Part] = {}
        self._logs = plan.logs
        self._blocks: dict[JobId, list[int]] = {}
        """Of each of a job's events, in order."""
        self._announced: set[JobId] = set()
        self._follow = chain_follow.Follow(plan.first_block - 1, plan.confirmations)
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
                await self._read_to(head)
                if chain_follow.is_caught_up(self._follow) and not caught_up:
                    caught_up = True
                    self._forget_vanished()
                    started()
                    log.info("chain read to its head", block=head.number, jobs=len(self._parts))
            else:
                log.warning("chain unreachable", reason=head.reason)
            if caught_up:
                for job in sorted(self._parts):
                    await self._step(job, seat.CaughtUp())
                    await self._step(job, seat.TimePassed(self._chain_time_s()))
                self._beacon.look(self._parts.values(), self._chain_time_s(), self._nursery)
            await self._ports.chain.wait_head(self._plan.poll_s)

    def _set_clock(self, head: Head) -> None:
        self._clock_s = max(float(head.timestamp_s), self._chain_time_s())
        self._clock_read_s = trio.current_time()

    def _chain_time_s(self) -> float:
        """An idle development chain mines no blocks: its clock runs on from the last one."""
        return self._clock_s + trio.current_time() - self._clock_read_s

    async def _read_to(self, head: Head) -> None:
        event: chain_follow.Event | None = chain_follow.HeadSeen(head)
        while event is not None:
            self._follow, effects = chain_follow.step(self._follow, event)
            event = None
            for effect in effects:
                match effect:
                    case chain_follow.Deliver(events):
                        for located in events:
                            await self._hear(located)
                    case chain_follow.Withdraw(above):
                        await self._withdraw(above)
                    case chain_follow.ReadHeader(number):
                        header = await self._ports.chain.header(number)
                        event = self._read(header) or chain_follow.HeaderRead(number, _known(header))
                    case chain_follow.ReadEvents(first, last, pin):
                        read = await self._ports.chain.read(first, last, pin)
                        event = self._read(read) or chain_follow.EventsRead(_located(read))

    def _read(self, answer: object) -> chain_follow.Failed | None:
        if not isinstance(answer, Unreachable):
            return None
        log.warning("chain unreachable", reason=answer.reason)
        return chain_follow.Failed()

    async def _hear(self, located: Located) -> None:
        event = located.event
        if isinstance(event, WorkerEvent):
            return
        if isinstance(event, JobPosted):
            idle = sum(map(seat.is_engaged, self._parts.values())) < self._plan.max_jobs
            offers = self._plan.offers_work and idle and self._suits(event.terms)
            self._parts[event.job] = seat.hear(event, self._ports.chain.wallet, offers_work=offers)
            self._logs.setdefault(event.job, EventLog())
            self._blocks[event.job] = []
            await self._plan.to_gossip.send(FollowJob(event.job))
            self._nursery.start_soon(self._announce, event)
        if event.job in self._parts:
            blocks = self._blocks[event.job]
            self._logs[event.job].put(len(blocks), event)
            blocks.append(located.block)
            if isinstance(event, Assigned):
                self._nursery.start_soon(self._follow_members, event)
            await self._step(event.job, seat.OnChain(event))

    # -- When the chain replaces blocks

    async def _withdraw(self, above: int) -> None:
        self._beacon.note_reorganized()
        for job, blocks in list(self._blocks.items()):
            kept = sum(block <= above for block in blocks)
            if kept < len(blocks):
                log.warning("the chain was reorganised", job=job.hex()[:12], withdrawn=len(blocks) - kept)
                del blocks[kept:]
                self._logs[job].withdraw(kept)
                await self._rewind(job)

    async def _rewind(self, job: JobId) -> None:
        before, events = self._parts[job], self._logs[job].so_far()
        after = seat.rewind(before, events)
        if before.working and not (events and after.working):
            await self._work.stop(job)
        if events:
            self._parts[job] = after
        else:  # not even posted any more
            del self._parts[job], self._blocks[job]

    def _forget_vanished(self) -> None:
        """Events that an earlier incarnation of ours heard and the chain no longer has."""
        for job, events in self._logs.items():
            events.withdraw(len(self._blocks.get(job, ())))

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
        if terms.stake_wei > self._plan.max_stake_wei:
            return False
        if terms.token != ZERO_ADDRESS:
            return terms.token in self._plan.tokens
        return terms.budget_wei // max(terms.seats, 1) >= self._plan.min_pay_wei

    async def _announce(self, event: JobPosted) -> None:
        """Say that the job's package and data are to be had here, if they are."""
        if event.job not in self._announced and await self._intake.is_held(event.terms):
            self._announced.add(event.job)
            holders = self._ports.network.addresses
            await self._plan.to_gossip.send(SendToLobby(JobAnnounced(event.job, holders)))

    # -- Our parts

    async def _step(self, job: JobId, event: seat.Event) -> None:
        before = self._parts.get(job)
        if before is None:
            return  # its posting was withdrawn while an action was under way
        after, effects = seat.step(before, event)
        self._parts[job] = after
        if before.state is not after.state:
            log.info("job", job=job.hex()[:12], state=after.state.name.lower())
        for effect in effects:
            self._nursery.start_soon(self._perform, job, effect)

    async def _perform(self, job: JobId, effect: seat.Effect) -> None:
        part = self._parts.get(job)
        if part is None:
            return
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
        if isinstance(call, Withdraw | WithdrawIn):
            token = call.token if isinstance(call, WithdrawIn) else ZERO_ADDRESS
            if await self._ports.chain.credit(self._ports.chain.wallet, token) == 0:
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
            case Reverted(reason, detail):
                log.info("call refused", call=name, reason=reason, detail=detail)
            case Unreachable(reason):
                log.warning("chain unreachable", call=name, reason=reason)
        return outcome


_ACTIONS = {
    Apply: seat.Action.APPLY,
    Ready: seat.Action.READY,
    Release: seat.Action.RELEASE,
    Withdraw: seat.Action.WITHDRAW,
    WithdrawIn: seat.Action.WITHDRAW,
}


def _known(header: Head | Unreachable | None) -> Head | None:
    return header if isinstance(header, Head) else None


def _located(read: Sequence[Located] | Unreachable) -> tuple[Located, ...]:
    return () if isinstance(read, Unreachable) else tuple(read)
