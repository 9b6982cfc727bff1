"""The demo: a network on this machine and one job through it, by the same client as the command line.

Its verdict is strict: every proof verified on chain, every wei accounted for, the accuracy reached.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from node.adapters.sandbox_probe import probe_sandbox
from node.client.jobspec import DataSpec, JobSpec, ModelSpec, TermsSpec
from node.client.outcome import PaidWorker, find_paid, judge_training
from node.client.pack import Packed, Report
from node.client.progress import Happened, PeersSeen, Posted, Progress, RoundSeen, Stage
from node.client.session import Model, Session, write_safetensors
from node.config import load_config
from node.errors import JobFailed
from node.initial import Setting
from node.localnet import fund, make_node, open_node, set_up_chain, wait_listening
from node.processes import ChainProcess, ask_to_stop
from node.program import open_session
from node.sandbox.policy import find_lacking
from protocols.chain import (
    FeePaid,
    JobEnded,
    JobState,
    ProofAccepted,
    ProvingStarted,
    RoundCommitted,
    Terms,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.ids import JobId, PeerId
from protocols.package import Circuit

NODES = 4
SHARING: Mapping[str, Setting] = {"work.threads": 1, "chain.poll_s": 0.5}
"""Three prove at once, and four ask one chain."""
TARGET_ACCURACY = 0.93
HELD_OUT_IMAGES = 360
PROVED_STEPS = 80
"""Inner steps a round where each of them is committed to; 480 a worker reach 95 %."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    folder: Path
    began_s: float
    """Of `time.monotonic`: when the command began."""
    seed: int = 1
    permute_labels: bool = False
    is_proved: bool = False
    """Whether workers prove steps of their training, or losses of their weights."""
    rounds: int = 8


@dataclass(slots=True)
class Timeline:
    """Seconds since the start at which things happened."""

    began_s: float
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, time.monotonic() - self.began_s)

    def between(self, first: str, last: str) -> float:
        return round(self.marks.get(last, 0.0) - self.marks.get(first, 0.0), 2)


@dataclass(frozen=True, slots=True)
class DemoResult:
    job: JobId
    accuracy: float
    rounds: int
    training: str
    """As in `outcome`."""
    workers: tuple[PaidWorker, ...]
    loss_scale_bits: int | None
    """Of proved losses; None where steps are proved."""
    refund_wei: int
    fees_wei: int
    slashed_wei: int
    escrow_wei: int
    model: Path
    seconds: dict[str, float]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def faults(self) -> list[str]:
        """What keeps the demo from being a success."""
        missing = [w for w in self.workers if not w.proof_verified]
        faults = [f"{len(w.proofs)} of {w.wanted} proofs of {w.address} were verified" for w in missing]
        faults += [f"{w.address} was not paid" for w in self.workers if w.proof_verified and w.paid_wei == 0]
        spent_wei = sum(w.paid_wei for w in self.workers) + self.refund_wei + self.fees_wei
        if spent_wei != self.escrow_wei:
            faults.append(f"{self.escrow_wei} wei went into escrow, {spent_wei} came out")
        if self.accuracy < TARGET_ACCURACY:
            faults.append(f"accuracy {self.accuracy:.3f} is below {TARGET_ACCURACY}")
        return faults


@asynccontextmanager
async def run_demo(options: DemoOptions, chain: ChainProcess, report: Report) -> AsyncIterator[DemoResult]:
    """Run one job on a chain that starts and yield the result while everything stops.

    Raises UserError for what can't be done at all.
    """
    timeline = Timeline(options.began_s)
    async with _open_world(options, chain, report, timeline) as world:
        result = await _run_job(options, report, timeline, world.session, world.gateway, world.packed)
        for process in world.nodes:
            ask_to_stop(process)
        yield result


def _spec(options: DemoOptions) -> JobSpec:
    terms = TermsSpec(
        workers=NODES - 1,
        rounds=options.rounds,
        max_applicants=NODES,
        join_window_s=30,
        ready_window_s=60,
        round_timeout_s=60,
        proof_window_s=180,
    )
    held_out, model = HELD_OUT_IMAGES // 4, ModelSpec()
    if options.is_proved:
        held_out, model = HELD_OUT_IMAGES // 8, ModelSpec("digits-mlp-proved")
        terms = replace(terms, steps=PROVED_STEPS, proof_window_s=300)
    data = DataSpec(held_out_pages=held_out, permute_labels=options.permute_labels)
    return JobSpec(model, data, terms, options.seed)


# -- The world -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _World:
    session: Session
    gateway: PeerId
    packed: Packed
    nodes: Sequence[trio.Process]


