"""A child program that was taken over: it does what it is told, or tells which error kept it from that."""

import ctypes
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from node import sandbox
from protocols import frames

channel = sandbox.enter(sys.argv[1:])
MOST_THREADS = 1000
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> None:
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def spawn() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def spread() -> None:
    """Threads are allowed."""
    thread = threading.Thread(target=spread_no_more)
    thread.start()
    thread.join()


def spread_no_more() -> None:
    pass


def swarm() -> None:
    """Start threads until there is no more to be had, and let them go."""
    leave, threads = threading.Event(), []
    try:
        while True:
            threads.append(threading.Thread(target=leave.wait))
            threads[-1].start()
    except RuntimeError:
        threads.pop()
    leave.set()
    for thread in threads:
        thread.join()
    if len(threads) > MOST_THREADS:
        raise OSError(errno.E2BIG, f"{len(threads)} threads")


def abstract() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as each:
        each.connect("\0skynet")


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read": lambda path: Path(path).read_bytes(),
    "list": lambda path: os.listdir(path),
    "write": lambda path: Path(path).write_bytes(b"x"),
    "append": lambda path: os.open(path, os.O_WRONLY | os.O_APPEND),
    "empty": lambda path: os.open(path, os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda path: os.truncate(path, 0),
    "remove": lambda path: Path(path).unlink(),
    "link": lambda path: os.link(path, "stolen"),
    "symlink": lambda path: (os.symlink(path, "way"), Path("way").read_bytes()),
    "rename": lambda path: Path(path).rename("stolen"),
    "chmod": lambda path: Path(path).chmod(0o666),
    "chown": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "touch": lambda path: os.utime(path),
    "attribute": lambda path: os.setxattr(path, "user.x", b"x"),
    "run": lambda path: os.execv(path, [path]),
    "tcp": lambda _: socket.create_connection(("127.0.0.1", 80), 1),
    "udp": lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda _: abstract(),
    "netlink": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "pair": lambda _: socket.socketpair(),
    "fork": lambda _: spawn(),
    "vfork": lambda _: os.posix_spawn("/bin/true", ["/bin/true"], {}),
    "thread": lambda _: spread(),
    "swarm": lambda _: swarm(),
    "signal": lambda pid: os.kill(int(pid), 0),
    "limit": lambda pid: call("prlimit", int(pid), 7, 0, 0),
    "trace": lambda pid: call("ptrace", 16, int(pid), 0, 0),
    "session": lambda _: os.setsid(),
    "unshare": lambda _: call("unshare", 0x10000000),
    "mount": lambda path: call("mount", 0, 0, 0, 0, 0),
    "root": lambda _: os.chroot("/"),
    "user": lambda _: os.setuid(65534),
}


def answer(do: str, fields: frames.Frame) -> Mapping[str, object]:
    try:
        ATTEMPTS[do](str(fields.get("on", "")))
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, str(error))}
    return {"error": None}


sandbox.serve(channel, answer)
