"""A requester's session: joined to the network as a light member, with a wallet on the chain.

    pack -> put on the gateway -> post -> deliver keys -> watch -> result

Everything that must survive is in the Store before its effect: `submit` can be killed anywhere, and `watch`
delivers the keys of what was posted. Errors are `UserError`s that name the peer, key or file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from actors.exchange import Exchange
from actors.mail import FollowJob, JobMail, JoinJob
from actors.ports import Evaluated, NoAnswer, Refused, Reverted, Store, Unreachable
from node.adapters.compute import ChildCompute
from node.adapters.evm import EvmChain
from node.adapters.prover import ChildProver
from node.client.jobspec import JobSpec
from node.client.ledger import Ledger
from node.client.pack import Packed, Packer, Report, Sealed, write_terms
from node.client.progress import Happened, PeersSeen, Posted, Progress, RoundSeen, Stage
from node.errors import CallReverted, ChainError, ContentError, JobFailed, PeerUnreachable
from node.identity import NodeVault
from node.supervision.mailbox import ShedOldest
from node.wiring import House
from protocols.chain import (
    Assigned,
    DeliverKeys,
    JobEnded,
    JobPosted,
    KeysDelivered,
    ProvingStarted,
    RegisterKey,
    RoundCommitted,
    Terms,
)
from protocols.evidence import compute_job_id
from protocols.ids import Address, ContentId, JobId, PeerId
from protocols.message import Envelope, ResultSealed, RoundReported, decode_body, open_envelope
from protocols.package import Package, decode_dataset, decode_package
from protocols.verdict import Ignore, Reject

POLL_S = 0.25
CONNECT_S = 20.0
CONNECT_TRIES = 4  # a node under attack may drop one of us with the strangers
RESULT_S = 60.0  # for workers to seal the result and for the gateway to hear of it


@dataclass(frozen=True, slots=True)
class Model:
    """The trained model: its certified state, opened, and how well it does on the held-out pages."""

    state: ContentId
    values: bytes
    """int32 little-endian."""
    package: Package
    evaluated: Evaluated


class Session(Ledger):
    """A ledger with peers, a data folder and the key of each job that was posted from it."""

    def __init__(
        self,
        house: House,
        chain: EvmChain,
        vault: NodeVault,
        compute: ChildCompute,
        prover: ChildProver,
        first_block: int,
        confirmations: int,
        report: Report,
    ) -> None:
        super().__init__(chain, first_block, confirmations)
        self._house = house
        self._vault = vault
        self._compute = compute
        self._report = report
        self.packer = Packer(house.ports.store, vault, prover, report)

    @property
    def exchange(self) -> Exchange:
        return self._house.exchange

    @property
    def vault(self) -> NodeVault:
        return self._vault

    @property
    def store(self) -> Store:
        return self._house.ports.store

    def entropy(self, size: int) -> bytes:
        return self._house.ports.entropy(size)

    # -- Peers

    async def connect(self, addresses: tuple[str, ...]) -> PeerId:
        """Dial the first gateway that answers. Raises PeerUnreachable."""
        reasons: dict[str, str] = {}
        for _ in range(CONNECT_TRIES):
            for address in addresses:
                answer = await self._house.link.dial(address, timeout_s=CONNECT_S)
                if not isinstance(answer, NoAnswer):
                    await self._report(PeersSeen(len(self._house.link.connected())))
                    return answer
                reasons[address] = answer.reason
            await trio.sleep(POLL_S)
        where = ", ".join(f"{address} ({reason})" for address, reason in reasons.items()) or "--peer"
        raise PeerUnreachable(where, "no peer answers", "check the address and that its node runs")

    # -- Submitting

    async def submit(self, spec: JobSpec, gateway: PeerId, packed: Packed) -> JobId:
        """Seal, upload, escrow. Returns once the job is on chain; `deliver_keys` follows."""
        nonce = self._house.ports.entropy(32)
        job = compute_job_id(self.chain.chain_id, self.chain.jobs_address, self.chain.wallet, nonce)
        await self._vault.create_job_key(job)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.send, RegisterKey(packed.keys.words))
            sealed = await self.packer.seal(packed, job)
            terms = await self._price(spec, write_terms(spec, packed, sealed, self._vault.encryption_key))
            await self._upload(gateway, sealed)
        await self._report(Stage("posting the job"))
        mined = await self.post(terms, nonce)
        await self._report(Posted(job, mined.transaction, mined.gas_used))
        return job

    async def _price(self, spec: JobSpec, terms: Terms) -> Terms:
        """The terms with the budget in the job's token, if it has one."""
        if spec.token is None:
            return terms
        price = await self.price_in(spec.token)
        return replace(terms, token=price.token.address, budget_wei=price.budget, move_fee_wei=price.move_fee)

    async def _upload(self, gateway: PeerId, sealed: Sealed) -> None:
        await self._report(Stage(f"uploading {len(sealed.blobs)} blobs to the peer"))
        blobs = [await self._house.ports.store.blob(content) or b"" for content in sealed.blobs]
        refused = await self.exchange.put(gateway, blobs)
        if refused:
            raise PeerUnreachable(f"peer {gateway}", f"does not take the job's data: {refused}", "try another peer")

    async def awaits_our_keys(self, job: JobId) -> bool:
        return self._vault.holds(job) and await super().awaits_our_keys(job)

    async def deliver_keys(self, job: JobId, show: Report | None = None) -> bool:
        """Wrap the job key to the workers once they are seated; False if the job ends before.

        Idempotent: who was killed waiting for workers calls it again.
        """
        async with aclosing(self.follow_chain(job)) as events:
            async for happened in events:
                if show is not None:
                    await show(happened)
                match happened:
                    case Happened(Assigned(_, workers)):
                        wraps = tuple([await self._wrap(job, worker) for worker in workers])
                        await self._send_unless_done(DeliverKeys(job, wraps))
                    case Happened(KeysDelivered()):
                        return True
                    case Happened(JobEnded()):
                        return False
                    case _:
                        pass
        return False

    async def _send_unless_done(self, call: DeliverKeys) -> None:
        """Send until it is on chain, by us or by another session of ours."""
        outcome = await self.chain.send(call)
        while isinstance(outcome, Unreachable):
            await trio.sleep(POLL_S)
            outcome = await self.chain.send(call)
        if isinstance(outcome, Reverted) and "KeysAlreadyDelivered" not in outcome.reason:
            raise CallReverted("DeliverKeys", f"the contract refuses it: {outcome.reason}", _RETRY)

    async def _wrap(self, job: JobId, worker: Address) -> bytes:
        keys = await self.chain.worker_keys(worker)
        if keys is None or isinstance(keys, Unreachable):
            raise ChainError(
                f"worker {worker}", "its keys can't be read", "check chain.rpc_urls, then `skynet job watch`"
            )
        return self._vault.wrap_job_key(job, keys[1])

    # -- Following

    async def watch(self, job: JobId) -> AsyncGenerator[Progress, None]:
        """Yield the job's events and its workers' reports until it has ended. Raises JobFailed for no such job."""
        await self._house.boxes["gossip"].send(FollowJob(job))
        send, receive = trio.open_memory_channel[Progress](1024)
        mail: ShedOldest[JobMail] = ShedOldest("reports", 1024)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_chain, job, mail, send.clone())
            nursery.start_soon(_watch_mail, mail, send)
            with receive:
                async for progress in receive:
                    yield progress
                    if isinstance(progress, Happened) and isinstance(progress.event, JobEnded):
                        break
            nursery.cancel_scope.cancel()

    async def _watch_chain(self, job: JobId, mail: ShedOldest[JobMail], send: trio.MemorySendChannel[Progress]) -> None:
        async with aclosing(self.follow_chain(job)) as events:
            async for happened in events:
                if isinstance(happened, Happened) and isinstance(happened.event, Assigned):
                    members = [await self.chain.worker_keys(worker) for worker in happened.event.workers]
                    keys = frozenset(m[0] for m in members if isinstance(m, tuple))
                    await self._house.boxes["gossip"].send(JoinJob(job, keys, mail, acknowledge=False))
                await send.send(happened)

    def peers(self) -> tuple[PeerId, ...]:
        return self._house.link.connected()

    # -- The result

    async def fetch_model(self, job: JobId, peers: tuple[PeerId, ...]) -> Model:
        """Fetch, open and check the final state, and evaluate it here. Raises JobFailed or ContentError."""
        terms, state = await self._final_state(job)
        await self._report(Stage("asking peers for the result"))
        sealed = await self._find_result(job, state, peers)
        plain = self._vault.open_from(sealed, context=b"result" + job)
        if plain is None or await self._house.ports.store.put_blob(plain, public=False) != state:
            raise ContentError(f"job {job.hex()}", "the result does not open to the certified state", _RETRY)
        package = decode_package(await self._house.ports.store.blob(terms.package) or b"")
        if isinstance(package, Reject):
            raise ContentError(f"package {terms.package.hex()}", package.reason, _RETRY)
        return Model(state, plain, package, await self._evaluate(job, terms, state))

    async def _final_state(self, job: JobId) -> tuple[Terms, ContentId]:
        """Raises JobFailed where there is no result, or none for us."""
        name, events = f"job 0x{job.hex()}", [h.event for h in await self.job_events(job)]
        posted = next(e for e in events if isinstance(e, JobPosted))
        states = [e.state for e in events if isinstance(e, RoundCommitted)]
        if posted.requester != self.chain.wallet:
            raise JobFailed(name, f"its result is sealed to {posted.requester}", "use the --config of that wallet")
        if not states or not any(isinstance(e, ProvingStarted) for e in events):
            ended = next((e.state.name.lower() for e in events if isinstance(e, JobEnded)), None)
            if ended is not None:
                raise JobFailed(name, f"it {ended} before its last round, so there is no model", "submit it anew")
            raise JobFailed(name, "it is not trained yet", f"follow it with `skynet job watch 0x{job.hex()}`")
        return posted.terms, states[-1]

    async def _find_result(self, job: JobId, state: ContentId, peers: tuple[PeerId, ...]) -> bytes:
        with trio.move_on_after(RESULT_S):
            while True:
                for peer in dict.fromkeys((*peers, *self._house.link.connected())):
                    found = await self._result_from(peer, job, state)
                    if found is not None:
                        return found
                await self._dial_more(peers)
                await trio.sleep(POLL_S)
        raise PeerUnreachable(
            f"job {job.hex()}", "no peer has its result", "keep a worker's node running and try again"
        )

    async def _result_from(self, peer: PeerId, job: JobId, state: ContentId) -> bytes | None:
        for wire in await self.exchange.ask_results(peer, job):
            opened = open_envelope(wire, now_s=0.0, verify=self._vault.verify, fresh=False)
            body = Reject("no envelope") if isinstance(opened, Ignore | Reject) else _result_in(opened.envelope)
            if isinstance(body, Reject) or body.job != job or body.state != state:
                continue
            if not await self.exchange.fetch_blobs((body.sealed,), (peer, *self._house.link.connected())):
                return await self._house.ports.store.blob(body.sealed)
        return None

    async def _dial_more(self, peers: tuple[PeerId, ...]) -> None:
        for peer in peers:
            for address in await self.exchange.ask_peers(peer):
                await self._house.link.dial(address, timeout_s=2.0)

    async def _evaluate(self, job: JobId, terms: Terms, state: ContentId) -> Evaluated:
        dataset = decode_dataset(await self._house.ports.store.blob(terms.data) or b"")
        if isinstance(dataset, Reject):
            raise ContentError(f"data {terms.data.hex()}", dataset.reason, _RETRY)
        await self._report(Stage("checking the model on the held-out pages"))
        opened = await self._compute.open(job, terms.package)
        pages = tuple(p.opened for p in dataset.held_out)
        evaluated = opened or await self._compute.evaluate(job, state, pages)
        await self._compute.close(job)
        if isinstance(evaluated, Refused):
            raise ContentError(f"job {job.hex()}", f"the model can't be evaluated: {evaluated.reason}", _RETRY)
        return evaluated


