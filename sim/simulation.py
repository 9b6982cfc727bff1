"""One simulation: machines on an internet with a chain, a requester with a job, and what goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from node.wiring import Settings
from protocols.chain import Assigned, ChainEvent
from protocols.ids import Address, Seat
from sim.chain import SimChain
from sim.compute import SimCompute
from sim.determinism import draws
from sim.liars import LIARS
from sim.machine import ETHER, Machine, Realm, SimNode
from sim.network import Internet, Weather
from sim.requester import Delivery, Order, Requester
from sim.trace import Trace
from sim.vault import Keyring

STAKE_WEI = ETHER
NEIGHBOURS = 3  # whom a node is told of: the first ones; the rest it hears of
SQUARE_S = 60.0  # after the job's end, to fetch credits and unlock stakes
LIMIT_S = 3600.0  # of virtual time; every deadline of a job is far below


class Simulation:
    """What a scenario's trouble may lay its hands on."""

    def __init__(self, realm: Realm, order: Order, nodes: tuple[SimNode, ...], requester: Requester) -> None:
        self.realm = realm
        self.order = order
        self.nodes = nodes
        self.requester = requester
        self.delivery: Delivery | None = None
        """None if the limit of virtual time came first."""
        self.ended_s = 0.0

    @property
    def chain(self) -> SimChain:
        return self.realm.chain

    @property
    def internet(self) -> Internet:
        return self.realm.internet

    def node_of(self, worker: Address) -> SimNode:
        return next(node for node in self.nodes if node.machine.identity.wallet == worker)

    async def wait_worker(self, seat: int) -> SimNode:
        """Return the node that drew the seat."""
        assigned = await self.chain.wait_event(lambda event: isinstance(event, Assigned))
        assert isinstance(assigned, Assigned)
        return self.node_of(assigned.workers[Seat(seat)])

    async def wait(self, *kinds: type[ChainEvent], **fields: object) -> ChainEvent:
        """Wait for an event of a kind with these fields."""

        def matches(event: ChainEvent) -> bool:
            return isinstance(event, kinds) and all(getattr(event, k) == v for k, v in fields.items())

        return await self.chain.wait_event(matches)

    def is_square(self) -> bool:
        """Whether nobody is owed anything."""
        ledger = self.chain.ledger
        return not any(ledger.credits.values()) and not any(w.locked_wei for w in ledger.workers.values())


Trouble = Callable[[Simulation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run depends on."""

    nodes: int
    seed: int
    order: Order
    weather: Weather
    trouble: Trouble
    public_beacon: bool = False
    """drand's, whose rounds the nodes have to post."""
    liar: str = ""
    """What node-0 is, of `sim/liars.py`."""


async def simulate(plan: Plan, trace: Trace) -> Simulation:
    """Run a job to its end; the caller provides deterministic virtual time."""
    keyring = Keyring()
    internet = Internet(plan.weather, trace, draws(plan.seed, "internet"))
    realm = Realm(plan.seed, trace, keyring, internet, SimChain(keyring, trace, public_beacon=plan.public_beacon))
    machines = tuple(_build_machine(realm, index, plan.liar if index == 0 else "") for index in range(plan.nodes))
    client = Machine(realm, "requester", _settings(machines[0].address, is_worker=False))
    async with trio.open_nursery() as nursery:
        nodes = tuple(SimNode(realm, machine, nursery) for machine in machines)
        requester = Requester(client, machines[0], plan.order, plan.seed)
        simulation = Simulation(realm, plan.order, nodes, requester)
        nursery.start_soon(internet.run)
        nursery.start_soon(realm.chain.run)
        nursery.start_soon(plan.trouble, simulation)
        await _start(nodes)
        with trio.move_on_after(LIMIT_S):
            simulation.delivery = await requester.run()
        with trio.move_on_after(SQUARE_S):
            while not simulation.is_square():
                await realm.chain.wait_block()
        simulation.ended_s = trio.current_time()
        nursery.cancel_scope.cancel()
    return simulation


def _build_machine(realm: Realm, index: int, liar: str) -> Machine:
    known = (f"node-{i}" for i in range(min(index, NEIGHBOURS)))
    settings = _settings(*(f"/dns4/sim-{n}/tcp/4001/p2p/sim-{n}" for n in known))
    return Machine(realm, f"node-{index}", settings, LIARS.get(liar, SimCompute))


def _settings(*bootstrap: str, is_worker: bool = True) -> Settings:
    return Settings(
        cluster=1024,
        shards=8,
        bootstrap=bootstrap,
        offers_work=is_worker,
        hosts_jobs=is_worker,
        max_jobs=4,
        poll_s=0.5,
        confirmations=0,
        first_block=1,
    )


async def _start(nodes: tuple[SimNode, ...]) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.register, STAKE_WEI)
    for node in nodes:
        node.start()
