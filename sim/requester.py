"""A requester in the simulation: packs, posts, hands out keys, waits for the end and takes the model home.

It runs the link part of a house (transport, gossip, discovery) and asks the chain by itself, as the client does.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import trio

from actors.intake import PAGE_CONTEXT
from actors.mail import JobMail, JoinJob
from actors.ports import Evaluated, Mined, NoAnswer, Unreachable
from node.supervision.mailbox import ShedOldest
from protocols.abi import ZERO_ADDRESS
from protocols.chain import (
    Assigned,
    Call,
    ChainEvent,
    DeliverKeys,
    Expire,
    JobEnded,
    JobPosted,
    JobState,
    Post,
    ProofPolicy,
    RegisterKey,
    RoundCommitted,
    Terms,
    TrainingStarted,
    Withdraw,
)
from protocols.evidence import compute_job_id, hash_commitment, pages_root
from protocols.ids import Address, ContentId, Digest, JobId, RoundNumber, Wei
from protocols.merkle import ZERO_DIGEST
from protocols.message import Opened, ResultSealed, RoundReported, VoteCast, decode_body, open_envelope
from protocols.package import page_commitments
from sim import model
from sim.clock import time_s
from sim.compute import evaluate
from sim.machine import ETHER, Machine, Process
from sim.packing import SIZES, Packed, name, pack_digits

POLL_S = 0.5
RESULT_S = 60.0  # for which it looks for the result after the end

# -- The order -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What a requester decides; the rest of the terms follows from the package."""

    seats: int = 3
    rounds: int = 8
    steps: int = 60
    samples: int = 1
    is_proved: bool = False
    """Whether workers prove steps of their training, or losses of their weights."""
    max_applicants: int = 256
    join_window_s: int = 15
    ready_window_s: int = 30
    round_timeout_s: int = 30
    proof_window_s: int = 120
    stake_wei: int = ETHER // 10
    budget_wei: int = 24 * ETHER // 100
    move_fee_wei: int = ETHER // 1000


def _compose_terms(order: Order, packed: Packed, requester_key: bytes) -> Terms:
    package = packed.package
    pages = packed.dataset.proved_pages(package.circuit)
    return Terms(
        package=packed.package_id,
        data=packed.dataset_id,
        initial_state=package.initial_state,
        srs=package.circuit.srs,
        requester_key=requester_key,
        initial_commitment=hash_commitment(packed.start) if order.is_proved else ZERO_DIGEST,
        pages_root=pages_root(page_commitments(pages)),
        vk_digest=package.circuit.vk_digest,
        delegate=ZERO_ADDRESS,
        pages=len(pages),
        seats=order.seats,
        rounds=order.rounds,
        steps=order.steps,
        samples=order.samples,
        proof_policy=ProofPolicy.TRAINING if order.is_proved else ProofPolicy.EVALUATION,
        max_applicants=order.max_applicants,
        join_window_s=order.join_window_s,
        ready_window_s=order.ready_window_s,
        round_timeout_s=order.round_timeout_s,
        proof_window_s=order.proof_window_s,
        stake_wei=Wei(order.stake_wei),
        budget_wei=Wei(order.budget_wei),
        move_fee_wei=Wei(order.move_fee_wei),
        max_loss=0,
    )


# -- The requester -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a job ended for the one who ordered it."""

    job: JobId
    state: JobState
    evaluated: Evaluated | None
    """Of the model that it opened, on the held-out pages; None if no round was certified or nobody had the result."""
    mail: tuple[JobMail, ...]
    """What the workers said to each other, as far as it reached us."""

    @property
    def curve(self) -> dict[RoundNumber, float]:
        """Accuracy on the held-out pages by round, as the workers reported it."""
        reports = [m.body for m in self.mail if isinstance(m.body, RoundReported)]
        return {report.round: report.accuracy for report in reports}

    @property
    def double_votes(self) -> int:
        """How many times a worker signed a second set of a round: the one thing that it must never do."""
        sets: dict[tuple[bytes, RoundNumber, Digest], set[Digest]] = {}
        for mail in self.mail:
            if isinstance(vote := mail.body, VoteCast):
                sets.setdefault((mail.sender, vote.round, vote.parent), set()).add(vote.set_root)
        return sum(len(signed) - 1 for signed in sets.values())


class Refusal(Exception):
    """The network or the chain did not take the order."""


