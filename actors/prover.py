"""Prover: after the challenge, a proof of each drawn step or of a drawn round's weights, until the contract has it.

Consumes  the job's EventLog
Emits     CallWanted(SubmitProof)
Restart   permanent within its job; what it needs is in the log and the Store

Spec: protocols/README.md, "Evidence"; DESIGN §6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from actors.exchange import Exchange
from actors.mail import CallWanted, JobContext, ReceiptRecord, Reorganized, SetRecord, WatcherMail, round_key
from actors.ports import Keys, Outbox, Ports, Proof, Record, Refused, Unreachable
from actors.trainer import read_receipt
from protocols.chain import ChainEvent, Entry, Evidence, ProofAccepted, ProvingStarted, RoundCommitted, SubmitProof
from protocols.draw import Sample, compute_challenge_seed, draw_sample
from protocols.evidence import build_evidence, build_step_evidence, set_root
from protocols.ids import ContentId, Digest, RoundNumber
from protocols.package import page_commitments
from protocols.record import decode, encode

log = structlog.get_logger("skynet.actors.prover")

POLL_S = 0.3  # for the beacon
RESEND_S = 15.0  # before a proof that no event answered is sent again


@dataclass(frozen=True, slots=True)
class ProverPlan:
    to_watcher: Outbox[WatcherMail]


class ProvingFailed(Exception):
    """Our prover child failed on weights that we committed to."""


@dataclass(slots=True)
class _Progress:
    """What the log has said so far."""

    committed: list[RoundCommitted] = field(default_factory=list)
    accepted: set[int] = field(default_factory=set)
    changed: trio.Event = field(default_factory=trio.Event)


class ProverActor:
    def __init__(self, ports: Ports, context: JobContext, plan: ProverPlan, exchange: Exchange) -> None:
        self._ports = ports
        self._context = context
        self._plan = plan
        self._exchange = exchange
        self._progress = _Progress()

    async def run(self, started: Callable[[], None]) -> None:
        started()
        while True:
            self._progress = _Progress()
            past, follower = self._context.log.open()
            async with trio.open_nursery() as nursery:
                for event in past:
                    self._hear(event, nursery)
                async for item in follower:
                    if isinstance(item, Reorganized):
                        break  # what is being proved may not have been asked for
                    self._hear(item, nursery)
                nursery.cancel_scope.cancel()

    def _hear(self, event: ChainEvent, nursery: trio.Nursery) -> None:
        me = self._context.committee.me
        match event:
            case RoundCommitted():
                self._progress.committed.append(event)
                if event.participants >> me & 1:
                    # At once: when the proof is due, those who have the set may be out of reach.
                    nursery.start_soon(self._entries, event.round)
            case ProofAccepted(_, worker, sample) if worker == self._context.me:
                self._progress.accepted.add(sample)
                self._progress.changed.set()
                self._progress.changed = trio.Event()
            case ProvingStarted():
                nursery.start_soon(self._prove, event)
            case _:
                pass

    async def _prove(self, challenge: ProvingStarted) -> None:
        context, me = self._context, self._context.committee.me
        mine = [c.round for c in self._progress.committed if c.participants >> me & 1]
        if not mine:
            log.info("no round of ours was certified: nothing to prove", job=context.job.hex()[:12])
            return
        seed = compute_challenge_seed(
            context.domain.chain_id,
            context.domain.contract,
            context.job,
            context.me,
            self._progress.committed[-1].certificate,
            await self._randomness(challenge.beacon_round),
        )
        keys = await self._ports.prover.open(context.job, context.terms.package)
        if isinstance(keys, Refused):
            raise ProvingFailed(keys.reason)
        for k in range(context.terms.samples):
            if k not in self._progress.accepted:  # in an earlier life
                await self._prove_sample(k, draw_sample(seed, k, mine, context.terms, context.job, me), keys)

    async def _randomness(self, number: int) -> Digest:
        while True:
            randomness = await self._ports.chain.beacon(number)
            if randomness is not None and not isinstance(randomness, Unreachable):
                return randomness
            await trio.sleep(POLL_S)

    async def _prove_sample(self, k: int, sample: Sample, keys: Keys) -> None:
        context = self._context
        receipt = await read_receipt(self._ports, context, sample.round)
        if receipt is None:
            raise ProvingFailed(f"the receipt of round {sample.round} is not in the data folder")
        page = context.dataset.proved_pages(context.package.circuit)[sample.page]
        proof = await self._ports.prover.prove(context.job, await self._state(receipt, sample.step), page.opened)
        if isinstance(proof, Refused):
            raise ProvingFailed(proof.reason)
        log.info("proved", job=context.job.hex()[:12], round=sample.round, step=sample.step, s=round(proof.prove_s, 1))
        await self._submit(self._call(k, await self._evidence(receipt, sample), proof, keys))

    async def _state(self, receipt: ReceiptRecord, step: int) -> ContentId:
        """Return what a proof is about: the last weights, or in a T job the state before the step."""
        if receipt.states is None:
            return receipt.weights
        path = await self._ports.store.blob(receipt.states)
        if path is None:
            raise ProvingFailed("the states of a receipt are not in the data folder")
        size = len(path) // len(receipt.leaves)
        return await self._ports.store.put_blob(path[step * size : (step + 1) * size], public=False)

    async def _evidence(self, receipt: ReceiptRecord, sample: Sample) -> Evidence:
        context = self._context
        entries = await self._entries(sample.round)
        pages = page_commitments(context.dataset.proved_pages(context.package.circuit))
        placed, proved = (context.job, sample.round, entries, context.me), (sample.step, sample.page, pages)
        if receipt.states is None:
            return build_evidence(*placed, *proved)
        return build_step_evidence(*placed, receipt.leaves, *proved)

    def _call(self, k: int, evidence: Evidence, proof: Proof, keys: Keys) -> SubmitProof:
        context = self._context
        return SubmitProof(context.job, context.me, k, evidence, proof.proof, proof.instances, keys.words)

    async def _submit(self, call: SubmitProof) -> None:
        while call.sample not in self._progress.accepted:
            changed = self._progress.changed
            await self._plan.to_watcher.send(CallWanted(call))
            with trio.move_on_after(RESEND_S):
                await changed.wait()

    async def _entries(self, number: RoundNumber) -> tuple[Entry, ...]:
        """Return the certified set, from the Store or, for a laggard, from peers; then it is in the Store."""
        context, key = self._context, round_key(self._context.job, number)
        wanted = next(c.set_root for c in self._progress.committed if c.round == number)
        value = await self._ports.store.read("set", key)
        kept = None if value is None else decode(SetRecord, value, limit_bytes=1 << 20)
        if isinstance(kept, SetRecord) and set_root(context.job, number, kept.entries) == wanted:
            return kept.entries
        while True:  # the chain may also have taken another set than the one that we saw certified
            peers = self._ports.network.connected()
            for entries in await self._exchange.fetch_set(context.job, number, peers):
                if set_root(context.job, number, entries) == wanted:
                    await self._ports.store.write(Record("set", key, encode(SetRecord(entries))))
                    return entries
            await trio.sleep(POLL_S)
