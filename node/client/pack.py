"""Packing a job: model and data by the packing program, circuit and commitments by the prover child.

Everything ends as blobs in the requester's own Store; the job key exists only here until it is wrapped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from actors.intake import PAGE_CONTEXT
from actors.ports import Keys, Refused, Store, Vault
from node.adapters.prover import Built, ChildProver
from node.client.jobspec import DATASETS, MODELS, JobSpec, to_wei
from node.client.progress import Progress, Stage
from node.errors import ContentError, ExitCode
from node.packing.manifest import (
    DataDraft,
    ModelDraft,
    blob_path,
    finalise_dataset,
    finalise_package,
    name_content,
    read_data_draft,
    read_model_draft,
    write_blob,
    write_draft,
)
from node.prover.settings import STEP_LOGROWS, CircuitOptions
from protocols.abi import ZERO_ADDRESS
from protocols.chain import ProofPolicy, Terms
from protocols.evidence import hash_commitment, pages_root
from protocols.ids import Commitment, ContentId, JobId
from protocols.merkle import ZERO_DIGEST
from protocols.package import Dataset, Package, TrainingCircuit, encode_dataset, encode_package, page_commitments

T = TypeVar("T")

Report = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the circuit is built from, in the Store."""

    model: ModelDraft
    data: DataDraft
    srs: ContentId


@dataclass(frozen=True, slots=True)
class Packed:
    """A job ready to be posted."""

    package_id: ContentId
    package: Package
    keys: Keys
    model: ModelDraft
    data: DataDraft
    commitments: Mapping[ContentId, tuple[Commitment, Commitment]]
    """C(x) and C(y) of the pages that proofs are about."""
    start: Commitment
    """C(θ_0)."""

    @property
    def is_proved(self) -> bool:
        """Whether proofs are of training steps."""
        return isinstance(self.package.circuit, TrainingCircuit)


@dataclass(frozen=True, slots=True)
class Sealed:
    data_id: ContentId
    dataset: Dataset
    blobs: tuple[ContentId, ...]
    """All that workers fetch."""


