"""Several JSON-RPC endpoints as one: the first that works is asked, and what matters is agreed on.

The one rule: with three endpoints or more, no block is believed that fewer than half of them and one have. With one
or two there is nobody to agree with: the second is there for when the first is down.

An endpoint that fails or contradicts the others rests, each time for longer, and is asked last meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
import trio

from node.adapters.evm.rpc import (
    RETRY_DELAYS_S,
    Endpoint,
    Failure,
    Unavailable,
    open_endpoint,
    read_data,
    read_field,
    read_quantity,
    to_hex,
)
from protocols.chain_follow import Head

log = structlog.get_logger("skynet.node.adapters.evm")

PATIENCE_S = 5.0  # for one endpoint while another could be asked; too low: a busy one never answers
REST_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # after the first, second … failure in a row; then the last of these
PACE_S = 0.01  # between looks at a bell's word; too low: one that never stops ringing keeps the node busy
TOO_BUSY = (-32005, -32603, -32097)  # limit exceeded, internal error, what proxies answer for a backend that is gone


class Rpc(Protocol):
    """What adapters ask: one endpoint or a pool of them."""

    @property
    def name(self) -> str: ...
    async def request(self, method: str, *params: Any) -> Any: ...


@dataclass(slots=True)
class _Health:
    failures: int = 0
    rests_until_s: float = 0.0


class Pool:
    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._health = {endpoint: _Health() for endpoint in endpoints}
        self._bell = trio.Event()
        self.failovers = 0
        """How often a request was answered by another endpoint than the first that was asked."""
        self.contradictions = 0
        """How often an endpoint had another block than the others."""

    def __repr__(self) -> str:
        return f"Pool({self.name})"

    @property
    def name(self) -> str:
        return ", ".join(endpoint.name for endpoint in self._endpoints)

    @property
    def quorum(self) -> int:
        """Endpoints that must agree."""
        count = len(self._endpoints)
        return count // 2 + 1 if count > 2 else 1

    # -- Asking one

    async def request(self, method: str, *params: Any) -> Any:
        """The first endpoint's result that is to be had. Raises Failure or Unavailable."""
        if len(self._endpoints) == 1:
            return await self._endpoints[0].request(method, *params)
        problem: Exception = Unavailable(self.name)
        for delay_s in (0.0, *RETRY_DELAYS_S):
            await trio.sleep(delay_s)
            for number, endpoint in enumerate(self._in_order()):
                try:
                    result = await self._ask(endpoint, method, params)
                except Unavailable as error:
                    problem = error
                    continue
                except Failure as failure:
                    if failure.is_revert or failure.code not in TOO_BUSY:
                        raise
                    problem = failure
                    self._note_failure(endpoint)
                    continue
                self.failovers += number > 0
                return result
        raise problem

    def _in_order(self) -> list[Endpoint]:
        """As configured; those that rest last, the first to be back before the others."""
        now_s = trio.current_time()
        return sorted(self._endpoints, key=lambda e: max(self._health[e].rests_until_s - now_s, 0.0))

    async def _ask(self, endpoint: Endpoint, method: str, params: tuple[Any, ...]) -> Any:
        try:
            with trio.fail_after(PATIENCE_S):
                result = await endpoint.request_once(method, *params)
        except Unavailable:
            self._note_failure(endpoint)
            raise
        except trio.TooSlowError:
            self._note_failure(endpoint)
            raise Unavailable(f"{endpoint.name}: no answer within {PATIENCE_S:g} s") from None
        self._health[endpoint].failures = 0
        return result

    def _note_failure(self, endpoint: Endpoint) -> None:
        health = self._health[endpoint]
        rest_s = REST_S[min(health.failures, len(REST_S) - 1)]
        health.failures += 1
        health.rests_until_s = trio.current_time() + rest_s
        if health.failures == 1:
            log.warning("an endpoint does not answer", endpoint=endpoint.name, rest_s=rest_s)

    # -- Asking all

    async def agree(self, same: Callable[[Any], Hashable], method: str, *params: Any) -> Any:
        """The result that a quorum gives, by what `same` makes of it. Raises Failure or Unavailable."""
        if self.quorum == 1:
            return await self.request(method, *params)
        answers = await self._ask_all(self._awake(), method, params)
        return self._majority({endpoint: (same(answer), answer) for endpoint, answer in answers.items()}, method)

    async def same_everywhere(self, method: str) -> Any:
        """What every endpoint that answers says. Raises Unavailable, also where two say different things."""
        if len(self._endpoints) == 1:
            return await self.request(method)
        answers = await self._ask_all(self._endpoints, method, ())
        if not answers:
            raise Unavailable(f"{self.name}: none answers")
        if len({str(answer) for answer in answers.values()}) > 1:
            said = ", ".join(f"{endpoint.name} says {answer}" for endpoint, answer in answers.items())
            raise Unavailable(f"{method}: {said}")
        return next(iter(answers.values()))

    async def broadcast(self, raw: bytes) -> None:
        """Offer a transaction to every endpoint; one that takes it is enough. Raises Failure or Unavailable."""
        if len(self._endpoints) == 1:
            await self._endpoints[0].request("eth_sendRawTransaction", to_hex(raw))
            return
        refusals: list[Failure] = []
        answers = await self._ask_all(self._awake(), "eth_sendRawTransaction", (to_hex(raw),), refusals)
        if not answers:
            raise refusals[0] if refusals else Unavailable(f"{self.name}: no endpoint takes the transaction")

    def _awake(self) -> list[Endpoint]:
        """Those that don't rest, and of the others so many that a quorum is asked."""
        now_s = trio.current_time()
        order = self._in_order()
        awake = sum(self._health[e].rests_until_s <= now_s for e in order)
        return order[: max(awake, self.quorum)]

    async def _ask_all(
        self, endpoints: Sequence[Endpoint], method: str, params: tuple[Any, ...], refusals: list[Failure] | None = None
    ) -> dict[Endpoint, Any]:
        answers: dict[Endpoint, Any] = {}

        async def ask(endpoint: Endpoint) -> None:
            try:
                answers[endpoint] = await self._ask(endpoint, method, params)
            except Failure as failure:
                if refusals is not None:
                    refusals.append(failure)
            except Unavailable:
                pass

        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(ask, endpoint)
        return answers

    def _majority(self, answers: Mapping[Endpoint, tuple[Hashable, Any]], what: str) -> Any:
        votes: dict[Hashable, list[Endpoint]] = {}
        for endpoint, (key, _) in answers.items():
            votes.setdefault(key, []).append(endpoint)
        most = max(votes.values(), key=len, default=[])
        if len(most) < self.quorum:
            asked = f"{len(answers)} of {len(self._endpoints)} endpoints answer, {len(most)} agree"
            raise Unavailable(f"{what}: {asked}, {self.quorum} must")
        for endpoint in answers:
            if endpoint not in most:
                self._note_contradiction(endpoint, what)
        return answers[most[0]][1]

    def _note_contradiction(self, endpoint: Endpoint, what: str) -> None:
        self.contradictions += 1
        health = self._health[endpoint]
        health.failures = max(health.failures, 3)  # worse than being slow
        self._note_failure(endpoint)
        log.warning("an endpoint contradicts the others", endpoint=endpoint.name, about=what)

    # -- Blocks

    async def head(self) -> Head:
        """The highest block that a quorum has. Raises Unavailable."""
        if self.quorum == 1:
            return _read_head(await self.request("eth_getBlockByNumber", "latest", False))
        endpoints = self._awake()
        latest = await self._ask_all(endpoints, "eth_getBlockByNumber", ("latest", False))
        heads = {endpoint: head for endpoint, block in latest.items() if (head := _try_head(block)) is not None}
        if len(heads) < self.quorum:
            raise Unavailable(f"head: {len(heads)} of {len(self._endpoints)} endpoints answer, {self.quorum} must")
        number = sorted((head.number for head in heads.values()), reverse=True)[self.quorum - 1]
        ahead = [endpoint for endpoint, head in heads.items() if head.number > number]
        blocks = await self._ask_all(ahead, "eth_getBlockByNumber", (hex(number), False))
        heads |= {endpoint: head for endpoint, block in blocks.items() if (head := _try_head(block)) is not None}
        there = {endpoint: (head.hash, head) for endpoint, head in heads.items() if head.number == number}
        found: Head = self._majority(there, f"block {number}")
        return found

    async def header(self, number: int) -> Head | None:
        """The block of this number that a quorum has; None if it has none. Raises Unavailable."""
        block = await self.agree(_block_hash, "eth_getBlockByNumber", hex(number), False)
        return None if block is None else _read_head(block)

    # -- New heads

    def ring(self) -> None:
        """Somebody says that there is a new head: look now."""
        self._bell.set()

    async def wait_head(self, timeout_s: float) -> None:
        """Return when a new head is announced, at the latest after `timeout_s`."""
        with trio.move_on_after(timeout_s):
            await self._bell.wait()
            await trio.sleep(PACE_S)
        self._bell = trio.Event()


@asynccontextmanager
async def open_pool(urls: Sequence[str]) -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        yield Pool([await stack.enter_async_context(open_endpoint(url)) for url in urls])


def _block_hash(block: Any) -> Hashable:
    head = _try_head(block)
    return None if head is None else head.hash


def _try_head(block: Any) -> Head | None:
    try:
        return _read_head(block)
    except Unavailable:
        return None


def _read_head(block: object) -> Head:
    number, timestamp_s = (read_quantity(read_field(block, name)) for name in ("number", "timestamp"))
    digest, parent = (read_data(read_field(block, name)) for name in ("hash", "parentHash"))
    return Head(number, digest, timestamp_s, parent)
