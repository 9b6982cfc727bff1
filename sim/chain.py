"""The Chain twin: blocks in virtual time around the pure ledger of `protocols/job`.

A block is mined BLOCK_S after the first transaction that waits for one, as on a chain that mines on demand. What the
contracts find out by cryptography, the ledger gets as `Facts` from the keyring and the simulated proof system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from actors.ports import Mined, Outcome, Reverted, Unreachable
from protocols.abi import ZERO_ADDRESS, checksum_address
from protocols.chain import Call, ChainEvent, CommitRound, Post, Register, SubmitProof, TopUp
from protocols.chain_follow import Head, Located
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.ids import Address, Digest, Wei
from protocols.job import (
    DRAND_EVMNET,
    Beacon,
    Facts,
    Ledger,
    Revert,
    Transaction,
    compute_beacon_round,
    compute_free_stake,
    compute_value,
    compute_vote_digest,
    step,
)
from protocols.keccak import keccak256
from protocols.record import encode
from sim.beacon import sign_round
from sim.clock import EPOCH_S, time_s
from sim.life import Life
from sim.prover import is_proof
from sim.trace import Trace, short
from sim.vault import Keyring

CHAIN_ID = 131277322940537  # the development chain's
JOBS = checksum_address(b"simulated Jobs".ljust(20, b"\0"))
WORKERS = checksum_address(b"simulated Workers".ljust(20, b"\0"))

BLOCK_S = 0.25  # Arbitrum's
RPC_S = 0.015  # to the endpoint and back
GAS_PRICE_WEI = 100_000_000  # 0.1 gwei
GAS = {
    "Register": 180_000,
    "RegisterKey": 170_000,
    "Post": 430_000,
    "Apply": 110_000,
    "Assign": 330_000,
    "DeliverKeys": 90_000,
    "Ready": 60_000,
    "CommitRound": 210_000,
    "NullRound": 60_000,
    "Dissent": 70_000,
    "ReportEquivocation": 150_000,
    "SubmitProof": 1_300_000,
    "Settle": 350_000,
    "Cancel": 60_000,
    "Expire": 60_000,
    "Release": 50_000,
    "Withdraw": 40_000,
    "WithdrawIn": 60_000,
    "TopUp": 40_000,
    "Unbond": 50_000,
    "WithdrawStake": 40_000,
}
"""Simulated: about what the contracts' tests measured for three seats."""
REVERT_GAS = 40_000
BEACON_GAS = 330_000

# -- The chain -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    timestamp_s: int
    events: tuple[ChainEvent, ...]

    @property
    def hash(self) -> bytes:
        return _block_hash(self.number)

    @property
    def head(self) -> Head:
        return Head(self.number, self.hash, self.timestamp_s, _block_hash(self.number - 1) if self.number else b"")


def _block_hash(number: int) -> bytes:
    return keccak256(b"skynet-sim block" + number.to_bytes(8, "big"))


@dataclass(slots=True)
class _Pending:
    sender: Address
    call: Call
    mined: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome = field(default_factory=lambda: Unreachable("not mined yet"))


