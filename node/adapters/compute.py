"""The Compute port over a child process a job: `python -m node.compute`.

The child gets links to blobs and writes into its own scratch folder; what it wrote is read back
as hostile and put into the Store. A lost child is replaced by `node/adapters/job_child.py`.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import trio

from actors.ports import Aggregate, Aggregated, Evaluated, Refused, Store, Train, Trained
from node.adapters.child import Log, Program
from node.adapters.job_child import JobChild, Opening
from node.sandbox import Limits
from protocols.aggregation import compute_state_length
from protocols.frames import Frame, printable
from protocols.ids import ContentId, JobId
from protocols.package import MAX_PATH, Package, TrainingCircuit, decode_package
from protocols.verdict import Accept, Ignore, Reject, Verdict

WORD_BYTES = 4
OUTPUTS = 8  # of one request, all of the largest size; lower ends a child whose files were not taken yet

BlobPath = Callable[[ContentId], Path]
"""Where the Store keeps a blob that it has."""

# -- Settings ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a child that has not answered is killed."""

    open_s: float = 120.0
    """Load and compile; a mutated artifact once hung the parser for minutes."""
    train_s: float = 600.0
    """All inner steps of a round."""
    check_s: float = 60.0
    aggregate_s: float = 120.0
    evaluate_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Settings:
    memory_bytes: int = 8 << 30
    """Address space. The digits take 0.7 GiB, 0.27 of it resident, nearly all of it jax itself."""
    cpu_s: int = 3600
    """Processor seconds of one request."""
    threads: int = 1
    """For XLA and BLAS. More is faster for large models; several nodes on one machine share it better with one."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    is_sandbox_demanded: bool = False


# -- The port ------------------------------------------------------------------


class ChildCompute:
    """Implements `actors.ports.Compute`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        blob_path: BlobPath,
        scratch: Path,
        log: Log,
        settings: Settings | None = None,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._blob_path = blob_path
        self._scratch = scratch
        self._log = log
        self._settings = settings or Settings()
        self._jobs: dict[JobId, _Job] = {}

    async def open(self, job: JobId, package: ContentId) -> Refused | None:
        held = self._jobs.get(job)
        if held is not None and held.name == package:
            return await held.child.open()
        if held is not None:
            await self.close(job)
        manifest = await self._read_package(package)
        if isinstance(manifest, Refused):
            return manifest
        if missing := await self._find_missing((manifest.loss_and_grad, manifest.predict, manifest.initial_state)):
            return missing
        opened = self._jobs[job] = _Job(package, manifest, self._prepare(job, manifest))
        refused = await opened.child.open()
        if refused is not None:
            await self.close(job)
        return refused

    async def train(self, request: Train) -> Trained | Refused:
        held = await self._find(request.job, (request.state, request.error, *request.pages))
        if isinstance(held, Refused):
            return held
        names = ("weights", "update", "error", "carried", "states")
        weights, update, error, carried, states = map(held.child.new_output, names)
        fields = {
            "state": self._path(request.state),
            "error": self._path(request.error),
            "pages": [self._path(page) for page in request.pages],
            "weights": str(weights),
            "update": str(update),
            "next_error": str(error),
            "carried": str(carried),
            "states": str(states),
        }
        reply = await held.child.ask("train", fields, timeout_s=self._settings.deadlines.train_s)
        loss = _finite(reply, "loss")
        if isinstance(loss, Refused):
            return loss
        size = held.package.parameters * WORD_BYTES
        outputs = [(weights, size, size), (update, 1, 2 * size + 1024), (error, size, size), (carried, size, size)]
        circuit = held.package.circuit
        if isinstance(circuit, TrainingCircuit):
            whole = (len(request.pages) + 1) * circuit.step.state_length * WORD_BYTES
            outputs.append((states, whole, whole))
        files = await self._take(*outputs)
        if isinstance(files, Refused):
            return files
        path = files[4] if len(files) > 4 else None
        return Trained(files[0], path, files[1], files[2], files[3], loss)

    async def check_update(self, job: JobId, update: ContentId) -> Verdict:
        held = await self._find(job, (update,))
        if isinstance(held, Refused):
            return Ignore(held.reason)
        fields = {"update": self._path(update)}
        match await held.child.ask("check_update", fields, timeout_s=self._settings.deadlines.check_s):
            case {"fault": None}:
                return Accept()
            case {"fault": str(reason)}:
                return Reject(printable(reason))
            case Refused(reason):
                return Ignore(reason)  # our child's trouble costs no peer its score
            case _:
                return Ignore("the child's answer is malformed")

    async def land(self, job: JobId, state: ContentId, update: ContentId) -> ContentId | Refused:
        held = await self._find(job, (state, update))
        if isinstance(held, Refused):
            return held
        weights, size = held.child.new_output("landed"), held.package.parameters * WORD_BYTES
        fields = {"state": self._path(state), "update": self._path(update), "weights": str(weights)}
        reply = await held.child.ask("land", fields, timeout_s=self._settings.deadlines.check_s)
        if isinstance(reply, Refused):
            return reply
        files = await self._take((weights, size, size))
        return files if isinstance(files, Refused) else files[0]

    async def aggregate(self, request: Aggregate) -> Aggregated | Refused:
        held = await self._find(request.job, (request.state, *request.updates))
        if isinstance(held, Refused):
            return held
        state = held.child.new_output("state")
        fields = {
            "state": self._path(request.state),
            "updates": [self._path(update) for update in request.updates],
            "seats": request.seats,
            "next_state": str(state),
        }
        reply = await held.child.ask("aggregate", fields, timeout_s=self._settings.deadlines.aggregate_s)
        if isinstance(reply, Refused):
            return reply
        outliers = _positions(reply, len(request.updates))
        if isinstance(outliers, Refused):
            return outliers
        package = held.package
        size = compute_state_length(package.parameters, package.rule, package.outer) * WORD_BYTES
        files = await self._take((state, size, size))
        return files if isinstance(files, Refused) else Aggregated(files[0], outliers)

    async def evaluate(self, job: JobId, state: ContentId, pages: tuple[ContentId, ...]) -> Evaluated | Refused:
        held = await self._find(job, (state, *pages))
        if isinstance(held, Refused):
            return held
        fields = {"state": self._path(state), "pages": [self._path(page) for page in pages]}
        reply = await held.child.ask("evaluate", fields, timeout_s=self._settings.deadlines.evaluate_s)
        loss, accuracy = _finite(reply, "loss"), _finite(reply, "accuracy")
        if isinstance(loss, Refused):
            return loss
        return accuracy if isinstance(accuracy, Refused) else Evaluated(loss, accuracy)

    async def close(self, job: JobId) -> None:
        held = self._jobs.pop(job, None)
        if held is not None:
            await held.child.close()

    # -- Blobs -----------------------------------------------------------------

    def _path(self, content: ContentId | None) -> Path | None:
        return None if content is None else self._blob_path(content)

    async def _read_package(self, content: ContentId) -> Package | Refused:
        data = await self._store.blob(content)
        if data is None:
            return Refused(f"package {content.hex()} is not here")
        package = decode_package(data)
        return Refused(f"package {content.hex()}: {package.reason}") if isinstance(package, Reject) else package

    async def _find_missing(self, contents: tuple[ContentId | None, ...]) -> Refused | None:
        for content in contents:
            if content is not None and not await self._store.has_blob(content):
                return Refused(f"blob {content.hex()} is not here")
        return None

    async def _find(self, job: JobId, contents: tuple[ContentId | None, ...]) -> _Job | Refused:
        held = self._jobs.get(job)
        if held is None:
            return Refused(f"job {job.hex()} is not open")
        return await self._find_missing(contents) or held

    async def _take(self, *outputs: tuple[Path, int, int]) -> list[ContentId] | Refused:
        """Move what a child wrote into the Store: (file, smallest size, largest size) each."""
        contents = []
        for path, low, high in outputs:
            data = await trio.to_thread.run_sync(_read_output, path, low, high)
            if isinstance(data, Refused):
                return data
            contents.append(await self._store.put_blob(data, public=False))
        return contents

    # -- Children --------------------------------------------------------------

    def _open_fields(self, package: Package) -> Frame:
        step = package.circuit.step if isinstance(package.circuit, TrainingCircuit) else None
        return {
            "parameters": package.parameters,
            "scale_bits": package.scale_bits,
            "batch": package.batch,
            "x_shape": list(package.x_shape),
            "y_shape": list(package.y_shape),
            "optimizer": package.optimizer,
            "learning_rate": package.learning_rate,
            "codec": package.codec,
            "rule": package.rule,
            "outer": package.outer,
            "loss_and_grad": self._path(package.loss_and_grad),
            "predict": self._path(package.predict),
            "initial_state": self._path(package.initial_state),
            "step": None if step is None else {**asdict(step), "sizes": list(step.sizes)},
        }

    def _prepare(self, job: JobId, package: Package) -> JobChild:
        largest = 2 * WORD_BYTES * package.parameters + (1 << 20)
        if isinstance(package.circuit, TrainingCircuit):
            largest += WORD_BYTES * package.circuit.step.state_length * MAX_PATH
        limits = Limits(
            self._settings.memory_bytes, self._settings.cpu_s, file_bytes=largest, disk_bytes=OUTPUTS * largest
        )
        environment = compute_environment(self._settings.threads)
        program = Program("node.compute", limits, environment, is_sandbox_demanded=self._settings.is_sandbox_demanded)
        opening = Opening("open", partial(self._open_fields, package), self._settings.deadlines.open_s)
        return JobChild(self._nursery, program, self._scratch / job.hex(), self._log, opening)


