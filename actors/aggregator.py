"""Aggregator: brings a job's workers to one certified state a round, and the certificate on chain.

Consumes  JobMail (blocks), OwnUpdate (latest only: an older round's is of no use), the job's EventLog
Emits     RoundBegan and RoundClosed to the trainer, proposals, votes and view changes to every co-worker,
          CallWanted(CommitRound), RoundReported and ResultSealed for the requester
Restart   permanent within its job; position from the log, votes and unread mail from the Store

Spec: protocols/README.md, "Rounds"; DESIGN §5.5 to §5.7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
import trio

from actors import position as positions
from actors.examiner import Examiner
from actors.exchange import Exchange
from actors.mail import (
    CallWanted,
    Follower,
    GossipMail,
    JobContext,
    JobMail,
    OwnUpdate,
    Reorganized,
    RoundBegan,
    RoundClosed,
    SendToJob,
    SetRecord,
    TrainerMail,
    WatcherMail,
    round_key,
)
from actors.outbox import MailRecord
from actors.ports import Aggregate, Inbox, Outbox, Ports, Record, Refused
from protocols import round as rounds
from protocols.chain import Certificate, ChainEvent, CommitRound, Entry, RoundCommitted, RoundNulled
from protocols.eip712 import Vote, compute_digest
from protocols.evidence import EPOCH, hash_commitment, set_root
from protocols.ids import ContentId, Digest, RoundNumber, Seat
from protocols.message import (
    Body,
    MessageId,
    Proposal,
    ResultSealed,
    RoundReported,
    UpdateAnnounced,
    ViewChanged,
    VoteCast,
    decode_body,
)
from protocols.record import decode, encode
from protocols.standing import Standings, judge_round
from protocols.verdict import Reject

log = structlog.get_logger("skynet.actors.aggregator")

MAX_AHEAD = 32  # messages of later rounds kept of one seat while we catch up; beyond it a peer could fill memory
COMMIT_STAGGER_S = 3.0  # between those who would bring a certificate on chain
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class AggregatorPlan:
    inbox: Inbox[JobMail]
    own_updates: Inbox[OwnUpdate]
    to_trainer: Outbox[TrainerMail]
    to_gossip: Outbox[GossipMail]
    to_watcher: Outbox[WatcherMail]


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """Kind `vote`, key job ‖ round: the set that we signed, on disk before the signature leaves."""

    parent: Digest
    entries: tuple[Entry, ...]


class AggregatorActor:
    def __init__(self, ports: Ports, context: JobContext, plan: AggregatorPlan, exchange: Exchange) -> None:
        self._ports = ports
        self._context = context
        self._plan = plan
        self._exchange = exchange
        self._examiner = Examiner(ports, context, exchange)
        self._position = positions.begin(context.job, context.terms)
        self._round: rounds.Round | None = None
        self._losses: dict[Seat, float] = {}
        self._outliers: dict[Digest, tuple[Seat, ...]] = {}
        self._standings = Standings()
        self._ahead: list[tuple[Seat, Body]] = []
        self._examined: dict[Seat, trio.CapacityLimiter] = {}
        """One update of a seat at a time."""
        self._read: list[tuple[RoundNumber, MessageId]] = []
        self._lock = trio.Lock()
        self._changed = trio.Event()
        self._on_chain = trio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        past, follower = self._context.log.open()
        for event in past:
            self._position = positions.hear(self._position, event)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._close_past(past)
            await self._open_round()
            await self._read_kept_mail()
            nursery.start_soon(self._follow_chain, follower)
            nursery.start_soon(self._timers)
            nursery.start_soon(self._hear_trainer)
            started()
            with self._plan.inbox.reader() as inbox:
                async for mail in inbox:
                    async with self._lock:
                        await self._take(mail)

    # -- Chain

    async def _close_past(self, past: tuple[ChainEvent, ...]) -> None:
        for event in past:
            if isinstance(event, RoundCommitted | RoundNulled):
                await self._close_round(event)

    async def _follow_chain(self, follower: Follower) -> None:
        async for item in follower:
            async with self._lock:
                if isinstance(item, Reorganized):
                    await self._rewind()
                else:
                    await self._hear_chain(item)

    async def _rewind(self) -> None:
        """The chain replaced blocks: stand where its events say, ahead of it by what we certified on top of them."""
        before = self._position
        self._position = positions.rewind(before, self._context.terms, self._context.log.so_far())
        self._on_chain.set()
        self._on_chain = trio.Event()
        log.info("the chain was reorganised", job=self._context.job.hex()[:12], round=self._position.here.round)
        moved = self._position.here != before.here
        if moved or (self._position.training, self._position.proving) != (before.training, before.proving):
            self._round = None
            await self._open_round()

    async def _hear_chain(self, event: ChainEvent) -> None:
        before = self._position
        self._position = positions.hear(before, event)
        self._on_chain.set()
        self._on_chain = trio.Event()
        jumped = self._position.here != before.here
        if isinstance(event, RoundCommitted | RoundNulled) and jumped:
            log.info("following the chain", job=self._context.job.hex()[:12], round=event.round)
            await self._close_round(event)
        if jumped or self._position.training != before.training or self._position.proving != before.proving:
            await self._open_round()
        elif self._round is not None and positions.may_vote(self._position, self._round.number):
            await self._step(rounds.VotingAllowed(self._ports.time_s()))

    async def _close_round(self, event: RoundCommitted | RoundNulled) -> None:
        bits = event.participants if isinstance(event, RoundCommitted) else 0
        included = bool(bits >> self._context.committee.me & 1)
        await self._plan.to_trainer.send(RoundClosed(event.round, included))

    # -- Opening a round

    async def _open_round(self) -> None:
        """Begin the round after the tip, or end training if there is none."""
        tip, terms = self._position.here, self._context.terms
        if not self._position.training:
            return
        if tip.round >= terms.rounds or self._position.proving:
            self._round = None
            if self._position.proving:
                self._nursery.start_soon(self._deliver_result)
            return
        if not await self._ports.store.has_blob(tip.state):
            self._round = None  # messages of this round are kept meanwhile
            self._nursery.start_soon(self._open_with_state, tip)
            return
        await self._exchange.own(self._context.job, tip.state)
        may_vote = positions.may_vote(self._position, tip.round)
        now_s = self._ports.time_s()
        locked, proposed = await self._lock_of(tip), await self._proposed(tip)
        self._round = rounds.Round(
            self._context.committee,
            tip.round,
            tip.parent,
            now_s,
            may_vote,
            locked,
            proposals=proposed,
            shunned=self._standings.shunned,
        )
        self._losses = {}
        await self._forget_mail(tip.round)
        await self._plan.to_trainer.send(RoundBegan(tip.round, tip.parent, tip.state))
        ahead, self._ahead = self._ahead, []
        for seat, body in ahead:
            await self._judge(seat, body)
        self._wake()

    async def _open_with_state(self, tip: positions.Tip) -> None:
        await self._hold_state(tip.state, lambda: self._position.here == tip)
        async with self._lock:
            if self._position.here == tip and self._round is None:
                await self._open_round()

    async def _hold_state(self, state: ContentId, is_wanted: Callable[[], bool]) -> None:
        """Fetch a state: only joiners and laggards do. Never under the lock, since peers may stall."""
        job = self._context.job
        while is_wanted() and not await self._exchange.fetch_owned(job, state, self._ports.network.connected()):
            log.info("looking for a state", job=job.hex()[:12], state=state.hex()[:12])
            await trio.sleep(RETRY_S)

    async def _lock_of(self, tip: positions.Tip) -> tuple[Entry, ...]:
        value = await self._ports.store.read("vote", round_key(self._context.job, tip.round))
        kept = None if value is None else decode(VoteRecord, value, limit_bytes=1 << 20)
        return kept.entries if isinstance(kept, VoteRecord) and kept.parent == tip.parent else ()

    async def _proposed(self, tip: positions.Tip) -> dict[int, tuple[Entry, ...]]:
        """Return what we proposed in this round before a restart, by view: a leader proposes once."""
        rows = await self._ports.store.scan("proposal", round_key(self._context.job, tip.round))
        kept = [decode(Proposal, value, limit_bytes=1 << 20) for _, value in rows]
        return {p.view: p.entries for p in kept if isinstance(p, Proposal) and p.parent == tip.parent}

    # -- Mail

    async def _read_kept_mail(self) -> None:
        prefix = self._context.job
        for key, value in await self._ports.store.scan("mail", prefix):
            kept = decode(MailRecord, value, limit_bytes=1 << 20)
            body = decode_body(kept.kind, kept.body) if isinstance(kept, MailRecord) else kept
            if isinstance(kept, MailRecord) and not isinstance(body, Reject):
                await self._take(JobMail(kept.sender, MessageId(key[len(prefix) :]), body))

    async def _forget_mail(self, before: RoundNumber) -> None:
        gone = [(n, m) for n, m in self._read if n < before]
        self._read = [(n, m) for n, m in self._read if n >= before]
        await self._ports.store.write(*(Record("mail", self._context.job + m, None) for _, m in gone))

    async def _take(self, mail: JobMail) -> None:
        self._read.append((getattr(mail.body, "round", RoundNumber(0)), mail.message))
        if mail.sender in self._context.node_keys:
            await self._judge(Seat(self._context.node_keys.index(mail.sender)), mail.body)

    async def _judge(self, seat: Seat, body: Body) -> None:
        """Hand a message to the round it belongs to: now, later, or not at all."""
        if not isinstance(body, UpdateAnnounced | Proposal | VoteCast | ViewChanged):
            return
        current = self._position.here.round if self._round is None else self._round.number
        if body.round < current:
            return
        if self._round is None or body.round > current or body.parent != self._round.parent:
            # The same round of another parent: one of us has not heard yet that the chain nulled the one before.
            if sum(s == seat for s, _ in self._ahead) < MAX_AHEAD:
                self._ahead.append((seat, body))
            return
        match body:
            case UpdateAnnounced():
                self._examine(seat, body)
            case Proposal():
                await self._step(rounds.ProposalReceived(seat, body))
            case VoteCast() if self._is_signed(seat, body):
                await self._step(rounds.VoteReceived(seat, body))
            case ViewChanged():
                await self._step(rounds.ViewChangeReceived(seat, body, self._ports.time_s()))
            case _:
                log.info("vote refused", seat=seat, round=body.round, reason="not signed by the seat's wallet")

    def _examine(self, seat: Seat, announced: UpdateAnnounced) -> None:
        """Judge an update beside everything else: whoever has to be asked for it may stall."""
        under_way = self._examined.setdefault(seat, trio.CapacityLimiter(1))
        if under_way.statistics().tasks_waiting < rounds.MAX_HELD:
            self._nursery.start_soon(self._judge_update, under_way, seat, announced, self._position.here.state)

    async def _judge_update(
        self, turn: trio.CapacityLimiter, seat: Seat, announced: UpdateAnnounced, state: ContentId
    ) -> None:
        async with turn:
            fault = await self._examiner.find_fault(seat, announced, state)
        if fault:
            log.info("update refused", seat=seat, round=announced.round, reason=fault)
            return
        async with self._lock:
            now = self._round
            if now is not None and (now.number, now.parent) == (announced.round, announced.parent):
                self._losses[seat] = announced.loss
                await self._step(rounds.UpdateHeld(seat, announced.entry, self._ports.time_s()))

    def _is_signed(self, seat: Seat, vote: VoteCast) -> bool:
        worker = self._context.committee.workers[seat]
        return self._ports.vault.recover(self._vote_digest(vote), vote.signature) == worker

    def _vote_digest(self, vote: VoteCast) -> Digest:
        return compute_digest(self._context.domain, self._statement(vote))

    def _statement(self, vote: VoteCast) -> Vote:
        return Vote(
            self._context.job,
            EPOCH,
            vote.round,
            vote.view,
            vote.parent,
            vote.set_root,
            vote.participants,
            vote.state,
            hash_commitment(vote.commitment),
        )

    async def _hear_trainer(self) -> None:
        with self._plan.own_updates.reader() as inbox:
            async for own in inbox:
                async with self._lock:
                    await self._judge(self._context.committee.me, own.announced)

    # -- The round's effects

    async def _step(self, event: rounds.Event) -> None:
        if self._round is None:
            return
        self._round, effects = rounds.step(self._round, event)
        for effect in effects:
            await self._perform(effect)
        self._wake()

    async def _perform(self, effect: rounds.Effect) -> None:
        match effect:
            case rounds.SendProposal(proposal):
                key = round_key(self._context.job, proposal.round) + proposal.view.to_bytes(4, "big")
                await self._ports.store.write(Record("proposal", key, encode(proposal)))
                await self._send(proposal)
            case rounds.SendViewChange(change):
                log.info("view change", round=change.round, view=change.view)
                await self._send(change)
            case rounds.ComputeSet(entries):
                self._nursery.start_soon(self._compute, self._position.here, entries)
            case rounds.CastVote(view, entries, result):
                await self._vote(view, entries, result)
            case rounds.Certify(certificate, entries):
                await self._certify(certificate, entries)

    async def _compute(self, tip: positions.Tip, entries: tuple[Entry, ...]) -> None:
        context = self._context
        updates = tuple(e.update for e in entries)
        aggregated = await self._ports.compute.aggregate(
            Aggregate(context.job, tip.state, updates, len(context.committee.workers))
        )
        if isinstance(aggregated, Refused):
            log.error("can't aggregate", round=tip.round, reason=aggregated.reason)
            return
        commitment = await self._ports.prover.commit(context.job, aggregated.state)
        if isinstance(commitment, Refused):
            log.error("can't commit", round=tip.round, reason=commitment.reason)
            return
        await self._exchange.own(context.job, aggregated.state)
        async with self._lock:
            if self._position.here == tip:
                root = set_root(context.job, tip.round, entries)
                self._outliers[root] = tuple(self._seat(entries[i]) for i in aggregated.outliers)
                await self._step(rounds.SetComputed(root, aggregated.state, commitment))

    async def _vote(self, view: int, entries: tuple[Entry, ...], result: rounds.SetComputed) -> None:
        tip = self._position.here
        record = encode(VoteRecord(tip.parent, entries))
        await self._ports.store.write(Record("vote", round_key(self._context.job, tip.round), record))
        bits = self._context.committee.bits(entries)
        unsigned = VoteCast(tip.round, view, tip.parent, result.set_root, bits, result.state, result.commitment, b"")
        signature = await self._ports.vault.sign_statement(self._context.domain, self._statement(unsigned))
        if signature is None:
            log.error("no vote: the wallet's signer gives none", round=tip.round)
            return
        vote = replace(unsigned, signature=signature)
        await self._send(vote)
        await self._step(rounds.VoteReceived(self._context.committee.me, vote))

    async def _send(self, body: Body) -> None:
        await self._plan.to_gossip.send(SendToJob(self._context.job, body, self._context.others))

    async def _certify(self, certificate: Certificate, entries: tuple[Entry, ...]) -> None:
        context, number = self._context, certificate.round
        await self._ports.store.write(Record("set", round_key(context.job, number), encode(SetRecord(entries))))
        self._position = positions.certify(self._position, certificate)
        self._judge_standing(certificate, entries)
        included = context.me in [e.worker for e in entries]
        await self._plan.to_trainer.send(RoundClosed(number, included))
        self._nursery.start_soon(self._commit, certificate)
        if context.committee.leader(number, certificate.view) == context.committee.me:
            losses = [self._losses[s] for s in sorted(self._losses)]
            self._nursery.start_soon(self._report, certificate, sum(losses) / max(len(losses), 1), len(entries))
        await self._open_round()

    def _judge_standing(self, certificate: Certificate, entries: tuple[Entry, ...]) -> None:
        """Lower or raise the seats' standing by what our own computation of the set found, if we made it."""
        committee, found = self._context.committee, self._outliers
        outliers, self._outliers = found.get(set_root(committee.job, certificate.round, entries)), {}
        if outliers is None:
            return
        seats = [Seat(index) for index in range(len(committee.workers))]
        before = self._standings.shunned
        self._standings = judge_round(self._standings, seats, [self._seat(e) for e in entries], outliers)
        for seat in sorted(self._standings.shunned - before):
            log.warning("seat shunned: far off round after round", seat=seat, round=certificate.round)

    def _seat(self, entry: Entry) -> Seat:
        return Seat(self._context.committee.workers.index(entry.worker))

    async def _commit(self, certificate: Certificate) -> None:
        """Bring the certificate on chain: the leader at once, the others if it doesn't."""
        number, committee = certificate.round, self._context.committee
        while self._position.chain.round < number:
            await self._on_chain.wait()
        rank = (committee.me - committee.leader(number, certificate.view)) % len(committee.workers)
        wait_s = rank * COMMIT_STAGGER_S
        while self._position.chain.round == number:
            with trio.move_on_after(wait_s):
                await self._on_chain.wait()
                continue
            await self._plan.to_watcher.send(CallWanted(CommitRound(self._context.job, certificate)))
            wait_s = len(committee.workers) * COMMIT_STAGGER_S

    # -- For the requester

    async def _report(self, certificate: Certificate, loss: float, workers: int) -> None:
        context = self._context
        held_out = tuple(p.opened for p in context.dataset.held_out)
        evaluated = await self._ports.compute.evaluate(context.job, certificate.state, held_out)
        if not isinstance(evaluated, Refused):
            report = RoundReported(certificate.round, certificate.state, loss, evaluated.accuracy, workers)
            await self._plan.to_gossip.send(SendToJob(context.job, report))

    async def _deliver_result(self) -> None:
        """Seal the last state to the requester and say where it is."""
        context, state = self._context, self._position.chain.state
        await self._hold_state(state, lambda: True)
        blob = await self._ports.store.blob(state) or b""
        sealed = self._ports.vault.seal_to(context.terms.requester_key, blob, context=b"result" + context.job)
        kept = await self._ports.store.put_blob(sealed, public=True)
        result = ResultSealed(context.job, state, kept, len(sealed), context.me)
        await self._plan.to_gossip.send(SendToJob(context.job, result))
        log.info("result sealed", job=context.job.hex()[:12], state=state.hex()[:12])

    # -- Time

    async def _timers(self) -> None:
        while True:
            changed = self._changed
            deadline_s = None if self._round is None else rounds.next_deadline_s(self._round)
            wait_s = 3600.0 if deadline_s is None else max(deadline_s - self._ports.time_s(), 0.0)
            with trio.move_on_after(wait_s):
                await changed.wait()
                continue
            async with self._lock:
                await self._step(rounds.TimePassed(self._ports.time_s()))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
