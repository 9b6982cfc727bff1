"""The Prover port over a child process a circuit: `python -m node.prover`.

The child gets links to blobs, its own scratch folder and the folder of finished keys, which all nodes of this
machine share. A key is believed by its digest: whatever else the child may have done, another circuit has another one.

Beyond the port, for the requester's client: `make_srs`, `build_circuit`, `build_step`, `commit_many`, `commit_pages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from actors.ports import Keys, Proof, Refused, Store
from node.adapters.child import Log, Program
from node.adapters.circuit_child import CircuitChild, Deadlines, Decode
from node.adapters.circuit_reply import (
    CEREMONY,
    LOCAL,
    Described,
    StepDescribed,
    compare_step_to_package,
    compare_to_package,
    read_description,
    read_step_description,
)
from node.adapters.compute import BlobPath
from node.adapters.job_child import JobChild, Opening
from node.prover.settings import CircuitOptions
from node.sandbox import Limits
from protocols.frames import Frame
from protocols.ids import Commitment, ContentId, Digest, JobId
from protocols.package import Circuit, Package, Page, TrainingCircuit, decode_package
from protocols.statement import decode_statement, decode_step_statement, is_from_ceremony
from protocols.training_step import StepSpec, validate_spec
from protocols.verdict import Reject

D = TypeVar("D", Described, StepDescribed)

Name = JobId | Digest
"""Of an open circuit: its job, or its key's digest where it was built here and has no job yet."""

