"""How a vector in `tests/vectors/job` is written and read: JSON of values, calldata and what a transaction changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from contract_world import BURN, World, checksum, read_calldata, translate

from protocols.chain import ChainEvent, JobState
from protocols.ids import Address, JobId
from protocols.job import Job, Ledger, Transaction, compute_free_stake

# -- Writing ---------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """JSON of a value: bytes in hex, wei in decimal."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case IntEnum():
            return value.name
        case bool() | str() | None:
            return value
        case int():
            return value if value < 1 << 53 else str(value)
        case tuple() | list():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
    return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def describe_event(event: ChainEvent) -> dict[str, Any]:
    return {"event": type(event).__name__, **plain(event)}


def describe_call(world: World, transaction: Transaction) -> dict[str, Any]:
    contract, function, arguments = translate(transaction.call)
    return {
        "call": type(transaction.call).__name__,
        "sender": transaction.sender,
        "to": contract,
        "data": plain(world.interfaces[contract].encode(function, arguments)),
        "value_wei": transaction.value_wei,
        "now_s": transaction.now_s,
    }


def snapshot(ledger: Ledger) -> dict[str, Any]:
    """Everything that a vector watches, flat."""
    flat: dict[str, Any] = {"burnt_wei": ledger.burnt_wei}
    for account, credit in ledger.credits.items():
        flat[f"credit {account}"] = credit
    for address, worker in ledger.workers.items():
        flat[f"stake {address}"] = [compute_free_stake(ledger, address), worker.locked_wei, worker.unbonding_wei]
    for job_id, job in ledger.jobs.items():
        flat[f"job {plain(job_id)}"] = {
            "state": job.state.name,
            "deadline_s": job.deadline_s,
            "escrow_wei": job.escrow_wei,
            "next_round": job.next_round,
            "parent": plain(job.parent),
            "beacon_round": job.beacon_round,
        }
        if job.seats:
            flat[f"seats {plain(job_id)}"] = _describe_seats(job)
    return flat


def compute_changes(before: Ledger, after: Ledger) -> dict[str, Any]:
    old = snapshot(before)
    return {what: value for what, value in snapshot(after).items() if old.get(what) != value}


def _describe_seats(job: Job) -> list[list[Any]]:
    return [
        [
            worker,
            job.accepted.get(worker, 0),
            bool(job.ready >> seat & 1),
            worker in job.forfeits,
            worker in job.dissents,
            worker in job.punished,
        ]
        for seat, worker in enumerate(job.seats)
    ]


class Words:
    """Calldata in little space: its 32-byte words, each written once, and named by their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def shorten(self, data: str) -> str:
        """Selector and numbers, from 0x and hex digits."""
        words = [data[at : at + 64] for at in range(10, len(data), 64)]
        return " ".join([data[2:10], *(str(self.numbers.setdefault(word, len(self.numbers))) for word in words)])

    @staticmethod
    def lengthen(short: str, words: Sequence[str]) -> str:
        selector, *numbers = short.split()
        return "0x" + selector + "".join(words[int(number)] for number in numbers)


# -- Reading ---------------------------------------------------------------------------


def parse_call(world: World, described: dict[str, Any]) -> Transaction:
    """The transaction, its facts still missing."""
    call = read_calldata(world.interfaces[described["to"]], described["to"], _unhex(described["data"]))
    if described["to"] == "Workers" and hasattr(call, "stake_wei"):
        call = dataclasses.replace(call, stake_wei=described["value_wei"])  # type: ignore[call-arg]
    return Transaction(described["sender"], described["value_wei"], described["now_s"], call)


def observe(world: World, what: str) -> Any:
    """One watched value, from the chain."""
    kind, _, name = what.partition(" ")
    match kind:
        case "credit":
            return world.credit(Address(name))
        case "stake":
            return [*world.stake(Address(name)), world.unbonding(Address(name))[0]]
        case "job":
            return _observe_job(world, JobId(_unhex(name)))
        case "seats":
            seats = world.read("Jobs", "seatsOf", JobId(_unhex(name)))
            return [[checksum(worker), *rest] for worker, *rest in seats]
    return world.balance(BURN)


def _observe_job(world: World, job: JobId) -> dict[str, Any]:
    state, _, _, _, number, deadline_s, beacon_round, escrow, parent = world.read("Jobs", "summaryOf", job)
    return {
        "state": JobState(state).name,
        "deadline_s": deadline_s,
        "escrow_wei": escrow,
        "next_round": number,
        "parent": plain(parent),
        "beacon_round": beacon_round,
    }


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])
