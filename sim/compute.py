"""The Compute twin: the numpy perceptron, the protocols' own codec and aggregation, and virtual time in place of real.

Weights cross every boundary as integers on the package's grid, as in `node/compute`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.ports import Aggregate, Aggregated, Evaluated, Refused, Train, Trained
from protocols.aggregation import INT32, Vector, aggregate, compute_state_length, join_state, split_state
from protocols.codec import CODECS, Integers, compress
from protocols.ids import ContentId, JobId
from protocols.package import Package, TrainingCircuit
from protocols.training_step import StepSpec, compute_step
from protocols.verdict import Accept, Ignore, Reject, Verdict
from sim import model
from sim.life import Life
from sim.prover import find_sizes, read_package, to_step_page
from sim.store import SimStore


@dataclass(frozen=True, slots=True)
class ComputeCosts:
    """Virtual seconds, about those of a JAX child on two cores."""

    open_s: float = 1.5
    step_s: float = 0.01
    check_s: float = 0.002
    aggregate_s: float = 0.02
    evaluate_s: float = 0.1


@dataclass(frozen=True, slots=True)
class _Job:
    package: Package
    sizes: model.Sizes


class SimCompute:
    """Implements `actors.ports.Compute`."""

    def __init__(self, store: SimStore, life: Life, pace: float, costs: ComputeCosts | None = None) -> None:
        """`pace` multiplies every cost: a slow machine's is above 1."""
        self._store = store
        self._life = life
        self._pace = pace
        self._costs = costs or ComputeCosts()
        self._jobs: dict[JobId, _Job] = {}

    async def open(self, job: JobId, package: ContentId) -> Refused | None:
        manifest = await read_package(self._store, package)
        if isinstance(manifest, Refused):
            return manifest
        sizes = find_sizes(manifest)
        if isinstance(sizes, Refused):
            return sizes
        is_ours = manifest.optimizer == "adam" or isinstance(manifest.circuit, TrainingCircuit)
        if not is_ours or await self._store.blob(manifest.loss_and_grad) != model.MARK:
            return Refused("the simulator trains its own perceptron only, by adam or by proved steps")
        await self._spend(self._costs.open_s)
        self._jobs[job] = _Job(manifest, sizes)
        return None

    async def train(self, request: Train) -> Trained | Refused:
        job, state = self._jobs.get(request.job), await self._state(request.job, request.state)
        pages = [await self._page(page) for page in request.pages]
        known = [page for page in pages if page is not None]
        if job is None or state is None or len(known) < len(pages) or not pages:
            return Refused("no such job, state or page is open")
        error = await self._error(request.error, len(state))
        await self._spend(self._costs.step_s * len(pages))
        scale_bits, circuit = job.package.scale_bits, job.package.circuit
        if isinstance(circuit, TrainingCircuit):
            return await self._step(job, circuit.step, state, known, error)
        theta, loss = model.train(job.sizes, model.from_grid(state, scale_bits), known, job.package.learning_rate)
        if not np.isfinite(theta).all():
            return Refused("training diverged: the weights are not finite")
        return await self._keep(job, state, model.to_grid(theta, scale_bits), error, loss)

    async def _step(
        self, job: _Job, step: StepSpec, start: Vector, pages: Sequence[model.Rows], error: Integers
    ) -> Trained | Refused:
        """Take the inner steps in the circuit's integers."""
        states = self.take_steps(step, start, pages)
        if isinstance(states, Reject):
            return Refused(states.reason)
        weights = states[-1][: step.parameters].astype(np.int32)
        loss = model.compute_loss(job.sizes, model.from_grid(weights, job.package.scale_bits), pages[-1])
        path = await self._put(np.concatenate(states).astype(np.int32))
        return replace(await self._keep(job, start, weights, error, loss), states=path)

    async def _keep(self, job: _Job, state: Vector, weights: Vector, error: Integers, loss: float) -> Trained:
        delta = self.choose_delta(state, weights)
        compressed = compress(CODECS[job.package.codec], delta, error)
        return Trained(
            weights=await self._put(weights),
            states=None,
            update=await self._store.put_blob(compressed.update, public=False),
            error=await self._put(_clip(compressed.error)),
            carried=await self._put(_clip(delta + error)),
            loss=loss,
        )

    # What a liar does differently, see `sim/liars.py`.

    def take_steps(self, step: StepSpec, start: Vector, pages: Sequence[model.Rows]) -> list[Integers] | Reject:
        """Return the states before each step and after the last."""
        states = [np.zeros(step.state_length, np.int64)]
        states[0][: step.parameters] = start
        for rows in pages:
            stepped = compute_step(step, states[-1], *to_step_page(rows))
            if isinstance(stepped, Reject):
                return stepped
            states.append(stepped.state)
        return states

    def choose_delta(self, start: Vector, weights: Vector) -> Integers:
        """Return what the update is to say of where the steps led."""
        return weights.astype(np.int64) - start

    async def check_update(self, job: JobId, update: ContentId) -> Verdict:
        await self._spend(self._costs.check_s)
        decoded = await self._decode(job, update)
        if decoded is None:
            return Ignore("no such job or update is open")
        return decoded if isinstance(decoded, Reject) else Accept()

    async def land(self, job: JobId, state: ContentId, update: ContentId) -> ContentId | Refused:
        await self._spend(self._costs.check_s)
        decoded, weights = await self._decode(job, update), await self._state(job, state)
        if decoded is None or weights is None or isinstance(decoded, Reject):
            return Refused("no such job, state or update is open")
        return await self._put(_clip(weights + decoded))

    async def aggregate(self, request: Aggregate) -> Aggregated | Refused:
        job, data = self._jobs.get(request.job), await self._store.blob(request.state)
        decoded = [await self._decode(request.job, update) for update in request.updates]
        updates = [d for d in decoded if d is not None and not isinstance(d, Reject)]
        if job is None or data is None or len(updates) < len(decoded):
            return Refused("no such job, state or update is open")
        await self._spend(self._costs.aggregate_s)
        state = split_state(model.decode_vector(data), job.package.parameters)
        package = job.package
        after = aggregate(state, updates, rule=package.rule, outer=package.outer, seats=request.seats)
        return Aggregated(await self._put(join_state(after.state)), after.outliers)

    async def evaluate(self, job: JobId, state: ContentId, pages: tuple[ContentId, ...]) -> Evaluated | Refused:
        held, vector = self._jobs.get(job), await self._state(job, state)
        found = [await self._page(page) for page in pages]
        rows = [page for page in found if page is not None]
        if held is None or vector is None or len(rows) < len(found) or not rows:
            return Refused("no such job, state or page is open")
        await self._spend(self._costs.evaluate_s)
        return evaluate(held.sizes, vector, held.package.scale_bits, rows)

    async def close(self, job: JobId) -> None:
        await self._life.breathe()
        self._jobs.pop(job, None)

    # -- Blobs

    async def _spend(self, cost_s: float) -> None:
        await self._life.spend(cost_s * self._pace)

    async def _put(self, vector: Vector) -> ContentId:
        return await self._store.put_blob(model.encode_vector(vector), public=False)

    async def _page(self, page: ContentId) -> model.Rows | None:
        data = await self._store.blob(page)
        return None if data is None else model.decode_page(data)

    async def _state(self, job: JobId, state: ContentId) -> Vector | None:
        """Return the weights of a global state."""
        held, data = self._jobs.get(job), await self._store.blob(state)
        if held is None or data is None:
            return None
        vector = model.decode_vector(data)
        if len(vector) != compute_state_length(held.package.parameters, held.package.rule, held.package.outer):
            return None
        return split_state(vector, held.package.parameters).weights

    async def _error(self, error: ContentId | None, length: int) -> Integers:
        data = None if error is None else await self._store.blob(error)
        return np.zeros(length, np.int64) if data is None else model.decode_vector(data).astype(np.int64)

    async def _decode(self, job: JobId, update: ContentId) -> Integers | Reject | None:
        held, data = self._jobs.get(job), await self._store.blob(update)
        if held is None or data is None:
            return None
        return CODECS[held.package.codec].decode(data, held.package.parameters)


def evaluate(sizes: model.Sizes, vector: Vector, scale_bits: int, pages: Sequence[model.Rows]) -> Evaluated:
    theta = model.from_grid(vector, scale_bits)
    losses = [model.compute_loss(sizes, theta, rows) for rows in pages]
    accuracies = [model.compute_accuracy(sizes, theta, rows) for rows in pages]
    return Evaluated(math.fsum(losses) / len(pages), math.fsum(accuracies) / len(pages))


def _clip(values: Integers) -> Vector:
    vector: Vector = np.clip(values, INT32.min, INT32.max).astype(np.int32)
    return vector