@asynccontextmanager
async def _open_world(
    options: DemoOptions, chain: ChainProcess, report: Report, timeline: Timeline
) -> AsyncIterator[_World]:
    """Start nodes and the requester. Most nodes start while the circuit's keys are built: that takes one processor."""
    async with AsyncExitStack() as stack:
        await report(Stage("starting the development chain and deploying the contracts"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report_sandbox, report)
            info = await set_up_chain(chain)
        timeline.mark("chain")
        made = [make_node(options.folder / "requester", info, {"work.offered": False, "work.hosted": False})]
        made.append(make_node(options.folder / "node0", info, SHARING))
        me, first = made
        await fund(info, [node.wallet for node in made])
        await report(Stage(f"starting {NODES} nodes"))
        processes = [await stack.enter_async_context(open_node(first))]
        session = await stack.enter_async_context(open_session(load_config(me.config), me.config, report))
        draft = await session.packer.draft(_spec(options), options.folder / "package")
        addresses = await wait_listening(first, processes[0])
        others = [
            make_node(options.folder / f"node{i}", info, {**SHARING, "p2p.bootstrap": addresses})
            for i in range(1, NODES)
        ]
        await fund(info, [node.wallet for node in others])
        processes += [await stack.enter_async_context(open_node(node)) for node in others]
        packed = await session.packer.build(draft)
        timeline.mark("packed")
        for node, process in zip(others, processes[1:], strict=True):
            await wait_listening(node, process)
        timeline.mark("nodes")
        gateway = await session.connect(addresses)
        await report(PeersSeen(NODES))
        yield _World(session, gateway, packed, processes)


async def _report_sandbox(report: Report) -> None:
    """Say what this machine can't keep the model that is trained from; the demo's is our own."""
    findings = await probe_sandbox()
    if lacking := [findings] if isinstance(findings, str) else find_lacking(findings):
        await report(Stage(f"no sandbox here for {'; '.join(lacking)}: going on without"))


# -- The job -------------------------------------------------------------------


async def _run_job(
    options: DemoOptions, report: Report, timeline: Timeline, session: Session, gateway: PeerId, packed: Packed
) -> DemoResult:
    timeline.mark("submit")
    job = await session.submit(_spec(options), gateway, packed)
    seen: list[Progress] = []
    models: list[Model] = []

    async def fetch() -> None:
        models.append(await session.fetch_model(job, (gateway,)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.deliver_keys, job)
        async for progress in session.watch(job):
            seen.append(progress)
            _mark(timeline, progress)
            await report(progress)
            if isinstance(progress, Happened) and isinstance(progress.event, ProvingStarted):
                nursery.start_soon(fetch)  # certified: it will not change
    events = [p for p in seen if isinstance(p, Happened)]
    ended = next(h.event for h in events if isinstance(h.event, JobEnded))
    if ended.state is not JobState.SETTLED:
        raise JobFailed(f"job {job.hex()}", f"it {ended.state.name.lower()}", f"see the logs in {options.folder}")
    (model,) = models
    terms, out = await session.posted_terms(job), options.folder / "model.safetensors"
    write_safetensors(model, judge_training(terms, (h.event for h in events)), out)
    await _wait_withdrawn(session, events)
    timeline.mark("end")
    return _result(job, terms, model, out, seen, timeline)


def _mark(timeline: Timeline, progress: Progress) -> None:
    match progress:
        case Posted():
            timeline.mark("posted")
        case Happened(RoundCommitted(_, 0)):
            timeline.mark("first_round")
        case Happened(ProvingStarted()):
            timeline.mark("proving")
        case Happened(ProofAccepted()):
            timeline.mark("first_proof")
            timeline.marks["last_proof"] = time.monotonic() - timeline.began_s
        case _:
            pass


async def _wait_withdrawn(session: Session, events: list[Happened]) -> None:
    """Paid by pull: wait until every worker has taken what it is owed."""
    workers = [h.event.worker for h in events if isinstance(h.event, WorkerPaid)]
    with trio.move_on_after(30):
        while any([await session.chain.credit(worker) for worker in workers]):  # noqa: ASYNC110 - on chain
            await trio.sleep(0.2)


def _result(job: JobId, terms: Terms, model: Model, out: Path, seen: list[Progress], timeline: Timeline) -> DemoResult:
    happened = [p for p in seen if isinstance(p, Happened)]
    rounds = {p.round: p for p in seen if isinstance(p, RoundSeen)}
    circuit = model.package.circuit
    seconds = {
        "total": round(timeline.marks["end"], 2),
        "submit_to_first_round": timeline.between("submit", "first_round"),
        "prove": timeline.between("proving", "first_proof"),
        "verify": timeline.between("first_proof", "last_proof"),
    }
    return DemoResult(
        job=job,
        accuracy=model.evaluated.accuracy,
        rounds=sum(isinstance(h.event, RoundCommitted) for h in happened),
        training=judge_training(terms, (h.event for h in happened)),
        workers=tuple(find_paid(terms, happened)),
        loss_scale_bits=circuit.loss_scale_bits if isinstance(circuit, Circuit) else None,
        refund_wei=next(h.event.refund_wei for h in happened if isinstance(h.event, JobEnded)),
        fees_wei=sum(h.event.amount_wei for h in happened if isinstance(h.event, FeePaid)),
        slashed_wei=sum(h.event.amount_wei for h in happened if isinstance(h.event, WorkerSlashed)),
        escrow_wei=terms.budget_wei + 2 * terms.move_fee_wei,
        model=out,
        seconds=seconds,
        losses=tuple(rounds[r].loss for r in sorted(rounds)),
        accuracies=tuple(rounds[r].accuracy for r in sorted(rounds)),
    )
