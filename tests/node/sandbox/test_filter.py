"""The filter of system calls, run by an interpreter of its instructions: what passes, on both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from node.sandbox import filter as bpf
from node.sandbox.filter import ALLOW, KILL_PROCESS, REFUSED, UNKNOWN, assemble
from node.sandbox.syscalls import ALLOWED, ARCHITECTURES, FORBIDDEN, GUARDED, Architecture

PID = 4711
MACHINES = sorted(ARCHITECTURES)


def run(program: bytes, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the verdict, as the kernel computes it; an instruction beyond the end is an IndexError."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        match what:
            case bpf.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, k)
            case bpf.AND:
                accumulator &= k
            case bpf.JUMP:
                at += k
            case bpf.JUMP_EQUAL:
                at += yes if accumulator == k else no
            case bpf.JUMP_AT_LEAST:
                at += yes if accumulator >= k else no
            case bpf.RETURN:
                return int(k)
            case _:
                raise AssertionError(f"instruction {what:#x}")


class Machine:
    def __init__(self, name: str) -> None:
        self.architecture: Architecture = ARCHITECTURES[name]
        self.program = assemble(self.architecture, PID)

    def number(self, name: str) -> int | None:
        return {**ALLOWED, **GUARDED, **FORBIDDEN}[name][self.architecture.column]

    def judge(self, name: str, *arguments: int) -> int:
        number = self.number(name)
        assert number is not None
        return run(self.program, self.architecture.audit, number, arguments)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


def test_every_number_is_judged_as_its_table_says(machine: Machine) -> None:
    known = {}
    for table, verdict in ((ALLOWED, ALLOW), (FORBIDDEN, REFUSED)):
        known |= {numbers[machine.architecture.column]: verdict for numbers in table.values()}
    guarded = {numbers[machine.architecture.column] for numbers in GUARDED.values()}
    for number in range(600):
        if number not in guarded:
            found = run(machine.program, machine.architecture.audit, number)
            assert found == known.get(number, UNKNOWN), number


def test_numbers_are_the_kernels(machine: Machine) -> None:
    """No two calls share one, and those that Python itself makes are known by other means."""
    numbers = [machine.number(name) for table in (ALLOWED, GUARDED, FORBIDDEN) for name in table]
    present = [number for number in numbers if number is not None]
    assert len(set(present)) == len(present)
    expected = {0: {"read": 0, "openat": 257, "clone": 56}, 1: {"read": 63, "openat": 56, "clone": 220}}
    for name, number in expected[machine.architecture.column].items():
        assert machine.number(name) == number


def test_other_architectures_end_the_process(machine: Machine) -> None:
    assert run(machine.program, 0x40000003, 0) == KILL_PROCESS  # i386: its numbers mean other calls
    assert run(machine.program, machine.architecture.audit, 0x40000000) == UNKNOWN  # x32


THREAD = 0x3D0F00  # what glibc passes for a thread
FORK = 0x1200011


@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("clone", (THREAD,), ALLOW),
        ("clone", (FORK,), REFUSED),
        ("clone", (17,), REFUSED),
        ("clone", (0x4111,), REFUSED),  # vfork
        ("clone", (THREAD | 0x10000000,), REFUSED),  # a user namespace
        ("kill", (PID, 11), ALLOW),
        ("kill", (PID + 1, 9), REFUSED),
        ("kill", (0, 9), REFUSED),
        ("kill", (0xFFFFFFFF, 9), REFUSED),
        ("tgkill", (PID, PID + 3, 6), ALLOW),
        ("tgkill", (1, 1, 9), REFUSED),
        ("openat", (0, 0, 0o101), ALLOW),
        ("openat", (0, 0, 0o1101), ALLOW),  # for writing, emptied first: landlock's affair
        ("openat", (0, 0, 0o1000), REFUSED),  # for reading, and emptied
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), REFUSED),
        ("prctl", (15,), ALLOW),
        ("prctl", (22,), REFUSED),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),  # types into the terminal
        ("fcntl", (3, 1), ALLOW),
        ("fcntl", (3, 8), REFUSED),
        ("fcntl", (3, 10), REFUSED),
        ("fcntl", (3, 1030), ALLOW),
        ("socketpair", (1, 0x80001), ALLOW),
        ("socketpair", (1, 2), REFUSED),
        ("socketpair", (2, 1), REFUSED),
        ("socket", (2, 1), REFUSED),
    ],
)
def test_guards(machine: Machine, name: str, arguments: tuple[int, ...], verdict: int) -> None:
    assert machine.judge(name, *arguments) == verdict


def test_the_high_half_of_an_argument_changes_nothing(machine: Machine) -> None:
    assert machine.judge("kill", PID | 1 << 32, 9) == ALLOW
    assert machine.judge("fcntl", 3, 8 | 1 << 40) == REFUSED


def test_a_file_can_be_opened_the_old_way_on_x86_64_only() -> None:
    assert Machine("x86_64").judge("open", 0, 0) == ALLOW
    assert Machine("x86_64").judge("open", 0, 0o1000) == REFUSED
    assert Machine("aarch64").number("open") is None


def test_refusals_are_errors_that_libraries_know() -> None:
    assert REFUSED & 0xFFFF == errno.EPERM
    assert UNKNOWN & 0xFFFF == errno.ENOSYS