class Requester:
    def __init__(self, machine: Machine, gateway: Machine, order: Order, seed: int) -> None:
        self.machine = machine
        self._gateway = gateway
        self._order = order
        self._seed = seed
        self._process: Process = machine.boot()
        self._events: list[ChainEvent] = []
        self._block = 0
        self._mail: ShedOldest[JobMail] = ShedOldest("overheard", 65_536)

    async def run(self) -> Delivery:
        structlog.contextvars.bind_contextvars(node=self.machine.name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._process.house.supervise_link().run)
            delivery = await self._see_through()
            nursery.cancel_scope.cancel()
        return delivery

    async def _see_through(self) -> Delivery:
        await self._reach_gateway()
        job, packed = await self._post()
        ended = await self._follow(job)
        credit_wei = await self._process.wallet.credit(self._process.wallet.wallet)
        if credit_wei:
            await self._send(Withdraw())
        evaluated = await self._fetch_result(job, packed)
        return Delivery(job, ended.state, evaluated, self._read_mail())

    # -- Before

    async def _reach_gateway(self) -> None:
        while True:
            reached = await self._process.house.link.dial(self._gateway.address)
            if not isinstance(reached, NoAnswer):
                return
            await trio.sleep(POLL_S)

    async def _post(self) -> tuple[JobId, Packed]:
        process, nonce = self._process, self._process.house.ports.entropy(32)
        wallet, vault = process.wallet, process.vault
        job = compute_job_id(wallet.chain_id, wallet.jobs_address, wallet.wallet, nonce)
        vault.make_job_key(job)
        is_proved = self._order.is_proved
        packed = pack_digits(self._seed, lambda page: vault.seal(job, page, context=PAGE_CONTEXT), is_proved=is_proved)
        if refused := await process.house.exchange.put(self._gateway.peer, packed.blobs.values()):
            raise Refusal(f"{self._gateway.name}: {refused}")
        await self._send(RegisterKey(packed.words))
        await self._send(Post(_compose_terms(self._order, packed, vault.encryption_key), nonce))
        return job, packed

    async def _send(self, call: Call) -> None:
        outcome = await self._process.wallet.send(call)
        if not isinstance(outcome, Mined):
            raise Refusal(f"{type(call).__name__}: {outcome.reason}")

    # -- Meanwhile

    async def _follow(self, job: JobId) -> JobEnded:
        deadline_s = float("inf")
        while True:
            for event in await self._hear():
                match event:
                    case JobPosted(posted) if posted == job:
                        deadline_s = event.join_deadline_s + self._order.ready_window_s
                    case Assigned(assigned, workers) if assigned == job:
                        deadline_s = event.ready_deadline_s
                        await self._hand_out_keys(job, workers)
                    case TrainingStarted(started) if started == job:
                        deadline_s = float("inf")  # from here on the workers move it
                    case JobEnded(ended) if ended == job:
                        return event
            if time_s() > deadline_s:
                await self._process.wallet.send(Expire(job))
            await trio.sleep(POLL_S)

    async def _hear(self) -> list[ChainEvent]:
        wallet = self._process.wallet
        head = await wallet.head()
        if isinstance(head, Unreachable) or head.number <= self._block:
            return []
        events = await wallet.events(self._block + 1, head.number)
        if isinstance(events, Unreachable):
            return []
        self._block = head.number
        self._events += events
        return list(events)

    async def _hand_out_keys(self, job: JobId, workers: tuple[Address, ...]) -> None:
        process = self._process
        registered = [await process.wallet.worker_keys(worker) for worker in workers]
        keys = [k for k in registered if k is not None and not isinstance(k, Unreachable)]
        members = frozenset(node_key for node_key, _ in keys)
        await process.house.boxes["gossip"].send(JoinJob(job, members, self._mail, acknowledge=False))
        wraps = tuple(process.vault.wrap(job, encryption_key) for _, encryption_key in keys)
        await self._send(DeliverKeys(job, wraps))

    # -- After

    async def _fetch_result(self, job: JobId, packed: Packed) -> Evaluated | None:
        """Return how good the delivered model is; only the state that the last certificate names will do."""
        committed = [e for e in self._events if isinstance(e, RoundCommitted) and e.job == job]
        if not committed:
            return None
        with trio.move_on_after(RESULT_S):
            while True:
                for result in await self._find_results(job):
                    state = await self._open(job, result)
                    if state is not None and name(state) == committed[-1].state:
                        vector = model.decode_vector(state)[: packed.package.parameters]
                        return evaluate(SIZES, vector, packed.package.scale_bits, packed.held_out)
                await self._meet_everybody()
        return None

    async def _find_results(self, job: JobId) -> list[ResultSealed]:
        """Return where the result is said to be: each place once."""
        house = self._process.house
        wires = [wire for p in house.link.connected() for wire in await house.exchange.ask_results(p, job)]
        found = [self._read_result(wire) for wire in wires]
        return list({result.sealed: result for result in found if result is not None}.values())

    async def _meet_everybody(self) -> None:
        """The worker that holds the result may be none of our neighbours: in a large network most nodes are not."""
        for address in self._process.house.exchange.known_addresses:
            await self._process.house.link.dial(address)
        await trio.sleep(POLL_S)

    def _read_result(self, wire: bytes) -> ResultSealed | None:
        opened = open_envelope(wire, now_s=time_s(), verify=self._process.vault.verify, fresh=False)
        body = decode_body(opened.envelope.kind, opened.envelope.body) if isinstance(opened, Opened) else None
        return body if isinstance(body, ResultSealed) else None

    async def _open(self, job: JobId, result: ResultSealed) -> bytes | None:
        house = self._process.house
        await house.exchange.fetch_blobs((ContentId(result.sealed),), house.link.connected())
        sealed = await house.ports.store.blob(result.sealed) or b""
        return self._process.vault.open_to_us(sealed, context=b"result" + job)

    def _read_mail(self) -> tuple[JobMail, ...]:
        self._mail.close()
        read: list[JobMail] = []
        with self._mail.reader() as inbox:
            while True:
                try:
                    read.append(inbox.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    return tuple(read)
