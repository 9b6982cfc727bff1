"""Reads a TOML table into a frozen dataclass, strictly.

The one rule: a field is a key and its annotation the type (`Annotated[type, check]`); nothing else is accepted.
The first fault is a `ConfigError` that names file and key and says what to write, with the nearest valid key.
A value that may hold a token is never shown.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from node import limits
from node.errors import ConfigError, describe_os_error

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value as the end of the sentence "KEY …"; None if nothing is."""

T = TypeVar("T")


def between(low: float, high: float) -> Check:
    return lambda value: None if low <= value <= high else f"is {value}, but must lie in {low} … {high}"


# -- Files ---------------------------------------------------------------------


def read_text(path: Path, *, missing: str) -> str:
    """Return a configuration file's text; `missing` is the remedy for none. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(path, "no such file", missing) from None
    except OSError as error:
        raise ConfigError(path, describe_os_error(error), "name a file that this user can read") from None
    if len(data) > limits.CONFIG_BYTES:
        raise ConfigError(path, f"larger than {limits.CONFIG_BYTES} bytes", "name a configuration file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(path, "not a text file", "name a configuration file in UTF-8") from None


def parse(cls: type[T], text: str, path: Path) -> T:
    """Read `text` into a `cls`; paths in it are relative to `path`. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, f"not TOML: {error}", "correct that line") from None
    return cls(**_Reader(cls, path).section(cls, raw, ""))


# -- Reading -------------------------------------------------------------------


class _Reader:
    """Knows the file for its complaints and its relative paths."""

    def __init__(self, root: Any, path: Path) -> None:
        self._root = root
        self._path = path

    def section(self, cls: Any, raw: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        hints = get_type_hints(cls, include_extras=True)
        for name in raw:
            if name not in hints:
                raise self._unknown(prefix + name, list(hints), prefix)
        for each in fields(cls):
            if each.name not in raw and each.default is MISSING and each.default_factory is MISSING:
                key = f"[{prefix}{each.name}]" if is_dataclass(hints[each.name]) else f"{prefix}{each.name}"
                raise ConfigError(self._path, f"{key} is missing", f"add it, {_describe(hints[each.name])}")
        return {name: self._value(hints[name], raw[name], prefix + name) for name in raw}

    def _value(self, hint: Any, raw: Any, key: str) -> Any:
        kind, check = _taken_apart(hint)
        if is_dataclass(kind) and isinstance(raw, dict):
            return kind(**self.section(kind, raw, f"{key}."))  # type: ignore[operator]
        if not _fits(kind, raw):
            shown = repr(raw)[:40] if get_origin(kind) is Literal else _show(raw)
            raise ConfigError(self._path, f"{key} is {shown}", f"make it {_describe(hint)}")
        if check is not None and (fault := check(raw)):
            raise ConfigError(self._path, f"{key} {fault}", f"correct {key}")
        return self._converted(kind, raw)

    def _converted(self, kind: Any, raw: Any) -> Any:
        if get_origin(kind) is tuple:
            (item, _) = get_args(kind)
            return tuple(self._converted(item, each) for each in raw)
        if kind is Path:
            # abspath, not resolve: a link in the way is the operator's choice and stays visible in messages.
            return Path(os.path.abspath(self._path.parent / Path(raw).expanduser()))
        return raw if get_origin(kind) is Literal else kind(raw)

    def _unknown(self, key: str, siblings: list[str], prefix: str) -> ConfigError:
        name = key.removeprefix(prefix)
        everywhere = list(all_keys(self._root))
        candidates = (
            [prefix + near for near in difflib.get_close_matches(name, siblings, n=1)]
            or [k for k in everywhere if k.rpartition(".")[2] == name]
            or difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)
        )
        remedy = f"did you mean {candidates[0]}?" if candidates else f"the keys here are {', '.join(siblings)}"
        return ConfigError(self._path, f"unknown key {key}", remedy)


def all_keys(cls: Any, prefix: str = "") -> Iterator[str]:
    """Every key that a file for `cls` may hold, dotted."""
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if is_dataclass(hint):
            yield from all_keys(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


# -- Types ---------------------------------------------------------------------


def _taken_apart(hint: Any) -> tuple[Any, Check | None]:
    """The type without `| None`, and its check."""
    check: Check | None = None
    if get_origin(hint) is Annotated:
        hint, check = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(a for a in get_args(hint) if a is not type(None))
    return hint, check


def _plain(kind: Any) -> Any:
    """What TOML holds for this type."""
    while isinstance(kind, NewType):
        kind = kind.__supertype__
    return kind if kind in (int, float, bool) else str


def _fits(kind: Any, raw: Any) -> bool:
    if get_origin(kind) is Literal:
        return raw in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(raw, list) and all(_fits(get_args(kind)[0], item) for item in raw)
    if is_dataclass(kind):
        return False  # a section, and this is no table
    # Not isinstance: true is no number here. A whole number is a number, though.
    return type(raw) is _plain(kind) or (_plain(kind) is float and type(raw) is int)


def _describe(hint: Any) -> str:
    kind, _ = _taken_apart(hint)
    if is_dataclass(kind):
        return "a section"
    if get_origin(kind) is tuple:
        return "a list of strings"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    return "a path" if kind is Path else names[_plain(kind)]


def _show(raw: Any) -> str:
    match raw:
        case bool():
            return str(raw).lower()
        case int() | float():
            return f"{raw}"[:40]
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "a section"
        case _:
            return f"a {type(raw).__name__}"
