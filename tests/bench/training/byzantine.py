"""Figure 5: what 6 liars of 20 workers cost, over attacks and heterogeneity, by the protocol's own integers.

Every cell trains the digits perceptron (19,210 parameters) for ROUNDS rounds through int8 with error feedback and
`protocols.aggregation`. The liars know every honest update, and their rows of the data are lost to the others.
The rule was chosen on shuffles by the seeds 1 to 3 of the same digits, so its held-out rows and these test
images overlap; the seeds here begin at FIRST_SEED, which it has not seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import optax
from digits import PARAMETERS, SCALE, compute_accuracy, draw_weights, make_trainer, split
from figures import Figure, say
from numpy.typing import NDArray

from node.packing.recipe import Recipe
from protocols.aggregation import INT32, State, aggregate, begin_state
from protocols.codec import CODECS, compress

WORKERS, LIARS = 20, 6
ROUNDS, STEPS, BATCH, LEARNING_RATE = 100, 25, 16, 0.05
ALLOWED = 0.015  # below the same job with nobody lying
FIRST_SEED = 101
# "A little is enough" (arXiv:1902.06156): so many deviations that the lies still have a majority near them.
LITTLE = NormalDist().inv_cdf((WORKERS - LIARS - (WORKERS // 2 + 1 - LIARS)) / (WORKERS - LIARS))

Updates = NDArray[np.float64]


def _lie(attack: str, updates: Updates, rng: np.random.Generator) -> Updates:
    """Return what the last LIARS send: f64[LIARS, P]."""
    honest, own = updates[:-LIARS], updates[-LIARS:]
    middle = honest.mean(axis=0)
    match attack:
        case "sign-flip 3":
            return -3 * own
        case "ALIE":
            return np.tile(middle - LITTLE * honest.std(axis=0), (LIARS, 1))
        case "IPM 0.5" | "IPM 10":
            return np.tile(-float(attack.split()[1]) * middle, (LIARS, 1))
        case "Gauss":
            return middle + 10 * np.sqrt((honest**2).mean()) * rng.normal(size=(LIARS, PARAMETERS))
    raise ValueError(attack)


ATTACKS = ("sign-flip 3", "ALIE", "IPM 0.5", "IPM 10", "Gauss")
SPLITS: dict[str, float | None] = {"IID": None, "Dirichlet 0.5": 0.5}
TRAIN = make_trainer(optax.sgd(LEARNING_RATE))


def run_job(rule: str, attack: str | None, alpha: float | None, seed: int, *, workers: int = WORKERS) -> float:
    """Return the accuracy on held-out images after the last round."""
    rng = np.random.default_rng(seed)
    shards = split(rng, WORKERS, alpha)
    codec = CODECS["int8"]
    state = begin_state(np.rint(draw_weights(rng) * SCALE).astype(np.int32), rule, "none")
    errors = np.zeros((WORKERS, PARAMETERS), np.int64)
    for _ in range(ROUNDS):
        drawn = np.stack([rng.integers(0, rows, (STEPS, BATCH)) for rows in shards.rows])
        moved = np.asarray(TRAIN(_to_floats(state), shards.x, shards.y, drawn), np.float64) * SCALE
        if attack:
            moved[-LIARS:] = _lie(attack, moved, rng)
        updates = []
        for worker in range(workers):
            delta = np.clip(np.rint(moved[worker]), INT32.min, INT32.max).astype(np.int64)
            sent = compress(codec, delta, errors[worker])
            decoded = codec.decode(sent.update, PARAMETERS)
            assert isinstance(decoded, np.ndarray)
            is_liar = bool(attack) and worker >= WORKERS - LIARS
            errors[worker] = 0 if is_liar else sent.error
            updates.append(decoded)
        state = aggregate(state, updates, rule=rule, outer="none").state
    return float(compute_accuracy(_to_floats(state), shards.test_x, shards.test_y))


def _to_floats(state: State) -> NDArray[np.float32]:
    return (state.weights / SCALE).astype(np.float32)


def measure(options: argparse.Namespace) -> Sequence[Figure]:
    rules = options.rules.split(",") if options.rules else [Recipe().rule]
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    figures: list[Figure] = []
    for name, alpha in SPLITS.items():
        clean = float(np.mean([run_job("mean", None, alpha, seed) for seed in seeds]))
        alone = float(np.mean([run_job("mean", None, alpha, seed, workers=WORKERS - LIARS) for seed in seeds]))
        say(f"{name}: clean, mean of {WORKERS}: {clean:.4f}; the {WORKERS - LIARS} honest alone: {alone:.4f}")
        for rule in rules:
            cells = {a: float(np.mean([run_job(rule, a, alpha, seed) for seed in seeds])) for a in ATTACKS}
            say(f"  {rule}: " + ", ".join(f"{attack} {value:.4f}" for attack, value in cells.items()))
            attack = min(cells, key=lambda a: cells[a])
            figures.append(
                Figure(
                    f"5. 30 % byzantine, {name}, {rule}, worst attack ({attack}), {options.seeds} seeds",
                    cells[attack],
                    "accuracy",
                    clean - ALLOWED,
                    f"honest {WORKERS - LIARS} alone, mean",
                    alone,
                    cells[attack] >= clean - ALLOWED,
                )
            )
    return figures
