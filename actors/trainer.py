"""Trainer: H inner steps a round, compressed, committed to and announced.

Consumes  TrainerMail (blocks)
Emits     OwnUpdate, SendToJob(UpdateAnnounced) to every co-worker
Restart   permanent within its job; a receipt on disk is announced again, never made anew

Spec: protocols/README.md, "Rounds"; DESIGN §5.1 to §5.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from actors.exchange import Exchange
from actors.mail import (
    ErrorRecord,
    GossipMail,
    JobContext,
    OwnUpdate,
    ReceiptRecord,
    RoundBegan,
    RoundClosed,
    SendToJob,
    TrainerMail,
    round_key,
)
from actors.ports import Inbox, Outbox, Ports, Record, Refused, Train, Trained
from protocols.assignment import pages_of_round
from protocols.chain import Entry
from protocols.eip712 import Receipt
from protocols.evidence import last_leaf_root, receipt_ends, receipt_root
from protocols.ids import Commitment, ContentId, Digest, RoundNumber
from protocols.message import MAX_INLINE_BYTES, UpdateAnnounced
from protocols.record import decode, encode

log = structlog.get_logger("skynet.actors.trainer")

SIGNING_RETRY_S = 5.0  # before a signer elsewhere is asked again


@dataclass(frozen=True, slots=True)
class TrainerPlan:
    inbox: Inbox[TrainerMail]
    to_aggregator: Outbox[OwnUpdate]
    to_gossip: Outbox[GossipMail]


class TrainingFailed(Exception):
    """Our compute or prover child refused a package that it had accepted: ours to restart, not a peer's fault."""


class TrainerActor:
    def __init__(self, ports: Ports, context: JobContext, plan: TrainerPlan, exchange: Exchange) -> None:
        self._ports = ports
        self._context = context
        self._plan = plan
        self._exchange = exchange

    async def run(self, started: Callable[[], None]) -> None:
        started()
        with self._plan.inbox.reader() as inbox:
            async for mail in inbox:
                match mail:
                    case RoundBegan():
                        await self._begin(mail)
                    case RoundClosed():
                        await self._close(mail)

    async def _begin(self, began: RoundBegan) -> None:
        receipt = await self._receipt(began.round)
        if receipt is None or receipt.parent != began.parent:
            receipt = await self._train(began)
        await self._plan.to_aggregator.send(OwnUpdate(receipt.announced))
        await self._plan.to_gossip.send(SendToJob(self._context.job, receipt.announced, self._context.others))

    async def _train(self, began: RoundBegan) -> ReceiptRecord:
        context = self._context
        trained = await self._ports.compute.train(
            Train(context.job, began.round, began.state, await self._error(), self._pages(began.round))
        )
        if isinstance(trained, Refused):
            raise TrainingFailed(trained.reason)
        leaves = await self._commit(trained)
        announced = await self._announce(began, trained, leaves)
        kept = (trained.weights, trained.states, leaves, trained.error, trained.carried)
        receipt = ReceiptRecord(began.parent, announced, *kept)
        await self._exchange.own(context.job, trained.update)
        await self._ports.store.write(Record("receipt", round_key(context.job, began.round), encode(receipt)))
        log.info("trained", job=context.job.hex()[:12], round=began.round, loss=round(trained.loss, 4))
        return receipt

    async def _commit(self, trained: Trained) -> tuple[Commitment, ...]:
        """Return what the receipt's leaves name: the last weights, or in a T job each step's state."""
        job, prover = self._context.job, self._ports.prover
        if trained.states is not None:
            path = await prover.commit_path(job, trained.states)
            if isinstance(path, Refused):
                raise TrainingFailed(path.reason)
            return path
        commitment = await prover.commit(job, trained.weights)
        if isinstance(commitment, Refused):
            raise TrainingFailed(commitment.reason)
        return (commitment,)

    def _pages(self, number: RoundNumber) -> tuple[ContentId, ...]:
        train = self._context.dataset.train
        committee, steps = self._context.committee, self._context.terms.steps
        seed = Digest(self._context.job)
        chosen = pages_of_round(seed, len(train), len(committee.workers), committee.me, number, steps)
        return tuple(train[i].opened for i in chosen)

    async def _announce(self, began: RoundBegan, trained: Trained, leaves: tuple[Commitment, ...]) -> UpdateAnnounced:
        context, number = self._context, began.round
        placed = (context.job, context.me, number)
        ends: tuple[tuple[Digest, ...], tuple[Digest, ...]] = ((), ())
        if trained.states is None:
            root = last_leaf_root(*placed, context.terms.steps, leaves[-1])
        else:
            root, ends = receipt_root(*placed, leaves), receipt_ends(*placed, leaves)
        entry = Entry(context.me, trained.update, root)
        receipt = Receipt(context.job, entry.worker, number, entry.update, entry.leaves)
        while (signature := await self._ports.vault.sign_statement(context.domain, receipt)) is None:
            log.error("no receipt: the wallet's signer gives none", job=context.job.hex()[:12], round=number)
            await trio.sleep(SIGNING_RETRY_S)
        update = await self._ports.store.blob(trained.update) or b""
        inline = update if len(update) <= MAX_INLINE_BYTES else b""
        return UpdateAnnounced(number, began.parent, entry, leaves[-1], *ends, signature, inline, trained.loss)

    async def _close(self, closed: RoundClosed) -> None:
        """Fix the error feedback of the next round, once."""
        kept = await self._error_record()
        receipt = await self._receipt(closed.round)
        if receipt is None or (kept is not None and kept.round >= closed.round):
            return
        error = receipt.error if closed.included else receipt.carried
        record = ErrorRecord(closed.round, error)
        await self._ports.store.write(Record("error", self._context.job, encode(record)))

    # -- Records

    async def _error(self) -> ContentId | None:
        kept = await self._error_record()
        return kept.error if kept else None

    async def _error_record(self) -> ErrorRecord | None:
        value = await self._ports.store.read("error", self._context.job)
        kept = None if value is None else decode(ErrorRecord, value, limit_bytes=1024)
        assert kept is None or isinstance(kept, ErrorRecord)  # we wrote it
        return kept

    async def _receipt(self, number: RoundNumber) -> ReceiptRecord | None:
        return await read_receipt(self._ports, self._context, number)


async def read_receipt(ports: Ports, context: JobContext, number: RoundNumber) -> ReceiptRecord | None:
    """Return what we committed to in a round, if we took part in it."""
    value = await ports.store.read("receipt", round_key(context.job, number))
    kept = None if value is None else decode(ReceiptRecord, value, limit_bytes=1 << 20)
    assert kept is None or isinstance(kept, ReceiptRecord)  # we wrote it
    return kept
