"""The Prover port over a child process a circuit: `python -m node.prover`.

The child gets links to blobs, its own scratch folder and the folder of finished keys, which all nodes of this
machine share. What it answers is read as hostile: a key is believed by its digest, a commitment if it is a point.
A lost child is replaced by `node/adapters/job_child.py`; the keys are in the cache by then.

Beyond the port, for the requester's client: `make_srs`, `build_circuit`, `commit_many`, `commit_pages`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trio

from actors.ports import Keys, Proof, Refused, Store
from node.adapters.child import Log, Program
from node.adapters.circuit_reply import CEREMONY, LOCAL, Described, compare_to_package, read_description, read_instance
from node.adapters.compute import BlobPath
from node.adapters.job_child import JobChild, Opening
from node.prover.settings import CircuitOptions
from node.sandbox import Limits
from protocols.frames import Frame
from protocols.ids import Commitment, ContentId, Digest, JobId
from protocols.package import ChallengePage, Circuit, Package, decode_package
from protocols.statement import WORD_BYTES, decode_statement, is_from_ceremony, is_point
from protocols.verdict import Reject

PATHS_A_REQUEST = 1000  # more overrun a frame

Name = JobId | Digest
"""Of an open circuit: its job, or its key's digest where it was built here and has no job yet."""

