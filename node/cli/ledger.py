"""`skynet job show|list|cancel`: what takes the chain alone, and so works beside a running node."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from rich.console import Console

from node.cli.output import print_json
from node.cli.render import JobLines, money_in
from node.client.ledger import open_ledger
from node.client.outcome import WHY, describe_training, judge_training
from node.config import load_config
from node.errors import ExitCode
from protocols.chain import Cancel, JobPosted
from protocols.ids import JobId


async def show(options: argparse.Namespace) -> int:
    """Print what the chain has of a job."""
    job = JobId(options.job)
    async with open_ledger(load_config(options.config), options.config) as ledger:
        events = await ledger.job_events(job)
    if options.json:
        print_json({"job": job, "events": [{type(h.event).__name__: asdict(h.event)} for h in events]})
        return ExitCode.OK
    lines = JobLines(Console(force_terminal=False))
    for happened in events:
        await lines.show(happened)
    terms = next(h.event.terms for h in events if isinstance(h.event, JobPosted))
    training = judge_training(terms, (h.event for h in events))
    print(f"{describe_training(training)}: {WHY[training]}")
    return ExitCode.OK


async def list_jobs(options: argparse.Namespace) -> int:
    """Print every job of the chain, oldest first."""
    async with open_ledger(load_config(options.config), options.config) as ledger:
        jobs = await ledger.jobs()
    if options.json:
        print_json([{"job": j.job, "requester": j.requester, "state": j.state.name.lower()} for j in jobs])
        return ExitCode.OK
    for each in jobs:
        who = "you" if each.requester == ledger.chain.wallet else each.requester
        print(f"0x{each.job.hex()}  {each.state.name.lower():10} {money_in(each.token)(each.budget_wei):>12}  by {who}")
    if not jobs:
        print("no jobs on this chain yet")
    return ExitCode.OK


async def cancel(options: argparse.Namespace) -> int:
    """Call off a job that has no workers yet; the budget can be withdrawn at once, and is."""
    job = JobId(options.job)
    async with open_ledger(load_config(options.config), options.config, signs=True) as ledger:
        token = (await ledger.posted_terms(job)).token
        await ledger.send(Cancel(job))
        refund_wei = await ledger.withdraw(token)
    if options.json:
        print_json({"job": job, "refund_wei": refund_wei})
    else:
        print(f"job 0x{job.hex()} cancelled, {money_in(token)(refund_wei)} back in the wallet")
    return ExitCode.OK


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "show": show,
    "list": list_jobs,
    "cancel": cancel,
}
