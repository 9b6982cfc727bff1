"""What goes wrong for a user: one line that names the culprit and what to do, and a documented status.

Locked folder, unknown job, existing output file: `test_network.py`, beside a node that runs.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import trio
from commands import Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWSThNonPoQrDtAGHqqTt4AE2pY5LY4qPdjSVYSRo9sWRW"
JOB = f"0x{'ab' * 32}"

WITHOUT_A_CHAIN = [
    ("skynet-node --config no.toml", 3, r"no\.toml: no such file; make a node folder with `skynet-node init"),
    ("skynet-node --config key.toml", 3, r"key\.toml: unknown key chain\.rpc_url; did you mean chain\.rpc_urls\?"),
    ("skynet-node --config torn.toml", 3, r"torn\.toml: not TOML: .*; correct that line"),
    ("skynet-node --config value.toml", 3, r"work\.max_jobs is 0, but must lie in 1 … 64; correct work\.max_jobs"),
    ("skynet-node init --dir a --network local", 3, r"a/node\.toml: is there already; choose another folder"),
    ("skynet-node init --dir b --network locl", 3, r"'locl' is not known; did you mean local\?"),
    ("skynet-node init --dir b --network local --chain nowhere", 6, r"start one: `skynet devchain --dir nowhere`"),
    ("skynet job submit no.toml --peer {peer} --config a/node.toml", 3, r"no\.toml: no such file; write one"),
    ("skynet job submit money.toml --peer {peer} --config a/node.toml", 3, r"terms\.budget_ether .*'1,5' is no amount"),
    ("skynet job submit job.toml --peer 127.0.0.1:3 --config a/node.toml", 2, r"'127.0.0.1:3', which is no multiaddr"),
    (
        "skynet job submit package.toml --peer {peer} --config a/node.toml",
        11,
        r"package \S*pkg: [0-9a-f]{64} does not hash to its name; make it with `skynet model pack`",
    ),
    ("skynet job show 0x12 --config a/node.toml", 2, r"'0x12' is no job id: 0x and 64 hex digits"),
    (f"skynet job result {JOB} --config a/node.toml --out no/where", 2, r"no/where: its folder is missing"),
    (
        "skynet wallet show --config unreachable.toml",
        8,
        r"127\.0\.0\.1:1: no JSON-RPC answer: no connection; start the",
    ),
    ("skynet-node --config unreachable.toml", 8, r"127\.0\.0\.1:1: no JSON-RPC answer: no connection; start the chain"),
    ("skynet-node --config other/node.toml", 6, r"records\.sqlite3: .* newer"),
    ("skynet-node --config damaged/node.toml", 6, r"records\.sqlite3: is damaged or no database; restore a backup"),
    ("skynet-node --config open/node.toml", 4, r"wallet\.json: others can read it \(mode 0644\); run: chmod 600"),
    ("skynet-node --config keyless/node.toml", 4, r"keys/\w+\.json: "),
]


def _write_files(folder: Path) -> None:
    """Everything that can be wrong with a file, made from a good folder `a`."""
    good = (folder / "a" / "node.toml").read_text()
    wrong = {
        "key": good.replace("rpc_urls", "rpc_url"),
        "torn": good[: good.index("[p2p]")] + "x = [",
        "value": good.replace("max_jobs = 1", "max_jobs = 0"),
        "unreachable": re.sub(r"rpc_urls = .*", 'rpc_urls = ["http://127.0.0.1:1"]', good).replace('"."', '"a"', 1),
        "money": '[terms]\nbudget_ether = "1,5"\n',
        "job": "",
        "package": '[model]\npackage = "pkg"\n',
    }
    for name, text in wrong.items():
        (folder / f"{name}.toml").write_text(text)
    for name in ("other", "damaged", "open", "keyless"):
        shutil.copytree(folder / "a", folder / name)
    connection = sqlite3.connect(folder / "other" / "records.sqlite3")
    connection.executescript(f"PRAGMA application_id = {0x536B794E}; PRAGMA user_version = 99; CREATE TABLE t (x)")
    connection.close()
    (folder / "damaged" / "records.sqlite3").write_bytes(b"no database, but long enough to be one" * 100)
    blob = next(path for path in (folder / "pkg").rglob("*") if re.fullmatch(r"[0-9a-f]{64}", path.name))
    blob.write_bytes(blob.read_bytes() + b"!")
    (folder / "open" / "keys" / "wallet.json").chmod(0o644)
    (folder / "keyless" / "keys" / "node.json").unlink()


async def _try_all(shell: Shell, table: list[tuple[str, int, str]]) -> None:
    limit = trio.CapacityLimiter(3)

    async def attempt(line: str, status: int, pattern: str) -> None:
        async with limit:
            done = await shell.run(line, status)
        said = done.errors.strip().splitlines()
        assert re.search(pattern, said[-1]), (line, done)
        assert len(said) == 1 or status == 2, (line, done)  # argparse says how the command is used, too

    async with trio.open_nursery() as nursery:
        for row in table:
            nursery.start_soon(attempt, *row)


async def test_each_fault_is_one_line_and_a_status(tmp_path: Path, cache: Path) -> None:
    shell = Shell(tmp_path, cache)
    await shell.run(f"skynet-node init --dir a --network local --jobs 0x{'11' * 20}")
    (tmp_path / "mlp.toml").write_text(
        'name = "mine"\nloss = "squares"\n[mlp]\ninputs = 64\nhidden = [4]\noutputs = 10\n'
    )
    await shell.run("skynet model pack --spec mlp.toml --out pkg")
    _write_files(tmp_path)
    keys = {path: path.read_bytes() for path in tmp_path.glob("*/keys/*")}
    database = (tmp_path / "other" / "records.sqlite3").read_bytes()
    await _try_all(shell, [(line.replace("{peer}", NOBODY), status, text) for line, status, text in WITHOUT_A_CHAIN])
    assert keys == {path: path.read_bytes() for path in tmp_path.glob("*/keys/*")}
    assert database == (tmp_path / "other" / "records.sqlite3").read_bytes()


async def test_faults_on_a_chain_that_was_killed_and_came_back(tmp_path: Path, cache: Path) -> None:
    shell = Shell(tmp_path, cache)
    async with shell.running("skynet devchain --dir chain", "chain.log") as chain:
        await chain.wait_said("Ctrl-C")
        await shell.run("skynet-node init --dir rich --network local --chain chain")
        await shell.run("skynet wallet fund --config rich/node.toml --chain chain --ether 1.5")
        await shell.run("skynet-node init --dir poor --network local --chain chain")
    before = (tmp_path / "chain" / "chain.json").read_text()
    async with shell.running("skynet devchain --dir chain", "again.log") as chain:
        await chain.wait_said("Ctrl-C")
        assert (tmp_path / "chain" / "chain.json").read_text() == before
        wallet = await shell.run("skynet wallet show --config rich/node.toml --json")
        assert wallet.json["balance_wei"] == 15 * 10**17
        good = (tmp_path / "rich" / "node.toml").read_text()
        shutil.copytree(tmp_path / "poor", tmp_path / "broke")
        shutil.copytree(tmp_path / "rich", tmp_path / "id")  # a folder of its own: the rich one is in use meanwhile
        (tmp_path / "id" / "node.toml").write_text(good.replace("chain_id = 31337", "chain_id = 31338"))
        (tmp_path / "rich" / "jobs.toml").write_text(re.sub(r'jobs = "0x\w+"', f'jobs = "0x{"11" * 20}"', good))
        (tmp_path / "job.toml").write_text("")
        await _try_all(
            shell,
            [
                ("skynet-node --config id/node.toml", 8, "serves chain 31337, not 31338; correct chain.rpc_urls or"),
                (
                    "skynet wallet show --config rich/jobs.toml",
                    8,
                    "no contract at this address on chain 31337; correct",
                ),
                ("skynet-node --config poor/node.toml", 9, r"wallet 0x\w+: holds 0 wei, but registering takes"),
                (f"skynet job submit job.toml --peer {NOBODY} --config broke/node.toml", 9, "but this job takes"),
                (f"skynet job submit job.toml --peer {NOBODY} --config rich/node.toml", 10, "tcp/1.*no peer answers;"),
                (f"skynet job show {JOB} --config rich/node.toml", 12, "chain 31337 has no such job; check the id"),
                (f"skynet job cancel {JOB} --config rich/node.toml", 12, "chain 31337 has no such job; check the id"),
                ("skynet devchain --dir chain", 8, "did not start: chain: another development chain runs here"),
            ],
        )
