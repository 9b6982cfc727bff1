"""A child program that misbehaves on request, for test_child.py."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from node import sandbox
from node.sandbox.deadline import bounded
from protocols import frames

channel = sandbox.enter(sys.argv[1:])


def answer(do: str, fields: frames.Frame) -> Mapping[str, object] | frames.Refusal:
    match do:
        case "echo":
            return fields
        case "refuse":
            return frames.Refusal("not\x1b today")
        case "raise":
            raise ValueError("a bad package")
        case "print":
            print("a library says hello")
            sys.stdout.flush()
        case "flood":
            sys.stderr.write("x" * 1_000_000 + "\nthe end\n")
            sys.stderr.flush()
        case "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "sleep":
            time.sleep(60)
        case "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        case "eat":
            return {"bytes": len(bytearray(1 << 30))}
        case "overstay":
            with bounded(0.2):
                time.sleep(60)
        case "be quick":
            with bounded(0.2):
                pass
            time.sleep(0.4)
        case "spin":
            while True:
                pass
        case "litter":
            number = 0
            while True:
                Path(f"litter-{number}").write_bytes(bytes(32 << 10))
                number += 1
        case "write":
            Path("big").write_bytes(bytes(1 << 20))
        case "open":
            for i in range(1000):
                os.open("/dev/null", os.O_RDONLY + 0 * i)
        case "limits":
            return {"environment": dict(os.environ), "directory": str(Path.cwd())}
        case "raw":
            raw = fields["bytes"]
            assert isinstance(raw, bytes)
            channel.replies.write(raw)
            channel.replies.flush()
            time.sleep(60)
    return {}


sandbox.serve(channel, answer)
