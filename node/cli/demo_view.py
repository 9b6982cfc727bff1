"""What `skynet demo` shows, and its verdict."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from rich.console import Console

from node.cli.output import print_json
from node.cli.render import JobView, LiveJob, ether, plot_curve, prepare_plots, worker_table
from node.client.demo import HELD_OUT_IMAGES, DemoOptions, DemoResult, run_demo
from node.client.outcome import PENDING, UNPROVED, describe_training
from node.client.progress import Happened, Progress
from node.config import LogConfig
from node.errors import ExitCode
from node.processes import ChainProcess
from node.telemetry import configure_logs
from protocols.chain import TrainingStarted

CURVE = "learning-curve.png"


async def show_demo(options: argparse.Namespace, folder: Path, chain: ChainProcess, began_s: float) -> int:
    configure_logs(LogConfig(level="error"))
    console = Console(stderr=options.json)
    chosen = DemoOptions(folder, began_s, options.seed, options.permute_labels, options.proved)
    view = JobView(chosen.rounds, training=PENDING if chosen.is_proved else UNPROVED)
    live = LiveJob(console, view)

    async with AsyncExitStack() as stack:
        background = await stack.enter_async_context(trio.open_nursery())

        async def report(progress: Progress) -> None:
            live.show(progress)
            if isinstance(progress, Happened) and isinstance(progress.event, TrainingStarted):
                background.start_soon(trio.to_thread.run_sync, prepare_plots)

        with live:
            result = await stack.enter_async_context(run_demo(chosen, chain, report))
        drawn = (result.losses, result.accuracies, result.training, folder / CURVE)
        curve = await trio.to_thread.run_sync(plot_curve, *drawn)
    _show(console, result, curve)
    if options.json:
        print_json(_summary(result))
    return ExitCode.FAILED if result.faults else ExitCode.OK


def _show(console: Console, result: DemoResult, curve: Path) -> None:
    console.print(worker_table(result.workers, result.training, loss_scale_bits=result.loss_scale_bits))
    console.print(
        f"escrow {ether(result.escrow_wei)} = paid {ether(sum(w.paid_wei for w in result.workers))}"
        f" + fees {ether(result.fees_wei)} + returned {ether(result.refund_wei)}"
    )
    console.print(
        f"accuracy {result.accuracy:.3f} on {HELD_OUT_IMAGES} held-out images, {result.rounds} rounds, "
        f"{describe_training(result.training)}"
    )
    console.print(f"learning curve: {curve}", soft_wrap=True)
    console.print(f"model: {result.model}", soft_wrap=True)
    console.print(f"seconds: {', '.join(f'{name} {s:.1f}' for name, s in result.seconds.items())}")
    for fault in result.faults:
        console.print(f"[red]not a success: {fault}")


def _summary(result: DemoResult) -> dict[str, object]:
    workers = [
        {"address": w.address, "proof_verified": w.proof_verified, "gas": w.gas, "paid_wei": w.paid_wei}
        for w in result.workers
    ]
    return {
        "accuracy": round(result.accuracy, 4),
        "rounds": result.rounds,
        "training": result.training,
        "workers": workers,
        "refund_wei": result.refund_wei,
        "fees_wei": result.fees_wei,
        "escrow_wei": result.escrow_wei,
        "model": str(result.model),
        "seconds": result.seconds,
    }
