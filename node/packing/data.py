"""Data to pages: rows shuffled by a seed, split into training and held-out pages of B rows each.

Only whole pages are made: what is left over (fewer than B rows in either part) stays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from node.errors import ContentError
from node.packing.manifest import DataDraft, write_blob, write_draft
from protocols.ids import ContentId

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """A dataset in memory; y is what the model's raw outputs are compared with: one-hot for classes."""

    name: str
    license: str
    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True)
class Split:
    batch: int
    held_out_pages: int
    """Held-out pages; all the other rows train."""
    seed: int
    permute_labels: bool = False
    """Give every row another row's target, before the split: nothing can be learnt from it. For tests."""


def pack_data(rows: Rows, split: Split, folder: Path) -> DataDraft:
    """Write pages and draft into the folder. ContentError if the rows do not fill the pages asked for."""
    train_pages = len(rows.x) // split.batch - split.held_out_pages
    if train_pages < 1 or split.held_out_pages < 1:
        raise ContentError(
            f"dataset {rows.name}",
            f"{len(rows.x)} rows are too few for {split.held_out_pages} held-out pages of {split.batch}",
            "ask for fewer held-out pages or a smaller batch",
        )
    rng = np.random.default_rng(split.seed)
    order = rng.permutation(len(rows.x))
    x, y = rows.x[order], rows.y[order]
    if split.permute_labels:
        y = y[rng.permutation(len(y))]
    pages = [_write_page(folder, x, y, split.batch, index) for index in range(train_pages + split.held_out_pages)]
    draft = DataDraft(
        name=rows.name,
        license=rows.license,
        batch=split.batch,
        x_shape=x.shape[1:],
        y_shape=y.shape[1:],
        train=tuple(pages[split.held_out_pages :]),
        held_out=tuple(pages[: split.held_out_pages]),
    )
    write_draft(folder, draft)
    return draft


def _write_page(folder: Path, x: Floats, y: Floats, batch: int, index: int) -> ContentId:
    part = slice(index * batch, (index + 1) * batch)
    page = {"x": np.ascontiguousarray(x[part]), "y": np.ascontiguousarray(y[part])}
    return write_blob(folder, save(page))