# -- Settings ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    memory_bytes: int = 16 << 30
    """Address space. The digits circuit has 0.7 GiB, 240 MiB of it resident; 5,000 training parameters took 8 GiB."""
    cpu_s: int = 4 * 3600
    """Processor seconds of one request."""
    threads: int = 0
    """For proving; 0 is one a processor. Several nodes on one machine share it better with one."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    is_sandbox_demanded: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """A new circuit; what it is made of is in the Store, public."""

    circuit: Circuit | TrainingCircuit
    keys: Keys


# -- The port ------------------------------------------------------------------


class ChildProver:
    """Implements `actors.ports.Prover`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        blob_path: BlobPath,
        scratch: Path,
        cache: Path,
        log: Log,
        settings: Settings | None = None,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._blob_path = blob_path
        self._scratch = scratch
        self._cache = cache
        self._log = log
        self._settings = settings or Settings()
        self._open: dict[Name, _Open] = {}
        self._opening = trio.Lock()  # one at a time: building keys takes every processor
        self._started = 0

    async def open(self, job: JobId, package: ContentId) -> Keys | Refused:
        async with self._opening:
            held = self._open.get(job)
            if held is None or held.source != package:
                await self.close(job)
                opened = await self._open_package(package)
                if isinstance(opened, Refused):
                    return opened
                held = self._open[job] = _Open(package, opened)
            return held.circuit.keys

    async def commit(self, job: Name, vector: ContentId) -> Commitment | Refused:
        commitments = await self.commit_many(job, (vector,))
        return commitments if isinstance(commitments, Refused) else commitments[0]

    async def commit_path(self, job: Name, states: ContentId) -> tuple[Commitment, ...] | Refused:
        circuit = self._find(job)
        return circuit if isinstance(circuit, Refused) else await circuit.commit_path(states)

    async def prove(self, job: Name, state: ContentId, page: ContentId) -> Proof | Refused:
        circuit = self._find(job)
        return circuit if isinstance(circuit, Refused) else await circuit.prove(state, page)

    async def check_pages(self, job: Name, pages: tuple[Page, ...]) -> Refused | None:
        found = await self.commit_pages(job, tuple(page.opened for page in pages))
        if isinstance(found, Refused):
            return found
        for index, (page, commitments) in enumerate(zip(pages, found, strict=True)):
            if page.commitments != commitments:
                return Refused(f"page {index} does not have the commitments that the dataset names")
        return None

    async def close(self, job: Name) -> None:
        held = self._open.pop(job, None)
        if held is not None:
            await held.circuit.close()

    # -- Beyond the port -------------------------------------------------------

    async def compute_loss(self, name: Name, weights: ContentId, page: ContentId) -> float | Refused:
        """Return the loss that a proof of statement E would show, in a twentieth of its time."""
        circuit = self._find(name)
        return circuit if isinstance(circuit, Refused) else await circuit.compute_loss(weights, page)

    async def verify(self, name: Name, proof: bytes, instances: Sequence[int]) -> bool | Refused:
        """Whether a proof holds for this circuit, off chain."""
        circuit = self._find(name)
        return circuit if isinstance(circuit, Refused) else await circuit.verify(proof, instances)

    async def commit_many(self, name: Name, vectors: Sequence[ContentId]) -> tuple[Commitment, ...] | Refused:
        """Return C(θ) of int32 little-endian vectors, in order."""
        circuit = self._find(name)
        return circuit if isinstance(circuit, Refused) else await circuit.commit_many(vectors)

    async def commit_pages(
        self, name: Name, pages: Sequence[ContentId]
    ) -> tuple[tuple[Commitment, Commitment], ...] | Refused:
        """Return (C(x), C(y)) of opened pages, in order."""
        circuit = self._find(name)
        return circuit if isinstance(circuit, Refused) else await circuit.commit_pages(pages)

    async def make_srs(self, logrows: int) -> ContentId | Refused:
        """Put this machine's own SRS of 2**logrows rows into the Store. Development only: its secret was known here."""
        child = self._prepare(Opening("idle", {}, 60.0))
        try:
            fields = {"cache": str(self._cache), "logrows": logrows}
            reply = await child.ask("make_srs", fields, timeout_s=self._settings.deadlines.srs_s)
        finally:
            await child.close()
        if isinstance(reply, Refused):
            return reply
        path = self._cache / f"insecure-local-k{logrows}" / "srs.bin"
        return await self._store.put_blob(await trio.Path(path).read_bytes(), public=True)

    async def build_circuit(
        self, onnx: ContentId, srs: ContentId, options: CircuitOptions | None = None, *, srs_origin: str = LOCAL
    ) -> Built | Refused:
        """Build keys for a graph whose blob, like the SRS, is in the Store; `close` it by its digest when done."""
        if missing := await self._find_missing((onnx, srs)):
            return missing
        child = self._prepare(self._opening_of(onnx, srs, options=options or CircuitOptions()))
        async with self._opening:
            described = await self._describe(child, srs_origin)
        if isinstance(described, Refused):
            return described
        settings = await self._store.put_blob(described.settings, public=True)
        await self._keep(onnx, self._wrap(child, described.keys, 1, decode_statement))
        circuit = Circuit(
            onnx=onnx,
            settings=settings,
            srs=srs,
            srs_origin=srs_origin,
            logrows=described.logrows,
            vk_digest=described.keys.vk_digest,
            ezkl_version=described.ezkl_version,
            loss_scale_bits=described.loss_scale_bits,
        )
        return Built(circuit, described.keys)

    async def build_step(self, step: StepSpec, srs: ContentId, *, srs_origin: str = LOCAL) -> Built | Refused:
        """Build keys for statement T over a step; `close` it by its digest when done."""
        if fault := validate_spec(step):
            return Refused(fault.reason)
        if missing := await self._find_missing((srs,)):
            return missing
        child = self._prepare(self._opening_of_step(step, srs))
        async with self._opening:
            described = await self._describe_step(child, srs_origin)
        if isinstance(described, Refused):
            return described
        await self._keep(srs, self._wrap(child, described.keys, described.instances, decode_step_statement))
        circuit = TrainingCircuit(
            step=step,
            srs=srs,
            srs_origin=srs_origin,
            logrows=described.logrows,
            vk_digest=described.keys.vk_digest,
            ezkl_version=described.ezkl_version,
        )
        return Built(circuit, described.keys)

    # -- Opening ---------------------------------------------------------------

    async def _open_package(self, content: ContentId) -> CircuitChild | Refused:
        package = await self._read_package(content)
        if isinstance(package, Refused):
            return package
        circuit = package.circuit
        if isinstance(circuit, TrainingCircuit):
            return await self._open_step(package, circuit)
        if missing := await self._find_missing((circuit.onnx, circuit.settings, circuit.srs)):
            return missing
        child = self._prepare(self._opening_of(circuit.onnx, circuit.srs, settings=circuit.settings))
        described = await self._describe(child, circuit.srs_origin)
        if isinstance(described, Refused):
            return described
        if fault := compare_to_package(described, package, circuit):
            await child.close()
            return fault
        return self._wrap(child, described.keys, 1, decode_statement)

    async def _open_step(self, package: Package, circuit: TrainingCircuit) -> CircuitChild | Refused:
        if missing := await self._find_missing((circuit.srs,)):
            return missing
        child = self._prepare(self._opening_of_step(circuit.step, circuit.srs))
        described = await self._describe_step(child, circuit.srs_origin)
        if isinstance(described, Refused):
            return described
        if fault := compare_step_to_package(described, circuit):
            await child.close()
            return fault
        return self._wrap(child, described.keys, described.instances, decode_step_statement)

    def _find(self, name: Name) -> CircuitChild | Refused:
        held = self._open.get(name)
        return Refused(f"circuit {name.hex()} is not open") if held is None else held.circuit

    async def _keep(self, source: ContentId, circuit: CircuitChild) -> None:
        """Under its key's digest: it has no job yet."""
        name = circuit.keys.vk_digest
        await self.close(name)
        self._open[name] = _Open(source, circuit)

    async def _read_package(self, content: ContentId) -> Package | Refused:
        data = await self._store.blob(content)
        if data is None:
            return Refused(f"package {content.hex()} is not here")
        package = decode_package(data)
        return Refused(f"package {content.hex()}: {package.reason}") if isinstance(package, Reject) else package

    async def _find_missing(self, contents: Sequence[ContentId]) -> Refused | None:
        for content in contents:
            if not await self._store.has_blob(content):
                return Refused(f"blob {content.hex()} is not here")
        return None

    # -- Children --------------------------------------------------------------

    def _opening_of(
        self,
        onnx: ContentId,
        srs: ContentId,
        *,
        settings: ContentId | None = None,
        options: CircuitOptions | None = None,
    ) -> Opening:
        fields: Frame = {
            "onnx": self._blob_path(onnx),
            "srs": self._blob_path(srs),
            "settings": None if settings is None else self._blob_path(settings),
            "options": None if options is None else asdict(options),
            "cache": str(self._cache),
        }
        return Opening("open", fields, self._settings.deadlines.open_s)

    def _opening_of_step(self, step: StepSpec, srs: ContentId) -> Opening:
        fields: Frame = {
            "step": {**asdict(step), "sizes": list(step.sizes)},
            "srs": self._blob_path(srs),
            "cache": str(self._cache),
        }
        return Opening("open_step", fields, self._settings.deadlines.open_s)

    def _prepare(self, opening: Opening) -> JobChild:
        self._started += 1
        program = prover_program(self._settings, self._cache)
        return JobChild(self._nursery, program, self._scratch / str(self._started), self._log, opening)

    def _wrap(self, child: JobChild, keys: Keys, instances: int, decode: Decode) -> CircuitChild:
        return CircuitChild(self._store, self._blob_path, self._settings.deadlines, child, keys, instances, decode)

    async def _describe(self, child: JobChild, srs_origin: str) -> Described | Refused:
        reply = await self._ask_description(child)
        described = reply if isinstance(reply, Refused) else read_description(reply)
        return await _unless_foreign(child, described, srs_origin)

    async def _describe_step(self, child: JobChild, srs_origin: str) -> StepDescribed | Refused:
        reply = await self._ask_description(child)
        described = reply if isinstance(reply, Refused) else read_step_description(reply)
        return await _unless_foreign(child, described, srs_origin)

    async def _ask_description(self, child: JobChild) -> Frame | Refused:
        if refused := await child.open():
            return refused
        return await child.ask("describe", {}, timeout_s=self._settings.deadlines.verify_s)


