"""Verdicts on what a peer sent: a fault is a value, never an exception.

`Reject` costs the sender score, `Ignore` does not (gossipsub's meaning of the words).
Spec: protocols/README.md, "Verdicts".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accept:
    pass


@dataclass(frozen=True, slots=True)
class Ignore:
    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    reason: str


Verdict = Accept | Ignore | Reject
