"""A new node's folder: `node.toml` from a shipped configuration, and its keys.

The one rule: nothing that exists is overwritten, and `node.toml` comes last, so that a folder with one is whole.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node.config import Config, parse_config
from node.errors import ConfigError
from node.identity import Entropy, Identity, create_keys, has_keys, load_identity
from node.key_file import make_private_folder, write_private
from node.secret import Secret

Setting = str | int | float | bool | tuple[str, ...]

# -- Shipped configurations ----------------------------------------------------


def shipped_networks() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _configs().glob("*.toml")))


def read_shipped(network: str) -> str:
    """Return the text of `configs/NETWORK.toml`. Raises ConfigError for a network that there is none for."""
    known = shipped_networks()
    if network not in known:
        near = difflib.get_close_matches(network, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        raise ConfigError("--network", f"{network!r} is not known", remedy)
    return (_configs() / f"{network}.toml").read_text()


def _configs() -> Path:
    """In a wheel they lie in the package, in a checkout beside it."""
    package = Path(__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


# -- A new folder --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Initial:
    path: Path
    """Of the configuration file."""
    config: Config
    identity: Identity


def write_initial(
    folder: Path,
    network: str,
    settings: Mapping[str, Setting] | None = None,
    *,
    passphrase: Secret | None = None,
    entropy: Entropy = os.urandom,
) -> Initial:
    """Make a node's folder. `settings` are dotted keys to set otherwise than shipped: {"chain.poll_s": 0.5}.

    Keys that are there already are kept. Raises ConfigError, KeyFileError.
    """
    path = folder / "node.toml"
    text = set_keys(read_shipped(network), settings or {})
    config = parse_config(text, path)
    if path.exists():
        raise ConfigError(path, "is there already", "choose another folder, or edit this file")
    make_private_folder(folder)
    keys = folder / "keys"
    identity = load_identity(keys) if has_keys(keys) else create_keys(keys, passphrase, entropy=entropy)
    write_private(path, text.encode())
    return Initial(path, config, identity)


# -- Editing TOML --------------------------------------------------------------


def set_keys(text: str, settings: Mapping[str, Setting]) -> str:
    """Set dotted keys in a shipped file, where every key is one line, and keep its comments.

    An unknown key is appended to its section, so that reading the result complains of it.
    """
    lines = text.splitlines()
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        _set_key(lines, section, name, _encode(value))
    return "\n".join(lines) + "\n"


def _set_key(lines: list[str], section: str, name: str, value: str) -> None:
    first, last = _section(lines, section)
    for i in range(first, last):
        if re.match(rf"(# )?{re.escape(name)} = ", lines[i]):
            lines[i] = f"{name} = {value}"
            return
    if first == last == len(lines):
        lines.extend(("", f"[{section}]"))
        last = len(lines)
    lines.insert(last, f"{name} = {value}")


def _section(lines: list[str], section: str) -> tuple[int, int]:
    """The lines of a section without its header: [first, last); behind the end if there is none."""
    headers = [i for i, line in enumerate(lines) if line.startswith("[")]
    starts = [0] if not section else [i + 1 for i in headers if lines[i].startswith(f"[{section}]")]
    if not starts:
        return len(lines), len(lines)
    last = next((i for i in headers if i >= starts[0]), len(lines))
    while last > starts[0] and not lines[last - 1].strip():
        last -= 1
    return starts[0], last


def _encode(value: Setting) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_encode, value)) + "]"
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
