"""Namespaces of its own for this process, those that the kernel lets it make, and a file system that it can't write.

All hang on the user namespace, which gives an ordinary process the right to make the others; its ids stay as they
were. OSError where one can't be made: containers and some distributions forbid them.

There is none of process ids: a child can neither start nor signal nor see another process without it (the filter and
landlock), and it would take two more processes a child, since the first of such a namespace is spared SIGXCPU.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from node.sandbox.kernel import mount, system_call, unshare

USER, NETWORK, IPC, MOUNT = 0x10000000, 0x40000000, 0x08000000, 0x00020000  # CLONE_NEW…

_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR = 442  # the same on every architecture
_AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = -100, 0x8000, 1
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def enter_user() -> None:
    """Enter a user namespace in which our ids are what they are outside."""
    user, group = os.getuid(), os.getgid()
    unshare(USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user", ctypes.c_uint64),
    )


def make_mounts_read_only(writable: Sequence[str], kept: Sequence[str]) -> None:
    """See every file system read-only, but for these folders, by mounts of our own.

    In those of them that are `kept`, each folder that is there already is read-only, too, and can't be moved away,
    unless its name has a dot: parts that were never finished may go. The working folder must be entered anew: it
    still is where it was before.
    """
    unshare(MOUNT)
    mount(None, "/", _MS_REC | _MS_PRIVATE)
    for folder in writable:
        mount(folder, folder, _MS_BIND)
    _set_attributes("/", _MountAttributes(set=_READ_ONLY), _AT_RECURSIVE)
    for folder in writable:
        _set_attributes(folder, _MountAttributes(clear=_READ_ONLY), 0)
    for entry in (entry for folder in kept for entry in os.scandir(folder)):
        if "." not in entry.name and entry.is_dir(follow_symlinks=False):
            mount(entry.path, entry.path, _MS_BIND)
            _set_attributes(entry.path, _MountAttributes(set=_READ_ONLY), 0)


def _set_attributes(path: str, attributes: _MountAttributes, flags: int) -> None:
    name = ctypes.c_char_p(os.fsencode(path))
    system_call(_MOUNT_SETATTR, _AT_FDCWD, name, flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def drop_capabilities() -> None:
    """Give up every capability, those of root and those that the user namespace gave."""
    number = _CAPSET.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"no number of capset for {os.uname().machine}")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    system_call(number, ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
