"""Intake: fetch a job's package, find it fit, open its pages, and describe the job to its actors.

Called by the chain watcher; every answer is an `ActionDone`, since a bad package is the requester's
fault and not ours. Spec: protocols/README.md, "Seats".
"""

from __future__ import annotations

import structlog
import trio

from actors.exchange import Exchange
from actors.mail import EventLog, JobContext
from actors.ports import Keys, NoAnswer, Ports, Refused, Unreachable
from protocols.chain import ProofPolicy, Terms
from protocols.eip712 import Domain
from protocols.evidence import hash_commitment, pages_root
from protocols.ids import Address, ContentId, JobId, PeerId, Seat
from protocols.package import MAX_PATH, Dataset, Package, TrainingCircuit, decode_dataset, decode_package
from protocols.round import Committee
from protocols.seat import Action, ActionDone, Part
from protocols.verdict import Reject

log = structlog.get_logger("skynet.actors.intake")

PAGE_CONTEXT = b"page"
MAX_HOLDERS = 16


class Intake:
    def __init__(self, ports: Ports, exchange: Exchange) -> None:
        self._ports = ports
        self._exchange = exchange
        self._holders: dict[JobId, tuple[str, ...]] = {}

    def note_holders(self, job: JobId, holders: tuple[str, ...]) -> None:
        known = self._holders.get(job, ())
        self._holders[job] = tuple(dict.fromkeys((*holders, *known)))[:MAX_HOLDERS]

    async def is_held(self, terms: Terms) -> bool:
        package, dataset = await self._manifests(terms)
        if isinstance(package, Reject) or isinstance(dataset, Reject):
            return False
        return all([await self._ports.store.has_blob(c) for c in _contents(package, dataset)])

    # -- Fetching

    async def fetch(self, part: Part) -> ActionDone:
        peers = await self._peers(part.job)
        lacking = await self._exchange.fetch_blobs((part.terms.package, part.terms.data), peers)
        if lacking:
            return ActionDone(Action.FETCH, ok=False)
        package, dataset = await self._manifests(part.terms)
        if isinstance(package, Reject) or isinstance(dataset, Reject):
            fault = package if isinstance(package, Reject) else dataset
            return self._unfit(part, Action.FETCH, fault.reason if isinstance(fault, Reject) else "")
        lacking = await self._exchange.fetch_blobs(_contents(package, dataset), peers)
        if lacking:
            log.info("package incomplete", job=part.job.hex()[:12], missing=len(lacking))
        return ActionDone(Action.FETCH, ok=not lacking)

    async def _peers(self, job: JobId) -> list[PeerId]:
        holders = []
        for address in self._holders.get(job, ()):
            if address in self._ports.network.addresses:
                continue
            answer = await self._ports.network.dial(address)
            if not isinstance(answer, NoAnswer):
                holders.append(answer)
        return list(dict.fromkeys((*holders, *self._ports.network.connected())))

    async def _manifests(self, terms: Terms) -> tuple[Package | Reject, Dataset | Reject]:
        package = await self._ports.store.blob(terms.package)
        dataset = await self._ports.store.blob(terms.data)
        absent = Reject("not here")
        return (
            absent if package is None else decode_package(package),
            absent if dataset is None else decode_dataset(dataset),
        )

    # -- Checking

    async def check(self, part: Part) -> ActionDone:
        """What a worker stakes on: terms and package agree, the child loads it, the key is rebuilt."""
        package, dataset = await self._manifests(part.terms)
        if isinstance(package, Reject) or isinstance(dataset, Reject):
            return ActionDone(Action.CHECK, ok=False)
        fault = _fault_of(part.terms, package, dataset)
        if fault:
            return self._unfit(part, Action.CHECK, fault)
        opened, keys = await self._open_children(part)
        if isinstance(opened, Refused):
            return self._unfit(part, Action.CHECK, f"compute: {opened.reason}")
        if isinstance(keys, Refused):
            return self._unfit(part, Action.CHECK, f"prover: {keys.reason}")
        if keys.vk_digest != part.terms.vk_digest:
            return self._unfit(part, Action.CHECK, "the verifying key is not that of the package's circuit")
        if part.terms.proof_policy is ProofPolicy.TRAINING and (fault := await self._check_start(part)):
            return self._unfit(part, Action.CHECK, fault)
        return ActionDone(Action.CHECK, ok=True)

    async def _check_start(self, part: Part) -> str:
        """Say what is wrong with C(θ_0) in the terms: the first round's proofs begin there."""
        commitment = await self._ports.prover.commit(part.job, part.terms.initial_state)
        if isinstance(commitment, Refused):
            return f"prover: {commitment.reason}"
        agrees = hash_commitment(commitment) == part.terms.initial_commitment
        return "" if agrees else "the initial commitment in the terms is not that of the initial state"

    async def _open_children(self, part: Part) -> tuple[Refused | None, Keys | Refused]:
        """Compile the model and rebuild the circuit's keys, side by side."""
        compiled: list[Refused | None] = []

        async def compile_model() -> None:
            compiled.append(await self._ports.compute.open(part.job, part.terms.package))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(compile_model)
            keys = await self._ports.prover.open(part.job, part.terms.package)
        return compiled[0], keys

    def _unfit(self, part: Part, action: Action, reason: str) -> ActionDone:
        log.warning("job declined", job=part.job.hex()[:12], reason=reason)
        return ActionDone(action, ok=False, permanent=True)

    # -- Opening

    async def open_pages(self, part: Part, wrap: bytes) -> ActionDone:
        package, dataset = await self._manifests(part.terms)
        if isinstance(package, Reject) or isinstance(dataset, Reject):
            return ActionDone(Action.OPEN, ok=False)
        if not self._ports.vault.holds(part.job) and not self._ports.vault.unwrap(part.job, wrap):
            return self._unfit(part, Action.OPEN, "the job key was not wrapped to us")
        for page in (*dataset.train, *dataset.held_out):
            sealed = await self._ports.store.blob(page.sealed) or b""
            plain = self._ports.vault.open(part.job, sealed, context=PAGE_CONTEXT)
            if plain is None or await self._ports.store.put_blob(plain, public=False, durable=False) != page.opened:
                return self._unfit(part, Action.OPEN, "a page does not open to what the dataset names")
        refused = await self._ports.prover.check_pages(part.job, dataset.proved_pages(package.circuit))
        if refused is not None:
            return self._unfit(part, Action.OPEN, refused.reason)
        return ActionDone(Action.OPEN, ok=True)

    # -- Describing

    async def context(self, part: Part, log_: EventLog) -> JobContext | None:
        package, dataset = await self._manifests(part.terms)
        keys = await self._node_keys(part.workers)
        if isinstance(package, Reject) or isinstance(dataset, Reject) or keys is None:
            return None
        committee = Committee(part.job, part.workers, Seat(part.workers.index(part.me)))
        domain = Domain(self._ports.chain.chain_id, self._ports.chain.jobs_address)
        return JobContext(part.job, part.terms, package, dataset, committee, keys, domain, log_)

    async def _node_keys(self, workers: tuple[Address, ...]) -> tuple[bytes, ...] | None:
        keys = []
        for worker in workers:
            registered = await self._ports.chain.worker_keys(worker)
            if registered is None or isinstance(registered, Unreachable):
                return None
            keys.append(registered[0])
        return tuple(keys)

    async def close(self, job: JobId) -> None:
        await self._ports.compute.close(job)
        await self._ports.prover.close(job)


