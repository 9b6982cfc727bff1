"""The Prover twin: proofs that prove nothing, with everything in them that the chain checks around a proof.

A commitment is a hash of the vector, 64 bytes as a curve point has; a proof is the three commitments, the word
SIMULATED and a hash that binds them to the public loss and the key. Anyone could forge it: what is simulated is who
must prove what, and when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.ports import Keys, Proof, Refused
from protocols.ids import Commitment, ContentId, Digest, JobId
from protocols.job import MIN_KEY_WORDS, compute_key_digest
from protocols.package import Circuit, Package, Page, TrainingCircuit, decode_package
from protocols.statement import POINT_BYTES
from protocols.training_step import DELTA_BITS, X_BITS, Integers, compute_step
from protocols.verdict import Reject
from sim.life import Life
from sim.model import Rows, Sizes, compute_loss, decode_page, decode_vector, encode_vector, from_grid, read_sizes
from sim.store import SimStore

MARK = b"SIMULATED"
WORD_BYTES = 4

# -- The proof system ------------------------------------------------------------


def commit(data: bytes) -> Commitment:
    """Of numbers of four bytes; as of a polynomial, zeros at the end make no difference."""
    return Commitment(hashlib.sha512(b"skynet-sim commitment" + data.rstrip(b"\0")).digest())


def commit_page(rows: Rows) -> tuple[Commitment, Commitment]:
    return commit(b"x" + rows.x.astype(np.float32).tobytes()), commit(b"y" + rows.y.astype(np.float32).tobytes())


def compute_words(*parts: bytes) -> tuple[int, ...]:
    """Return the verifying key of a circuit: words that hang on all that it is made of."""
    stream = hashlib.shake_256(b"skynet-sim key" + b"".join(parts)).digest(32 * MIN_KEY_WORDS)
    return tuple(int.from_bytes(stream[i : i + 32], "big") for i in range(0, len(stream), 32))


def build_proof(commitments: Sequence[Commitment], instances: Sequence[int], vk_digest: Digest) -> bytes:
    prefix = b"".join(commitments)
    statement = prefix + vk_digest + b"".join(i.to_bytes(32, "big") for i in instances)
    return prefix + MARK + hashlib.sha256(b"skynet-sim proof" + statement).digest()


def is_proof(proof: bytes, instances: Sequence[int], vk_digest: Digest) -> bool:
    """What `Verifiers.verify` would say."""
    prefix = range(0, len(proof) - len(MARK) - hashlib.sha256().digest_size, POINT_BYTES)
    return build_proof([Commitment(proof[i : i + POINT_BYTES]) for i in prefix], instances, vk_digest) == proof


# -- The port ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProverCosts:
    """Virtual seconds, about those of FACTS for 1,060 parameters."""

    open_s: float = 3.0
    commit_s: float = 0.05
    prove_s: float = 4.0
    page_s: float = 0.01
    leaf_s: float = 0.01


class SimProver:
    """Implements `actors.ports.Prover`."""

    def __init__(self, store: SimStore, life: Life, pace: float, costs: ProverCosts | None = None) -> None:
        """`pace` multiplies every cost: a slow machine's is above 1."""
        self._store = store
        self._life = life
        self._pace = pace
        self._costs = costs or ProverCosts()
        self._jobs: dict[JobId, Package] = {}

    async def open(self, job: JobId, package: ContentId) -> Keys | Refused:
        manifest = await read_package(self._store, package)
        if isinstance(manifest, Refused):
            return manifest
        if job not in self._jobs:
            await self._life.spend(self._costs.open_s * self._pace)
            self._jobs[job] = manifest
        return _keys(manifest.circuit)

    async def commit(self, job: JobId, vector: ContentId) -> Commitment | Refused:
        data = await self._store.blob(vector)
        if job not in self._jobs or data is None:
            return Refused("no such job or vector is open")
        await self._life.spend(self._costs.commit_s * self._pace)
        return commit(data[: 4 * self._jobs[job].parameters])  # θ, without the momentum that may follow

    async def commit_path(self, job: JobId, states: ContentId) -> tuple[Commitment, ...] | Refused:
        package, data = self._jobs.get(job), await self._store.blob(states)
        if package is None or not isinstance(package.circuit, TrainingCircuit) or data is None:
            return Refused("no such T job or path is open")
        size = WORD_BYTES * package.circuit.step.state_length
        await self._life.spend(self._costs.leaf_s * (len(data) // size) * self._pace)
        return tuple(commit(data[i : i + size]) for i in range(0, len(data), size))

    async def prove(self, job: JobId, state: ContentId, page: ContentId) -> Proof | Refused:
        package = self._jobs.get(job)
        vector, rows = await self._store.blob(state), await self._read_page(page)
        sizes = None if package is None else read_sizes(package.layout)
        if package is None or sizes is None or vector is None or rows is None:
            return Refused("no such job, state or page is open")
        prove_s = self._costs.prove_s * self._pace
        await self._life.spend(prove_s)
        circuit = package.circuit
        prefix: tuple[Commitment, ...] = (commit(vector), *commit_page(rows))
        if isinstance(circuit, TrainingCircuit):
            stepped = compute_step(circuit.step, decode_vector(vector).astype(np.int64), *to_step_page(rows))
            if isinstance(stepped, Reject):
                return Refused(stepped.reason)
            prefix, instances = (*prefix, commit(encode_vector(stepped.state.astype(np.int32))), commit(b"hints")), (0,)
        else:
            loss = compute_loss(sizes, from_grid(decode_vector(vector), package.scale_bits), rows)
            instances = (round(loss * 2**circuit.loss_scale_bits),)
        return Proof(build_proof(prefix, instances, circuit.vk_digest), instances, prove_s)

    async def check_pages(self, job: JobId, pages: tuple[Page, ...]) -> Refused | None:
        await self._life.spend(self._costs.page_s * len(pages) * self._pace)
        for page in pages:
            rows = await self._read_page(page.opened)
            if rows is None or commit_page(rows) != page.commitments:
                return Refused("a page is not what its commitments say")
        return None

    async def close(self, job: JobId) -> None:
        await self._life.breathe()
        self._jobs.pop(job, None)

    async def _read_page(self, page: ContentId) -> Rows | None:
        data = await self._store.blob(page)
        return None if data is None else decode_page(data)


async def read_package(store: SimStore, content: ContentId) -> Package | Refused:
    """Return the manifest, of a model that the simulator knows."""
    data = await store.blob(content)
    manifest = Reject("not here") if data is None else decode_package(data)
    if isinstance(manifest, Reject):
        return Refused(f"package: {manifest.reason}")
    return manifest


def _keys(circuit: Circuit | TrainingCircuit) -> Keys:
    words = compute_words(*list_parts(circuit))
    return Keys(compute_key_digest(words), words)


def list_parts(circuit: Circuit | TrainingCircuit) -> tuple[bytes, ...]:
    """Return all that a circuit's key hangs on."""
    return (repr(circuit.step).encode(), circuit.srs) if isinstance(circuit, TrainingCircuit) else circuit.blobs


def to_step_page(rows: Rows) -> tuple[Integers, Integers]:
    """Return x and y of a page on a step's grids, flat."""
    x, y = np.rint(rows.x.reshape(-1) * 2.0**X_BITS), np.rint(rows.y.reshape(-1) * 2.0**DELTA_BITS)
    return x.astype(np.int64), y.astype(np.int64)


def find_sizes(package: Package) -> Sizes | Refused:
    return read_sizes(package.layout) or Refused("the simulator knows perceptrons only")
