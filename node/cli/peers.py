"""`skynet peers`: whether others can reach the node of a configuration, and the peers that it knows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from node.cli.output import print_json
from node.config import load_config
from node.errors import ExitCode
from node.standing import Standing, read_contacts, read_standing
from protocols.autonat import Reachability
from protocols.discovery import Contact
from protocols.ids import PeerId

REACHABLE = {
    Reachability.UNKNOWN.value: "nobody has said yet whether it can be dialled",
    Reachability.PUBLIC.value: "others can dial it",
    Reachability.PRIVATE.value: "others can't dial it",
}


async def peers(options: argparse.Namespace) -> int:
    folder = load_config(options.config).data_dir
    standing, contacts = read_standing(folder), read_contacts(folder)
    connected = frozenset(standing.connected if standing else ())
    if options.json:
        known = [{"peer": peer, "connected": peer in connected, **asdict(contact)} for peer, contact in contacts]
        print_json({"running": standing is not None, **(asdict(standing) if standing else {}), "contacts": known})
        return ExitCode.OK
    for line in _headlines(standing):
        print(line)
    _print_table(contacts, connected)
    return ExitCode.OK


def _headlines(standing: Standing | None) -> list[str]:
    if standing is None:
        return ["the node doesn't run; these are the peers that it will start from"]
    relayed = [address for address in standing.addresses if "/p2p-circuit/" in address]
    told = REACHABLE[standing.reachability]
    if standing.reachability == Reachability.PRIVATE.value:
        relays = len({address.split("/p2p/")[1].partition("/")[0] for address in relayed})
        told += (
            f", but {relays} relay{'s lead' if relays > 1 else ' leads'} to it"
            if relays
            else ", and no relay leads to it"
        )
    return [told, *standing.addresses, f"{len(standing.connected)} connected"]


def _print_table(contacts: Sequence[tuple[PeerId, Contact]], connected: frozenset[PeerId]) -> None:
    table = Table()
    for name in ("peer", "connected", "answered", "score", "failures", "address"):
        table.add_column(name, justify="right" if name in ("score", "failures") else "left", overflow="fold")
    for peer, contact in sorted(contacts, key=lambda known: (known[0] not in connected, -known[1].score, known[0])):
        age_s = time.time() - contact.answered_s
        row = ("yes" if peer in connected else "", _age(age_s), f"{contact.score:.2f}", str(contact.failures))
        table.add_row(peer, *row, contact.addresses[0])
    for peer in sorted(connected - {peer for peer, _ in contacts}):
        table.add_row(peer, "yes", "", "", "", "it dialled us")
    Console().print(table if table.rows else "no peer has answered yet")


def _age(age_s: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= size_s:
            return f"{age_s / size_s:.0f} {unit} ago"
    return f"{max(age_s, 0):.0f} s ago"
