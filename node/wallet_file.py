"""The wallet's key as a file: backed up, restored, and put in another's place.

The one rule: at every moment `wallet.json` is a whole key file, and no key file is ever deleted or overwritten: the
one that another takes the place of is kept beside it under its address. A backup is an Ethereum keystore (v3), which
other wallets open too; a restored key is sealed as the folder's other keys are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from node.errors import KeyFileError, describe_os_error
from node.identity import Entropy, create_wallet_key, wallet_address
from node.key_file import damaged, read_public, read_secret, sync_folder, write_key, write_private
from node.secret import Secret
from protocols.abi import address_bytes, checksum_address
from protocols.ids import Address

WALLET, NEXT = "wallet.json", "wallet-next.json"
KIND = "secp256k1"


def read_wallet(path: Path, passphrase: Secret | None) -> tuple[Secret, Address]:
    """Open a wallet's file, ours or an Ethereum keystore. Raises KeyFileError."""
    secret = read_secret(path, KIND, passphrase)
    try:
        wallet = wallet_address(secret)
    except ValueError:
        raise damaged(path) from None
    if address_bytes(wallet) != read_public(path, KIND):
        raise damaged(path)
    return secret, wallet


def back_up(folder: Path, passphrase: Secret | None, out: Path, new_passphrase: Secret) -> Address:
    """Write the wallet of `folder` as a keystore, scrypt as geth has it. Raises KeyFileError; never overwrites."""
    from eth_account import Account  # takes 0.5 s

    if out.exists():
        raise KeyFileError(out, "is there already", "choose another name: no backup is overwritten")
    secret, wallet = read_wallet(folder / WALLET, passphrase)
    keystore = Account.encrypt(secret.reveal(), new_passphrase.reveal().decode("utf-8", "surrogateescape"))
    write_private(out, json.dumps(keystore).encode() + b"\n")
    return wallet


def restore(
    folder: Path, passphrase: Secret | None, source: Path, source_passphrase: Secret | None, *, replace: bool
) -> tuple[Address, Path | None]:
    """Make the key in `source` the folder's wallet; return its address, and where the one before is kept.

    Raises KeyFileError, also where another wallet is in the folder and may not be replaced.
    """
    path = folder / WALLET
    if path.exists():
        _require_other(path, read_public(source, KIND), replace=replace)
    secret, wallet = read_wallet(source, source_passphrase)
    if not path.exists():
        write_key(path, KIND, address_bytes(wallet), secret, passphrase)
        return wallet, None
    _write_next(folder, secret, wallet, passphrase)
    return wallet, put_next(folder)


def _require_other(path: Path, restored: bytes, *, replace: bool) -> None:
    present = checksum_address(read_public(path, KIND))
    if address_bytes(present) == restored:
        raise KeyFileError(path, f"holds the wallet {present} already", "nothing is to be restored")
    if not replace:
        remedy = f"add --replace: its file is then kept as {aside(path.parent, present).name}"
        raise KeyFileError(path, f"holds another wallet, {present}", remedy)


def prepare_next(folder: Path, passphrase: Secret | None, entropy: Entropy = os.urandom) -> tuple[Secret, Address]:
    """The wallet that is to follow: a new one, or that of a rotation that was broken off. Raises KeyFileError."""
    path = folder / NEXT
    if not path.exists():
        secret = create_wallet_key(entropy)
        write_key(path, KIND, address_bytes(wallet_address(secret)), secret, passphrase)
    return read_wallet(path, passphrase)


def put_next(folder: Path) -> Path:
    """Put the next wallet in the present one's place; return where that one is kept. Raises KeyFileError."""
    path = folder / WALLET
    kept = aside(folder, checksum_address(read_public(path, KIND)))
    try:
        if not kept.exists():
            os.link(path, kept)
        os.replace(folder / NEXT, path)
        sync_folder(folder)
    except OSError as error:
        raise KeyFileError(
            path, describe_os_error(error), "give this user access to the folder, and try again"
        ) from None
    return kept


def aside(folder: Path, wallet: Address) -> Path:
    return folder / f"wallet-{wallet}.json"


def _write_next(folder: Path, secret: Secret, wallet: Address, passphrase: Secret | None) -> None:
    path = folder / NEXT
    if path.exists():
        _, waiting = read_wallet(path, passphrase)
        if waiting != wallet:
            raise KeyFileError(path, f"holds {waiting}, of a rotation that was broken off", "finish that one first")
        return
    write_key(path, KIND, address_bytes(wallet), secret, passphrase)
