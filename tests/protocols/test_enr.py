"""Node records: EIP-778's example, a real one of another implementation, and what strangers make of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import coincurve
import pytest
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from hypothesis import given
from hypothesis import strategies as st

from protocols import rlp
from protocols.enr import (
    MAX_ENR_BYTES,
    Capability,
    NodeRecord,
    Sharding,
    decode_record,
    encode_multiaddrs,
    encode_record,
    encode_sharding,
    from_text,
    to_text,
)
from protocols.ids import Digest
from protocols.keccak import keccak256
from protocols.verdict import Reject

EIP_778_KEY = bytes.fromhex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "enr" / "records.json").read_text())
EIP_778, NWAKU = VECTORS["eip-778"], VECTORS["nwaku-sandbox"]
KEY = coincurve.PrivateKey(b"\1" * 32)


def sign_with(key: coincurve.PrivateKey, digest: Digest) -> bytes:
    signature: bytes = key.sign_recoverable(digest, hasher=None)[:64]
    return signature


def verify(public_key: bytes, digest: Digest, signature: bytes) -> bool:
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return bool(coincurve.PublicKey(public_key).verify(der, digest, hasher=None))
    except ValueError:
        return False


def encode(pairs: dict[str, bytes], sequence: int = 1) -> bytes:
    return encode_record(sequence, pairs, KEY.public_key.format(), lambda digest: sign_with(KEY, digest))


def decode(encoded: bytes) -> NodeRecord:
    record = decode_record(encoded, verify)
    assert isinstance(record, NodeRecord), record
    return record


def decode_text(text: str) -> NodeRecord:
    encoded = from_text(text)
    assert isinstance(encoded, bytes)
    return decode(encoded)


def test_the_example_of_eip_778() -> None:
    record = decode_text(EIP_778)
    assert record.sequence == 1
    assert record.pairs == {
        "id": b"v4",
        "ip": bytes((127, 0, 0, 1)),
        "secp256k1": bytes.fromhex("03ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138"),
        "udp": (30303).to_bytes(2, "big"),
    }
    assert record.endpoints == ()  # no TCP port
    key = coincurve.PrivateKey(EIP_778_KEY)
    pairs = {"ip": bytes((127, 0, 0, 1)), "udp": (30303).to_bytes(2, "big")}
    again = encode_record(1, pairs, key.public_key.format(), lambda digest: sign_with(key, digest))
    assert to_text(again) == EIP_778


def test_a_record_of_nwaku() -> None:
    record = decode_text(NWAKU)
    assert record.endpoints == (("64.225.80.192", 30303),)
    assert record.sharding == Sharding(1, tuple(range(8)))
    assert record.capabilities == Capability(15)
    assert [len(each) for each in record.multiaddrs] == [43, 45]


def test_what_is_written_is_read() -> None:
    addresses = (b"\4\1\2\3\4\6\0\1", b"\4\5\6\7\x08\6\0\2")
    name, shards = encode_sharding(Sharding(1717, (0, 3, 1023)))
    pairs = {"multiaddrs": encode_multiaddrs(addresses), name: shards, "waku2": b"\x0f"}
    record = decode(encode(pairs, 2**64 - 1))
    assert (record.sequence, record.multiaddrs) == (2**64 - 1, addresses)
    assert record.sharding == Sharding(1717, (0, 3, 1023))
    assert record.public_key == KEY.public_key.format()
    ipv6 = decode(encode({"ip": b"\1\2\3\4", "ip6": bytes(15) + b"\1", "tcp": b"\1\0"}))
    assert ipv6.endpoints == (("1.2.3.4", 256), ("::1", 256))


@pytest.mark.parametrize(
    ("count", "key", "size"), [(0, "rs", 3), (63, "rs", 129), (64, "rsv", 130), (1024, "rsv", 130)]
)
def test_many_shards_are_bits(count: int, key: str, size: int) -> None:
    wanted = Sharding(65535, tuple(range(count)))
    name, value = encode_sharding(wanted)
    assert (name, len(value)) == (key, size)
    assert decode(encode({name: value})).sharding == wanted


@given(
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), st.binary(max_size=20), max_size=4),
)
def test_any_pairs_come_back(sequence: int, pairs: dict[str, bytes]) -> None:
    assert decode(encode(pairs, sequence)).pairs == {**pairs, "id": b"v4", "secp256k1": KEY.public_key.format()}


def test_values_that_are_lists_are_signed_and_skipped() -> None:
    items = [rlp.encode_string(b""), *map(rlp.encode_string, (b"eth",)), rlp.encode_list([rlp.encode_list([b"\1"])])]
    for key, value in ((b"id", b"v4"), (b"secp256k1", KEY.public_key.format())):
        items += [rlp.encode_string(key), rlp.encode_string(value)]
    signature = sign_with(KEY, keccak256(rlp.encode_list(items)))
    record = decode(rlp.encode_list([rlp.encode_string(signature), *items]))
    assert (record.sequence, sorted(record.pairs)) == (0, ["id", "secp256k1"])


@pytest.mark.parametrize(
    "pairs",
    [
        {"ip": bytes(3)},
        {"ip": bytes(4), "tcp": b"\0\1"},
        {"ip": bytes(4), "tcp": bytes(3)},
        {"multiaddrs": b"\0"},
        {"multiaddrs": b"\0\5abc"},
        {"rs": b"\0\1"},
        {"rs": b"\0\1\2\0\0"},
        {"rsv": bytes(129)},
        {"waku2": b"\1\1"},
    ],
)
def test_fields_out_of_shape_are_refused(pairs: dict[str, bytes]) -> None:
    assert isinstance(decode_record(encode(pairs), verify), Reject)


def test_too_large_is_neither_made_nor_read() -> None:
    with pytest.raises(ValueError, match="the limit is 300"):
        encode({"a": bytes(MAX_ENR_BYTES)})
    with pytest.raises(ValueError, match="sequence"):
        encode({}, 2**64)
    assert isinstance(decode_record(bytes(MAX_ENR_BYTES + 1), verify), Reject)


def test_every_changed_bit_is_noticed() -> None:
    good = encode({"ip": b"\1\2\3\4", "tcp": b"\1\0"})
    for position in range(len(good) * 8):
        bad = bytearray(good)
        bad[position // 8] ^= 1 << position % 8
        assert isinstance(decode_record(bytes(bad), verify), Reject), position


@pytest.mark.parametrize(
    "text", ["", "enr:", "enr:a", EIP_778[4:], EIP_778 + "=", EIP_778[:-3] + "+/*", "enr:" + "A" * 401]
)
def test_texts_that_are_no_record(text: str) -> None:
    encoded = from_text(text)
    assert isinstance(encoded, Reject) or isinstance(decode_record(encoded, verify), Reject)


def test_fuzzed_records_are_refused_or_sound() -> None:
    """Also below a signature that holds: whatever is signed is read or refused."""
    chance = random.Random(1)
    seeds = [from_text(EIP_778), from_text(NWAKU), encode({"rs": b"\0\1\1\0\7", "tcp": b"\1"})]
    for _ in range(5000):
        bad = bytearray(chance.choice(seeds))  # type: ignore[arg-type]  # all are bytes
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(bad))
            bad[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        for checker in (verify, lambda *_: True):
            record = decode_record(bytes(bad), checker)
            assert isinstance(record, NodeRecord | Reject)
    for size in range(64):
        assert isinstance(decode_record(chance.randbytes(size), lambda *_: True), Reject | NodeRecord)


@pytest.mark.parametrize(
    "bad", ["", "8100", "b800", "b90001", "bf" + "ff" * 8, "c0ff", "f800", "c18100", "c2", "80", "c383616263"]
)
def test_rlp_has_one_form(bad: str) -> None:
    with pytest.raises(rlp.NotCanonical):
        list(map(rlp.decode_string, rlp.decode_list(bytes.fromhex(bad))))


@given(st.lists(st.binary(max_size=70), max_size=5))
def test_rlp_comes_back(strings: list[bytes]) -> None:
    encoded = rlp.encode_list([rlp.encode_string(each) for each in strings])
    assert [rlp.decode_string(item) for item in rlp.decode_list(encoded)] == strings
