"""Bytes that never show: keys, passphrases, job keys.

The one rule: a secret leaves its object by `reveal` only, so that `grep reveal` finds every such place.
Neither repr, str, format, pickle nor copy give it away, and `redact` removes those that are alive from text,
in each form that a careless line could print: the second line of defence, used by `telemetry`.
"""

from __future__ import annotations

import base64
import hmac
import threading
from typing import Never
from weakref import WeakSet

HIDDEN = "[hidden]"
MIN_REDACTED_BYTES = 6  # below: every other word of the log would be hidden by a short passphrase

_alive: WeakSet[Secret] = WeakSet()
_guard = threading.Lock()  # worker threads make and drop secrets too


class Secret:
    """Hides `data` from everything but `reveal`."""

    __slots__ = ("__weakref__", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        with _guard:
            _alive.add(self)

    def reveal(self) -> bytes:
        return self._data

    def matches(self, other: Secret) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._data, other._data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({HIDDEN})"

    def __reduce__(self) -> Never:
        # Also what copy, deepcopy and dataclasses.asdict go through.
        raise TypeError("a secret is neither pickled nor copied")


def redact(text: str) -> str:
    """Replace every living secret in `text`, whether in hex, base64, as a number, as a bytes repr or as it is."""
    with _guard:
        secrets = [s._data for s in _alive]
    for data in secrets:
        if len(data) >= MIN_REDACTED_BYTES:
            for form in _forms(data):
                text = text.replace(form, HIDDEN)
    return text


def _forms(data: bytes) -> list[str]:
    """How a line could show `data`, the longest first. Not a regular expression: its cache would keep the secret."""
    forms = {
        data.hex(),
        data.hex().upper(),
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        str(int.from_bytes(data, "big")),
        str(int.from_bytes(data, "little")),
        repr(data)[2:-1],
        str(list(data))[1:-1],
        data.decode("utf-8", "ignore"),
    }
    # A key of zeros would have the form "0"; a form that short is no secret's.
    return sorted((f for f in forms if len(f) >= MIN_REDACTED_BYTES), key=len, reverse=True)
