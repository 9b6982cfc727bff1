"""The filter of system calls as a BPF program: pure, bytes of `struct sock_filter`.

What is listed may be called, some of it with certain arguments only; the rest answers with an error. Of an argument
the low 32 bits are compared: all that are guarded are `int` or flags below bit 32.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from node.sandbox.syscalls import ALLOWED, FORBIDDEN, GUARDED, Architecture, Numbers

# -- Instructions, linux/bpf_common.h and linux/seccomp.h ----------------------

LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP, JUMP_EQUAL, JUMP_AT_LEAST = 0x05, 0x15, 0x35
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, little-endian
X32 = 0x40000000  # numbers from here on are x86-64's other ABI

REFUSED = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS

Program = list[bytes]


def _do(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


# -- Guards --------------------------------------------------------------------


class Guard(NamedTuple):
    """Of one argument: whether its bits under `mask` must, or must not, be one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    must: bool = True


CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000  # every namespace that clone can make
O_TRUNC, O_ACCMODE = 0o1000, 0o3
AF_UNIX, SOCK_STREAM = 1, 1
SIGNAL_OTHERS = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
NAMES = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
TERMINAL_QUESTIONS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIO(N)CLEX


def make_guards(pid: int) -> Mapping[str, tuple[Guard, ...]]:
    """Return the guards of a process; all of a call's must hold."""
    # The first ABIs of landlock overlook that opening for reading may also empty a file.
    empties = Guard(2, (O_TRUNC,), O_TRUNC | O_ACCMODE, must=False)
    return {
        "open": (empties._replace(argument=1),),
        "openat": (empties,),
        "clone": (Guard(0, (CLONE_THREAD,), CLONE_THREAD | CLONE_NEW),),
        "kill": (Guard(0, (pid,)),),
        "tgkill": (Guard(0, (pid,)),),
        "prlimit64": (Guard(0, (0,)),),
        "prctl": (Guard(0, NAMES),),
        "ioctl": (Guard(1, TERMINAL_QUESTIONS),),
        "fcntl": (Guard(1, SIGNAL_OTHERS, must=False),),
        # asyncio wakes itself by one. A datagram socket could write to others by their name.
        "socketpair": (Guard(0, (AF_UNIX,)), Guard(1, (SOCK_STREAM,), 0xF)),
    }


# -- Assembly ------------------------------------------------------------------


def assemble(architecture: Architecture, pid: int) -> bytes:
    """Return the program for the process `pid`."""
    guards = make_guards(pid)
    program = [
        _do(LOAD, ARCHITECTURE),
        _do(JUMP_EQUAL, architecture.audit, yes=1),
        _do(RETURN, KILL_PROCESS),
        _do(LOAD, NUMBER),
        _do(JUMP_AT_LEAST, X32, no=1),
        _do(RETURN, UNKNOWN),
    ]
    for _, number in _present(ALLOWED, architecture):
        program += [_do(JUMP_EQUAL, number, no=1), _do(RETURN, ALLOW)]
    for name, number in _present(GUARDED, architecture):
        block = _assemble_guards(guards[name])
        program += [_do(JUMP_EQUAL, number, no=len(block)), *block]
    for _, number in _present(FORBIDDEN, architecture):
        program += [_do(JUMP_EQUAL, number, no=1), _do(RETURN, REFUSED)]
    return b"".join((*program, _do(RETURN, UNKNOWN)))


def _present(table: Mapping[str, Numbers], architecture: Architecture) -> Iterator[tuple[str, int]]:
    for name, numbers in table.items():
        number = numbers[architecture.column]
        if number is not None:
            yield name, number


def _assemble_guards(guards: tuple[Guard, ...]) -> Program:
    """Return a block that always returns: the number it was reached with is lost."""
    block: Program = []
    for guard in guards:
        block += [_do(LOAD, ARGUMENTS + 8 * guard.argument), _do(AND, guard.mask)]
        last = len(guard.values)
        for index, value in enumerate(guard.values):
            block.append(_do(JUMP_EQUAL, value, yes=last - index))  # to what stands behind the next instruction
        block += [_do(RETURN, REFUSED)] if guard.must else [_do(JUMP, 1), _do(RETURN, REFUSED)]
    return [*block, _do(RETURN, ALLOW)]
