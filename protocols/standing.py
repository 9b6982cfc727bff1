"""Standing: what a seat's past updates say of its next one.

    trusted -score 0-> shunned -score FULL-> trusted          an outlier costs COST, any other round gives 1

Local to a node, like a relay's peer score: the outliers of a set are the same on every node, but not every
node has computed every set. A leader leaves shunned seats out where a quorum is left without them, so that
who lies round after round earns next to nothing.
Spec: protocols/README.md, "Standing".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from protocols.ids import Seat

FULL = 12  # lower, and an honest worker with odd data is shunned by chance
COST = 3  # one update in four may be far off for good


@dataclass(frozen=True, slots=True)
class Standings:
    scores: Mapping[Seat, int] = field(default_factory=dict)
    """0 … FULL; FULL for who is not in it."""
    shunned: frozenset[Seat] = frozenset()


def judge_round(
    standings: Standings, seats: Collection[Seat], counted: Collection[Seat], outliers: Collection[Seat]
) -> Standings:
    """Return the standings after a certified round: `outliers` are those of the seats counted in it that were far off.

    A seat that was not counted gains like one that did well: a crash is no lie, and shunning must end.
    """
    scores = dict(standings.scores)
    for seat in seats:
        change = -COST if seat in counted and seat in outliers else 1
        scores[seat] = min(max(scores.get(seat, FULL) + change, 0), FULL)
    fallen = {seat for seat in seats if scores[seat] == 0}
    risen = {seat for seat in seats if scores[seat] == FULL}
    return Standings(scores, (standings.shunned | fallen) - risen)