def compute_environment(threads: int) -> Mapping[str, str]:
    """Return what makes jax small, quiet and local."""
    count = str(threads)
    return {
        "JAX_PLATFORMS": "cpu",
        "NPROC": count,  # XLA's own thread pool
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MALLOC_ARENA_MAX": "2",  # each arena takes 64 MiB of the address space
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@dataclass(frozen=True, slots=True)
class _Job:
    name: ContentId
    package: Package
    child: JobChild


# -- Hostile output ------------------------------------------------------------


def _finite(reply: Frame | Refused, name: str) -> float | Refused:
    if isinstance(reply, Refused):
        return reply
    value = reply.get(name)
    return value if isinstance(value, float) and math.isfinite(value) else Refused(f"{name} is not a finite number")


def _positions(reply: Frame, count: int) -> tuple[int, ...] | Refused:
    """Return the outliers: ascending positions below `count`."""
    value = reply.get("outliers")
    known = [p for p in range(count) if p in value] if isinstance(value, list) else None
    return Refused("outliers are not positions of updates") if known is None or known != value else tuple(known)


def _read_output(path: Path, low: int, high: int) -> bytes | Refused:
    """Return the file's bytes and remove it: a plain file of an expected size; a link would lead to our keys."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not low <= status.st_size <= high:
                return Refused(f"the child's {path.name} is not a file of {low} … {high} bytes")
            data = file.read(high + 1)
        path.unlink()
    except OSError as error:
        return Refused(f"the child's {path.name}: {error.strerror}")
    return data if low <= len(data) <= high else Refused(f"the child's {path.name} changed while it was read")
