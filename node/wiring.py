"""The house: which actor consumes what, from whom, and how it restarts. Start reading here.

    root (rest_for_one)
      link  (rest_for_one)  transport -> gossip -> discovery
      chain (one_for_one)   chain_watcher
      work  (one_for_one)   one set a running job: aggregator, trainer, prover

The node and the simulator both build a `House`; they differ in the `World` that they plug in.
LANES is checked by a test: no cycle of lanes that block, so that no two actors can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from actors.aggregator import AggregatorActor, AggregatorPlan
from actors.chain_watcher import ChainWatcherActor, WatcherPlan
from actors.discovery import DiscoveryActor, DiscoveryPlan
from actors.exchange import Exchange
from actors.gossip import GossipActor, GossipPlan
from actors.mail import EventLog, JobContext, JoinJob, LeaveJob
from actors.ports import BeaconSource, Chain, Compute, Gossip, Network, Outbox, PeerEvent, Ports, Prover, Store, Vault
from actors.prover import ProverActor, ProverPlan
from actors.trainer import TrainerActor, TrainerPlan
from node.errors import Escalated
from node.link import Link
from node.supervision.mailbox import Block, LatestOnly, Mailbox, ShedOldest
from node.supervision.policy import Intensity, Restart, Rules, Strategy
from node.supervision.supervisor import Child, ChildGone, Readiness, Supervisor
from protocols.ids import Address, JobId, PeerId, Wei

log = structlog.get_logger("skynet.node.wiring")

# -- Lanes ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lane:
    """One mailbox: tasks that send, the task that reads, and what happens when it is full."""

    name: str
    senders: tuple[str, ...]
    reader: str
    policy: type[Mailbox[Any]]
    capacity: int

    def open(self) -> Mailbox[Any]:
        return LatestOnly(self.name) if self.policy is LatestOnly else self.policy(self.name, self.capacity)


NODE_LANES = (
    # The network never waits for us; what is shed here is resent, since it was not acknowledged.
    Lane("arrivals", ("transport",), "gossip.in", ShedOldest, 8192),
    # Discovery compares with what is connected at every tick, so a shed event heals.
    Lane("peers", ("transport",), "discovery.peers", ShedOldest, 1024),
    # Too low: a round of 64 seats' votes makes the aggregator wait for signatures.
    Lane("gossip", ("aggregator", "trainer", "discovery.tick", "watcher.poll", "wiring"), "gossip.out", Block, 1024),
    Lane("addresses", ("gossip.in",), "discovery.in", ShedOldest, 256),
    # The watcher's reader only starts tasks: it never waits for what it is told.
    Lane("calls", ("gossip.in", "aggregator", "prover"), "watcher.in", Block, 256),
)
JOB_LANES = (
    # Too low: one job's burst makes every job's messages wait. Sixty-four seats send under 300 a round.
    Lane("mail", ("gossip.in",), "aggregator", Block, 4096),
    Lane("own_updates", ("trainer",), "aggregator", LatestOnly, 1),
    # Two a round: too low and a job of many rounds can't be replayed after a restart.
    Lane("rounds", ("aggregator",), "trainer", Block, 4096),
)
LANES = NODE_LANES + JOB_LANES

# -- Restart rules -------------------------------------------------------------

ROOT = Rules(Strategy.REST_FOR_ONE, Intensity(3, 60.0))
LINK = Rules(Strategy.REST_FOR_ONE, Intensity(5, 30.0))
CHAIN = Rules(Strategy.ONE_FOR_ONE, Intensity(5, 30.0))
WORK = Rules(Strategy.ONE_FOR_ONE, Intensity(5, 30.0))
JOB = Rules(Strategy.ONE_FOR_ONE, Intensity(3, 60.0))

# -- What the house is built from ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    cluster: int
    shards: int
    bootstrap: tuple[str, ...]
    offers_work: bool
    hosts_jobs: bool
    max_jobs: int
    poll_s: float
    confirmations: int
    first_block: int
    carries_all: bool = False
    """Relay every shard of the cluster, for others too."""
    node_lists: tuple[str, ...] = ()
    """Lists of nodes in DNS."""
    min_pay_wei: Wei = Wei(0)  # noqa: RUF009 - a NewType call is the identity
    """Least pay of a seat."""
    max_stake_wei: Wei = Wei(10**18)  # noqa: RUF009
    """Most stake to lock for one job."""
    tokens: tuple[Address, ...] = ()
    """Taken as pay besides the native one."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside: adapters in the node, twins in the simulator."""

    peer: PeerId
    open_network: Callable[[Outbox[Gossip], Outbox[PeerEvent]], AbstractAsyncContextManager[Network]]
    chain: Chain
    vault: Vault
    store: Store
    compute: Compute
    prover: Prover
    entropy: Callable[[int], bytes]
    time_s: Callable[[], float]
    beacon_sources: tuple[BeaconSource, ...] = ()


# -- The house -----------------------------------------------------------------


