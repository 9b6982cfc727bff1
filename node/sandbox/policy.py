"""What a child may do, what encloses it, and whether that is enough: values, no system call.

A *measure* is one mechanism of the system, in force or not here, with the reason. A *protection* is what an operator
relies on; any of its measures gives it. A node that demands its protections takes no child that lacks one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum

# -- What a child gets ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use; rlimits, so they hold for each process that it may start, too."""

    memory_bytes: int
    """Address space: a library maps a good deal more than it touches."""
    cpu_s: int
    """Processor seconds of one request, over all threads; the end of it is SIGXCPU."""
    file_bytes: int
    """Of one file that it writes."""
    disk_bytes: int = 1 << 40
    """Of all in its working folder; the parent looks now and then, no rlimit knows it."""
    files: int = 64
    """Open at once; lower than 32 and the interpreter can't import."""
    threads: int = 2048
    """Three libraries start one a processor each; lower ends their imports on a large machine."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """All that a child is told of its walls. Paths are absolute."""

    limits: Limits
    writable: tuple[str, ...]
    """Folders; the first is its working folder."""
    readable: tuple[str, ...] = ()
    """Folders beside the interpreter, the system's libraries and our own code."""
    kept: tuple[str, ...] = ()
    """Of the writable folders those in which finished folders, without a dot in their names, stay as they are; by
    mounts alone."""
    is_demanded: bool = False
    """Serve nobody where a protection is lacking."""


def encode_enclosure(enclosure: Enclosure) -> str:
    return json.dumps(asdict(enclosure), sort_keys=True)


def decode_enclosure(text: str) -> Enclosure:
    raw = json.loads(text)
    return Enclosure(
        Limits(**raw["limits"]), tuple(raw["writable"]), tuple(raw["readable"]), tuple(raw["kept"]), raw["is_demanded"]
    )


# -- What encloses it ----------------------------------------------------------


class Measure(Enum):
    LIMITS = "rlimits"
    """Address space, processor time, size and number of files, no core file."""
    THREADS = "thread limit"
    USER = "user namespace"
    NETWORK = "network namespace"
    IPC = "ipc namespace"
    MOUNTS = "read-only mounts"
    LANDLOCK = "landlock"
    CAPABILITIES = "no capabilities"
    SECCOMP = "seccomp"


Findings = Mapping[Measure, str | None]
"""Of each measure why it is not in force here; None: it is."""


def encode_findings(findings: Findings) -> str:
    return json.dumps({measure.value: problem for measure, problem in findings.items()})


def decode_findings(text: str) -> Findings:
    """ValueError if it is none: our own program wrote it."""
    return {Measure(name): problem for name, problem in json.loads(text).items()}


# -- Whether that is enough ----------------------------------------------------

PROTECTIONS: Mapping[str, tuple[Measure, ...]] = {
    "files (it could read this user's, keys among them)": (Measure.LANDLOCK,),
    "network (it could reach it)": (Measure.SECCOMP, Measure.NETWORK),
    "processes (it could start programs and signal others)": (Measure.SECCOMP,),
    "memory and time (it could take all)": (Measure.LIMITS,),
}
"""What an operator relies on, and the measures any of which gives it. The others stand behind these."""


def find_lacking(findings: Findings) -> tuple[str, ...]:
    """Return the protections that no measure in force gives."""
    return tuple(
        name
        for name, measures in PROTECTIONS.items()
        if all(findings.get(measure, "unknown") is not None for measure in measures)
    )


def refuse(enclosure: Enclosure, findings: Findings) -> str | None:
    """Return why a child so enclosed must not work; None if it may."""
    lacking = find_lacking(findings)
    if not lacking or not enclosure.is_demanded:
        return None
    return f'no sandbox here for {"; ".join(lacking)}: sandbox.missing = "warn" goes without'


def describe_applied(findings: Findings) -> str:
    return ", ".join(measure.value for measure, problem in findings.items() if problem is None) or "nothing"


def describe_missing(findings: Findings) -> str:
    return ", ".join(f"{measure.value} ({problem})" for measure, problem in findings.items() if problem is not None)


def describe(findings: Findings | str, *, is_demanded: bool) -> tuple[str, ...]:
    """Return lines for an operator; a string in the place of findings says why there are none."""
    if isinstance(findings, str):
        return (f"sandbox: {findings}",)
    lines = [f"sandbox: {describe_applied(findings)}"]
    if absent := describe_missing(findings):
        lines.append(f"sandbox, not here: {absent}")
    then = "jobs are refused" if is_demanded else "jobs run without"
    lines += [f"no sandbox here for {name}: {then} (sandbox.missing)" for name in find_lacking(findings)]
    return tuple(lines)
