"""Applies an enclosure to this process, measure by measure, and reports each.

Order matters: namespaces need what seccomp refuses, landlock and seccomp need that no new privileges can come.
The process must have one thread. What fails is reported and passed over: `policy.refuse` judges the whole.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Callable

from node.sandbox import kernel, landlock, namespaces
from node.sandbox.filter import assemble
from node.sandbox.policy import Enclosure, Findings, Limits, Measure
from node.sandbox.syscalls import ARCHITECTURES

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/sys/devices/system")
"""Libraries, time zones, locales, and what XLA and rayon count processors by."""
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
)
"""Not /etc: a node that root runs could read its secrets."""
PACKAGES = ("protocols", "actors", "node")

_SECCOMP_MODE_FILTER, _SYNCHRONISE_THREADS = 1, 1
_KEEP_SPECULATION = 4  # older kernels would slow all of training down against attacks on one's own process
_SECCOMP = {"x86_64": 317, "aarch64": 277}


def enclose(enclosure: Enclosure) -> Findings:
    """Apply all that this system has; the working folder is the first writable one afterwards."""
    findings: dict[Measure, str | None] = {}

    def attempt(measure: Measure, apply: Callable[[], None]) -> None:
        try:
            apply()
        except OSError as error:
            findings[measure] = (error.strerror or str(error)).lower()
        else:
            findings[measure] = None

    attempt(Measure.LIMITS, lambda: apply_limits(enclosure.limits))
    if sys.platform == "linux":
        attempt(Measure.USER, namespaces.enter_user)
        attempt(Measure.THREADS, lambda: _limit_threads(enclosure.limits, is_alone=findings[Measure.USER] is None))
        attempt(Measure.NETWORK, lambda: kernel.unshare(namespaces.NETWORK))
        attempt(Measure.IPC, lambda: kernel.unshare(namespaces.IPC))
        attempt(Measure.MOUNTS, lambda: namespaces.make_mounts_read_only(enclosure.writable, enclosure.kept))
        os.chdir(enclosure.writable[0])
        attempt(Measure.CAPABILITIES, namespaces.drop_capabilities)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        attempt(Measure.LANDLOCK, lambda: landlock.restrict(list_rules(enclosure)))
        attempt(Measure.SECCOMP, filter_system_calls)
    return {measure: findings.get(measure, f"{sys.platform} has none") for measure in Measure}


# -- Limits --------------------------------------------------------------------


def apply_limits(limits: Limits) -> None:
    """Set the rlimits. OSError names those that this system refused."""
    wanted = {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CORE": 0,  # a core file would hold a job's opened pages
    }
    missing = [name for name, value in wanted.items() if not _set_limit(name, value)]
    if missing:
        raise OSError(0, f"{', '.join(missing)} can't be set")


def _set_limit(name: str, value: int) -> bool:
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (ValueError, OSError):
        return False
    return True


def _limit_threads(limits: Limits, *, is_alone: bool) -> None:
    """Bound threads by RLIMIT_NPROC, which counts a user's in one namespace, ours alone if it is new."""
    if not is_alone or _kernel_version() < (5, 14):
        raise OSError(0, "this user's other processes would count")
    if os.getuid() == 0:
        raise OSError(0, "root is exempt")
    if not _set_limit("RLIMIT_NPROC", limits.threads):
        raise OSError(0, "RLIMIT_NPROC can't be set")


def _kernel_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


# -- Files ---------------------------------------------------------------------


def list_rules(enclosure: Enclosure) -> list[tuple[str, int]]:
    """Return the paths that stay in sight, each with its rights; nothing can be executed."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    code = [os.path.join(here, name) for name in PACKAGES]
    code += [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), f"/proc/{os.getpid()}"]
    rules = [(path, landlock.READ) for path in (*SYSTEM_FOLDERS, *SYSTEM_FILES, *code, *enclosure.readable)]
    rules.append(("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE))
    rules += [(path, landlock.WRITE) for path in enclosure.writable]
    return [(os.path.realpath(path), rights) for path, rights in rules]


# -- System calls --------------------------------------------------------------


def filter_system_calls() -> None:
    """Refuse what a child doesn't need. OSError where the kernel or the architecture has no filter."""
    machine = os.uname().machine
    architecture = ARCHITECTURES.get(machine)
    if architecture is None or sys.byteorder != "little":
        raise OSError(0, f"no filter for {machine}")
    install_filter(assemble(architecture, os.getpid()))


def install_filter(program: bytes) -> None:
    """Install a filter for every thread of this process. OSError where the kernel refuses."""
    code = ctypes.create_string_buffer(program, len(program))

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    loaded = _Program(len(program) // 8, ctypes.addressof(code))
    flags = _SYNCHRONISE_THREADS | _KEEP_SPECULATION
    kernel.system_call(_SECCOMP[os.uname().machine], _SECCOMP_MODE_FILTER, flags, ctypes.byref(loaded))