class SimChain:
    """Ledger, blocks and balances; wallets see it through `SimWallet`."""

    def __init__(self, keyring: Keyring, trace: Trace, *, public_beacon: bool = False) -> None:
        schedule = DRAND_EVMNET if public_beacon else Beacon(genesis_s=0, period_s=1)
        self.ledger = Ledger(CHAIN_ID, JOBS, schedule)
        self.posted: list[int] | None = [] if public_beacon else None
        """Rounds of a public beacon in the order of their posting; None: a test beacon, which needs none."""
        self.blocks = [Block(0, EPOCH_S, ())]
        self.funded: dict[Address, int] = {}
        self.fees: dict[Address, int] = {}
        """Wei burnt for gas, by sender."""
        self.gas: dict[tuple[Address, str], int] = {}
        """Gas by sender and kind of call, reverted ones too."""
        self._keyring = keyring
        self._trace = trace
        self._pending: list[_Pending] = []
        self._wanted = trio.Event()
        self._grown = trio.Event()

    @property
    def events(self) -> tuple[ChainEvent, ...]:
        return tuple(event for block in self.blocks for event in block.events)

    def fund(self, wallet: Address, amount_wei: int) -> None:
        self.funded[wallet] = self.funded.get(wallet, 0) + amount_wei

    def balance(self, wallet: Address) -> Wei:
        ledger = self.ledger
        flows = ledger.paid_out.get(wallet, 0) - ledger.paid_in.get(wallet, 0)
        return Wei(self.funded.get(wallet, 0) + flows - self.fees.get(wallet, 0))

    def randomness(self, number: int) -> Digest | None:
        is_out = time_s() >= self.ledger.beacon.time_of(number) if self.posted is None else number in self.posted
        return keccak256(b"skynet-sim beacon" + number.to_bytes(32, "big")) if is_out else None

    async def post_beacon(self, number: int, signature: bytes) -> Outcome:
        if self.posted is None or signature != sign_round(number):
            return Reverted("BadBeacon")
        await trio.sleep(BLOCK_S)
        self.posted.append(number)
        self._trace.note("beacon", number)
        return Mined(keccak256(signature), BEACON_GAS)

    async def wait_event(self, matches: Callable[[ChainEvent], bool]) -> ChainEvent:
        """Return the first event that matches, past or future."""
        while True:
            for event in self.events:
                if matches(event):
                    return event
            await self.wait_block()

    async def wait_block(self) -> None:
        await self._grown.wait()

    # -- Transactions

    async def run(self) -> None:
        """Mine for ever."""
        while True:
            await self._wanted.wait()
            await trio.sleep(BLOCK_S)
            self._wanted = trio.Event()
            self._mine()

    def submit(self, sender: Address, call: Call) -> _Pending:
        pending = _Pending(sender, call)
        self._pending.append(pending)
        self._wanted.set()
        return pending

    def simulate(self, sender: Address, call: Call) -> tuple[Ledger, tuple[ChainEvent, ...]] | Revert:
        """Do it without keeping it: `eth_call`."""
        value_wei = _value(call)
        if self.balance(sender) < value_wei + GAS[type(call).__name__] * GAS_PRICE_WEI:
            return Revert("insufficient funds")
        transaction = Transaction(sender, value_wei, int(time_s()), call, self._resolve(sender, call))
        return step(self.ledger, transaction)

    def _mine(self) -> None:
        mined, self._pending = self._pending, []
        events: list[ChainEvent] = []
        for pending in mined:
            events += self._execute(pending)
        block = Block(len(self.blocks), int(time_s()), tuple(events))
        self.blocks.append(block)
        for event in events:
            self._trace.note("event", block.number, type(event).__name__, short(encode(event)))
        self._grown.set()
        self._grown = trio.Event()

    def _execute(self, pending: _Pending) -> tuple[ChainEvent, ...]:
        name, sender = type(pending.call).__name__, pending.sender
        stepped = self.simulate(sender, pending.call)
        events: tuple[ChainEvent, ...] = ()
        gas = REVERT_GAS
        if isinstance(stepped, Revert):
            pending.outcome = Reverted(stepped.name)
        else:
            gas = GAS[name]
            self.ledger, events = stepped
            pending.outcome = Mined(keccak256(encode(pending.call)), gas)
        self.gas[sender, name] = self.gas.get((sender, name), 0) + gas
        self.fees[sender] = self.fees.get(sender, 0) + gas * GAS_PRICE_WEI
        what = stepped.name if isinstance(stepped, Revert) else "mined"
        self._trace.note("transaction", len(self.blocks), sender, name, short(encode(pending.call)), what)
        pending.mined.set()
        return events

    # -- What contracts find out by cryptography

    def _resolve(self, sender: Address, call: Call) -> Facts:
        beacon_round = compute_beacon_round(self.ledger, call)
        randomness = None if beacon_round is None else self.randomness(beacon_round)
        match call:
            case Register(node_key, encryption_key, capabilities, binding):
                statement = Binding(sender, node_key, encryption_key, capabilities)
                signer = self._keyring.recover(compute_digest(Domain(CHAIN_ID, WORKERS), statement), binding)
                return Facts(binding_valid=signer == sender)
            case CommitRound():
                digest = compute_vote_digest(self.ledger, call)
                signatures = call.certificate.signatures
                return Facts(signers=tuple(self._keyring.recover(digest, s) for s in signatures))
            case SubmitProof():
                return Facts(proof_valid=self._is_valid(call), randomness=randomness)
            case _:
                return Facts(randomness=randomness)

    def _is_valid(self, call: SubmitProof) -> bool:
        job = self.ledger.jobs.get(call.job)
        return job is not None and is_proof(call.proof, call.instances, job.terms.vk_digest)


