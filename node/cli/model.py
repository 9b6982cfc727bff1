"""`skynet model pack`: a model to a package folder, on this machine and in a process of its own."""

from __future__ import annotations

import argparse
from dataclasses import fields

from node.cli.output import print_json
from node.client.pack import run_packing
from node.errors import ExitCode
from node.packing.manifest import ModelDraft, read_model_draft
from node.packing.recipe import Recipe

OWN = ("model", "spec", "name", "license", "x_shape", "y_shape", "seed")
"""Options of `skynet model pack` besides the recipe's, as the packing program has them."""


async def pack(options: argparse.Namespace) -> int:
    """Pack, then say what is in the folder."""
    arguments = ["model", "--out", str(options.out)]
    for name in (*OWN, *(each.name for each in fields(Recipe))):
        value = getattr(options, name)
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    await run_packing(arguments)
    draft = read_model_draft(options.out)
    if options.json:
        print_json(_describe(options.out, draft))
        return ExitCode.OK
    for key, value in _describe(options.out, draft).items():
        print(f"{key:14} {value}")
    print(f'name it in job.toml:  [model] package = "{options.out}"')
    return ExitCode.OK


def _describe(folder: object, draft: ModelDraft) -> dict[str, object]:
    return {
        "package": str(folder),
        "name": draft.name,
        "license": draft.license,
        "parameters": draft.parameters,
        "page": f"{draft.batch} rows, x {list(draft.x_shape)}, y {list(draft.y_shape)}",
        "optimizer": f"{draft.optimizer}, learning rate {draft.learning_rate:g}",
        "recipe": f"codec {draft.codec}, rule {draft.rule}, outer {draft.outer}",
        "loss_and_grad": draft.loss_and_grad.hex(),
        "predict": draft.predict.hex(),
        "initial_state": draft.initial_state.hex(),
        "proves": "evaluation (training: unproved)" if draft.step is None else "training",
    }