class House:
    """One node's actors, wired and supervised."""

    def __init__(self, world: World, settings: Settings) -> None:
        self._world = world
        self._settings = settings
        self.link = Link(world.peer)
        self.boxes = {lane.name: lane.open() for lane in NODE_LANES}
        self.ports = Ports(
            self.link,
            self.boxes["arrivals"],
            self.boxes["peers"],
            world.chain,
            world.vault,
            world.store,
            world.compute,
            world.prover,
            world.entropy,
            world.time_s,
            world.beacon_sources,
        )
        self.exchange = Exchange(self.ports, accept_puts=settings.hosts_jobs)
        self.work = JobSets(self)
        self.logs: dict[JobId, EventLog] = {}
        self._gossip_plan = GossipPlan(
            settings.cluster,
            settings.shards,
            self.boxes["gossip"],
            self.boxes["calls"],
            self.boxes["addresses"],
            settings.carries_all,
        )
        self.gossip: GossipActor | None = None
        """The incarnation that runs, for its counts."""

    async def run(self, *, task_status: Readiness = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; raises `Escalated` when restarts did not help."""
        chain = Supervisor("chain", [Child("chain_watcher", self._watch_chain, signals_started=True)], CHAIN)
        groups = [
            Child("link", self.supervise_link().run, signals_started=True),
            Child("work", self.work.supervisor.run, signals_started=True),
            Child("chain", chain.run, signals_started=True),
        ]
        await Supervisor("root", groups, ROOT).run(task_status=task_status)

    def supervise_link(self) -> Supervisor:
        """The part that a requester's client runs too."""
        children = [
            Child("transport", self._transport, signals_started=True),
            Child("gossip", self._gossip, signals_started=True),
            Child("discovery", self._discovery, signals_started=True),
        ]
        return Supervisor("link", children, LINK)

    # -- Node actors

    async def _transport(self, *, task_status: Readiness) -> None:
        async with self._world.open_network(self.boxes["arrivals"], self.boxes["peers"]) as network:
            self.link.attach(network)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.link.detach()

    async def _gossip(self, *, task_status: Readiness) -> None:
        self.gossip = GossipActor(self.ports, self._gossip_plan)
        await self.gossip.run(task_status.started)

    async def _discovery(self, *, task_status: Readiness) -> None:
        plan = DiscoveryPlan(
            self._settings.bootstrap,
            self._settings.node_lists,
            self._settings.offers_work,
            self.boxes["addresses"],
            self.boxes["gossip"],
        )
        await DiscoveryActor(self.ports, plan, self.exchange).run(task_status.started)

    async def _watch_chain(self, *, task_status: Readiness) -> None:
        settings = self._settings
        plan = WatcherPlan(
            self.boxes["calls"],
            self.boxes["gossip"],
            self.logs,
            settings.offers_work,
            settings.max_jobs,
            settings.poll_s,
            settings.confirmations,
            settings.first_block,
            settings.min_pay_wei,
            settings.max_stake_wei,
            frozenset(settings.tokens),
        )
        await ChainWatcherActor(self.ports, plan, self.exchange, self.work).run(task_status.started)


class JobSets:
    """`Work` for the chain watcher: one supervised set of actors a job."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._running: set[JobId] = set()
        self.supervisor = Supervisor("work", (), WORK)

    async def start(self, context: JobContext) -> None:
        """Idempotent: a restarted watcher asks again for what runs already."""
        if context.job in self._running:
            return
        self._running.add(context.job)
        boxes = {lane.name: lane.open() for lane in JOB_LANES}
        members = frozenset(context.node_keys)
        await self._house.boxes["gossip"].send(JoinJob(context.job, members, boxes["mail"]))
        actors = self._set(context, boxes)

        async def run(*, task_status: Readiness) -> None:
            try:
                await actors.run(task_status=task_status)
            except Escalated as error:
                # A job that our actors keep falling over is given up, not the node.
                log.error("a job is given up", job=context.job.hex()[:12], reason=str(error), exc_info=error)
                await trio.sleep_forever()

        # Transient: it comes back when the group restarts because another part of the node fell.
        child = Child(_name(context.job), run, Restart.TRANSIENT, signals_started=True)
        try:
            await self.supervisor.start_child(child)
        except ChildGone:
            log.error("a job's actors did not start", job=context.job.hex()[:12])

    async def stop(self, job: JobId) -> None:
        if job in self._running:
            await self.supervisor.stop_child(_name(job))
            self._running.discard(job)
            await self._house.boxes["gossip"].send(LeaveJob(job))

    def _set(self, context: JobContext, boxes: dict[str, Mailbox[Any]]) -> Supervisor:
        house = self._house
        gossip, calls = house.boxes["gossip"], house.boxes["calls"]
        aggregator = AggregatorPlan(boxes["mail"], boxes["own_updates"], boxes["rounds"], gossip, calls)
        trainer = TrainerPlan(boxes["rounds"], boxes["own_updates"], gossip)
        prover = ProverPlan(calls)

        async def aggregate(*, task_status: Readiness) -> None:
            await AggregatorActor(house.ports, context, aggregator, house.exchange).run(task_status.started)

        async def train(*, task_status: Readiness) -> None:
            await TrainerActor(house.ports, context, trainer, house.exchange).run(task_status.started)

        async def prove(*, task_status: Readiness) -> None:
            await ProverActor(house.ports, context, prover, house.exchange).run(task_status.started)

        children = [
            Child("trainer", train, signals_started=True),
            Child("prover", prove, signals_started=True),
            Child("aggregator", aggregate, signals_started=True),
        ]
        return Supervisor(_name(context.job), children, JOB)


def _name(job: JobId) -> str:
    return f"job {job.hex()[:12]}"
