"""From an intent to a mined transaction: one wallet's outbox, performed.

    simulate -> limits -> sign -> record -> send -> look until it is mined | pay more | send again

The decisions are `protocols.chain_outbox` and `protocols.chain_spending`; this file asks, signs, writes and sends.
The one rule: a call that reverts in the simulation is not sent, and what may have reached an endpoint is never
given up without a word: it stays in the outbox until it is mined, and a restart goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

import structlog
import trio

from actors.ports import Mined, Outcome, Reverted, Unreachable
from node.adapters.evm.coding import explain_revert, name_revert
from node.adapters.evm.outbox import Journal
from node.adapters.evm.pool import Pool
from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, read_data, read_field, read_quantity, to_hex
from node.adapters.evm.signing import ExternalSigner, Signer, SignerFailed, Transaction, sign_transaction
from protocols import chain_outbox as outbox
from protocols.chain_outbox import Answer, Attempt, Intent, Outbox, Policy, Price, Seen
from protocols.chain_spending import Limits, Spending, spend, spent_wei, validate_spending
from protocols.ids import Address

log = structlog.get_logger("skynet.node.adapters.evm")

Request = Intent

POLL_S = (0.05, 0.1, 0.2, 0.4)  # then every last of these: a development chain has the receipt at once
TEND_S = 2.0  # between looks while nobody waits; what was mined may still be orphaned
GIVE_UP_S = 150.0  # of waiting, not of the transaction: it stays in the outbox
MARKET_S = 1.0  # prices and balance are read again after it; a burst shares one reading
GAS_MARGIN = 1.25
GAS_SLACK = 120_000  # another's call may come first and make ours do more: the quorum's last `ready` starts training
TRANSFER_GAS = 21_000
RECEIPTS_AT_ONCE = 8  # connections that the endpoint's client holds
WARN_AGAIN_S = 3600.0
SCROLL_ORACLE = Address("0x5300000000000000000000000000000000000002")
L1_ORACLES = {534351: SCROLL_ORACLE, 534352: SCROLL_ORACLE}
"""Scroll's price of a transaction's bytes on the parent chain; Arbitrum has it in the gas."""
GET_L1_FEE = bytes.fromhex("49948e0e")  # getL1Fee(bytes)

# What clients say, for want of codes: geth, Nethermind, anvil and this project's development chain.
KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
NONCE_USED = ("nonce too low", "nonce is too low", "replacement transaction underpriced", "replacement fee", "oldnonce")
PRICE_LOW = ("less than block base fee", "underpriced", "fee cap", "max fee per gas", "gas price too low", "feetoolow")
POOR = ("insufficient funds", "insufficient balance", "enough funds")


@dataclass(slots=True)
class _Waiting:
    """Somebody waits for what becomes of an intent."""

    done: trio.Event = field(default_factory=trio.Event)
    ended: outbox.Mined | outbox.GivenUp | None = None


@dataclass(frozen=True, slots=True)
class _Market:
    price: Price
    balance_wei: int
    pending: int
    read_s: float


class Sender:
    def __init__(
        self,
        rpc: Pool | Endpoint,
        signer: Signer | ExternalSigner,
        chain_id: int,
        *,
        journal: Journal | None = None,
        policy: Policy | None = None,
        limits: Limits | None = None,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self._rpc = rpc if isinstance(rpc, Pool) else Pool((rpc,))
        self._signer = signer
        self._chain_id = chain_id
        self._journal = journal or Journal()
        self._limits = limits or Limits()
        self._time_s = time_s
        self._box = Outbox(signer.wallet, replace(policy or Policy(), max_fee_wei=self._limits.max_fee_wei))
        self._spending = Spending()
        self._market: _Market | None = None
        self._loaded = False
        self._loading = trio.Lock()
        self._reading = trio.Lock()
        self._looking = trio.Lock()
        self._looked_s = -1e9
        self._warned_s = -1e9
        self._waiting: dict[int, list[_Waiting]] = {}

    async def send(self, request: Intent) -> Outcome:
        """Simulate, record, send and wait until it is mined. What exceeds the wallet or its limits is not sent."""
        try:
            await self._load()
            waiting = _Waiting()
            nonce = outbox.find(self._box, request.key)
            if nonce is not None:
                self._waiting.setdefault(nonce, []).append(waiting)
            elif (refused := await self._submit(request, waiting)) is not None:
                return refused
            return await self._wait(request, waiting)
        except Failure as failure:
            return _outcome(failure)
        except Unavailable as error:
            return Unreachable(str(error))

    async def send_rest(self, to: Address, keep_gas: int) -> tuple[Outcome, int] | None:
        """Transfer all but what the transfer and `keep_gas` more may cost; None where that is all there is."""
        await self._load()
        try:
            market, empty = await self._read_market(), Intent(to, b"")
            gas_wei = (await self._estimate(empty) + keep_gas) * market.price.max_fee_wei + await self._l1_fee(empty)
        except Failure as failure:
            return _outcome(failure), 0
        except Unavailable as error:
            return Unreachable(str(error)), 0
        rest_wei = market.balance_wei - self._reserved_wei() - gas_wei
        return None if rest_wei <= 0 else (await self.send(Intent(to, b"", rest_wei)), rest_wei)

    async def tend(self) -> None:
        """For ever: go on with what an earlier life left, and send again what a reorganisation orphaned."""
        while True:
            with _patience():
                await self._load()
                if self._box.entries:
                    await self._look(TEND_S / 2)
            await trio.sleep(TEND_S)

    async def next_nonce(self) -> int:
        """Of the wallet's next transaction, as far as the endpoint knows."""
        return read_quantity(await self._rpc.request("eth_getTransactionCount", self._signer.wallet, "pending"))

    @property
    def under_way(self) -> int:
        """Transactions that are not mined."""
        return sum(entry.block is None for entry in self._box.entries.values())

    def spent_wei(self) -> int:
        """Of the last 24 hours."""
        return spent_wei(self._spending, self._time_s())

    async def _load(self) -> None:
        async with self._loading:
            if self._loaded:
                return
            genesis = read_data(read_field(await self._rpc.request("eth_getBlockByNumber", "0x0", False), "hash"))
            entries, self._spending = await self._journal.load(self._chain_id, genesis, self._signer.wallet)
            if entries:
                log.info("transactions of an earlier run", count=len(entries))
            self._box = outbox.restore(self._signer.wallet, self._box.policy, entries)
            self._loaded = True

    # -- Before

    async def _submit(self, request: Intent, waiting: _Waiting) -> Reverted | None:
        market = await self._read_market()
        if market.price.max_fee_wei > self._limits.max_fee_wei:
            gwei, most = market.price.max_fee_wei / 1e9, self._limits.max_fee_wei / 1e9
            return Reverted(f"gas may cost {gwei:g} gwei now, chain.max_fee_gwei is {most:g}: wait, or raise it")
        if refused := self._judge_cost(request, market, TRANSFER_GAS * market.price.max_fee_wei):
            return Reverted(refused)
        gas = await self._estimate(request)
        gas_wei = gas * market.price.max_fee_wei + await self._l1_fee(request)
        if refused := self._judge_cost(request, market, gas_wei):
            return Reverted(refused)
        await self._apply(outbox.Wanted(request, gas, market.price, market.pending), waiting)
        return None

    def _judge_cost(self, request: Intent, market: _Market, gas_wei: int) -> str | None:
        return validate_spending(
            self._limits,
            self._spending,
            self._time_s(),
            reserved_wei=self._reserved_wei(),
            value_wei=request.value_wei,
            gas_wei=gas_wei,
            held_wei=market.balance_wei,
        )

    def _reserved_wei(self) -> int:
        under_way = (e for e in self._box.entries.values() if e.block is None)
        return sum(
            e.intent.value_wei + e.gas * max((a.price.max_fee_wei for a in e.attempts), default=0) for e in under_way
        )

    async def _estimate(self, request: Intent) -> int:
        estimate = read_quantity(await self._rpc.request("eth_estimateGas", self._call(request)))
        return int(estimate * GAS_MARGIN) + GAS_SLACK

    def _call(self, request: Intent) -> dict[str, str]:
        call = {"from": self._signer.wallet, "data": to_hex(request.data), "value": hex(request.value_wei)}
        return call if request.to is None else call | {"to": request.to}

    async def _l1_fee(self, request: Intent) -> int:
        oracle = L1_ORACLES.get(self._chain_id)
        if oracle is None:
            return 0
        padded = request.data + bytes(-len(request.data) % 32)
        data = GET_L1_FEE + (32).to_bytes(32, "big") + len(request.data).to_bytes(32, "big") + padded
        return read_quantity(await self._rpc.request("eth_call", {"to": oracle, "data": to_hex(data)}, "latest"))

    async def _read_market(self) -> _Market:
        """Prices, balance and next nonce; the base fee may double before it is too little."""
        async with self._reading:
            now_s = trio.current_time()
            if self._market is not None and now_s - self._market.read_s < MARKET_S and self.under_way:
                return self._market
            head = await self._rpc.request("eth_getBlockByNumber", "latest", False)
            base = read_quantity(read_field(head, "baseFeePerGas"))
            try:
                tip = read_quantity(await self._rpc.request("eth_maxPriorityFeePerGas"))
            except Failure:
                tip = 0  # a rollup without a market for priority has no such method
            balance_wei = read_quantity(await self._rpc.request("eth_getBalance", self._signer.wallet, "latest"))
            self._market = _Market(Price(tip, 2 * base + tip), balance_wei, await self.next_nonce(), now_s)
            self._warn_if_poor(balance_wei, now_s)
            return self._market

    def _warn_if_poor(self, balance_wei: int, now_s: float) -> None:
        if balance_wei >= self._limits.low_balance_wei:
            self._warned_s = -1e9
        elif now_s - self._warned_s > WARN_AGAIN_S:
            self._warned_s = now_s
            log.warning("the wallet runs low: send it money", wallet=self._signer.wallet, balance_wei=balance_wei)

    # -- The machine's effects

    async def _apply(self, event: outbox.Event, waiting: _Waiting | None = None) -> None:
        self._box, effects = outbox.step(self._box, event)
        if waiting is not None and isinstance(effects[0], outbox.Sign):
            self._waiting.setdefault(effects[0].nonce, []).append(waiting)
        await self._record(effects)
        for effect in effects:
            match effect:
                case outbox.Sign():
                    await self._apply(await self._sign(effect))
                case outbox.Broadcast(nonce, attempt):
                    await self._broadcast(nonce, attempt)
                case outbox.Moved(old, new):
                    log.info("another nonce", old=old, new=new)
                    self._waiting.setdefault(new, []).extend(self._waiting.pop(old, []))
                case outbox.Mined(nonce) | outbox.GivenUp(nonce):
                    for waiter in self._waiting.pop(nonce, []):
                        waiter.ended = effect
                        waiter.done.set()

    async def _record(self, effects: tuple[outbox.Effect, ...]) -> None:
        """All that is to be written, before anything is sent, in one commit."""
        spending = self._note_spent(effects)
        writes = [effect for effect in effects if isinstance(effect, outbox.Write)]
        if writes:
            entries = [entry for write in writes for entry in write.entries]
            # Half a cancellation would leave a nonce that nobody sends.
            with trio.CancelScope(shield=True):
                await self._journal.write(entries, [n for write in writes for n in write.forget], spending)

    def _note_spent(self, effects: tuple[outbox.Effect, ...]) -> Spending | None:
        mined = [effect for effect in effects if isinstance(effect, outbox.Mined)]
        for effect in mined:
            entry = self._box.entries.get(effect.nonce)
            value_wei = entry.intent.value_wei if entry is not None and effect.seen.succeeded else 0
            self._spending = spend(self._spending, value_wei + effect.seen.cost_wei, self._time_s())
        return self._spending if mined else None

    async def _sign(self, effect: outbox.Sign) -> outbox.Signed | outbox.SigningFailed:
        intent, price = effect.intent, effect.price
        transaction = Transaction(
            self._chain_id, effect.nonce, price.tip_wei, price.max_fee_wei, effect.gas, intent.to, intent.value_wei,
            intent.data,
        )  # fmt: skip
        try:
            with trio.CancelScope(shield=True):  # its own deadline is short, and half a cancellation leaves a gap
                if hasattr(self._signer, "sign_transaction"):
                    signed = await self._signer.sign_transaction(transaction)
                else:
                    signed = sign_transaction(transaction, self._signer)
        except SignerFailed as error:
            return outbox.SigningFailed(effect.nonce, str(error))
        return outbox.Signed(effect.nonce, Attempt(price, signed.raw, signed.hash), trio.current_time())

    async def _broadcast(self, nonce: int, attempt: Attempt) -> None:
        unsure = outbox.Answered(nonce, Answer.UNSURE, "", attempt.price, 0)
        try:
            answer, reason = await self._offer(attempt)
            pending = await self.next_nonce() if answer is Answer.NONCE_USED else 0
        except Unavailable:
            await self._apply(unsure)
            return
        except trio.Cancelled:
            self._box, _ = outbox.step(self._box, unsure)
            raise
        if answer not in (Answer.TAKEN, Answer.UNSURE):
            log.info("transaction refused", nonce=nonce, answer=answer.value, reason=reason)
        price = attempt.price if self._market is None else self._market.price
        await self._apply(outbox.Answered(nonce, answer, reason, price, pending))

    async def _offer(self, attempt: Attempt) -> tuple[Answer, str]:
        try:
            await self._rpc.broadcast(attempt.raw)
        except Failure as failure:
            if _says(failure, KNOWN):
                return Answer.TAKEN, ""
            # A repeated request after a lost answer: the first one did arrive.
            if await self._rpc.request("eth_getTransactionByHash", to_hex(attempt.hash)) is not None:
                return Answer.TAKEN, ""
            for answer, phrases in ((Answer.NONCE_USED, NONCE_USED), (Answer.REFUSED, POOR)):
                if _says(failure, phrases):
                    return answer, failure.message
            return (Answer.PRICE_LOW if _says(failure, PRICE_LOW) else Answer.REFUSED), failure.message
        return Answer.TAKEN, ""

    # -- After

    async def _wait(self, request: Intent, waiting: _Waiting) -> Outcome:
        with trio.move_on_after(GIVE_UP_S):
            for delay_s in chain(POLL_S, repeat(POLL_S[-1])):
                with trio.move_on_after(delay_s):
                    await waiting.done.wait()
                if waiting.ended is not None:
                    return await self._judge(request, waiting.ended)
                with _patience():
                    await self._look(delay_s)
        return Unreachable(f"{self._rpc.name}: not mined within {GIVE_UP_S:g} s; it stays in the outbox")

    async def _look(self, at_most_every_s: float) -> None:
        """Tell the machine what the chain has, unless somebody did just now."""
        async with self._looking:
            if trio.current_time() - self._looked_s < at_most_every_s:
                return
            head = await self._rpc.head()
            counted = await self._rpc.agree(str, "eth_getTransactionCount", self._signer.wallet, hex(head.number))
            count = read_quantity(counted)
            receipts: dict[bytes, Seen] = {}
            limiter = trio.CapacityLimiter(RECEIPTS_AT_ONCE)

            async def read(name: bytes) -> None:
                async with limiter:
                    seen = await self._receipt(name)
                if seen is not None:
                    receipts[name] = seen

            async with trio.open_nursery() as nursery:
                for name in outbox.wanted_receipts(self._box, head.number, count):
                    nursery.start_soon(read, name)
            self._looked_s = trio.current_time()
            price = (await self._read_market()).price
        await self._apply(outbox.Looked(self._looked_s, head.number, count, receipts, price))

    async def _receipt(self, name: bytes) -> Seen | None:
        found = await self._rpc.agree(_receipt_key, "eth_getTransactionReceipt", to_hex(name))
        if found is None or read_field(found, "blockNumber") is None:
            return None
        block, status, gas = (read_quantity(read_field(found, key)) for key in ("blockNumber", "status", "gasUsed"))
        price, l1_fee = (read_field(found, key) for key in ("effectiveGasPrice", "l1Fee"))
        cost_wei = gas * (0 if price is None else read_quantity(price))
        return Seen(block, status == 1, gas, cost_wei + (0 if l1_fee is None else read_quantity(l1_fee)))

    async def _judge(self, request: Intent, ended: outbox.Mined | outbox.GivenUp) -> Outcome:
        if isinstance(ended, outbox.GivenUp):
            return Reverted(ended.reason)
        if ended.seen.succeeded:
            return Mined(ended.hash, ended.seen.gas_used)
        try:
            # The state after its block tells why in nearly every case: somebody else's call came first.
            await self._rpc.request("eth_call", self._call(request), hex(ended.seen.block))
        except Failure as failure:
            return _outcome(failure)
        return Reverted("reverted when mined, though it would not now; try again")


@contextmanager
def _patience() -> Iterator[None]:
    """An endpoint that fails while we wait: the transaction is recorded, the next look may find it."""
    try:
        yield
    except* (Failure, Unavailable):
        pass


def _receipt_key(receipt: Any) -> tuple[str, str]:
    return str(read_field(receipt, "blockHash")), str(read_field(receipt, "status"))


def _outcome(failure: Failure) -> Outcome:
    """What the endpoint refused, as the port tells it."""
    if failure.is_revert:
        data = failure.data or b""
        return Reverted(name_revert(data) or failure.message, explain_revert(data))
    if _says(failure, POOR):
        return Reverted(failure.message)
    return Unreachable(failure.message)


def _says(failure: Failure, phrases: tuple[str, ...]) -> bool:
    return any(phrase in failure.message.lower() for phrase in phrases)
