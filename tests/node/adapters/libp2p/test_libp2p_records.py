"""Records of ours and of others, and lists of them, read from a name server."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from name_server import publish

from actors.ports import NoAnswer
from node.adapters.libp2p.lists import read_list
from node.adapters.libp2p.records import Description, RecordKey, addresses_of, make_record, read_record
from node.identity import peer_id
from protocols.enr import MAX_ENR_BYTES, Capability, NodeRecord, Sharding, encode_multiaddrs, encode_record, to_text
from protocols.verdict import Reject

VECTORS = Path(__file__).parents[3] / "vectors" / "enr" / "records.json"
PEER = peer_id(bytes(range(32)))
KEY = RecordKey(b"\5" * 32)
ALL = Capability(15)


def at(host: str, port: int = 4001, more: str = "") -> str:
    return f"/ip4/{host}/tcp/{port}{more}/p2p/{PEER}"


def read(encoded: bytes) -> NodeRecord:
    record = read_record(encoded)
    assert isinstance(record, NodeRecord), record
    return record


def ours(*addresses: str, shards: int = 8, cluster: int = 1717) -> bytes:
    return make_record(KEY, 7, Description(addresses, Sharding(cluster, tuple(range(shards))), ALL))


def test_our_record_leads_to_our_peer_id() -> None:
    addresses = (at("192.0.2.1"), at("192.0.2.1", 443, "/ws"))
    record = read(ours(*addresses))
    assert addresses_of(record, 1717) == addresses
    assert addresses_of(record, 1718) == ()  # of another cluster
    assert (record.sequence, record.capabilities) == (7, ALL)
    assert record.sharding == Sharding(1717, tuple(range(8)))
    assert record.public_key == RecordKey(b"\5" * 32).public != RecordKey(b"\6" * 32).public


@pytest.mark.parametrize("shards", [1, 8, 63, 64, 1024])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_a_record_says_what_fits(shards: int, count: int) -> None:
    addresses = tuple(at(f"192.0.2.{n}") for n in range(count))
    encoded = ours(*addresses, shards=shards)
    record = read(encoded)
    assert len(encoded) <= MAX_ENR_BYTES
    found = addresses_of(record, 1717)
    assert found == addresses[: len(found)]
    assert len(found) >= min(count, 1)
    if shards <= 8:
        assert record.sharding is not None
        assert len(found) >= min(count, 2)


def test_records_of_others_lead_to_their_keys_peer_id() -> None:
    record = read_record(json.loads(VECTORS.read_text())["nwaku-sandbox"])
    assert isinstance(record, NodeRecord)
    peer = "16Uiu2HAmNaeL4p3WEYzC9mgXBmBWSgWjPHRvatZTXnp8Jgv3iKsb"
    assert addresses_of(record, 1) == (
        f"/dns4/node-01.do-ams3.waku.sandbox.status.im/tcp/30303/p2p/{peer}",
        f"/dns4/node-01.do-ams3.waku.sandbox.status.im/tcp/8000/wss/p2p/{peer}",
        f"/ip4/64.225.80.192/tcp/30303/p2p/{peer}",
    )


def test_any_multiaddrs_are_survived() -> None:
    chance = random.Random(3)
    good = list(map(bytes, read(ours(at("192.0.2.1"), at("192.0.2.1", 443, "/ws"))).multiaddrs))
    for _ in range(600):
        bad = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 4)):
            spot = chance.randrange(len(bad))
            bad[spot : spot + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        encoded = encode_record(1, {"multiaddrs": encode_multiaddrs([bytes(bad)])}, KEY.public, KEY.sign)
        for address in addresses_of(read(encoded), 1717):
            assert address.isprintable()
            assert "/p2p/" in address


# -- Lists ---------------------------------------------------------------------


async def test_a_list_is_read_to_addresses() -> None:
    texts = [to_text(ours(at("192.0.2.1"))), to_text(ours(at("192.0.2.9"), cluster=2000)), "enr:damaged"]
    url, zone = publish(KEY, texts)

    async def look_up(name: str) -> Sequence[str] | NoAnswer:
        return [zone[name]] if name in zone else NoAnswer(f"{name}: no such name")

    assert await read_list(url, look_up, 1717) == [at("192.0.2.1")]
    assert await read_list(url, look_up, 2000) == [at("192.0.2.9")]
    missing = await read_list(url.replace("nodes.test", "other.test"), look_up, 1717)
    assert missing == NoAnswer("other.test: other.test: no such name")
    unsigned = await read_list(url.replace("enrtree://A", "enrtree://B"), look_up, 1717)
    assert isinstance(unsigned, NoAnswer)
    assert isinstance(await read_list("enrtree://x@y", look_up, 1717), NoAnswer)
    assert isinstance(read_record("enr:damaged"), Reject)
