"""`python -m node.packing model|data --out FOLDER …`: run by the requester's client in a process of its own.

Leaves blobs and a draft (see `manifest.py`) in the folder. Exit status and the one line on standard error
are those of `node/errors.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from node.errors import ExitCode, UserError
from protocols.package import MAX_BATCH, MAX_SCALE_BITS, OPTIMIZERS

DIGITS = "digits"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        options.pack(options)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.code
    return ExitCode.OK


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m node.packing", description=__doc__)
    commands = parser.add_subparsers(required=True)
    model = commands.add_parser("model", help="artifacts, circuit and initial state of a Flax model")
    model.set_defaults(pack=_pack_model)
    model.add_argument("--model", default=DIGITS, help="`digits`, or FILE.py:NAME of a Flax module (NNX or Linen)")
    model.add_argument("--name", help="default: the model's")
    model.add_argument("--license", default="Apache-2.0")
    model.add_argument("--x-shape", type=_shape, help="of one row, such as 28,28,1")
    model.add_argument("--y-shape", type=_shape, help="of one row, such as 10")
    model.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    model.add_argument("--learning-rate", type=_positive, default=0.005)
    model.add_argument("--scale-bits", type=_within(0, MAX_SCALE_BITS), default=13)
    for name, default in (("codec", "int8"), ("rule", "mean"), ("outer", "none")):
        model.add_argument(f"--{name}", default=default)
    data = commands.add_parser("data", help="pages of a dataset")
    data.set_defaults(pack=_pack_data)
    data.add_argument("--data", choices=[DIGITS], default=DIGITS)
    data.add_argument("--challenge-pages", type=_within(1, 100_000), default=90, help="held out")
    data.add_argument("--permute-labels", action="store_true", help="nothing can be learnt then: for tests")
    for command in (model, data):
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--batch", type=_within(1, MAX_BATCH), default=4, help="rows of a page")
        command.add_argument("--seed", type=_within(0, 2**32 - 1), default=1)
    options = parser.parse_args(arguments)
    if options.pack is _pack_model and options.model != DIGITS and None in (options.x_shape, options.y_shape):
        parser.error("a model of your own needs --x-shape and --y-shape")
    return options


def _pack_model(options: argparse.Namespace) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # exported for all, traced on the one that is always there
    from node.packing.flat import find_model, flatten_model
    from node.packing.model import Recipe, Subject, pack_model

    if options.model == DIGITS:
        from node.packing.digits_model import X_SHAPE, Y_SHAPE, DigitsModel

        source, x_shape, y_shape = DigitsModel, X_SHAPE, Y_SHAPE
    else:
        source, x_shape, y_shape = find_model(options.model), options.x_shape, options.y_shape
    name = options.name or options.model.rpartition(":")[2]
    subject = Subject(name, options.license, flatten_model(source, x_shape, options.seed), x_shape, y_shape)
    recipe = Recipe(
        batch=options.batch,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        scale_bits=options.scale_bits,
        codec=options.codec,
        rule=options.rule,
        outer=options.outer,
    )
    pack_model(subject, recipe, options.out)


def _pack_data(options: argparse.Namespace) -> None:
    from node.packing.data import Split, pack_data
    from node.packing.digits import load_digits

    split = Split(options.batch, options.challenge_pages, options.seed, options.permute_labels)
    pack_data(load_digits(), split, options.out)


# -- Values --------------------------------------------------------------------


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_within(1, 1 << 28)(part) for part in text.split(",") if part)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be positive")
    return value


class _within:  # noqa: N801 - reads as a function in `add_argument`
    """An integer of low … high."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, text: str) -> int:
        value = int(text)
        if not self._low <= value <= self._high:
            raise argparse.ArgumentTypeError(f"must be {self._low} … {self._high}")
        return value


if __name__ == "__main__":
    sys.exit(main())
