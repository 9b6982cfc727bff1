"""Posts the rounds of a public beacon that our jobs wait for: a part of the chain watcher's.

When and which, `protocols/beacon.py` decides. Here a round is looked for on chain, fetched from one source after the
other, and posted: the transaction is simulated first, so a source that lies costs nothing but its turn.
Spec: protocols/README.md, "Beacon".
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
import trio

from actors.ports import BeaconSource, Chain, Mined, NoAnswer, Outcome, Reverted, Unreachable
from protocols import beacon
from protocols.job import DRAND_EVMNET
from protocols.seat import Part
from protocols.verdict import Accept, Reject

log = structlog.get_logger("skynet.actors.beacon")

BAD_BEACON = "BadBeacon"


class BeaconPoster:
    def __init__(self, chain: Chain, sources: tuple[BeaconSource, ...]) -> None:
        """Without sources it does nothing: the beacon is a test beacon, or others have to post."""
        self._chain = chain
        self._sources = list(sources)
        """The one that was right last comes first."""
        self._watch = beacon.Watch()

    def look(self, parts: Iterable[Part], now_s: float, nursery: trio.Nursery) -> None:
        """Begin to post what is due; `now_s` is chain time."""
        if not self._sources:
            return
        needs = tuple(need for part in parts if (need := beacon.find_need(part, DRAND_EVMNET)) is not None)
        self._watch, effects = beacon.step(self._watch, beacon.Looked(now_s, needs))
        for effect in effects:
            nursery.start_soon(self._perform, effect.round)

    def note_reorganized(self) -> None:
        self._watch, _ = beacon.step(self._watch, beacon.Reorganized())

    async def _perform(self, number: int) -> None:
        randomness = await self._chain.beacon(number)
        is_out = randomness is not None and not isinstance(randomness, Unreachable)
        if randomness is None:
            is_out = await self._post(number)
        self._watch, _ = beacon.step(self._watch, beacon.PostingEnded(number, is_out))

    async def _post(self, number: int) -> bool:
        """Whether it is on chain now."""
        for source in tuple(self._sources):
            signature = await self._fetch(source, number)
            if signature is None:
                continue
            outcome = await self._chain.post_beacon(number, signature)
            _tell(number, source.name, outcome)
            if isinstance(outcome, Reverted) and outcome.reason == BAD_BEACON:
                continue
            self._sources.remove(source)
            self._sources.insert(0, source)
            return isinstance(outcome, Mined)
        log.warning("no source has the beacon's round", round=number, sources=len(self._sources))
        return False

    async def _fetch(self, source: BeaconSource, number: int) -> bytes | None:
        signature = await source.fetch(number)
        if isinstance(signature, NoAnswer):
            log.info("beacon source has no answer", source=source.name, round=number, reason=signature.reason)
            return None
        match beacon.validate_signature(signature):
            case Accept():
                return signature
            case Reject(reason):
                log.warning("beacon source lies", source=source.name, round=number, reason=reason)
        return None


def _tell(number: int, source: str, outcome: Outcome) -> None:
    match outcome:
        case Mined(_, gas_used):
            log.info("beacon round posted", round=number, source=source, gas=gas_used)
        case Reverted(reason) if reason == BAD_BEACON:
            log.warning("beacon source lies", source=source, round=number, reason="no valid signature")
        case Reverted(reason, detail):
            log.warning("beacon round not posted", round=number, reason=detail or reason)
        case Unreachable(reason):
            log.warning("chain unreachable", call="post_beacon", reason=reason)
