"""One key in one file: mode 0600, never overwritten, refused when others can read it.

The one rule: the public half stands there in the clear, so that an address can be shown without the passphrase;
the secret half is sealed where there is a passphrase (scrypt, AES-256-GCM). A wallet may also come as an Ethereum
keystore (v3).

    {"format": "skynet-key-1", "kind": "ed25519", "public": HEX, "secret": HEX}
    {"format": "skynet-key-1", "kind": …, "public": …, "sealing": {…}, "sealed": BASE64 of nonce12 ‖ ciphertext}
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from node import limits
from node.errors import KeyFileError, describe_os_error
from node.secret import Secret

VARIABLE = "SKYNET_PASSPHRASE"
_FORMAT = "skynet-key-1"
_NONCE_BYTES = 12

# -- Keys ----------------------------------------------------------------------


def write_key(path: Path, kind: str, public: bytes, secret: Secret, passphrase: Secret | None) -> None:
    """Write a new key file. Raises KeyFileError."""
    content: dict[str, Any] = {"format": _FORMAT, "kind": kind, "public": public.hex()}
    if passphrase is None:
        content["secret"] = secret.reveal().hex()
    else:
        salt, nonce = os.urandom(16), os.urandom(_NONCE_BYTES)
        box = AESGCM(_stretch(passphrase, salt, limits.SCRYPT_LOG2_N))
        sealed = nonce + box.encrypt(nonce, secret.reveal(), kind.encode())
        content["sealing"] = {"kdf": "scrypt", "log2_n": limits.SCRYPT_LOG2_N, "salt": salt.hex()}
        content["sealed"] = base64.b64encode(sealed).decode()
    write_private(path, json.dumps(content, indent=1).encode() + b"\n")


def read_public(path: Path, kind: str) -> bytes:
    """Return the public half: 32 bytes, or the 20 of an address. Raises KeyFileError."""
    content = _read_content(path, kind)
    try:
        return bytes.fromhex(content["address" if _is_keystore(content) else "public"].removeprefix("0x"))
    except (KeyError, ValueError, AttributeError):
        raise damaged(path) from None


def read_secret(path: Path, kind: str, passphrase: Secret | None) -> Secret:
    """Return the secret half. Raises KeyFileError: missing, damaged, readable by others, wrong passphrase."""
    content = _read_content(path, kind)
    if _is_keystore(content):
        return _open_keystore(path, content, passphrase)
    try:
        return Secret(bytes.fromhex(content["secret"])) if "secret" in content else _unseal(path, content, passphrase)
    except (ValueError, KeyError, TypeError):
        raise damaged(path) from None


def damaged(path: Path) -> KeyFileError:
    return KeyFileError(path, "is damaged, or another key's file", "restore it from your backup")


def _read_content(path: Path, kind: str) -> dict[str, Any]:
    try:
        content = json.loads(read_private(path))
    except ValueError:
        raise damaged(path) from None
    if not isinstance(content, dict):
        raise damaged(path)
    is_ours = content.get("format") == _FORMAT and content.get("kind") == kind
    if not is_ours and not (kind == "secp256k1" and _is_keystore(content)):
        raise damaged(path)
    return content


# -- Passphrases ---------------------------------------------------------------


def find_passphrase(file: Path | None) -> Secret | None:
    """Return the passphrase from the environment, else from `file`; None if there is neither. Raises KeyFileError."""
    if VARIABLE in os.environ:
        return Secret(os.environ[VARIABLE].encode())
    return None if file is None else read_passphrase(file)


def read_passphrase(file: Path) -> Secret:
    """Raises KeyFileError."""
    passphrase = Secret(read_private(file).rstrip(b"\r\n"))
    if not passphrase.reveal():
        raise KeyFileError(file, "is empty", "write the passphrase into it")
    return passphrase


def _unseal(path: Path, content: dict[str, Any], passphrase: Secret | None) -> Secret:
    sealing, sealed = content["sealing"], base64.b64decode(content["sealed"], validate=True)
    log2_n = sealing["log2_n"]
    if type(log2_n) is not int or not 1 <= log2_n <= limits.SCRYPT_MAX_LOG2_N or len(sealed) < _NONCE_BYTES + 16:
        raise damaged(path)
    box = AESGCM(_stretch(_demand(path, passphrase), bytes.fromhex(sealing["salt"]), log2_n))
    try:
        return Secret(box.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], content["kind"].encode()))
    except InvalidTag:
        raise _wrong_passphrase(path) from None


def _stretch(passphrase: Secret, salt: bytes, log2_n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log2_n, r=8, p=1).derive(passphrase.reveal())


def _is_keystore(content: dict[str, Any]) -> bool:
    return content.get("version") == 3 and isinstance(content.get("crypto"), dict)


def _open_keystore(path: Path, content: dict[str, Any], passphrase: Secret | None) -> Secret:
    from eth_account import Account  # takes 0.5 s, and few have such a file

    password = _demand(path, passphrase).reveal().decode("utf-8", "surrogateescape")
    try:
        return Secret(Account.decrypt(content, password))
    except (ValueError, KeyError, TypeError) as error:
        raise (_wrong_passphrase(path) if "mac" in str(error).lower() else damaged(path)) from None


def _demand(path: Path, passphrase: Secret | None) -> Secret:
    if passphrase is None:
        remedy = f"set {VARIABLE}, or keys.passphrase_file in the configuration"
        raise KeyFileError(path, "is sealed with a passphrase", remedy)
    return passphrase


def _wrong_passphrase(path: Path) -> KeyFileError:
    return KeyFileError(path, "the passphrase does not open it", "give the one that it was made with")


# -- Private files -------------------------------------------------------------


def make_private_folder(folder: Path) -> None:
    """Make the folder with mode 0700, parents as usual. Raises KeyFileError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise KeyFileError(folder, describe_os_error(error), "choose a folder that this user can write") from None


def write_private(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, down to the disk. Raises KeyFileError; never overwrites."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(path, describe_os_error(error), "choose another folder, or keep what is there") from None


def read_private(path: Path) -> bytes:
    """Return the content of a file that only its owner can read. Raises KeyFileError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyFileError(path, f"others can read it (mode {mode:04o})", f"run: chmod 600 {path}")
            return file.read(limits.KEY_FILE_BYTES)
    except FileNotFoundError:
        remedy = "make a node folder with `skynet-node init`, or restore your backup"
        raise KeyFileError(path, "no such file", remedy) from None
    except OSError as error:
        raise KeyFileError(path, describe_os_error(error), "give this user access to it") from None


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: without it a new file may be gone after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
