"""`skynet wallet` as it is typed: stake in and out, a backup and back, another wallet in the place of one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from eth_account import Account
from evm_net import Net
from test_evm_chain import TERMS, do, registration, views
from typed import ETHER, Typed, make_typed

from node import wallet_file
from node.adapters.evm import LocalSigner, connect
from node.identity import load_keys
from node.secret import Secret
from node.store import open_store
from protocols.chain import Post, RegisterKey
from protocols.job import compute_key_digest

pytestmark = pytest.mark.parametrize("net", ["devchain"], indirect=True)  # which chain it is, others try

TWO_DAYS_S = 2 * 86_400
WORDS = tuple(range(1, 41))


@pytest.fixture
def typed(tmp_path: Path, net: Net, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.delenv("SKYNET_PASSPHRASE", raising=False)
    return make_typed(tmp_path, net, capsys, monkeypatch.chdir)


def write_passphrase(path: Path, text: str) -> None:
    path.write_text(text + "\n")
    os.chmod(path, 0o600)


# -- Stake -----------------------------------------------------------------------


def test_stake_goes_in_waits_and_comes_out(typed: Typed) -> None:
    typed.make("a")
    assert "0.5 ETH staked" in typed.run("wallet stake 0.5 --config a/node.toml")
    assert typed.json("wallet unbond 0.2 --config a/node.toml")["unbonding_stake_wei"] == ETHER // 5
    assert "0.5 ETH unbonding" in typed.run("wallet unbond all --config a/node.toml")
    assert "has no free stake" in typed.run("wallet unbond all --config a/node.toml", 9)
    assert typed.json("wallet withdraw --config a/node.toml")["stake_wei"] == 0
    shown = typed.run("wallet show --config a/node.toml")
    assert "what is unbonding can be withdrawn from" in shown
    typed.net.wait(TWO_DAYS_S)
    before = typed.json("wallet show --config a/node.toml")
    assert "0.5 ETH of stake withdrawn" in typed.run("wallet withdraw --config a/node.toml")
    after = typed.json("wallet show --config a/node.toml")
    assert (before["unbonding_stake_wei"], after["unbonding_stake_wei"]) == (ETHER // 2, 0)
    assert after["balance_wei"] > before["balance_wei"] + 0.49 * ETHER


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("wallet stake 9 --config a/node.toml", 9, "but this stake takes"),
        ("wallet stake 0 --config a/node.toml", 9, "no money came with the call"),
        ("wallet stake 1,5 --config a/node.toml", 3, "no amount of ether"),
        ("wallet unbond 0.1 --config a/node.toml", 9, "of stake are free"),
    ],
)
def test_what_the_stake_does_not_allow_is_a_line(typed: Typed, line: str, status: int, said: str) -> None:
    typed.make("a", ether=0.5)
    assert said in typed.run(line, status)


# -- Backup ----------------------------------------------------------------------


def test_a_backup_is_a_keystore_and_comes_back(typed: Typed) -> None:
    wallet = typed.make("a", ether=0)
    write_passphrase(typed.folder / "pass", "correct horse")
    write_passphrase(typed.folder / "wrong", "battery staple")
    line = "wallet backup --out backup.json --passphrase-file pass --config a/node.toml"
    assert wallet in typed.run(line)
    assert "no backup is overwritten" in typed.run(line, 4)
    written = typed.folder / "backup.json"
    assert written.stat().st_mode & 0o777 == 0o600
    key = Account.decrypt(json.loads(written.read_text()), "correct horse")
    assert LocalSigner(Secret(bytes(key))).wallet == wallet

    other = typed.make("b", ether=0)
    restore = "wallet restore backup.json --config b/node.toml --passphrase-file"
    assert "does not open it" in typed.run(f"{restore} wrong --replace", 4)
    assert f"holds another wallet, {other}; add --replace" in typed.run(f"{restore} pass", 4)
    keys = typed.folder / "b" / "keys"
    assert load_keys(keys).identity.wallet == other
    assert f"wallet-{other}.json" in typed.run(f"{restore} pass --replace")
    assert load_keys(keys).identity.wallet == wallet
    assert wallet_file.read_wallet(wallet_file.aside(keys, other), None)[1] == other
    assert "nothing is to be restored" in typed.run(f"{restore} pass", 4)

    (keys / "wallet.json").unlink()
    assert f"wallet {wallet} restored" in typed.run(f"{restore} pass")


def test_a_passphrase_is_asked_for_only_at_a_terminal(typed: Typed) -> None:
    typed.make("a", ether=0)
    assert "no terminal to ask at" in typed.run("wallet backup --out b.json --config a/node.toml", 2)
    assert not (typed.folder / "b.json").exists()


# -- Rotation --------------------------------------------------------------------


def test_another_wallet_takes_over_and_fetches_the_stake_later(typed: Typed) -> None:
    old = typed.make("a", ether=2)
    secret, _ = wallet_file.read_wallet(typed.folder / "a/keys/wallet.json", None)
    trio.run(_register, typed.net, LocalSigner(secret), ETHER)

    rotated = typed.json("wallet rotate --config a/node.toml")
    new = rotated["address"]
    assert (rotated["old"], rotated["registered"], rotated["unbonding_wei"]) == (old, True, ETHER)
    assert rotated["sent_wei"] > 0.99 * ETHER
    assert not (typed.folder / "a/keys/wallet-next.json").exists()
    shown = typed.json("wallet show --config a/node.toml")
    assert shown["address"] == new
    assert 0.98 * ETHER < shown["balance_wei"] <= rotated["sent_wei"]

    keys = load_keys(typed.folder / "a" / "keys").identity
    registered = trio.run(_keys_of, typed.net, new)
    assert registered == (keys.node_key, keys.encryption_key)

    sweep = f"wallet sweep {rotated['kept']} --config a/node.toml"
    assert typed.json(sweep)["stake_wei"] == 0
    typed.net.wait(TWO_DAYS_S)
    assert "sent from the old wallet" in typed.run(sweep)
    assert typed.json("wallet show --config a/node.toml")["balance_wei"] > 1.97 * ETHER
    assert "is the present one" in typed.run("wallet sweep a/keys/wallet.json --config a/node.toml", 9)


async def _register(net: Net, signer: LocalSigner, stake_wei: int) -> None:
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        await do(chain, registration(net, signer, stake_wei))


async def _keys_of(net: Net, wallet: str) -> object:
    async with views(net, 0) as (chain,):
        return await chain.worker_keys(wallet)  # type: ignore[arg-type]


def test_a_rotation_that_was_broken_off_goes_on_with_the_same_wallet(typed: Typed) -> None:
    typed.make("a", ether=1)
    _, following = wallet_file.prepare_next(typed.folder / "a" / "keys", None)
    assert typed.json("wallet rotate --config a/node.toml")["address"] == following
    again = typed.json("wallet rotate --config a/node.toml")
    assert again["old"] == following


def test_a_wallet_whose_job_runs_or_whose_folder_is_in_use_is_not_rotated(typed: Typed) -> None:
    wallet = typed.make("a", ether=2)
    secret, _ = wallet_file.read_wallet(typed.folder / "a/keys/wallet.json", None)
    trio.run(_post, typed.net, LocalSigner(secret))
    with open_store(typed.folder / "a"):
        assert "in use by process" in typed.run("wallet rotate --config a/node.toml", 5)
    assert "is open: the refund and the result are its own" in typed.run("wallet rotate --config a/node.toml", 9)
    assert typed.json("wallet show --config a/node.toml")["address"] == wallet


async def _post(net: Net, signer: LocalSigner) -> None:
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        await do(chain, RegisterKey(WORDS))
        await do(chain, Post(replace(TERMS, vk_digest=compute_key_digest(WORDS)), os.urandom(32)))