# -- Settings ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a child that has not answered is killed."""

    open_s: float = 1800.0
    """Build the keys, or wait for another process that does; 5,000 parameters take a minute."""
    commit_s: float = 120.0
    loss_s: float = 120.0
    prove_s: float = 1800.0
    verify_s: float = 60.0
    srs_s: float = 600.0


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
    """A new circuit; its settings are in the Store, public like the graph and the SRS."""

    circuit: Circuit
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
            return await self._open_package(job, package)

    async def _open_package(self, job: JobId, package: ContentId) -> Keys | Refused:
        held = self._open.get(job)
        if held is not None and held.source == package:
            return held.keys
        await self.close(job)
        manifest = await self._read_package(package)
        if isinstance(manifest, Refused):
            return manifest
        circuit = manifest.circuit
        if missing := await self._find_missing((circuit.onnx, circuit.settings, circuit.srs)):
            return missing
        fields = self._opening_fields(circuit.onnx, circuit.srs, settings=circuit.settings)
        child = self._prepare(fields)
        described = await self._describe(child)
        fault = described if isinstance(described, Refused) else compare_to_package(described, manifest)
        if fault is not None or isinstance(described, Refused):
            await child.close()
            return fault or Refused("unreachable")
        self._open[job] = _Open(package, described.keys, child)
        return described.keys

    async def commit(self, job: Name, vector: ContentId) -> Commitment | Refused:
        commitments = await self.commit_many(job, (vector,))
        return commitments if isinstance(commitments, Refused) else commitments[0]

    async def prove(self, job: Name, weights: ContentId, page: ContentId) -> Proof | Refused:
        reply = await self._ask(job, "prove", self._settings.deadlines.prove_s, weights=weights, page=page)
        if isinstance(reply, Refused):
            return reply
        proof, instance, prove_s = reply.get("proof"), read_instance(reply.get("instance")), reply.get("prove_s")
        if not isinstance(proof, bytes) or instance is None or not isinstance(prove_s, float):
            return Refused("the child's proof is malformed")
        statement = decode_statement(proof, (instance,))
        return Refused(statement.reason) if isinstance(statement, Reject) else Proof(proof, (instance,), prove_s)

    async def check_pages(self, job: Name, pages: tuple[ChallengePage, ...]) -> Refused | None:
        found = await self.commit_pages(job, tuple(page.opened for page in pages))
        if isinstance(found, Refused):
            return found
        for index, (page, commitments) in enumerate(zip(pages, found, strict=True)):
            if (page.x, page.y) != commitments:
                return Refused(f"challenge page {index} does not have the commitments that the dataset names")
        return None

    async def close(self, job: Name) -> None:
        held = self._open.pop(job, None)
        if held is not None:
            await held.child.close()

    # -- Beyond the port -------------------------------------------------------

    async def compute_loss(self, name: Name, weights: ContentId, page: ContentId) -> float | Refused:
        """Return the loss that a proof would show, in a twentieth of its time."""
        reply = await self._ask(name, "compute_loss", self._settings.deadlines.loss_s, weights=weights, page=page)
        if isinstance(reply, Refused):
            return reply
        loss = reply.get("loss")
        return loss if isinstance(loss, float) and math.isfinite(loss) else Refused("the child's loss is malformed")

    async def verify(self, name: Name, proof: bytes, instances: Sequence[int]) -> bool | Refused:
        """Whether a proof holds for this circuit, off chain."""
        if isinstance(decode_statement(proof, instances), Reject):
            return False
        held = self._open.get(name)
        if held is None:
            return Refused(f"circuit {name.hex()} is not open")
        fields = {"proof": proof, "instance": instances[0].to_bytes(WORD_BYTES, "big")}
        reply = await held.child.ask("verify", fields, timeout_s=self._settings.deadlines.verify_s)
        if isinstance(reply, Refused):
            return reply
        holds = reply.get("holds")
        return holds if isinstance(holds, bool) else Refused("the child's verdict is malformed")

    async def commit_many(self, name: Name, vectors: Sequence[ContentId]) -> tuple[Commitment, ...] | Refused:
        """Return C(v) of int32 little-endian vectors, in order."""
        replies = await self._commit(name, "commit", "vectors", vectors)
        if isinstance(replies, Refused):
            return replies
        points = tuple(point for point in replies if isinstance(point, bytes) and is_point(point))
        if len(points) != len(vectors):
            return Refused("the child's commitments are malformed")
        return tuple(map(Commitment, points))

    async def commit_pages(
        self, name: Name, pages: Sequence[ContentId]
    ) -> tuple[tuple[Commitment, Commitment], ...] | Refused:
        """Return (C(x), C(y)) of opened pages, in order."""
        replies = await self._commit(name, "commit_pages", "pages", pages)
        if isinstance(replies, Refused):
            return replies
        found = []
        for reply in replies:
            match reply:
                case [bytes(x), bytes(y)] if is_point(x) and is_point(y):
                    found.append((Commitment(x), Commitment(y)))
                case _:
                    return Refused("the child's commitments are malformed")
        return tuple(found)

    async def make_srs(self, logrows: int) -> ContentId | Refused:
        """Put this machine's own SRS of 2**logrows rows into the Store. Development only: its secret was known here."""
        child = self._prepare(None)
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
        fields = self._opening_fields(onnx, srs, options=options or CircuitOptions())
        child = self._prepare(fields)
        async with self._opening:
            described = await self._describe(child)
        if not isinstance(described, Refused) and is_from_ceremony(described.keys.words) != (srs_origin == CEREMONY):
            described = Refused(f"the SRS is not {srs_origin}")
        if isinstance(described, Refused):
            await child.close()
            return described
        keys, settings = described.keys, await self._store.put_blob(described.settings, public=True)
        await self.close(keys.vk_digest)
        self._open[keys.vk_digest] = _Open(onnx, keys, child)
        circuit = Circuit(
            onnx=onnx,
            settings=settings,
            srs=srs,
            srs_origin=srs_origin,
            logrows=described.logrows,
            vk_digest=keys.vk_digest,
            ezkl_version=described.ezkl_version,
            loss_scale_bits=described.loss_scale_bits,
        )
        return Built(circuit, keys)

    # -- Blobs -----------------------------------------------------------------

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

    def _opening_fields(
        self,
        onnx: ContentId,
        srs: ContentId,
        *,
        settings: ContentId | None = None,
        options: CircuitOptions | None = None,
    ) -> Frame:
        return {
            "onnx": self._blob_path(onnx),
            "srs": self._blob_path(srs),
            "settings": None if settings is None else self._blob_path(settings),
            "options": None if options is None else asdict(options),
            "cache": str(self._cache),
        }

    def _prepare(self, opening: Frame | None) -> JobChild:
        settings, self._started = self._settings, self._started + 1
        program = prover_program(settings, self._cache)
        first = Opening("idle", {}, 60.0) if opening is None else Opening("open", opening, settings.deadlines.open_s)
        return JobChild(self._nursery, program, self._scratch / str(self._started), self._log, first)

    async def _describe(self, child: JobChild) -> Described | Refused:
        if refused := await child.open():
            return refused
        reply = await child.ask("describe", {}, timeout_s=self._settings.deadlines.verify_s)
        return reply if isinstance(reply, Refused) else read_description(reply)

    async def _ask(self, name: Name, do: str, timeout_s: float, **contents: ContentId) -> Frame | Refused:
        held = self._open.get(name)
        if held is None:
            return Refused(f"circuit {name.hex()} is not open")
        if missing := await self._find_missing(tuple(contents.values())):
            return missing
        fields = {key: self._blob_path(content) for key, content in contents.items()}
        return await held.child.ask(do, fields, timeout_s=timeout_s)

    async def _commit(self, name: Name, do: str, key: str, contents: Sequence[ContentId]) -> list[object] | Refused:
        held = self._open.get(name)
        if held is None:
            return Refused(f"circuit {name.hex()} is not open")
        if missing := await self._find_missing(contents):
            return missing
        found: list[object] = []
        for start in range(0, len(contents), PATHS_A_REQUEST):
            paths = [self._blob_path(content) for content in contents[start : start + PATHS_A_REQUEST]]
            reply = await held.child.ask(do, {key: paths}, timeout_s=self._settings.deadlines.commit_s)
            if isinstance(reply, Refused):
                return reply
            commitments = reply.get("commitments")
            if not isinstance(commitments, list) or len(commitments) != len(paths):
                return Refused("the child's commitments are malformed")
            found += commitments
        return found


def prover_program(settings: Settings, cache: Path) -> Program:
    """Return the program, which writes finished keys into the cache."""
    cache.mkdir(parents=True, exist_ok=True)  # walls are put around what there is
    return Program(
        "node.prover",
        Limits(settings.memory_bytes, settings.cpu_s, file_bytes=settings.memory_bytes),
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
    """The package, or the graph of a circuit that was built here."""
    keys: Keys
    child: JobChild