def _value(call: Call) -> Wei:
    match call:
        case Register():
            return call.stake_wei
        case Post():
            return compute_value(call.terms)
        case TopUp():
            return call.amount_wei
        case _:
            return Wei(0)


# -- The port ------------------------------------------------------------------


class SimWallet:
    """Implements `actors.ports.Chain`: one wallet's view, over an endpoint that may be out of reach."""

    def __init__(self, chain: SimChain, wallet: Address, life: Life, is_reachable: Callable[[], bool]) -> None:
        self._chain = chain
        self._wallet = wallet
        self._life = life
        self._is_reachable = is_reachable

    @property
    def chain_id(self) -> int:
        return CHAIN_ID

    @property
    def jobs_address(self) -> Address:
        return JOBS

    @property
    def wallet(self) -> Address:
        return self._wallet

    async def head(self) -> Head | Unreachable:
        if lost := await self._ask():
            return lost
        return self._chain.blocks[-1].head

    async def header(self, number: int) -> Head | Unreachable | None:
        if lost := await self._ask():
            return lost
        return self._chain.blocks[number].head if 0 <= number < len(self._chain.blocks) else None

    async def wait_head(self, timeout_s: float) -> None:
        await trio.sleep(timeout_s)

    async def read(self, first: int, last: int, pin: bytes) -> Sequence[Located] | Unreachable:
        if lost := await self._ask():
            return lost
        if self._chain.blocks[last].hash != pin:
            return Unreachable("the chain was reorganised while it was read")
        blocks = self._chain.blocks[max(first, 0) : last + 1]
        return [Located(event, block.number) for block in blocks for event in block.events]

    async def events(self, first: int, last: int) -> Sequence[ChainEvent] | Unreachable:
        if lost := await self._ask():
            return lost
        return [event for block in self._chain.blocks[max(first, 0) : last + 1] for event in block.events]

    async def send(self, call: Call) -> Outcome:
        if lost := await self._ask():
            return lost
        foreseen = self._chain.simulate(self._wallet, call)
        if isinstance(foreseen, Revert):
            return Reverted(foreseen.name)
        pending = self._chain.submit(self._wallet, call)
        await pending.mined.wait()
        if lost := await self._ask():
            return lost  # it is mined all the same
        return pending.outcome

    async def balance(self, address: Address) -> Wei | Unreachable:
        return await self._ask() or self._chain.balance(address)

    async def credit(self, address: Address, token: Address = ZERO_ADDRESS) -> Wei | Unreachable:
        if lost := await self._ask():
            return lost
        ledger = self._chain.ledger
        in_token = ledger.token_credits.get((token, address), Wei(0))
        return ledger.credits.get(address, Wei(0)) if token == ZERO_ADDRESS else in_token

    async def free_stake(self, address: Address) -> Wei | Unreachable:
        return await self._ask() or compute_free_stake(self._chain.ledger, address)

    async def beacon(self, number: int) -> Digest | Unreachable | None:
        return await self._ask() or self._chain.randomness(number)

    async def post_beacon(self, number: int, signature: bytes) -> Outcome:
        return await self._ask() or await self._chain.post_beacon(number, signature)

    async def worker_keys(self, address: Address) -> tuple[bytes, bytes] | Unreachable | None:
        if lost := await self._ask():
            return lost
        worker = self._chain.ledger.workers.get(address)
        return None if worker is None else (worker.node_key, worker.encryption_key)

    async def _ask(self) -> Unreachable | None:
        await self._life.spend(RPC_S)
        return None if self._is_reachable() else Unreachable("the endpoint is out of reach")
