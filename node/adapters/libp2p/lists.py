"""Reading a node list: the walk of `protocols.dns_list` over a name server, to addresses of our cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from actors.ports import NoAnswer
from node.adapters.libp2p.records import addresses_of, read_record, verify
from node.adapters.libp2p.streams import log
from protocols.dns_list import Looked, Walk, begin, parse_url, step
from protocols.verdict import Reject

WALK_S = 60.0  # for a whole list; what was found until then counts

LookUp = Callable[[str], Awaitable[Sequence[str] | NoAnswer]]
"""TXT records of a name."""


async def read_list(text: str, look_up: LookUp, cluster: int) -> Sequence[str] | NoAnswer:
    """Return the addresses of the nodes in the list `enrtree://…`; NoAnswer if it has no root that is signed."""
    url = parse_url(text)
    if isinstance(url, Reject):
        return NoAnswer(url.reason)
    walk, reasons = begin(url), []
    with trio.move_on_after(WALK_S):
        while walk.waiting:
            texts = await look_up(walk.waiting[0].name)
            if isinstance(texts, NoAnswer):
                reasons.append(texts.reason)
                texts = ()
            walk = step(walk, Looked(texts), verify)
    if not walk.records and (reasons or walk.faults):
        return NoAnswer(f"{url.domain}: {(reasons or walk.faults)[0]}")
    for reason in walk.faults:
        log.info("node list: %s", reason)
    return _addresses(walk, cluster)


def _addresses(walk: Walk, cluster: int) -> list[str]:
    found: dict[str, None] = {}
    for text in walk.records:
        record = read_record(text)
        if isinstance(record, Reject):
            log.info("node list: %s", record.reason)
        else:
            found.update(dict.fromkeys(addresses_of(record, cluster)))
    return list(found)
