"""Scenarios by name: a job, the weather it runs in, and what goes wrong. A seed that failed becomes one of them."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from protocols.chain import JobEnded, ProvingStarted, RoundCommitted, TrainingStarted
from sim.determinism import draws
from sim.liars import LIARS
from sim.network import Weather
from sim.requester import Order
from sim.simulation import Plan, Simulation, Trouble

MID_ROUND_S = 0.5  # after a round's commitment: the next one is being trained
CALM_S, STORM_S = (0.0, 6.0), (0.5, 12.0)  # between two blows, and how long one lasts

# -- Trouble -----------------------------------------------------------------------


async def calm(simulation: Simulation) -> None:
    """Nothing goes wrong."""


async def kill_worker(simulation: Simulation) -> None:
    """A worker is killed in the middle of a round and is back six seconds later."""
    victim = await simulation.wait_worker(1)
    await simulation.wait(RoundCommitted, round=2)
    await trio.sleep(MID_ROUND_S)
    victim.kill()
    await trio.sleep(6.0)
    victim.start()


async def kill_leader(simulation: Simulation) -> None:
    """The leader of round 4 is killed before it proposes; it is back when the proofs are due."""
    victim = await simulation.wait_worker(4 % simulation.order.seats)
    await simulation.wait(RoundCommitted, round=2)
    await trio.sleep(MID_ROUND_S)
    victim.kill()
    await simulation.wait(ProvingStarted)
    victim.start()


async def cut_off(simulation: Simulation) -> None:
    """A worker loses the internet, the chain's endpoint included, for 20 seconds."""
    victim = (await simulation.wait_worker(2)).machine.peer
    await simulation.wait(RoundCommitted, round=1)
    await trio.sleep(MID_ROUND_S)
    simulation.internet.cut([victim])
    simulation.realm.off_chain.add(victim)
    await trio.sleep(20.0)
    simulation.internet.heal()
    simulation.realm.off_chain.discard(victim)


async def split(simulation: Simulation) -> None:
    """Two of three workers reach no other node for as long as the job lasts, but they reach the chain."""
    lost = [(await simulation.wait_worker(seat)).machine.peer for seat in (0, 1)]
    await simulation.wait(TrainingStarted)
    simulation.internet.cut(*([peer] for peer in lost))
    await simulation.wait(JobEnded)
    simulation.internet.heal()


async def storm(simulation: Simulation) -> None:
    """By the seed: workers are killed and come back, islands form and heal, as often as not at the same time."""
    random = draws(simulation.realm.seed, "storm")
    workers = [await simulation.wait_worker(seat) for seat in range(simulation.order.seats)]
    while True:
        await trio.sleep(random.uniform(*CALM_S))
        victim, length_s = random.choice(workers), random.uniform(*STORM_S)
        if random.random() < 0.5:
            victim.kill()
            await trio.sleep(length_s)
            victim.start()
        else:
            island = random.sample(workers, random.choice((1, 1, 2)))
            simulation.internet.cut([node.machine.peer for node in island])
            await trio.sleep(length_s)
            simulation.internet.heal()


# -- Scenarios -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    summary: str
    trouble: Trouble = calm
    order: Order = Order()  # noqa: RUF009 - frozen
    weather: Weather = Weather()  # noqa: RUF009 - frozen
    public_beacon: bool = False
    liar: str = ""

    def plan(self, nodes: int, seed: int) -> Plan:
        return Plan(nodes, seed, self.order, self.weather, self.trouble, self.public_beacon, self.liar)


SCENARIOS = {
    "digits": Scenario("handwritten digits, three workers, eight rounds, nothing goes wrong"),
    "digits-proved": Scenario(
        "the same, and two drawn training steps of each worker are proved", order=Order(samples=2, is_proved=True)
    ),
    **{
        f"digits-{name}": Scenario(
            f"node-0 of a proved job cheats: {(liar.__doc__ or '').partition('.')[0][:1].lower()}"
            f"{(liar.__doc__ or '').partition('.')[0][1:]}",
            order=Order(samples=8, is_proved=True),
            liar=name,
        )
        for name, liar in LIARS.items()
    },
    "digits-kill": Scenario("a worker is killed in the middle of a round and restarts", kill_worker),
    "digits-leader": Scenario("a round's leader is killed and stays away until the proofs", kill_leader),
    "digits-cut": Scenario("a worker is cut off for 20 s, the chain included", cut_off),
    "digits-split": Scenario("two of three workers are cut off for good: no quorum, a refund", split),
    "digits-lossy": Scenario("every host loses one gossip message in ten", weather=Weather(loss=0.1)),
    "digits-drand": Scenario(
        "a public beacon: nodes post its rounds, one of its servers lies and one is down",
        order=Order(ready_window_s=90),
        public_beacon=True,
    ),
    "digits-storm": Scenario("kills, cuts and losses by the seed, without an end", storm, weather=Weather(loss=0.05)),
}
