"""A running node's place in the network, left in its folder for people and scripts: addresses.json.

    {"addresses": […], "record": "enr:…", "reachability": "public", "connected": […]}

The one rule: it is written whole, beside and renamed, so that nobody reads half of one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from actors.discovery import CONTACT, CONTACT_BYTES
from actors.ports import Network
from node.config import ADDRESS_FILE
from node.errors import DataError
from node.records import read_beside
from protocols import record
from protocols.autonat import Reachability
from protocols.discovery import Contact
from protocols.ids import PeerId
from protocols.verdict import Reject

LOOK_S = 2.0  # between looks at what may have changed


@dataclass(frozen=True, slots=True)
class Standing:
    addresses: tuple[str, ...]
    """For others to dial; those over a relay's circuit come last."""
    record: str
    """Signed, for a node list."""
    reachability: str
    """Of `Reachability`."""
    connected: tuple[PeerId, ...]


def standing_of(network: Network) -> Standing:
    return Standing(network.addresses, network.record, network.reachability.value, network.connected())


def write_standing(folder: Path, standing: Standing) -> None:
    temporary = folder / f"{ADDRESS_FILE}.new"
    temporary.write_text(json.dumps(asdict(standing)) + "\n")
    temporary.replace(folder / ADDRESS_FILE)


async def keep_standing(folder: Path, network: Network) -> None:
    """Write it anew whenever it has changed."""
    written = None
    while True:
        now = standing_of(network)
        if now != written and now.addresses + now.connected:  # while the transport restarts, the last one stands
            write_standing(folder, now)
            written = now
        await trio.sleep(LOOK_S)


def read_standing(folder: Path) -> Standing | None:
    """Return what the node of this folder wrote last, None if no node runs on it. Raises DataError."""
    path = folder / ADDRESS_FILE
    if not _is_locked(folder / "lock") or not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return Standing(
            tuple(found["addresses"]),
            str(found["record"]),
            Reachability(found["reachability"]).value,
            tuple(map(PeerId, found["connected"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(path, "is not what a node writes", "restart the node") from None


def read_contacts(folder: Path) -> Sequence[tuple[PeerId, Contact]]:
    """Return the peers that the node of this folder remembers, whether or not it runs. Raises DataError."""
    found = []
    for key, value in read_beside(folder / "records.sqlite3", CONTACT):
        contact = record.decode(Contact, value, limit_bytes=CONTACT_BYTES)
        if not isinstance(contact, Reject):
            found.append((PeerId(key.decode()), contact))
    return found


def _is_locked(path: Path) -> bool:
    """Whether a process holds the folder."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