_RETRY = "try again, or submit the job anew"


def _result_in(envelope: Envelope) -> ResultSealed | Reject:
    body = decode_body(envelope.kind, envelope.body)
    return body if isinstance(body, ResultSealed) else Reject("not a result")


async def _watch_mail(mail: ShedOldest[JobMail], send: trio.MemorySendChannel[Progress]) -> None:
    with mail.reader() as inbox:
        async for item in inbox:
            if isinstance(item.body, RoundReported):
                body = item.body
                await send.send(RoundSeen(body.round, body.state, body.loss, body.accuracy, body.workers))


def write_safetensors(model: Model, training: str, out: Path) -> None:
    """Write the model as float32 tensors by the package's layout; the file is there whole or not at all."""
    import numpy as np
    from safetensors.numpy import save

    flat = np.frombuffer(model.values, dtype="<i4").astype(np.float32) / np.float32(2**model.package.scale_bits)
    tensors, offset = {}, 0
    for tensor in model.package.layout:
        size = int(np.prod(tensor.shape, dtype=np.int64))
        tensors[tensor.name] = flat[offset : offset + size].reshape(tensor.shape).copy()
        offset += size
    part = out.with_name(out.name + ".part")
    part.write_bytes(save(tensors, metadata={"training": training, "state": model.state.hex()}))
    part.replace(out)
