"""Sources of drand's rounds: what they tell is taken apart with care, and what they don't tell has a reason."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from drand_server import ANSWERS, ROUNDS, play_drand

from actors.ports import NoAnswer
from node.adapters import drand
from node.adapters.drand import CommandSource, FolderSource, open_sources, read_round
from protocols.beacon import validate_signature
from protocols.verdict import Accept, Reject

ONE = bytes.fromhex(ROUNDS[1][0])


@pytest.mark.parametrize("number", ROUNDS)
async def test_a_server_tells_a_real_round(number: int) -> None:
    with play_drand() as server:
        async with open_sources([server.url + "/"]) as (source,):
            signature = await source.fetch(number)
        assert source.name == server.url
    assert isinstance(signature, bytes)
    assert sha256(signature).hexdigest() == ROUNDS[number][1]
    assert validate_signature(signature) == Accept()


async def test_a_server_without_the_round_one_that_floods_and_one_that_is_down() -> None:
    with play_drand({2: b"{" * 5000, 3: b"\xff", 4: ANSWERS[1], 5: b"[" * 4000, 6: b'{"round": 6}'}) as server:
        async with open_sources([server.url]) as (source,):
            assert await source.fetch(1) == NoAnswer("HTTP status 404")
            assert await source.fetch(2) == NoAnswer("the answer is too large")
            assert await source.fetch(3) == NoAnswer("the answer is no round of drand")
            assert await source.fetch(4) == NoAnswer("the answer is about another round")
            assert await source.fetch(5) == NoAnswer("the answer is no round of drand")
            assert await source.fetch(6) == NoAnswer("the answer is no round of drand")
    async with open_sources([server.url]) as (source,):
        assert await source.fetch(1) == NoAnswer("no connection (ConnectError)")


async def test_a_folder_and_a_command_come_before_servers(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(ANSWERS[1])
    program = f"import sys; print({ROUNDS[1][0]!r} if sys.argv[1] == '1' else sys.exit(3))"
    command = (sys.executable, "-c", program)
    async with open_sources(["http://127.0.0.1:1"], tmp_path, command) as sources:
        assert [source.name for source in sources] == [str(tmp_path), sys.executable, "http://127.0.0.1:1"]
        assert [await source.fetch(1) for source in sources[:2]] == [ONE, ONE]
        assert await sources[0].fetch(2) == NoAnswer("no such file or directory")
        assert await sources[1].fetch(2) == NoAnswer("status 3")


async def test_a_command_that_is_slow_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drand, "FETCH_S", 0.2)
    assert await CommandSource(["sleep", "60"]).fetch(1) == NoAnswer("no answer within 0.2 s")
    assert await CommandSource([str(tmp_path / "none")]).fetch(1) == NoAnswer("no such file or directory")
    assert isinstance(await FolderSource(tmp_path / "none").fetch(1), NoAnswer)


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"[]", b'{"round": 1, "signature": 7}', b"0xzz"])
def test_nonsense_is_no_round(text: bytes) -> None:
    found = read_round(text, 1)
    assert isinstance(found, NoAnswer) or isinstance(validate_signature(found), Reject)


def test_signatures_in_hex_and_in_json() -> None:
    assert read_round(b"0x" + ROUNDS[1][0].encode() + b"\n", 1) == ONE
    assert read_round(json.dumps({"round": 1, "signature": ROUNDS[1][0]}).encode(), 1) == ONE


def test_a_point_off_the_curve_or_not_canonical_is_rejected() -> None:
    x, y = ONE[:32], ONE[32:]
    bent = (ONE[:-1], ONE + b"\0", x[:-1] + bytes([x[-1] ^ 1]) + y, bytes(64), b"\xff" * 64)
    assert all(isinstance(validate_signature(signature), Reject) for signature in bent)