async def _unless_foreign(child: JobChild, described: D | Refused, srs_origin: str) -> D | Refused:
    """Close the child of a circuit that can't be had, or whose key is from another SRS than is said."""
    if not isinstance(described, Refused):
        if is_from_ceremony(described.keys.words) == (srs_origin == CEREMONY):
            return described
        described = Refused(f"the SRS is not {srs_origin}")
    await child.close()
    return described


def prover_program(settings: Settings, cache: Path) -> Program:
    """Return the program, which writes finished keys into the cache."""
    cache.mkdir(parents=True, exist_ok=True)  # walls are put around what there is
    return Program(
        "node.prover",
        Limits(settings.memory_bytes, settings.cpu_s, settings.memory_bytes, disk_bytes=2 * settings.memory_bytes),
        prover_environment(settings.threads),
        (cache,),
        settings.is_sandbox_demanded,
    )


def prover_environment(threads: int) -> Mapping[str, str]:
    """Return what keeps ezkl within its scratch folder (which is its HOME) and its threads."""
    return {
        "EZKL_REPO_PATH": ".ezkl",
        "OMP_NUM_THREADS": "1",  # numpy has next to nothing to do
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "4",  # each arena takes 64 MiB of the address space
        **({"RAYON_NUM_THREADS": str(threads)} if threads else {}),
    }


@dataclass(frozen=True, slots=True)
class _Open:
    source: ContentId
    """The package, or what a circuit was built of here."""
    circuit: CircuitChild
