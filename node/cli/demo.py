"""`skynet demo`: show the demo, and judge it."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from node.cli.output import print_json
from node.cli.render import UNPROVED, JobView, LiveJob, PaidWorker, ether, plot_curve, worker_table
from node.client.demo import DemoOptions, DemoResult, run_demo
from node.client.progress import Progress
from node.config import LogConfig
from node.errors import ExitCode
from node.telemetry import configure_logs

CURVE = "learning-curve.png"


async def demo(options: argparse.Namespace) -> int:
    folder = options.dir or Path(tempfile.mkdtemp(prefix="skynet-demo-"))
    configure_logs(LogConfig(level="error"))
    console = Console(stderr=options.json)
    chosen = DemoOptions(folder.absolute(), options.seed, options.permute_labels)
    view = JobView(chosen.rounds)
    with LiveJob(console, view) as live:

        async def report(progress: Progress) -> None:
            live.show(progress)

        result = await run_demo(chosen, report)
    if options.dir is None and not options.keep:
        result = _keep_results_only(folder, result)
    curve = plot_curve(result.losses, result.accuracies, result.model.parent / CURVE)
    _show(console, result, curve)
    if options.json:
        print_json(_summary(result))
    return ExitCode.FAILED if result.faults else ExitCode.OK


def _keep_results_only(folder: Path, result: DemoResult) -> DemoResult:
    """Leave the model; keys, chains and logs of a network that is gone are of no use."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    return result


def _show(console: Console, result: DemoResult, curve: Path) -> None:
    console.print(worker_table([PaidWorker(**asdict(w)) for w in result.workers]))
    console.print(
        f"escrow {ether(result.escrow_wei)} = paid {ether(sum(w.paid_wei for w in result.workers))}"
        f" + fees {ether(result.fees_wei)} + returned {ether(result.refund_wei)}"
    )
    console.print(f"accuracy {result.accuracy:.3f} on 360 held-out images, {result.rounds} rounds, {UNPROVED}")
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
        "training": "unproved",
        "workers": workers,
        "refund_wei": result.refund_wei,
        "fees_wei": result.fees_wei,
        "escrow_wei": result.escrow_wei,
        "model": str(result.model),
        "seconds": result.seconds,
    }
