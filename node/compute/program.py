"""What the compute child is asked: open, train, check_update, land, aggregate, evaluate.

Weights cross every boundary as integers on the package's grid; floats live only within `train`, and in a T job
only in what is shown of the loss.
Requests come from our own parent and are trusted; the files they name are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.compute.files import (
    WORD_BYTES,
    Rows,
    Unfit,
    read_grid_page,
    read_page,
    read_spec,
    read_vector,
    write_vector,
)
from node.compute.integer_model import IntegerModel
from node.compute.model import Flat, Model, Signature, build_optimizer
from protocols import codec
from protocols.aggregation import (
    INT32,
    State,
    Vector,
    aggregate,
    compute_state_length,
    join_state,
    split_state,
)
from protocols.codec import Integers
from protocols.frames import Frame, Refusal
from protocols.verdict import Reject

Answer = Mapping[str, object] | Refusal


class Program:
    """One job: empty until `open`."""

    def __init__(self) -> None:
        self._job: _Job | None = None

    def answer(self, do: str, fields: Frame) -> Answer:
        try:
            if do == "open":
                self._job = _Job(fields)
                return {}
            if self._job is None:
                return Refusal("no package was opened")
            match do:
                case "train":
                    return self._job.train(fields)
                case "check_update":
                    return self._job.check_update(fields)
                case "land":
                    return self._job.land(fields)
                case "aggregate":
                    return self._job.aggregate(fields)
                case "evaluate":
                    return self._job.evaluate(fields)
                case _:
                    return Refusal(f"unknown request {do!r}")
        except Unfit as unfit:
            return Refusal(str(unfit))


class _Job:
    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._signature = Signature(
            fields["parameters"],
            (fields["batch"], *fields["x_shape"]),
            (fields["batch"], *fields["y_shape"]),
        )
        self._scale = 2.0 ** fields["scale_bits"]
        self._codec = codec.CODECS[fields["codec"]]
        self._rule, self._outer = fields["rule"], fields["outer"]
        self._state(fields["initial_state"])
        step = fields["step"]
        self._integers = None if step is None else IntegerModel(read_spec(step))
        self._model = Model(
            self._signature,
            fields["loss_and_grad"],
            fields["predict"],
            None if self._integers else build_optimizer(fields["optimizer"], fields["learning_rate"]),
        )

    def train(self, fields: Mapping[str, Any]) -> Answer:
        start = self._state(fields["state"]).weights
        error = np.zeros_like(start) if fields["error"] is None else self._vector(fields["error"])
        weights, loss = (
            self._walk(start, fields) if self._integers is None else self._step(self._integers, start, fields)
        )
        delta = weights.astype(np.int64) - start
        compressed = codec.compress(self._codec, delta, error.astype(np.int64))
        Path(fields["update"]).write_bytes(compressed.update)
        write_vector(fields["weights"], weights)
        write_vector(fields["next_error"], _clip(compressed.error))
        write_vector(fields["carried"], _clip(delta + error))
        return {"loss": loss}

    def _walk(self, start: Vector, fields: Mapping[str, Any]) -> tuple[Vector, float]:
        """Take the inner steps in floats; return w_H on the grid and the mean loss."""
        trained = self._model.train(self._to_floats(start), self._pages(fields["pages"]))
        return self._to_grid(trained.theta), trained.loss

    def _step(self, model: IntegerModel, start: Vector, fields: Mapping[str, Any]) -> tuple[Vector, float]:
        """Take the inner steps in the circuit's integers and write down every state."""
        paths, spec = fields["pages"], model.spec
        on_grid = {path: read_grid_page(path, spec) for path in dict.fromkeys(paths)}
        state = np.zeros(spec.state_length, np.int32)  # moments begin anew each round
        state[: spec.parameters] = start
        pages = [on_grid[path] for path in paths]
        after = model.train(state, np.stack([page.x for page in pages]), np.stack([page.y for page in pages]))
        states = np.concatenate([state[None], after])
        write_vector(fields["states"], states.reshape(-1))
        weights = states[:, : spec.parameters]
        loss = self._model.compute_path_loss(self._to_floats(weights[:-1]), self._pages(paths))
        return weights[-1].copy(), loss

    def check_update(self, fields: Mapping[str, Any]) -> Answer:
        decoded = self._decode(fields["update"])
        return {"fault": decoded.reason if isinstance(decoded, Reject) else None}

    def land(self, fields: Mapping[str, Any]) -> Answer:
        decoded = self._decode(fields["update"])
        if isinstance(decoded, Reject):
            return Refusal(decoded.reason)
        write_vector(fields["weights"], _clip(self._state(fields["state"]).weights + decoded))
        return {}

    def aggregate(self, fields: Mapping[str, Any]) -> Answer:
        updates: list[Integers] = []
        for path in fields["updates"]:
            decoded = self._decode(path)
            if isinstance(decoded, Reject):
                return Refusal(decoded.reason)
            updates.append(decoded)
        state, outliers = aggregate(
            self._state(fields["state"]), updates, rule=self._rule, outer=self._outer, seats=fields["seats"]
        )
        write_vector(fields["next_state"], join_state(state))
        return {"outliers": list(outliers)}

    def evaluate(self, fields: Mapping[str, Any]) -> Answer:
        """Of a global state, or of one worker's weights."""
        theta = self._to_floats(self._state(fields["state"], or_weights=True).weights)
        return self._model.evaluate(theta, self._pages(fields["pages"]))._asdict()

    def _state(self, path: str, *, or_weights: bool = False) -> State:
        parameters = self._signature.parameters
        length = compute_state_length(parameters, self._rule, self._outer)
        is_weights = or_weights and Path(path).stat().st_size == parameters * WORD_BYTES
        return split_state(read_vector(path, parameters if is_weights else length), parameters)

    def _vector(self, path: str) -> Vector:
        return read_vector(path, self._signature.parameters)

    def _pages(self, paths: list[str]) -> list[Rows]:
        if not paths:
            raise Unfit("no pages")
        # Steps come back to a page: each is read and checked once a request.
        shapes = self._signature.x_shape, self._signature.y_shape
        read = {path: read_page(path, *shapes) for path in dict.fromkeys(paths)}
        return [read[path] for path in paths]

    def _decode(self, path: str) -> Integers | Reject:
        return self._codec.decode(Path(path).read_bytes(), self._signature.parameters)

    def _to_floats(self, vector: Vector) -> Flat:
        floats: Flat = (vector / self._scale).astype(np.float32)
        return floats

    def _to_grid(self, theta: Flat) -> Vector:
        if not np.isfinite(theta).all():
            raise Unfit("training diverged: the weights are not finite")
        return _clip(np.rint(theta.astype(np.float64) * self._scale))


def _clip(values: Integers | NDArray[np.float64]) -> Vector:
    vector: Vector = np.clip(values, INT32.min, INT32.max).astype(np.int32)
    return vector
