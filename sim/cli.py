"""`skynet-sim SCENARIO --nodes N --seed S`: run a scenario in virtual time and say what came of it.

Exit status: 0 the job ended, the books balance, nobody voted twice; 1 otherwise; 2 the command line was not understood.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial

from node.errors import ExitCode
from sim.determinism import run
from sim.journal import Journal
from sim.report import Report, build_report, format_report
from sim.scenario import SCENARIOS
from sim.simulation import simulate
from sim.trace import Trace


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    trace = Trace(_show if options.trace else None)
    journal = Journal(_show if options.log else None)
    plan = SCENARIOS[options.scenario].plan(options.nodes, options.seed)
    with journal.open():
        simulation = run(options.seed, partial(simulate, plan, trace))
    report = build_report(simulation, options.scenario, len(journal.faults))
    curve = simulation.delivery.curve if simulation.delivery else {}
    print(json.dumps(report.to_json()) if options.json else format_report(report, curve))
    return ExitCode.OK if _is_good(report) else 1


def _is_good(report: Report) -> bool:
    return report.state != "stuck" and report.balanced and report.square and not report.double_votes


def _show(line: str) -> None:
    print(line, file=sys.stderr)


# -- Command line ----------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """One line for one mistake."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return
        print(f"skynet-sim: {message}; see skynet-sim --help", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = "\n".join(f"  {name:<14} {scenario.summary}" for name, scenario in SCENARIOS.items())
    parser = _Parser(
        prog="skynet-sim",
        description="Run SkyNet's actors on a simulated network, chain, compute, disk and clock.",
        epilog=f"scenarios:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("scenario", metavar="SCENARIO")
    parser.add_argument("--nodes", type=int, default=4, metavar="N", help="worker nodes (default 4)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what chance hangs on (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--log", action="store_true", help="show the actors' logs on standard error")
    parser.add_argument("--trace", action="store_true", help="show the lines that the trace hash is over")
    options = parser.parse_args(arguments)
    if options.scenario not in SCENARIOS:
        parser.error(f"no scenario named {options.scenario!r}: known are {', '.join(SCENARIOS)}")
    seats = SCENARIOS[options.scenario].order.seats
    if options.nodes < seats:
        parser.error(f"--nodes {options.nodes} is too few: the job has {seats} seats")
    return options


if __name__ == "__main__":
    sys.exit(main())
