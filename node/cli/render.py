"""What a job looks like on a terminal: progress while it runs, the table at its end, the learning curve.

Wherever a result is shown it says what was proved, see `node/client/outcome.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from node.client.jobspec import WEI_PER_ETHER
from node.client.outcome import UNPROVED, WHY, PaidWorker, describe_training
from node.client.progress import Happened, PeersSeen, Posted, Progress, RoundSeen, Stage, TakenBack
from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Applied,
    Assigned,
    JobEnded,
    JobPosted,
    JoinClosed,
    ProofAccepted,
    ProvingStarted,
    RoundCommitted,
    TrainingStarted,
    WorkerPaid,
    WorkerReady,
    WorkerSlashed,
)
from protocols.ids import Address
from protocols.statement import compute_loss

_SPARKS = "▁▂▃▄▅▆▇█"


Money = Callable[[int], str]


def ether(wei: int) -> str:
    return f"{wei / WEI_PER_ETHER:.6f}".rstrip("0").rstrip(".") + " ETH"


def money_in(token: Address) -> Money:
    """How an amount is written; of a token, whose decimals are not at hand, in its smallest unit."""
    return ether if token == ZERO_ADDRESS else lambda amount: f"{amount} units of {token[:8]}…{token[-4:]}"


# -- While it runs -------------------------------------------------------------


@dataclass(slots=True)
class JobView:
    """What has been seen of a job, folded from progress; drawn by `LiveJob`, or logged line by line."""

    rounds: int
    stage: str = "starting"
    peers: int = 0
    state: str = "-"
    workers: tuple[Address, ...] = ()
    applicants: int = 0
    ready: int = 0
    committed: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    proofs: dict[Address, int] = field(default_factory=dict)
    paid_wei: dict[Address, int] = field(default_factory=dict)
    samples: int = 1
    training: str = UNPROVED

    def take(self, progress: Progress) -> None:
        match progress:
            case Stage(text):
                self.stage = text
            case PeersSeen(connected):
                self.peers = connected
            case Posted():
                self.stage, self.state = "waiting for applicants", "open"
            case RoundSeen(number, _, loss, accuracy):
                if number >= len(self.losses):
                    self.losses.append(loss)
                    self.accuracies.append(accuracy)
            case Happened(event):
                self._take_event(event)

    def _take_event(self, event: object) -> None:
        match event:
            case Applied():
                self.applicants += 1
            case Assigned(_, workers):
                self.workers, self.state, self.stage = workers, "assigned", "workers fetch keys and open the pages"
            case WorkerReady():
                self.ready += 1
            case TrainingStarted():
                self.state, self.stage = "training", "training"
            case RoundCommitted():
                self.committed += 1
            case ProvingStarted():
                drawn = "drawn round" if self.training == UNPROVED else "drawn steps"
                self.state, self.stage = "proving", f"each worker proves its {drawn}"
            case ProofAccepted(_, worker):
                self.proofs[worker] = self.proofs.get(worker, 0) + 1
            case WorkerPaid(_, worker, amount_wei):
                self.paid_wei[worker] = amount_wei
            case WorkerSlashed(_, worker):
                self.paid_wei[worker] = 0
            case JobEnded(_, state):
                self.state = self.stage = state.name.lower()
            case _:
                pass


class LiveJob:
    """A job on a terminal, redrawn as it goes; without a terminal each change of stage is one line."""

    def __init__(self, console: Console, view: JobView) -> None:
        self._console = console
        self._view = view
        self._bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console)
        self._rounds: TaskID = self._bars.add_task("rounds on chain", total=view.rounds)
        self._proofs: TaskID = self._bars.add_task("proofs verified", total=None)
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said = ""
        self._money: Money = ether

    def __enter__(self) -> LiveJob:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._draw(), refresh=True)
            self._live.stop()

    def show(self, progress: Progress) -> None:
        self._view.take(progress)
        if self._live:
            self._live.update(self._draw())
            return
        self._money = _money_after(self._money, progress)
        line = _line(progress, self._money)
        if line and line != self._said:
            self._said = line
            self._console.print(line, highlight=False, soft_wrap=True)

    def _draw(self) -> Panel:
        view = self._view
        expected = len(view.workers) * view.samples or None
        self._bars.update(self._rounds, completed=view.committed)
        self._bars.update(self._proofs, completed=sum(view.proofs.values()), total=expected)
        facts = Table.grid(padding=(0, 2))
        facts.add_row("peers", str(view.peers), "applicants", str(view.applicants), "ready", str(view.ready))
        accuracy = f"{view.accuracies[-1]:.3f}" if view.accuracies else "-"
        loss = f"{view.losses[-1]:.4f}" if view.losses else "-"
        facts.add_row("state", view.state, "loss", loss, "accuracy", accuracy)
        curve = Text(f"accuracy {spark(view.accuracies)}", style="green")
        foot = Text(describe_training(view.training), style="yellow")
        return Panel(Group(Text(view.stage, style="bold"), facts, self._bars, curve, foot), title="SkyNet job")


class JobLines:
    """What happened, a line each; on a terminal the step that is under way turns below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("starting") if console.is_terminal else None
        self._money: Money = ether

    def __enter__(self) -> JobLines:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    async def show(self, progress: Progress) -> None:
        self._money = _money_after(self._money, progress)
        line = _line(progress, self._money)
        if self._status and isinstance(progress, Stage):
            self._status.update(line)
        elif line:
            self._console.print(line, highlight=False, soft_wrap=True)


