"""The four figures. Nothing is simulated: anvil mines, the adapter's own code sends, follows and decodes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import trio
from eth_account import Account
from faults import CHAIN_ID, Schedule, open_anvil, open_faulty_chain

from actors.chain_watcher import ChainWatcherActor, WatcherPlan
from actors.mail import EventLog
from actors.ports import Mined, Ports, Unreachable
from node.adapters.evm import EvmChain, Journal, LocalSigner, connect, deploy, open_endpoint
from node.adapters.evm.rpc import to_hex
from node.adapters.evm.sending import Sender
from node.secret import Secret
from node.store import open_store
from node.supervision.mailbox import Block, ShedOldest
from protocols import chain_follow
from protocols.abi import encode_words
from protocols.chain import Post, ProofPolicy, RegisterKey, Terms
from protocols.chain_outbox import Intent
from protocols.evidence import compute_job_id
from protocols.ids import Address, ContentId, Digest, JobId, Wei
from protocols.job import compute_key_digest
from protocols.keccak import keccak256

LANES = 4  # anvils at once: a schedule mostly waits
MNEMONIC = "test test test test test test test test test test test junk"
KEY_WORDS = tuple(range(24))
LOGS, LOGS_A_BLOCK, EMPTY_BLOCKS = 10_000, 100, 3_000


@dataclass(frozen=True, slots=True)
class Figure:
    figure: str
    value: float
    unit: str
    target: str
    peer: str
    peer_value: float | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Options:
    schedules: int
    seed: int


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# -- Faults --------------------------------------------------------------------


async def faults(options: Options) -> list[Figure]:
    """Kills, lost requests and answers, reorganisations, strangers' transactions: each recorded intent once."""
    lost = doubled = recorded = happened = 0
    seeds = list(range(options.seed, options.seed + options.schedules))

    async def lane() -> None:
        nonlocal lost, doubled, recorded, happened
        async with open_faulty_chain() as endpoint:
            while seeds:
                schedule = Schedule(endpoint, seeds.pop())
                missing, twice = await schedule.run()
                lost, doubled = lost + missing, doubled + twice
                recorded, happened = recorded + len(schedule.recorded), happened + len(schedule.happened)
                if missing or twice:
                    print(f"seed {schedule.seed}: {missing} lost, {twice} doubled after {schedule.happened}")

    async with trio.open_nursery() as nursery:
        for _ in range(LANES):
            nursery.start_soon(lane)
    about = f"in {options.schedules} fault schedules"
    return [
        Figure(f"lost {about}", lost, "intents", "0", "", None, lost == 0),
        Figure(f"doubled {about}", doubled, "intents", "0", "", None, doubled == 0),
        Figure("recorded intents in them", recorded, "intents", "> 0", "", None, recorded > 0),
        Figure("faults in them, lost messages and kills apart", happened, "faults", "> 0", "", None, happened > 0),
    ]


# -- Latency -------------------------------------------------------------------


class _Heard(dict[JobId, EventLog]):
    """When the actor first had an event of each job."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: dict[JobId, float] = {}

    def setdefault(self, job: JobId, default: EventLog | None = None) -> EventLog:
        self.at_s.setdefault(job, time.perf_counter())
        return super().setdefault(job, default or EventLog())


def _signer(number: int) -> LocalSigner:
    Account.enable_unaudited_hdwallet_features()
    return LocalSigner(Secret(bytes(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}").key)))


@asynccontextmanager
async def _contracts(*options: str, websocket: bool) -> AsyncIterator[tuple[str, EvmChain]]:
    with open_anvil("--mnemonic", MNEMONIC, *options) as url:
        async with open_endpoint(url) as endpoint:
            deployed = await deploy(endpoint, _signer(0), development=True)
        ws_urls = [url.replace("http", "ws")] if websocket else []
        async with connect(url, jobs=deployed.jobs, signer=_signer(1), ws_urls=ws_urls) as chain:
            yield url, chain


class _NoBlobs:
    async def blob(self, content: ContentId) -> bytes | None:
        return None


async def latency(options: Options, count: int = 150) -> list[Figure]:
    """From just before the transaction is sent to the event in the chain watcher's log, mining included."""
    figures = []
    for name, websocket, poll_s in (("subscribed", True, 2.0), ("polling every 50 ms", False, 0.05)):
        delays = await _measure_latency(count, websocket, poll_s)
        p99, median = 1000 * percentile(delays, 0.99), 1000 * statistics.median(delays)
        target, ok = ("≤ 100", p99 <= 100) if websocket else ("", True)
        figures.append(Figure(f"event to actor, {name}, p99", p99, "ms", target, "", None, ok))
        figures.append(Figure(f"event to actor, {name}, median", median, "ms", "", "", None, True))
    return figures


async def _measure_latency(count: int, websocket: bool, poll_s: float) -> list[float]:
    heard, sent_s = _Heard(), dict[JobId, float]()
    async with _contracts(websocket=websocket) as (_, chain), trio.open_nursery() as nursery:
        nothing = cast("Any", None)
        store = cast("Any", _NoBlobs())
        ports = Ports(nothing, nothing, nothing, chain, nothing, store, nothing, nothing, nothing, time.time)
        inbox, gossip = Block[Any]("calls", 16), ShedOldest[Any]("gossip", 4096)
        plan = WatcherPlan(inbox, gossip, heard, False, 0, poll_s, 0, 0, Wei(0), Wei(0))
        actor = ChainWatcherActor(ports, plan, nothing, nothing)
        started = trio.Event()
        nursery.start_soon(actor.run, started.set)
        await started.wait()
        assert isinstance(await chain.send(RegisterKey(KEY_WORDS)), Mined)
        watched = _watch_broadcasts(chain)
        for number in range(count):
            nonce = number.to_bytes(32, "big")
            job = compute_job_id(chain.chain_id, chain.jobs_address, chain.wallet, nonce)
            outcome = await chain.send(Post(_terms(), nonce))
            assert isinstance(outcome, Mined), outcome
            sent_s[job] = watched[-1]
        with trio.fail_after(30):
            while len(heard.at_s) < count:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    return [heard.at_s[job] - at_s for job, at_s in sent_s.items()]


