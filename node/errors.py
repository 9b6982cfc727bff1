"""What goes wrong for a user: one line that names the culprit and what to do, and an exit status.

The one rule: whoever raises a `UserError` knows the key, the file or the peer at fault and says it.
Everything else that reaches `main` is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

# -- Exit statuses -------------------------------------------------------------


class ExitCode(IntEnum):
    """The status of every program of ours. Numbers are part of the interface: never reused."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done"
    BUG = 1, "an unexpected error of ours; it comes with a traceback, please report it"
    USAGE = 2, "the command line was not understood, or names a file that can't be written"
    CONFIG = 3, "a configuration file is missing, unreadable or wrong; the line names file and key"
    KEYS = 4, "a key file is missing, damaged or readable by others, or the passphrase is wrong"
    LOCKED = 5, "another process holds the data folder"
    DATA = 6, "stored data can't be used: written by a newer version, damaged, or not ours"
    DISK = 7, "the disk or the configured limit for blobs is full"
    CHAIN = 8, "no JSON-RPC endpoint answers, or it serves another chain or other contracts"
    REVERTED = 9, "a contract refused the call, or the wallet can't pay for it"
    PEER = 10, "a peer could not be reached or did not answer in time"
    CONTENT = 11, "a package, dataset or proof is not what its name or its manifest says"
    FAILED = 12, "the job ended without the result: expired, cancelled or proofs missing"
    ESCALATED = 13, "a part of the node failed more often than its restart limit allows"
    INTERRUPTED = 130, "ended by Ctrl-C"
    TERMINATED = 143, "ended by SIGTERM"


def exit_code_table() -> str:
    """The table of exit statuses, as the README and `--help` show it (Markdown)."""
    rows = (f"| {code.value} | {code.name} | {code.meaning} |" for code in ExitCode)
    return "\n".join(("| status | name | meaning |", "|---|---|---|", *rows))


# -- Errors --------------------------------------------------------------------


class UserError(Exception):
    """A fault that its reader can mend."""

    code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, culprit: object, problem: str, remedy: str) -> None:
        """`culprit` names the key, file or peer; `remedy` is an imperative sentence."""
        super().__init__(str(culprit), problem, remedy)
        self.culprit, self.problem, self.remedy = str(culprit), problem, remedy

    def __str__(self) -> str:
        # What an endpoint or a file said may hold line breaks; a log line and a terminal line may not.
        return " ".join(f"{self.culprit}: {self.problem}; {self.remedy}".split())


class UsageError(UserError):
    code = ExitCode.USAGE


class ConfigError(UserError):
    code = ExitCode.CONFIG


class KeyFileError(UserError):
    code = ExitCode.KEYS


class FolderLocked(UserError):
    code = ExitCode.LOCKED


class DataError(UserError):
    code = ExitCode.DATA


class StoreFull(UserError):
    code = ExitCode.DISK


class ChainError(UserError):
    code = ExitCode.CHAIN


class CallReverted(UserError):
    code = ExitCode.REVERTED


class PeerUnreachable(UserError):
    code = ExitCode.PEER


class ContentError(UserError):
    code = ExitCode.CONTENT


class JobFailed(UserError):
    code = ExitCode.FAILED


class Escalated(Exception):
    """A supervisor gave up: a child failed more often than the intensity allows. Its error is the cause."""

    code: ClassVar[ExitCode] = ExitCode.ESCALATED

    def __init__(self, supervisor: str, child: str, failures: int, period_s: float) -> None:
        super().__init__(f"{supervisor}: {child} failed, {failures} failures here within {period_s:g} s")
        self.supervisor, self.child = supervisor, child


# -- From an exception to a line -----------------------------------------------


def find_error(error: BaseException) -> UserError | Escalated | None:
    """Return what `error` is for its reader: a user error, else an escalation, from any depth of groups and causes."""
    escalated: Escalated | None = None
    queue: list[BaseException] = [error]
    for current in queue:
        if isinstance(current, UserError):
            return current
        if isinstance(current, Escalated) and escalated is None:
            escalated = current
        inner = (*getattr(current, "exceptions", ()), current.__cause__)
        queue.extend(e for e in inner if e is not None and all(e is not known for known in queue))
    return escalated


def split_advice(sentence: str) -> tuple[str, str]:
    """(problem, remedy) of "problem: remedy"; without a colon the remedy is to look."""
    problem, _, remedy = sentence.partition(": ")
    return problem, remedy or "nothing can be done about it now"


def describe_os_error(error: OSError) -> str:
    """Say what the system said, without path and number: the caller names the file."""
    return (error.strerror or type(error).__name__).lower()
