"""`skynet job submit|watch|result`: what takes peers and a folder of one's own."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from rich.console import Console

from node.cli.output import print_json, require_new_file
from node.cli.render import JobLines, JobView, LiveJob, money_in, worker_table
from node.client.jobspec import load_jobspec
from node.client.outcome import WHY, describe_detection, describe_training, find_paid, judge_training
from node.client.pack import read_package
from node.client.progress import Happened, PeersSeen, Progress, Stage
from node.config import load_config
from node.errors import ExitCode, JobFailed
from node.telemetry import configure_logs
from protocols.chain import JobEnded, JobState
from protocols.ids import JobId

if TYPE_CHECKING:
    from node.client.session import Session

Report = Callable[[Progress], Awaitable[None]]


async def submit(options: argparse.Namespace) -> int:
    """Pack, upload, post, and stay until the workers have their keys."""
    spec = load_jobspec(options.file)
    if spec.model.package is not None:
        read_package(spec.model.package)  # again when it is packed; a damaged one is told before anything begins
    with JobLines(console_of(options)) as lines:
        async with requester_session(options, lines.show) as session:
            await session.require_time_to_draw(spec.terms.ready_window_s)
            await session.require_balance(spec.price_wei, "this job")
            if spec.token is not None:
                await session.price_in(spec.token)
            gateway = await session.connect(tuple(options.peer))
            with tempfile.TemporaryDirectory(prefix="skynet-pack-") as scratch:
                packed = await session.packer.pack(spec, Path(scratch))
            if packed.is_proved:
                await lines.show(Stage(describe_detection(spec.terms.samples)))
            job = await session.submit(spec, gateway, packed)
            await lines.show(Stage("waiting for applicants"))
            training = judge_training(await session.posted_terms(job), ())
            if not await session.deliver_keys(job, lines.show):
                problem = "it ended before it had workers"
                raise JobFailed(f"job 0x{job.hex()}", problem, "take the budget back with `skynet wallet withdraw`")
    if options.json:
        print_json({"job": job, "training": training})
    else:
        print(f"job 0x{job.hex()}: workers have their keys; {describe_training(training)}")
        print(f"follow it:  skynet job watch 0x{job.hex()} --config {options.config}")
    return ExitCode.OK


async def watch(options: argparse.Namespace) -> int:
    """Follow a job to its end, and see to it that its workers get their keys; the status says whether it settled."""
    job, events = JobId(options.job), list[Happened]()
    async with requester_session(options) as session:
        terms = await session.posted_terms(job)
        if options.peer:
            await session.connect(tuple(options.peer))
        console = console_of(options)
        async with trio.open_nursery() as nursery:
            if await session.awaits_our_keys(job):  # `submit` was ended before it could
                nursery.start_soon(session.deliver_keys, job)
            view = JobView(terms.rounds, samples=terms.samples, training=judge_training(terms, ()))
            with LiveJob(console, view) as live:
                live.show(PeersSeen(len(session.peers())))
                async for progress in session.watch(job):
                    live.show(progress)
                    if isinstance(progress, Happened):
                        events.append(progress)
            nursery.cancel_scope.cancel()
    state = next((h.event.state for h in events if isinstance(h.event, JobEnded)), JobState.NONE)
    workers, training = find_paid(terms, events), judge_training(terms, (h.event for h in events))
    if workers:
        console.print(worker_table(workers, training, money=money_in(terms.token)))
    if options.json:
        paid = [{"address": w.address, "proof_verified": w.proof_verified, "paid_wei": w.paid_wei} for w in workers]
        print_json({"job": job, "state": state.name.lower(), "training": training, "workers": paid})
    elif state is JobState.SETTLED:
        print(f"fetch it:  skynet job result 0x{job.hex()} --config {options.config} --out model.safetensors")
    return ExitCode.OK if state is JobState.SETTLED else ExitCode.FAILED


async def result(options: argparse.Namespace) -> int:
    """Fetch, open, check and save the model."""
    from node.client.session import write_safetensors

    job = JobId(options.job)
    if not options.force:
        require_new_file(options.out)
    with JobLines(console_of(options)) as lines:
        async with requester_session(options, lines.show) as session:
            terms = await session.posted_terms(job)
            peers = (await session.connect(tuple(options.peer)),) if options.peer else ()
            model = await session.fetch_model(job, peers)
            training = judge_training(terms, [h.event for h in await session.job_events(job)])
    write_safetensors(model, training, options.out)
    if options.json:
        evaluated = asdict(model.evaluated)
        print_json({"job": job, "model": str(options.out), "training": training, **evaluated})
    else:
        print(f"{options.out}: certified state {model.state.hex()[:16]}, accuracy {model.evaluated.accuracy:.3f}")
        print(f"{describe_training(training)}: {WHY[training]}")
    return ExitCode.OK


# -- Shared --------------------------------------------------------------------


def console_of(options: argparse.Namespace) -> Console:
    return Console(stderr=options.json)


@asynccontextmanager
async def requester_session(options: argparse.Namespace, report: Report | None = None) -> AsyncIterator[Session]:
    config = load_config(options.config)
    from node.program import open_session  # takes a second: a mistyped file need not wait for it

    # What a node logs is no news to a requester; `level = "debug"` brings it back.
    configure_logs(config.log if config.log.level == "debug" else replace(config.log, level="error"))
    async with open_session(config, options.config, report or _ignore) as session:
        yield session


async def _ignore(_: Progress) -> None:
    pass


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "submit": submit,
    "watch": watch,
    "result": result,
}
