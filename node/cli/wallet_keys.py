"""`skynet wallet backup|restore|rotate|sweep`: the wallet's key, and what moves when another takes its place."""

from __future__ import annotations

import argparse
import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path

from node import wallet_file
from node.cli.output import print_json
from node.cli.render import ether
from node.client import rotation
from node.client.rotation import Collected
from node.config import keys_folder, load_config
from node.errors import ExitCode, UsageError
from node.key_file import find_passphrase, read_passphrase
from node.secret import Secret
from node.signer import require_key_file


async def backup(options: argparse.Namespace) -> int:
    """Write the wallet's key as an Ethereum keystore, under a passphrase of its own."""
    config = load_config(options.config)
    require_key_file(config, options.config)
    own = find_passphrase(config.keys.passphrase_file)
    folder = keys_folder(config)
    wallet_file.read_wallet(folder / wallet_file.WALLET, own)  # before anybody types a passphrase
    passphrase = _ask(options.passphrase_file, "passphrase of the backup", twice=True)
    wallet = wallet_file.back_up(folder, own, options.out, passphrase)
    if options.json:
        print_json({"address": wallet, "backup": str(options.out)})
    else:
        print(f"{options.out}: wallet {wallet}, an Ethereum keystore; without its passphrase it is lost")
        print("it holds the wallet alone: keep a copy of the keys folder for the results of your jobs")
    return ExitCode.OK


async def restore(options: argparse.Namespace) -> int:
    """Make a backed-up key the wallet of this configuration."""
    config = load_config(options.config)
    require_key_file(config, options.config)
    passphrase = _ask(options.passphrase_file, f"passphrase of {options.backup}", twice=False)
    own = find_passphrase(config.keys.passphrase_file)
    wallet, kept = wallet_file.restore(keys_folder(config), own, options.backup, passphrase, replace=options.replace)
    if options.json:
        print_json({"address": wallet, "kept": None if kept is None else str(kept)})
        return ExitCode.OK
    print(f"wallet {wallet} restored")
    if kept is not None:
        print(f"the wallet before it is kept in {kept}: `skynet wallet sweep {kept}` fetches what it has")
    return ExitCode.OK


async def rotate(options: argparse.Namespace) -> int:
    """A new wallet in the present one's place."""
    rotated = await rotation.rotate(load_config(options.config), options.config)
    if options.json:
        known = {
            "address": rotated.new,
            "old": rotated.old,
            "kept": str(rotated.kept),
            "registered": rotated.registered,
        }
        print_json({**known, **_as_json(rotated.collected)})
        return ExitCode.OK
    print(f"the wallet is {rotated.new} now; that of {rotated.old} is kept in {rotated.kept}")
    _tell(rotated.collected, rotated.kept)
    registered = "is registered as a worker" if rotated.registered else "registers when a node that works starts"
    print(f"it {registered}; the node deposits its stake at its next start")
    return ExitCode.OK


async def sweep(options: argparse.Namespace) -> int:
    """Fetch what an earlier wallet has."""
    config = load_config(options.config)
    ask = options.passphrase_file
    passphrase = find_passphrase(config.keys.passphrase_file) if ask is None else read_passphrase(ask)
    wallet, collected = await rotation.sweep(config, options.config, options.file, passphrase)
    if options.json:
        print_json({"from": wallet, **_as_json(collected)})
    else:
        _tell(collected, options.file)
    return ExitCode.OK


def _as_json(collected: Collected) -> dict[str, int]:
    return {
        "sent_wei": collected.sent_wei,
        "credit_wei": collected.credit_wei,
        "stake_wei": collected.stake_wei,
        "unbonding_wei": collected.unbonding_wei,
        "unbonded_at_s": collected.unbonded_at_s if collected.unbonding_wei else 0,
    }


def _tell(collected: Collected, file: Path) -> None:
    print(f"{ether(collected.sent_wei)} sent from the old wallet")
    if collected.unbonding_wei:
        when = datetime.fromtimestamp(collected.unbonded_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        print(f"{ether(collected.unbonding_wei)} of stake unbond: from {when} on, `skynet wallet sweep {file}`")


def _ask(file: Path | None, what: str, *, twice: bool) -> Secret:
    """Of a file, else of the person at the terminal. Raises KeyFileError, UsageError."""
    if file is not None:
        return read_passphrase(file)
    if not sys.stdin.isatty():
        raise UsageError(
            "--passphrase-file", "is missing, and there is no terminal to ask at", "name a file, mode 0600"
        )
    passphrase = getpass.getpass(f"{what}: ")
    if twice and getpass.getpass("again: ") != passphrase:
        raise UsageError(what, "was typed differently the second time", "try again")
    if not passphrase:
        raise UsageError(what, "is empty", "think of one")
    return Secret(passphrase.encode())