def _contents(package: Package, dataset: Dataset) -> list[ContentId]:
    circuit = package.circuit
    named = [package.loss_and_grad, package.predict, package.initial_state, *circuit.blobs]
    return named + [p.sealed for p in dataset.train] + [p.sealed for p in dataset.held_out]


def _fault_of(terms: Terms, package: Package, dataset: Dataset) -> str:
    pages, is_proved = dataset.proved_pages(package.circuit), isinstance(package.circuit, TrainingCircuit)
    pairs = [page.commitments for page in pages if page.commitments is not None]
    checks = {
        "what is proved": is_proved == (terms.proof_policy is ProofPolicy.TRAINING),
        "steps (too many to commit to)": not is_proved or terms.steps < MAX_PATH,
        "commitments to pages": len(pairs) == len(pages),
        "initial state": package.initial_state == terms.initial_state,
        "SRS": package.circuit.srs == terms.srs,
        "verifying key": package.circuit.vk_digest == terms.vk_digest,
        "pages root": bool(pairs) and pages_root(pairs) == terms.pages_root and len(pages) == terms.pages,
        "number of pages (fewer than workers)": len(dataset.train) >= terms.seats,
    }
    wrong = [name for name, holds in checks.items() if not holds]
    return f"terms and package differ in: {', '.join(wrong)}" if wrong else ""