def _money_after(money: Money, progress: Progress) -> Money:
    match progress:
        case Happened(JobPosted(_, _, terms)):
            return money_in(terms.token)
        case _:
            return money


def _line(progress: Progress, money: Money) -> str:
    match progress:
        case Stage(text):
            return text
        case PeersSeen(connected):
            return f"connected to {connected} peer{'s' if connected != 1 else ''}"
        case Posted(job, _, gas_used):
            return f"job 0x{job.hex()} posted, budget in escrow (gas {gas_used:,})"
        case RoundSeen(number, _, loss, accuracy, workers):
            return f"round {number + 1}: loss {loss:.4f}, held-out accuracy {accuracy:.3f}, {workers} workers"
        case Happened(event):
            return _event_line(event, money)
        case TakenBack(kept):
            return f"the chain was reorganised: only the first {kept} events happened"


def _event_line(event: object, money: Money) -> str:
    match event:
        case Applied(_, worker):
            return f"{worker} applied"
        case JoinClosed():
            return "as many have applied as the terms allow: the seats are drawn now"
        case Assigned(_, workers):
            return f"seats drawn: {', '.join(workers)}"
        case WorkerReady(_, worker):
            return f"{worker} is ready"
        case TrainingStarted():
            return "training started"
        case RoundCommitted(_, number, _, _, state):
            return f"round {number + 1} certified on chain, state {state.hex()[:16]}"
        case ProvingStarted(_, beacon_round):
            return f"proving: challenge from beacon round {beacon_round}"
        case ProofAccepted(_, worker, _, number, step, page):
            return f"proof of {worker} verified on chain: round {number + 1}, step {step}, page {page}"
        case WorkerPaid(_, worker, amount_wei):
            return f"{worker} earned {money(amount_wei)}"
        case WorkerSlashed(_, worker, amount_wei):
            return f"{worker} lost its stake of {ether(amount_wei)}"
        case JobEnded(_, state, refund_wei):
            return f"job {state.name.lower()}, {money(refund_wei)} back to the requester"
        case _:
            return ""


def spark(values: Sequence[float]) -> str:
    """Return a curve of block characters, for values between 0 and 1."""
    return "".join(_SPARKS[min(int(v * len(_SPARKS)), len(_SPARKS) - 1)] for v in values)


# -- At its end ----------------------------------------------------------------


def worker_table(
    workers: Sequence[PaidWorker], training: str, *, loss_scale_bits: int | None = None, money: Money = ether
) -> Table:
    """Return who was paid what; a worker's last proof stands for all of them. Losses need their circuit's scale."""
    table = Table(title=f"who was paid what ({describe_training(training)})", caption=WHY[training])
    names = ["worker", "proofs", "round", "step", "page", "gas", "paid"]
    if loss_scale_bits is not None:
        names[3:5] = ["page", "loss"]
    for name in names:
        table.add_column(name, justify="right" if name in ("gas", "paid", "loss") else "left", no_wrap=True)
    for worker in workers:
        table.add_row(*(_cell(worker, name, loss_scale_bits, money) for name in names))
    return table


def _cell(worker: PaidWorker, name: str, loss_scale_bits: int | None, money: Money) -> str:
    last = worker.proofs[-1] if worker.proofs else None
    match name:
        case "worker":
            return f"{worker.address[:8]}…{worker.address[-4:]}"
        case "proofs":
            verified = f"{len(worker.proofs)} of {worker.wanted}"
            return verified if worker.proof_verified else f"[red]{verified}"
        case "gas":
            return f"{worker.gas:,}"
        case "paid":
            return money(worker.paid_wei)
        case _ if last is None:
            return "-"
        case "round":
            return str(last.round + 1)
        case "loss":
            return f"{compute_loss(last.loss, loss_scale_bits or 0):.4f}"
        case _:
            return str(getattr(last, name))


def prepare_plots() -> None:
    """Import matplotlib: the first time it looks for fonts, for seconds that are better spent while others work."""
    import matplotlib.pyplot  # noqa: F401


def plot_curve(losses: Sequence[float], accuracies: Sequence[float], training: str, out: Path) -> Path:
    """Draw loss and held-out accuracy by round into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rounds = range(1, len(losses) + 1)
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    left.plot(rounds, losses, color="tab:red", marker="o", label="training loss")
    left.set_xlabel("certified round")
    left.set_ylabel("training loss", color="tab:red")
    right = left.twinx()
    right.plot(rounds, accuracies, color="tab:blue", marker="s", label="held-out accuracy")
    right.set_ylabel("held-out accuracy", color="tab:blue")
    right.set_ylim(0, 1)
    left.set_title(f"Digits, by strangers' machines ({describe_training(training)})")
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out
