"""From calldata to a mined transaction: one wallet's nonces, fees, gas, resending.

    estimate -> sign, send (one at a time) -> poll for the receipt -> mined | raise the fee and send again

The one rule: a call that reverts in the simulation is not sent, and a transaction that may have reached the
endpoint is never given up without a word: it is sent again with the same nonce, so that at most one is mined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
import trio

from actors.ports import Mined, Outcome, Reverted, Unreachable
from node.adapters.evm.coding import name_revert
from node.adapters.evm.rpc import Endpoint, Failure, Unavailable, read_field, read_quantity, to_hex
from node.adapters.evm.signing import SignedTransaction, Signer, Transaction, sign_transaction
from protocols.ids import Address

log = structlog.get_logger("skynet.node.adapters.evm")

POLL_S = (0.05, 0.1, 0.2, 0.4)  # then every last of these: a development chain has the receipt at once
RESEND_S = 30.0  # a dozen blocks: either it was lost or it pays too little
RESENDS = 4
FEE_STEP = 1.25  # clients ask for 10 % more to replace a transaction
GAS_MARGIN = 1.25
GAS_SLACK = 120_000  # another's call may come first and make ours do more: the quorum's last `ready` starts training
NONCE_TRIES = 3

# What clients say, for want of codes: geth, Nethermind, anvil and this project's development chain.
KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
NONCE_WRONG = ("nonce too low", "nonce too high", "nonce is too", "underpriced", "oldnonce")
POOR = ("insufficient funds", "insufficient balance", "enough funds")


@dataclass(frozen=True, slots=True)
class Request:
    """What to execute; None for `to` creates a contract."""

    to: Address | None
    data: bytes
    value_wei: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction: bytes
    block: int
    succeeded: bool
    gas_used: int


class Sender:
    def __init__(self, endpoint: Endpoint, signer: Signer, chain_id: int) -> None:
        self._endpoint = endpoint
        self._signer = signer
        self._chain_id = chain_id
        self._turn = trio.Lock()
        self._nonce: int | None = None
        """Of our next transaction; None: ask the endpoint."""

    async def send(self, request: Request) -> Outcome:
        try:
            gas = await self._estimate(request)
            async with self._turn:
                transaction, signed = await self._submit(request, gas)
            return await self._wait_mined(request, transaction, signed)
        except Failure as failure:
            return _outcome(failure)
        except Unavailable as error:
            return Unreachable(str(error))

    async def next_nonce(self) -> int:
        """Of the wallet's next transaction, as far as the endpoint knows."""
        return read_quantity(await self._endpoint.request("eth_getTransactionCount", self._signer.wallet, "pending"))

    # -- Before

    async def _estimate(self, request: Request) -> int:
        estimate = read_quantity(await self._endpoint.request("eth_estimateGas", self._call(request)))
        return int(estimate * GAS_MARGIN) + GAS_SLACK

    def _call(self, request: Request) -> dict[str, str]:
        call = {"from": self._signer.wallet, "data": to_hex(request.data), "value": hex(request.value_wei)}
        return call if request.to is None else call | {"to": request.to}

    async def _fees(self) -> tuple[int, int]:
        """(tip, most) in wei per gas; the base fee may double before it is too little."""
        head = await self._endpoint.request("eth_getBlockByNumber", "latest", False)
        base = read_quantity(read_field(head, "baseFeePerGas"))
        try:
            tip = read_quantity(await self._endpoint.request("eth_maxPriorityFeePerGas"))
        except Failure:
            tip = 0  # a rollup without a market for priority has no such method
        return tip, 2 * base + tip

    # -- Sending, one at a time

    async def _submit(self, request: Request, gas: int) -> tuple[Transaction, SignedTransaction]:
        tip, most = await self._fees()
        for _ in range(NONCE_TRIES):
            nonce, self._nonce = self._nonce, None  # unknown again, should anything below fail or be cancelled
            if nonce is None:
                nonce = await self.next_nonce()
            transaction = Transaction(
                self._chain_id, nonce, tip, most, gas, request.to, request.value_wei, request.data
            )
            signed = sign_transaction(transaction, self._signer)
            try:
                await self._broadcast(signed)
            except Failure as failure:
                if not _says(failure, NONCE_WRONG):
                    raise
                log.info("nonce refused", nonce=nonce, reason=failure.message)
                tip, most = int(tip * FEE_STEP) + 1, int(most * FEE_STEP) + 1  # it may replace a stuck one
                continue
            self._nonce = nonce + 1
            return transaction, signed
        raise Unavailable(f"{self._endpoint.name}: no agreement on the wallet's nonce; does another program use it?")

    async def _broadcast(self, signed: SignedTransaction) -> None:
        try:
            await self._endpoint.request("eth_sendRawTransaction", to_hex(signed.raw))
        except Failure as failure:
            # A repeated request after a lost answer: the first one did arrive.
            if not _says(failure, KNOWN) and await self._receipt(signed.hash) is None:
                raise

    # -- After

    async def _wait_mined(self, request: Request, transaction: Transaction, signed: SignedTransaction) -> Outcome:
        sent = [signed]
        for _ in range(RESENDS):
            receipt = None
            with trio.move_on_after(RESEND_S):
                receipt = await self._poll(sent)
            if receipt is not None:
                return await self._judge(request, receipt)
            tip, most = int(transaction.tip_wei * FEE_STEP) + 1, int(transaction.max_fee_wei * FEE_STEP) + 1
            transaction = replace(transaction, tip_wei=tip, max_fee_wei=most)
            sent.append(sign_transaction(transaction, self._signer))
            log.info("transaction sent again", nonce=transaction.nonce, attempt=len(sent))
            try:
                await self._broadcast(sent[-1])
            except Failure as failure:
                log.info("replacement refused", reason=failure.message)  # the first one may be mined yet
        self._nonce = None
        return Unreachable(f"{self._endpoint.name}: not mined within {RESENDS * RESEND_S:g} s")

    async def _poll(self, sent: list[SignedTransaction]) -> Receipt:
        delays = list(POLL_S)
        while True:
            for signed in sent:
                receipt = await self._receipt(signed.hash)
                if receipt is not None:
                    return receipt
            await trio.sleep(delays.pop(0) if len(delays) > 1 else delays[0])

    async def _receipt(self, transaction_hash: bytes) -> Receipt | None:
        found = await self._endpoint.request("eth_getTransactionReceipt", to_hex(transaction_hash))
        if found is None or read_field(found, "blockNumber") is None:
            return None
        block, status, gas = (read_quantity(read_field(found, name)) for name in ("blockNumber", "status", "gasUsed"))
        return Receipt(transaction_hash, block, status == 1, gas)

    async def _judge(self, request: Request, receipt: Receipt) -> Outcome:
        if receipt.succeeded:
            return Mined(receipt.transaction, receipt.gas_used)
        try:
            # The state after its block tells why in nearly every case: somebody else's call came first.
            await self._endpoint.request("eth_call", self._call(request), hex(receipt.block))
        except Failure as failure:
            return _outcome(failure)
        return Reverted("reverted when mined, though it would not now; try again")


def _outcome(failure: Failure) -> Outcome:
    """What the endpoint refused, as the port tells it."""
    if failure.is_revert:
        return Reverted(name_revert(failure.data or b"") or failure.message)
    if _says(failure, POOR):
        return Reverted(failure.message)
    return Unreachable(failure.message)


def _says(failure: Failure, phrases: tuple[str, ...]) -> bool:
    return any(phrase in failure.message.lower() for phrase in phrases)
