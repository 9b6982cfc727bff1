"""The same seed is the same run, in any process; and trio's private names that this rests on are where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import trio
from trio._core import _run as trio_run

from sim.determinism import draws, run


def start(*arguments: str, hash_seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sim.cli", *arguments, "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    report = json.loads(output)
    assert isinstance(report, dict)
    return report


def test_the_trace_depends_on_the_seed_alone() -> None:
    runs = [("--seed", "1"), ("--seed", "1"), ("--seed", "2")]
    first, again, other = (finish(start("digits", *a, hash_seed=h)) for h, a in enumerate(runs))
    assert first == again
    assert first["trace_hash"] != other["trace_hash"]


def test_a_storm_repeats_too() -> None:
    first, again = (start("digits-storm", "--seed", "5", hash_seed=h) for h in (1, 2))
    assert finish(first) == finish(again)


# -- trio ----------------------------------------------------------------------


def shuffle(seed: int) -> list[int]:
    """Return the order in which twenty tasks of one batch were run."""
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.sleep(1.0)
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(note, number)

    run(seed, main)
    return order


def test_the_seed_decides_the_order_of_tasks() -> None:
    assert shuffle(1) == shuffle(1)
    assert shuffle(1) != shuffle(2)


def test_virtual_time_jumps_and_starts_at_zero() -> None:
    async def main() -> float:
        await trio.sleep(3600.0)
        return trio.current_time()

    assert run(1, main) == 3600.0


def test_a_run_leaves_trio_as_it_was() -> None:
    before = (trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate())
    shuffle(1)
    assert (trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()) == before


def test_streams_of_random_numbers_are_independent() -> None:
    assert draws(1, "a").random() == draws(1, "a").random()
    assert len({draws(s, label).random() for s in (1, 2) for label in ("a", "b")}) == 4
