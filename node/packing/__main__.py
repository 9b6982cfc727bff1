"""`python -m node.packing model|data --out FOLDER …`: run by the requester's client in a process of its own.

Leaves blobs and a draft (see `manifest.py`) in the folder. Exit status and the one line on standard error
are those of `node/errors.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import ContentError, ExitCode, UserError
from node.packing.recipe import EVALUATION, TRAINING, Recipe
from protocols.package import MAX_BATCH, MAX_SCALE_BITS, OPTIMIZERS

if TYPE_CHECKING:
    from node.packing.flat import Source
    from protocols.training_step import StepSpec

DIGITS = "digits"
DIGITS_PROVED = "digits-proved"


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
    model = commands.add_parser("model", help="artifacts, circuit and initial state of a model")
    model.set_defaults(pack=_pack_model)
    add_model_options(model)
    data = commands.add_parser("data", help="pages of a dataset")
    data.set_defaults(pack=_pack_data)
    data.add_argument("--data", choices=[DIGITS], default=DIGITS)
    data.add_argument("--held-out-pages", type=_within(1, 100_000), default=90, help="held out")
    data.add_argument("--permute-labels", action="store_true", help="nothing can be learnt then: for tests")
    data.add_argument("--batch", type=_within(1, MAX_BATCH), default=4, help="rows of a page")
    data.add_argument("--seed", type=_within(0, 2**32 - 1), default=1)
    data.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def add_model_options(model: argparse.ArgumentParser) -> None:
    """What `skynet model pack` takes too: it hands them on to this program."""
    model.add_argument("--model", help="`digits` (the default), `digits-proved`, or FILE.py:NAME; see the README")
    model.add_argument("--spec", type=Path, help="a TOML file that describes a model of the catalogue")
    model.add_argument("--name", help="default: the model's")
    model.add_argument("--license")
    model.add_argument("--x-shape", type=_shape, help="of one row, such as 28,28,1; default: the file's X_SHAPE")
    model.add_argument("--y-shape", type=_shape, help="of one row, such as 10; default: the file's Y_SHAPE")
    model.add_argument("--batch", type=_within(1, MAX_BATCH), help="rows of a page")
    model.add_argument("--seed", type=_within(0, 2**32 - 1))
    model.add_argument("--proves", choices=[EVALUATION, TRAINING], help="what workers are paid for")
    model.add_argument("--optimizer", choices=OPTIMIZERS)
    model.add_argument("--learning-rate", type=_positive)
    model.add_argument("--scale-bits", type=_within(0, MAX_SCALE_BITS))
    for name in ("codec", "rule", "outer"):
        model.add_argument(f"--{name}")
    model.add_argument("--out", type=Path, required=True, help="folder of the package")


def _pack_model(options: argparse.Namespace) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # exported for all, traced on the one that is always there
    from node.packing.flat import flatten_model
    from node.packing.model import Subject, pack_model

    found = _find_subject(options)
    given = {each.name: getattr(options, each.name) for each in fields(Recipe)}
    recipe = replace(found.recipe, **{key: value for key, value in given.items() if value is not None})
    source, step = _find_source(found, recipe)
    name, license_ = options.name or found.name, options.license or found.license
    x_shape, y_shape = options.x_shape or source.x_shape, options.y_shape or source.y_shape
    if x_shape is None or y_shape is None:
        raise ContentError(f"model {name}", "its shapes are not known", "give --x-shape and --y-shape")
    model = flatten_model(source, tuple(x_shape), found.seed if options.seed is None else options.seed)
    pack_model(Subject(name, license_, model, tuple(x_shape), tuple(y_shape), step), recipe, options.out)


@dataclass(frozen=True, slots=True)
class Found:
    """A model, and what holds for it unless an option says otherwise."""

    name: str
    source: Source
    perceptron: tuple[tuple[int, ...], str] | None = None
    """Sizes and loss of one whose training can be proved."""
    license: str = "Apache-2.0"
    seed: int = 1
    recipe: Recipe = field(default_factory=Recipe)


def _find_subject(options: argparse.Namespace) -> Found:
    from node.packing.flat import Source, find_source

    if options.spec is not None and options.model is not None:
        raise ContentError("--spec and --model", "they are two models", "give one")
    if options.spec is not None:
        from node.packing.catalogue import build_source, find_perceptron, load_spec

        spec = load_spec(options.spec)
        return Found(spec.name, build_source(spec), find_perceptron(spec), spec.license, spec.seed, spec.recipe)
    if options.model not in (None, DIGITS, DIGITS_PROVED):
        return Found(options.model.rpartition(":")[2], find_source(options.model))
    from node.packing.digits_model import PERCEPTRON, PROVED, X_SHAPE, Y_SHAPE, DigitsModel

    recipe = PROVED if options.model == DIGITS_PROVED else Recipe()
    return Found(DIGITS, Source(DigitsModel, None, X_SHAPE, Y_SHAPE), PERCEPTRON, recipe=recipe)


def _find_source(found: Found, recipe: Recipe) -> tuple[Source, StepSpec | None]:
    """Return the model in floats and, where its training is to be proved, its step."""
    if recipe.proves != TRAINING:
        return found.source, None
    if found.perceptron is None:
        problem = "its training can't be proved"
        raise ContentError(f"model {found.name}", problem, "describe a perceptron in a --spec file with [mlp]")
    from node.packing.step_model import build_step_source, write_step

    step = write_step(*found.perceptron, recipe)
    return build_step_source(step), step


def _pack_data(options: argparse.Namespace) -> None:
    from node.packing.data import Split, pack_data
    from node.packing.digits import load_digits

    split = Split(options.batch, options.held_out_pages, options.seed, options.permute_labels)
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
