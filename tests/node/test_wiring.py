"""The house's plan: lanes that can't make actors wait for each other, and every actor in its place."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node import wiring
from node.supervision.mailbox import Mailbox
from node.supervision.policy import Strategy
from node.supervision.supervisor import Supervisor
from node.wiring import JOB_LANES, LANES, NODE_LANES, House, Lane, Settings
from protocols.ids import JobId, PeerId

TREE = {
    "root": ("link", "work", "chain"),
    "link": ("transport", "gossip", "discovery"),
    "chain": ("chain_watcher",),
    "work": (),
    "job 6a6a6a6a6a6a": ("trainer", "prover", "aggregator"),
}
"""DESIGN §3; work's children are the sets of the running jobs, and the faces are not the wiring's."""
TASKS = {
    "transport": "transport",
    "gossip.in": "gossip",
    "gossip.out": "gossip",
    "discovery.in": "discovery",
    "discovery.peers": "discovery",
    "discovery.tick": "discovery",
    "watcher.in": "chain_watcher",
    "watcher.poll": "chain_watcher",
    "aggregator": "aggregator",
    "trainer": "trainer",
    "prover": "prover",
    "wiring": "wiring",
}
"""Who sends and reads, and the child of the tree that it runs in; `wiring` runs in the watcher's tasks."""

# -- Lanes -------------------------------------------------------------------------


def find_cycle(edges: dict[str, set[str]], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a way from the path's end back to somewhere on it, if there is one."""
    for reader in sorted(edges.get(path[-1], ())):
        cycle = (*path, reader) if reader in path else find_cycle(edges, (*path, reader))
        if cycle:
            return cycle
    return ()


def blocking_edges(lanes: tuple[Lane, ...]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for lane in lanes:
        for sender in lane.senders if lane.policy.blocks else ():
            edges.setdefault(sender, set()).add(lane.reader)
    return edges


@pytest.mark.parametrize("start", TASKS)
def test_no_two_tasks_can_wait_for_each_other(start: str) -> None:
    assert find_cycle(blocking_edges(LANES), (start,)) == ()


def test_a_cycle_would_be_found() -> None:
    back = Lane("back", ("aggregator",), "gossip.in", wiring.Block, 1)
    assert find_cycle(blocking_edges((*LANES, back)), ("gossip.in",)) == ("gossip.in", "aggregator", "gossip.in")


def test_every_name_is_a_task_and_every_task_is_used() -> None:
    used = {name for lane in LANES for name in (*lane.senders, lane.reader)}
    assert used == set(TASKS)
    assert set(TASKS.values()) - {"wiring"} == {
        child for name in ("link", "chain", "job 6a6a6a6a6a6a") for child in TREE[name]
    }


def test_lanes_have_names_of_their_own() -> None:
    assert len({lane.name for lane in LANES}) == len(LANES)


def test_every_lane_is_plugged_in_and_nothing_else() -> None:
    plugged = set(re.findall(r'boxes\["(\w+)"\]', inspect.getsource(wiring)))
    assert plugged == {lane.name for lane in LANES}


@pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.name)
def test_a_lane_opens_as_it_says(lane: Lane) -> None:
    box = lane.open()
    assert isinstance(box, lane.policy)
    assert (box.name, box.capacity) == (lane.name, lane.capacity)


# -- The tree ------------------------------------------------------------------------


class Recorded(Supervisor):
    """A supervisor that tells its children and ends at once."""

    made: dict[str, tuple[str, ...]]
    rules: dict[str, Strategy]

    def __init__(self, name: str, children: Any, rules: Any) -> None:
        super().__init__(name, children, rules)
        self.made[name] = tuple(self._children)
        self.rules[name] = rules.strategy

    async def run(self, *, task_status: Any = None) -> None:
        return None


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    Recorded.made, Recorded.rules = {}, {}
    monkeypatch.setattr(wiring, "Supervisor", Recorded)
    return Recorded


def build() -> House:
    absent: Any = None
    world = wiring.World(PeerId("me"), absent, absent, absent, absent, absent, absent, absent, absent)
    return House(world, Settings(1024, 8, (), True, True, 4, 1.0, 0, 0))


async def test_every_actor_is_in_the_tree(tree: type[Recorded]) -> None:
    house = build()
    await house.run()
    boxes: dict[str, Mailbox[Any]] = {lane.name: lane.open() for lane in JOB_LANES}
    context: Any = SimpleNamespace(job=JobId(b"j" * 32))
    house.work._set(context, boxes)
    assert tree.made == TREE
    assert tree.rules["root"] is tree.rules["link"] is Strategy.REST_FOR_ONE
    assert tree.rules["chain"] is tree.rules["work"] is Strategy.ONE_FOR_ONE


def test_mail_lies_in_boxes_of_the_house() -> None:
    """They are made once: an actor that restarts finds what was queued."""
    house = build()
    assert set(house.boxes) == {lane.name for lane in NODE_LANES}
    assert house.ports.gossip is house.boxes["arrivals"]
    assert house.ports.peers is house.boxes["peers"]


# -- The table ------------------------------------------------------------------------


def read_table(heading: str) -> list[tuple[str, ...]]:
    text = (Path(wiring.__file__).parents[1] / "actors" / "README.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip().replace("`", "") for cell in row.strip("|").split("|")) for row in rows]


def test_the_readme_has_the_lanes() -> None:
    described = [row[:5] for row in read_table("Lanes")]
    policies = [lane.policy.policy.replace("_", " ") for lane in LANES]
    expected = [
        (lane.name, ", ".join(lane.senders), lane.reader, policy, str(lane.capacity))
        for lane, policy in zip(LANES, policies, strict=True)
    ]
    assert described == expected


def test_the_readme_has_the_actors() -> None:
    actors = {row[0]: row[4] for row in read_table("Actors")}
    tasks: dict[str, set[str]] = {}
    for lane in LANES:
        for name in (*lane.senders, lane.reader):
            tasks.setdefault(TASKS[name], set()).add(lane.name)
    assert set(actors) == set(tasks) - {"wiring"}
    for name, lanes in actors.items():
        assert set(lanes.split(", ")) == tasks[name], name
