"""One job's events as the chain has them now, for a client that watches: also what a reorganisation takes back.

Cheap on a long chain: the endpoint is asked for this job's logs only, in stretches that grow.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from actors.ports import Unreachable
from node.adapters.evm import EvmChain
from node.client.progress import Happened, TakenBack
from protocols import chain_follow
from protocols.chain_follow import Deliver, Follow, Head, HeaderRead, HeadSeen, ReadEvents, ReadHeader, Withdraw
from protocols.ids import JobId

STRETCH = 10_000_000  # blocks that one attempt may cover; the adapter cuts it to what the endpoint takes


@dataclass
class Feed:
    chain: EvmChain
    job: JobId
    first_block: int
    confirmations: int
    poll_s: float
    _blocks: list[int] = field(default_factory=list)
    """Of each event that stands."""

    async def follow(self) -> AsyncGenerator[Happened | TakenBack, None]:
        """From the job's posting on, for ever."""
        state = Follow(self.first_block - 1, self.confirmations, stretch=STRETCH)
        while True:
            head = await self.chain.head()
            event: chain_follow.Event | None = None if isinstance(head, Unreachable) else HeadSeen(head)
            while event is not None:
                state, effects = chain_follow.step(state, event)
                event = None
                for effect in effects:
                    match effect:
                        case Withdraw(above):
                            if taken := self._take_back(above):
                                yield taken
                        case Deliver():
                            pass  # with the gas, below
                        case ReadHeader(number):
                            event = await self._header(number)
                        case ReadEvents(first, last, pin):
                            read = await self.chain.read_job(self.job, first, last, pin)
                            if isinstance(read, Unreachable):
                                event = chain_follow.Failed()
                                continue
                            event = chain_follow.EventsRead(())
                            for located, gas_used in read:
                                self._blocks.append(located.block)
                                yield Happened(located.event, gas_used)
            await self.chain.wait_head(self.poll_s)

    def _take_back(self, above: int) -> TakenBack | None:
        kept = sum(block <= above for block in self._blocks)
        if kept == len(self._blocks):
            return None
        del self._blocks[kept:]
        return TakenBack(kept)

    async def _header(self, number: int) -> chain_follow.Event:
        header = await self.chain.header(number)
        if isinstance(header, Unreachable):
            return chain_follow.Failed()
        return HeaderRead(number, header if isinstance(header, Head) else None)
