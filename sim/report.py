"""What a run comes to: one object for programs, one table for people. Every amount is the ledger's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass

from node.client.outcome import UNPROVED, judge_training
from protocols.chain import (
    Assigned,
    ChainEvent,
    FeePaid,
    JobEnded,
    JobPosted,
    ProofAccepted,
    RoundCommitted,
    RoundNulled,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.delivery_event import Counts
from protocols.ids import Address, RoundNumber
from protocols.job import compute_holdings, compute_liabilities
from sim.chain import SimChain
from sim.machine import ETHER
from sim.simulation import Simulation


@dataclass(frozen=True, slots=True)
class WorkerLine:
    node: str
    address: Address
    rounds: int
    """Certified rounds that count it in."""
    proofs: int
    paid_wei: int
    slashed_wei: int
    gas: int


@dataclass(frozen=True, slots=True)
class Report:
    scenario: str
    seed: int
    nodes: int
    simulated: bool
    training: str
    trace_hash: str
    state: str
    """Of the job, `stuck` if it had not ended by the limit of virtual time."""
    accuracy: float | None
    """Of the model that the requester opened, on held-out images; None if it got none."""
    loss: float | None
    rounds: int
    """Certified on chain."""
    nulled: int
    views: int
    """Certificates that took a view change."""
    paid_wei: int
    fees_wei: int
    """Paid to whoever moved the job on."""
    refund_wei: int
    slashed_wei: int
    balanced: bool
    """Whether the contracts hold what they owe and every wei that was there at first is somewhere."""
    square: bool
    """Whether nobody is owed anything any more."""
    workers: tuple[WorkerLine, ...]
    faults: int
    """Failures of supervised actors."""
    double_votes: int
    """Second sets that a worker signed in one round; any is a fault of ours."""
    published: int
    delivered: int
    messages: Counts
    """Delivery end to end, summed over the nodes that run at the end."""
    bytes_sent: int
    virtual_s: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def build_report(simulation: Simulation, scenario: str, faults: int) -> Report:
    chain, trace, delivery = simulation.chain, simulation.realm.trace, simulation.delivery
    events = chain.events
    committed = [e for e in events if isinstance(e, RoundCommitted)]
    evaluated = delivery.evaluated if delivery else None
    return Report(
        scenario=scenario,
        seed=simulation.realm.seed,
        nodes=len(simulation.nodes),
        simulated=True,
        training=next((judge_training(e.terms, events) for e in events if isinstance(e, JobPosted)), UNPROVED),
        trace_hash=trace.hash,
        state=delivery.state.name.lower() if delivery else "stuck",
        accuracy=round(evaluated.accuracy, 4) if evaluated else None,
        loss=round(evaluated.loss, 6) if evaluated else None,
        rounds=len(committed),
        nulled=sum(isinstance(e, RoundNulled) for e in events),
        views=sum(e.view > 0 for e in committed),
        paid_wei=sum(e.amount_wei for e in events if isinstance(e, WorkerPaid)),
        fees_wei=sum(e.amount_wei for e in events if isinstance(e, FeePaid)),
        refund_wei=sum(e.refund_wei for e in events if isinstance(e, JobEnded)),
        slashed_wei=sum(e.amount_wei for e in events if isinstance(e, WorkerSlashed)),
        balanced=is_balanced(chain),
        square=simulation.is_square(),
        workers=_list_workers(simulation, events),
        faults=faults,
        double_votes=delivery.double_votes if delivery else 0,
        published=trace.counts["publish"],
        delivered=trace.counts["deliver"],
        messages=_count_messages(simulation),
        bytes_sent=simulation.internet.bytes_sent,
        virtual_s=round(simulation.ended_s, 3),
    )


def is_balanced(chain: SimChain) -> bool:
    ledger = chain.ledger
    held = compute_holdings(ledger)
    somewhere = sum(map(chain.balance, chain.funded)) + held + ledger.burnt_wei + sum(chain.fees.values())
    return held == compute_liabilities(ledger) and somewhere == sum(chain.funded.values())


def _count_messages(simulation: Simulation) -> Counts:
    actors = [node.house.gossip for node in simulation.nodes if node.house]
    counts = [astuple(actor.counts) for actor in actors if actor]
    return Counts(*map(sum, zip(*counts, strict=True)))


def _list_workers(simulation: Simulation, events: tuple[ChainEvent, ...]) -> tuple[WorkerLine, ...]:
    seats = next((e.workers for e in events if isinstance(e, Assigned)), ())
    return tuple(_describe(simulation, events, worker, seat) for seat, worker in enumerate(seats))


def _describe(simulation: Simulation, events: tuple[ChainEvent, ...], worker: Address, seat: int) -> WorkerLine:
    def total(kind: type[WorkerPaid] | type[WorkerSlashed]) -> int:
        return sum(e.amount_wei for e in events if isinstance(e, kind) and e.worker == worker)

    return WorkerLine(
        node=simulation.node_of(worker).machine.name,
        address=worker,
        rounds=sum(e.participants >> seat & 1 for e in events if isinstance(e, RoundCommitted)),
        proofs=sum(e.worker == worker for e in events if isinstance(e, ProofAccepted)),
        paid_wei=total(WorkerPaid),
        slashed_wei=total(WorkerSlashed),
        gas=sum(gas for (sender, _), gas in simulation.chain.gas.items() if sender == worker),
    )


# -- For people --------------------------------------------------------------------


def format_report(report: Report, curve: Mapping[RoundNumber, float]) -> str:
    """Return the table; `curve` is the accuracy by round, as the workers reported it."""
    m = report.messages
    accuracy = "no model" if report.accuracy is None else f"accuracy {report.accuracy:.1%}"
    lines = [
        f"{report.scenario}  seed {report.seed}  {report.nodes} nodes  (simulated; training: {report.training})",
        f"  job {report.state} after {report.virtual_s:.1f} virtual seconds, {accuracy} on held-out images",
        f"  rounds {report.rounds} certified ({report.views} after a view change), {report.nulled} nulled",
        f"  gossip {report.published} published, {report.delivered} delivered; {report.bytes_sent / 1e6:.1f} MB sent",
        f"  messages {m.sent} sent, {m.acknowledged} acknowledged, {m.resent} resent, {m.given_up} given up",
    ]
    if curve:
        lines.append("  reported " + "  ".join(f"{number}: {share:.0%}" for number, share in sorted(curve.items())))
    lines += ["", f"  {'worker':<10} {'rounds':>6} {'proofs':>6} {'paid ETH':>12} {'slashed ETH':>12} {'gas':>10}"]
    for w in report.workers:
        amounts = f"{w.paid_wei / ETHER:>12.6f} {w.slashed_wei / ETHER:>12.6f}"
        lines.append(f"  {w.node:<10} {w.rounds:>6} {w.proofs:>6} {amounts} {w.gas:>10,}")
    lines += [
        "",
        f"  refund {report.refund_wei / ETHER:.6f} ETH, fees {report.fees_wei / ETHER:.6f} ETH; "
        f"books {'balanced' if report.balanced else 'NOT BALANCED'}, "
        f"{'nobody is owed anything' if report.square else 'SOMEBODY IS STILL OWED'}; "
        f"{report.faults} faults, {report.double_votes} double votes",
        f"  trace {report.trace_hash}",
    ]
    return "\n".join(lines)
