"""`skynet job`: submit, watch, result, show, list, cancel."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from node.cli.output import print_json
from node.cli.render import UNPROVED, UNPROVED_WHY, JobView, LiveJob, ether
from node.client.jobspec import load_jobspec
from node.client.progress import Happened, PeersSeen, Progress
from node.client.session import Session, write_safetensors
from node.config import load_config
from node.errors import ExitCode, JobFailed
from node.program import open_session
from node.telemetry import configure_logs
from protocols.chain import Cancel, JobEnded, JobState
from protocols.ids import JobId

Report = Callable[[Progress], Awaitable[None]]


async def submit(options: argparse.Namespace) -> int:
    """Pack, upload, post, and stay until the workers have their keys."""
    spec = load_jobspec(options.file)
    with LiveJob(_console(options), JobView(spec.terms.rounds)) as live:
        async with _session(options, live) as session:
            gateway = await session.connect(tuple(options.peer))
            with tempfile.TemporaryDirectory(prefix="skynet-pack-") as scratch:
                packed = await session.packer.pack(spec, Path(scratch))
            job = await session.submit(spec, gateway, packed)
            await session.deliver_keys(job)
    if options.json:
        print_json({"job": job, "training": "unproved"})
    else:
        print(f"job 0x{job.hex()}: workers have their keys; {UNPROVED}")
        print(f"follow it:  skynet job watch 0x{job.hex()}")
    return ExitCode.OK


async def watch(options: argparse.Namespace) -> int:
    """Follow a job to its end; the status says whether it settled."""
    job, state = JobId(options.job), JobState.NONE
    async with _session(options, None) as quiet:
        terms = await quiet.posted_terms(job)
        if options.peer:
            await quiet.connect(tuple(options.peer))
        with LiveJob(_console(options), JobView(terms.rounds, samples=terms.samples)) as live:
            live.show(PeersSeen(len(quiet.peers())))
            async for progress in quiet.watch(job):
                live.show(progress)
                if isinstance(progress, Happened) and isinstance(progress.event, JobEnded):
                    state = progress.event.state
    if options.json:
        print_json({"job": job, "state": state.name.lower(), "training": "unproved"})
    return ExitCode.OK if state is JobState.SETTLED else ExitCode.FAILED


async def result(options: argparse.Namespace) -> int:
    """Fetch, open, check and save the model."""
    job = JobId(options.job)
    with LiveJob(_console(options), JobView(0)) as live:
        async with _session(options, live) as session:
            peers = (await session.connect(tuple(options.peer)),) if options.peer else ()
            model = await session.fetch_model(job, peers)
    write_safetensors(model, options.out)
    if options.json:
        evaluated = asdict(model.evaluated)
        print_json({"job": job, "model": str(options.out), "training": "unproved", **evaluated})
    else:
        print(f"{options.out}: certified state {model.state.hex()[:16]}, accuracy {model.evaluated.accuracy:.3f}")
        print(f"{UNPROVED}: {UNPROVED_WHY}")
    return ExitCode.OK


async def show(options: argparse.Namespace) -> int:
    """Print what the chain has of a job."""
    job = JobId(options.job)
    async with _session(options, None) as session:
        events = await session.past_events(job)
        if not events:
            raise JobFailed(f"job 0x{job.hex()}", "this chain has no such job", "check the id and chain.rpc_urls")
    if options.json:
        print_json({"job": job, "events": [{type(h.event).__name__: asdict(h.event)} for h in events]})
        return ExitCode.OK
    with LiveJob(Console(force_terminal=False), JobView(0)) as live:
        for happened in events:
            live.show(happened)
    print(UNPROVED)
    return ExitCode.OK


async def list_jobs(options: argparse.Namespace) -> int:
    """Print every job of the chain, oldest first."""
    async with _session(options, None) as session:
        jobs = await session.jobs()
    if options.json:
        print_json([{"job": j.job, "requester": j.requester, "state": j.state.name.lower()} for j in jobs])
        return ExitCode.OK
    for each in jobs:
        print(f"0x{each.job.hex()}  {each.state.name.lower():10} {ether(each.budget_wei):>12}  by {each.requester}")
    return ExitCode.OK


async def cancel(options: argparse.Namespace) -> int:
    """Call off a job that has no workers yet; the budget can be withdrawn at once, and is."""
    job = JobId(options.job)
    async with _session(options, None) as session:
        await session.send(Cancel(job))
        refund_wei = await session.withdraw()
    if options.json:
        print_json({"job": job, "refund_wei": refund_wei})
    else:
        print(f"job 0x{job.hex()} cancelled, {ether(refund_wei)} back in the wallet")
    return ExitCode.OK


# -- Shared --------------------------------------------------------------------


def _console(options: argparse.Namespace) -> Console:
    return Console(stderr=options.json)


@asynccontextmanager
async def _session(options: argparse.Namespace, live: LiveJob | None) -> AsyncIterator[Session]:
    config = load_config(options.config)
    configure_logs(config.log)

    async def report(progress: Progress) -> None:
        if live is not None:
            live.show(progress)

    async with open_session(config, options.config, report) as session:
        yield session


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "submit": submit,
    "watch": watch,
    "result": result,
    "show": show,
    "list": list_jobs,
    "cancel": cancel,
}
