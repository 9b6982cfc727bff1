"""What a co-worker's announced update is held against before anybody votes for it.

Called by the aggregator, beside everything else: whoever has to be asked for an update may stall.
Spec: protocols/README.md, "Rounds", "Packages".
"""

from __future__ import annotations

from actors.exchange import Exchange
from actors.mail import JobContext
from actors.ports import Ports, Refused
from protocols.chain import Entry, ProofPolicy
from protocols.eip712 import Receipt, compute_digest
from protocols.evidence import is_receipt_of, last_leaf_root
from protocols.ids import ContentId, Seat
from protocols.message import UpdateAnnounced
from protocols.verdict import Accept


class Examiner:
    def __init__(self, ports: Ports, context: JobContext, exchange: Exchange) -> None:
        self._ports = ports
        self._context = context
        self._exchange = exchange

    async def find_fault(self, seat: Seat, announced: UpdateAnnounced, state: ContentId) -> str:
        """Say what is wrong with an update of the round that began with `state`; empty if nothing is.

        A sound one is in the Store afterwards, to be served to others.
        """
        entry, is_proved = announced.entry, self._context.terms.proof_policy is ProofPolicy.TRAINING
        if entry.worker != self._context.committee.workers[seat]:
            return "an update in another worker's name"
        if not self._is_signed(announced):
            return "the receipt is not signed by the worker's wallet"
        if not is_proved and self._last_leaf(announced) != entry.leaves:
            return "the receipt root is not that of the announced weights"
        if fault := await self._obtain(entry, announced.update):
            return fault
        verdict = await self._ports.compute.check_update(self._context.job, entry.update)
        if not isinstance(verdict, Accept):
            return verdict.reason
        return await self._find_fault_of_steps(announced, state) if is_proved else ""

    def _is_signed(self, announced: UpdateAnnounced) -> bool:
        context, entry = self._context, announced.entry
        receipt = Receipt(context.job, entry.worker, announced.round, entry.update, entry.leaves)
        return self._ports.vault.recover(compute_digest(context.domain, receipt), announced.receipt) == entry.worker

    def _last_leaf(self, announced: UpdateAnnounced) -> bytes:
        job, steps = self._context.job, self._context.terms.steps
        return last_leaf_root(job, announced.entry.worker, announced.round, steps, announced.weights)

    async def _obtain(self, entry: Entry, inline: bytes) -> str:
        job = self._context.job
        if inline:
            if await self._ports.store.put_blob(inline, public=False) != entry.update:
                return "the update does not hash to its name"
            await self._exchange.own(job, entry.update)
        elif not await self._exchange.fetch_owned(job, entry.update, self._ports.network.connected()):
            return "nobody has the update"
        return ""

    async def _find_fault_of_steps(self, announced: UpdateAnnounced, state: ContentId) -> str:
        """Hold a T job's receipt against its update: the steps must lead from θ_r to θ_r + u, nowhere else."""
        context, prover = self._context, self._ports.prover
        landed = await self._ports.compute.land(context.job, state, announced.entry.update)
        if isinstance(landed, Refused):
            return landed.reason
        start, end = await prover.commit(context.job, state), await prover.commit(context.job, landed)
        if isinstance(start, Refused) or isinstance(end, Refused):
            return "our prover child can't commit"
        if end != announced.weights:
            return "the update does not lead to the weights that were committed to"
        ends, paths = (start, end), (announced.start_path, announced.end_path)
        holds = is_receipt_of(context.job, announced.round, announced.entry, context.terms.steps, *ends, paths)
        return "" if holds else "the receipt's steps do not lead from the round's state to the update"