def _watch_broadcasts(chain: EvmChain) -> list[float]:
    """Note when each transaction leaves."""
    pool, times = chain._sender._rpc, list[float]()
    broadcast = pool.broadcast

    async def timed(raw: bytes) -> None:
        times.append(time.perf_counter())
        await broadcast(raw)

    pool.broadcast = timed  # type: ignore[method-assign]  # a clock around it
    return times


def _terms() -> Terms:
    content, nobody = ContentId(bytes(31) + b"\x01"), Address("0x" + 40 * "0")
    digest = Digest(bytes(31) + b"\x01")
    values: dict[str, Any] = {
        "package": content, "data": content, "initial_state": content, "srs": content, "requester_key": bytes(32),
        "initial_commitment": Digest(bytes(32)),
        "pages_root": digest, "vk_digest": compute_key_digest(KEY_WORDS), "delegate": nobody, "pages": 1, "seats": 1,
        "rounds": 1, "steps": 1, "samples": 1, "proof_policy": ProofPolicy.EVALUATION, "max_applicants": 8,
        "join_window_s": 10_000, "ready_window_s": 10_000, "round_timeout_s": 10_000, "proof_window_s": 10_000,
        "stake_wei": Wei(1), "budget_wei": Wei(10**9), "move_fee_wei": Wei(1), "max_loss": 0,
    }  # fmt: skip
    return replace(Terms(**values))


# -- Throughput ----------------------------------------------------------------


async def throughput(options: Options, count: int = 1200) -> list[Figure]:
    """From one account, each transaction estimated, signed, on the disk before it is sent, and seen mined."""
    mined = 0
    with open_anvil("--mnemonic", MNEMONIC) as url, tempfile.TemporaryDirectory() as d, open_store(Path(d)) as s:
        async with open_endpoint(url) as endpoint:
            sender, limiter = Sender(endpoint, _signer(2), CHAIN_ID, journal=Journal(s)), trio.CapacityLimiter(200)

            async def send(number: int) -> None:
                nonlocal mined
                async with limiter:
                    to = Address("0x" + keccak256(number.to_bytes(4, "big"))[:20].hex())
                    mined += isinstance(await sender.send(Intent(to, b"", 1)), Mined)

            began_s = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(send, number)
            rate = mined / (time.perf_counter() - began_s)
    return [Figure(f"from one account, {mined} of {count} mined", rate, "tx/s", "≥ 150", "", None, rate >= 150)]


# -- History -------------------------------------------------------------------


async def sync(options: Options) -> list[Figure]:
    """A history of 10,000 logs, read, decoded and delivered by the follower."""
    async with _contracts(websocket=False) as (url, chain):
        async with open_endpoint(url) as endpoint:
            await _write_history(endpoint, chain.jobs_address)
        began_s = time.perf_counter()
        delivered = await _read_history(chain)
        took_s = time.perf_counter() - began_s
    ok = took_s <= 5 and delivered == LOGS
    return [Figure(f"{delivered:,} logs read and decoded", took_s, "s", "≤ 5", "", None, ok)]


async def _write_history(endpoint: Any, contract: Address) -> None:
    """Stand-in code at the contract's address writes real logs: posting ten thousand jobs takes minutes."""
    one = bytes.fromhex("602035600035604060 00a2".replace(" ", ""))
    code = bytes.fromhex("604036036040600037") + one * LOGS_A_BLOCK
    await endpoint.request("anvil_setCode", contract, to_hex(code))
    topic = keccak256(b"RoundNulled(bytes32,uint32,uint64)")
    sender = _signer(3).wallet
    for number in range(LOGS // LOGS_A_BLOCK):
        data = topic + bytes(32) + encode_words(number, 5)
        call = {"from": sender, "to": contract, "data": to_hex(data), "gas": hex(2_000_000)}
        await endpoint.request("eth_sendTransaction", call)
        await endpoint.request("anvil_mine", hex(EMPTY_BLOCKS * LOGS_A_BLOCK // LOGS))


async def _read_history(chain: EvmChain) -> int:
    head = await chain.head()
    assert not isinstance(head, Unreachable)
    state, delivered = chain_follow.Follow(-1), 0
    event: chain_follow.Event | None = chain_follow.HeadSeen(head)
    while event is not None:
        state, effects = chain_follow.step(state, event)
        event = None
        for effect in effects:
            match effect:
                case chain_follow.Deliver(events):
                    delivered += len(events)
                case chain_follow.ReadHeader(number):
                    header = await chain.header(number)
                    assert not isinstance(header, Unreachable)
                    event = chain_follow.HeaderRead(number, header)
                case chain_follow.ReadEvents(first, last, pin):
                    read = await chain.read(first, last, pin)
                    assert not isinstance(read, Unreachable), read
                    event = chain_follow.EventsRead(tuple(read))
                case chain_follow.Withdraw():
                    raise AssertionError("nothing was reorganised")
    return delivered


FIGURES: dict[str, Callable[[Options], Awaitable[list[Figure]]]] = {
    "faults": faults,
    "latency": latency,
    "throughput": throughput,
    "sync": sync,
}
