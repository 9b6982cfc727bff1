"""Numbers of system calls on x86-64 and arm64: those a child needs, and some that it must not have.

Names and numbers are those of the kernel's headers; a call that arm64 never had has a dash. The order is that of the
filter: what is called most stands first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Numbers(NamedTuple):
    """Of one call; None where the architecture lacks it."""

    x86_64: int | None
    arm64: int | None


class Architecture(NamedTuple):
    audit: int
    """AUDIT_ARCH_… of linux/audit.h."""
    column: int
    """Of `Numbers`."""


ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(0xC000003E, 0),
    "aarch64": Architecture(0xC00000B7, 1),
}
"""By `os.uname().machine`."""


def _read(table: str) -> Mapping[str, Numbers]:
    lines = (line for line in table.splitlines() if "#" not in line)
    rows = (row.split() for line in lines for row in line.split(",") if row.strip())
    return {name: Numbers(*(None if n == "-" else int(n) for n in numbers)) for name, *numbers in rows}


ALLOWED = _read("""
    # memory and files already open
    futex 202 98, read 0 63, write 1 64, mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233,
    brk 12 214, close 3 57, lseek 8 62, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69,
    pwritev 296 70, fstat 5 80, ftruncate 77 46, fallocate 285 47, fsync 74 82, fdatasync 75 83, flock 73 32,
    fadvise64 221 223, sendfile 40 71, copy_file_range 326 285, mincore 27 232, msync 26 227, mlock 149 228,
    munlock 150 229, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, mbind 237 235,
    get_mempolicy 239 236, set_mempolicy 238 237, pkey_alloc 330 289, pkey_free 331 290, pkey_mprotect 329 288,
    membarrier 324 283,
    # files by name: landlock says which
    newfstatat 262 79, stat 4 -, lstat 6 -, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439,
    getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, readlink 89 -, readlinkat 267 78,
    mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
    renameat2 316 276, statfs 137 43, fstatfs 138 44, umask 95 166,
    # threads and identity
    set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, set_tid_address 218 96, gettid 186 178,
    getpid 39 172, getppid 110 173, getpgrp 111 -, getpgid 121 155, getsid 124 156, getuid 102 174, geteuid 107 175,
    getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, exit 60 93,
    exit_group 231 94, sched_yield 24 124, sched_getaffinity 204 123, sched_getparam 143 121,
    sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126, getcpu 309 168,
    getpriority 140 141, arch_prctl 158 -, futex_waitv 449 449,
    # time, signals of its own, waiting
    clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169,
    time 201 -, times 100 153, setitimer 38 103, getitimer 36 102, getrusage 98 165, getrlimit 97 163,
    setrlimit 160 164, sysinfo 99 179, uname 63 160, getrandom 318 278, rt_sigaction 13 134, rt_sigprocmask 14 135,
    rt_sigreturn 15 139, rt_sigtimedwait 128 137, rt_sigpending 127 136, rt_sigsuspend 130 133, sigaltstack 131 132,
    pause 34 -, restart_syscall 219 128, poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -,
    epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441,
    eventfd 284 -, eventfd2 290 19, timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87,
    # of a pair of sockets, the only kind there is
    sendto 44 206, recvfrom 45 207,
""")

GUARDED = _read("""
    open 2 -, openat 257 56, clone 56 220, kill 62 129, tgkill 234 131, prlimit64 302 261, prctl 157 167,
    ioctl 16 29, fcntl 72 25, socketpair 53 199,
""")
"""Allowed with some arguments only; see `filter.py`."""

FORBIDDEN = _read("""
    socket 41 198, execve 59 221, execveat 322 281, fork 57 -, vfork 58 -, ptrace 101 117, mount 165 40,
    umount2 166 39, unshare 272 97, setns 308 268, seccomp 317 277, capset 126 91, chmod 90 -, fchmodat 268 53,
    bpf 321 280, io_uring_setup 425 425,
""")
"""Refused as not permitted, which messages show; all the rest is refused as unknown, and libraries do without."""