class Packer:
    """Turns a job file into blobs; one per requester's session."""

    def __init__(self, store: Store, vault: Vault, prover: ChildProver, report: Report) -> None:
        self._store = store
        self._vault = vault
        self._prover = prover
        self._report = report

    async def pack(self, spec: JobSpec, scratch: Path) -> Packed:
        """Model, data, circuit and commitments. Raises ContentError for what can't be packed."""
        return await self.build(await self.draft(spec, scratch))

    async def draft(self, spec: JobSpec, scratch: Path) -> Draft:
        """Model, data and SRS, which take every processor. Raises ContentError."""
        await trio.Path(scratch).mkdir(parents=True, exist_ok=True)
        await self._report(Stage("packing model and data"))
        logrows = STEP_LOGROWS if _is_proved(spec) else CircuitOptions().logrows
        srs: list[ContentId] = []

        async def make_srs() -> None:
            srs.append(_unless_refused(await self._prover.make_srs(logrows), "SRS"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pack_inputs, spec, scratch)
            nursery.start_soon(make_srs)
        model, data = read_model_draft(scratch), read_data_draft(scratch)
        _compare_shapes(model, data)
        for content in (*model.blobs, *data.train, *data.held_out):
            blob = await trio.Path(blob_path(scratch, content)).read_bytes()
            await self._store.put_blob(blob, public=content in model.blobs, durable=False)
        return Draft(model, data, srs[0])

    async def build(self, draft: Draft) -> Packed:
        """Circuit and commitments; the keys take one processor for the most part. Raises ContentError."""
        model, data = draft.model, draft.data
        await self._report(Stage("building the circuit's keys"))
        built = _unless_refused(await self._build_circuit(model, draft.srs), "circuit")
        await self._report(Stage("committing to the pages that proofs are about"))
        name, pages = built.circuit.vk_digest, data.held_out if model.step is None else data.train
        pairs = _unless_refused(await self._prover.commit_pages(name, pages), "pages")
        start = _unless_refused(await self._prover.commit(name, model.initial_state), "initial state")
        await self._prover.close(name)
        package = finalise_package(model, built.circuit)
        package_id = await self._store.put_blob(encode_package(package), public=True)
        return Packed(package_id, package, built.keys, model, data, dict(zip(pages, pairs, strict=True)), start)

    async def _build_circuit(self, model: ModelDraft, srs: ContentId) -> Built | Refused:
        if model.onnx is not None:
            return await self._prover.build_circuit(model.onnx, srs)
        assert model.step is not None  # a draft has one of them
        return await self._prover.build_step(model.step, srs)

    async def _pack_inputs(self, spec: JobSpec, scratch: Path) -> None:
        """Model and data into one folder; a package that is already there is copied and checked."""
        if spec.model.package is None:
            async with trio.open_nursery() as nursery:
                batch = MODELS[spec.model.builtin].batch
                nursery.start_soon(run_packing, _data_arguments(spec, scratch, batch=batch))
                nursery.start_soon(run_packing, _model_arguments(spec, scratch))
            return
        model = await trio.to_thread.run_sync(copy_package, spec.model.package, scratch)
        await run_packing(_data_arguments(spec, scratch, batch=model.batch))

    async def seal(self, packed: Packed, job: JobId) -> Sealed:
        """Seal every page to the job, whose key the vault holds, and name them in the dataset."""
        await self._report(Stage("sealing the data to the job"))
        sealed: dict[ContentId, ContentId] = {}
        for page in (*packed.data.train, *packed.data.held_out):
            plain = await self._store.blob(page) or b""
            secret = self._vault.seal(job, plain, context=PAGE_CONTEXT)
            sealed[page] = await self._store.put_blob(secret, public=True, durable=False)
        dataset = finalise_dataset(packed.data, sealed, packed.commitments)
        data_id = await self._store.put_blob(encode_dataset(dataset), public=True)
        blobs = (packed.package_id, data_id, *packed.model.blobs, *packed.package.circuit.blobs, *sealed.values())
        return Sealed(data_id, dataset, tuple(dict.fromkeys(blobs)))


def write_terms(spec: JobSpec, packed: Packed, sealed: Sealed, requester_key: bytes) -> Terms:
    """Return the terms that the contract fixes."""
    terms, circuit = spec.terms, packed.package.circuit
    pages = sealed.dataset.proved_pages(circuit)
    return Terms(
        package=packed.package_id,
        data=sealed.data_id,
        initial_state=packed.package.initial_state,
        srs=circuit.srs,
        requester_key=requester_key,
        pages_root=pages_root(page_commitments(pages)),
        initial_commitment=hash_commitment(packed.start) if packed.is_proved else ZERO_DIGEST,
        vk_digest=circuit.vk_digest,
        delegate=ZERO_ADDRESS,
        pages=len(pages),
        seats=terms.workers,
        max_applicants=terms.max_applicants,
        rounds=terms.rounds,
        steps=terms.steps,
        samples=terms.samples,
        proof_policy=ProofPolicy.TRAINING if packed.is_proved else ProofPolicy.EVALUATION,
        join_window_s=terms.join_window_s,
        ready_window_s=terms.ready_window_s,
        round_timeout_s=terms.round_timeout_s,
        proof_window_s=terms.proof_window_s,
        stake_wei=to_wei(terms.stake_ether, "terms.stake_ether"),
        budget_wei=to_wei(terms.budget_ether, "terms.budget_ether"),
        move_fee_wei=to_wei(terms.move_fee_ether, "terms.move_fee_ether"),
        max_loss=0 if isinstance(circuit, TrainingCircuit) else int(terms.max_loss * 2**circuit.loss_scale_bits),
    )


def _model_arguments(spec: JobSpec, scratch: Path) -> list[str]:
    name, rate = MODELS[spec.model.builtin].name, spec.model.learning_rate
    arguments = ["model", "--model", name, "--seed", str(spec.seed), "--out", str(scratch)]
    return arguments if rate is None else [*arguments, "--learning-rate", str(rate)]


def _is_proved(spec: JobSpec) -> bool:
    """Whether the job's proofs are to be of training steps. Raises ContentError for a package that is none."""
    if spec.model.package is None:
        return MODELS[spec.model.builtin].is_proved
    draft, _ = read_package(spec.model.package)
    return draft.step is not None


def _data_arguments(spec: JobSpec, scratch: Path, *, batch: int) -> list[str]:
    arguments = ["data", "--data", DATASETS[spec.data.builtin], "--seed", str(spec.seed), "--out", str(scratch)]
    arguments += ["--held-out-pages", str(spec.data.held_out_pages), "--batch", str(batch)]
    return [*arguments, "--permute-labels"] if spec.data.permute_labels else arguments


def copy_package(folder: Path, scratch: Path) -> ModelDraft:
    """Copy draft and blobs, checked as `read_package` does."""
    draft, blobs = read_package(folder)
    for blob in blobs:
        write_blob(scratch, blob)
    write_draft(scratch, draft)
    return draft


def read_package(folder: Path) -> tuple[ModelDraft, list[bytes]]:
    """Return draft and blobs. ContentError where the folder is no package, or a blob is not what its name says."""
    remedy = "make it with `skynet model pack`"
    try:
        draft = read_model_draft(folder)
        blobs = [(content, blob_path(folder, content).read_bytes()) for content in draft.blobs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContentError(f"package {folder}", f"can't be read: {error}", remedy) from error
    for content, blob in blobs:
        if name_content(blob) != content:
            raise ContentError(f"package {folder}", f"{content.hex()} does not hash to its name", remedy)
    return draft, [blob for _, blob in blobs]


def _compare_shapes(model: ModelDraft, data: DataDraft) -> None:
    wanted, found = ((d.batch, d.x_shape, d.y_shape) for d in (model, data))
    if wanted != found:
        shapes = "the model takes pages of {} rows, x {}, y {}".format(*wanted)
        raise ContentError(f"model {model.name}", f"{shapes}; the data has {found}", "pack one to fit the other")


async def run_packing(arguments: list[str]) -> None:
    """Run the packing program. ContentError with its last line if it fails."""
    command = [sys.executable, "-m", "node.packing", *arguments]
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    if done.returncode != ExitCode.OK:
        _raise_packing(arguments[0], done)


def _raise_packing(what: str, done: subprocess.CompletedProcess[bytes]) -> None:
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    raise ContentError(what, f"can't be packed: {lines[-1].removeprefix('error: ')}", "correct it and submit again")


def _unless_refused(answer: T | Refused, what: str) -> T:
    if isinstance(answer, Refused):
        raise ContentError(what, answer.reason, "correct the model or the data and submit again")
    return answer
