"""What a running node leaves in its folder, and `skynet peers`, which shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from actors.discovery import CONTACT
from actors.ports import Record
from node.cli.main import main
from node.config import ADDRESS_FILE
from node.errors import DataError, ExitCode
from node.initial import write_initial
from node.link import Link
from node.standing import Standing, keep_standing, read_contacts, read_standing, standing_of, write_standing
from node.store import open_store
from protocols import record
from protocols.discovery import Contact
from protocols.ids import PeerId

ALICE = PeerId("12D3KooWAlice")
AT = f"/ip4/192.0.2.1/tcp/4001/p2p/{ALICE}"
ME = "/ip4/192.0.2.7/tcp/1/p2p/me"
RELAYED = "/ip4/192.0.2.9/tcp/1/p2p/relay/p2p-circuit/p2p/me"
STANDING = Standing((ME, RELAYED), "enr:x", "private", (ALICE,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_initial(tmp_path / "node", "local", {})
    with open_store(tmp_path / "node") as store:
        contact = record.encode(Contact((AT,), 0, 0.0, 1.0, 0.75))
        store.write_sync(Record(CONTACT, ALICE.encode(), contact), Record(CONTACT, b"old", b"/ip4/1.2.3.4"))
    return tmp_path / "node"


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["peers", "--config", str(folder / "node.toml"), *more]) == ExitCode.OK
    return capsys.readouterr().out


def test_a_node_that_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_standing(folder, STANDING)  # of its last life
    assert read_standing(folder) is None
    assert "doesn't run" in shown(folder, capsys)
    (known,) = json.loads(shown(folder, capsys, "--json"))["contacts"]
    assert known == {
        "peer": ALICE,
        "connected": False,
        "addresses": [AT],
        "failures": 0,
        "due_s": 0.0,
        "answered_s": 1.0,
        "score": 0.75,
    }
    assert read_contacts(folder / "elsewhere") == []


def test_a_node_that_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(folder):  # as its process holds the folder
        write_standing(folder, STANDING)
        assert read_standing(folder) == STANDING
        told = shown(folder, capsys)
        assert "others can't dial it, but 1 relay leads to it" in told
        assert RELAYED in told
        assert "0.75" in told
        write_standing(folder, replace(STANDING, connected=(ALICE, PeerId("bob"))))
        assert "it dialled us" in shown(folder, capsys).replace("\n", " ")
        write_standing(folder, STANDING)
        whole = json.loads(shown(folder, capsys, "--json"))
        assert (whole["running"], whole["reachability"], whole["connected"]) == (True, "private", [ALICE])
        assert whole["contacts"][0]["connected"]
        write_standing(folder, replace(STANDING, reachability="public", addresses=(ME,)))
        assert "others can dial it" in shown(folder, capsys)


@pytest.mark.parametrize(
    "bad", ["", "{}", "[]", '{"addresses": 1, "record": "", "reachability": "x", "connected": []}']
)
def test_a_damaged_file_is_an_error(folder: Path, bad: str) -> None:
    with open_store(folder):
        (folder / ADDRESS_FILE).write_text(bad)
        with pytest.raises(DataError, match="not what a node writes"):
            read_standing(folder)


def test_a_database_that_is_none_is_an_error(folder: Path) -> None:
    (folder / "records.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError):
        read_contacts(folder)


async def test_it_is_written_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    link = Link(PeerId("me"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_standing, tmp_path, link)
        await trio.sleep(10)
        assert not (tmp_path / ADDRESS_FILE).exists()  # the transport is down
        monkeypatch.setattr("node.standing.standing_of", lambda _network: STANDING)
        await trio.sleep(10)
        assert json.loads((tmp_path / ADDRESS_FILE).read_text())["addresses"] == [ME, RELAYED]
        nursery.cancel_scope.cancel()
    assert standing_of(link).reachability == "unknown"
