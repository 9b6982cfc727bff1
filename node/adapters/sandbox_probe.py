"""What the sandbox has on this machine: a process of ours encloses itself as a child would, and says how that went."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import trio

from node.adapters.child import child_environment
from node.sandbox.policy import Enclosure, Findings, Limits, decode_findings, encode_enclosure

TIMEOUT_S = 20.0
LIMITS = Limits(memory_bytes=1 << 30, cpu_s=10, file_bytes=1 << 20)


async def probe_sandbox() -> Findings | str:
    """Return the findings, or why there are none."""
    with tempfile.TemporaryDirectory(prefix="skynet-sandbox-") as folder:
        enclosure = encode_enclosure(Enclosure(LIMITS, (folder,)))
        with trio.move_on_after(TIMEOUT_S):
            try:
                done = await trio.run_process(
                    [sys.executable, "-s", "-P", "-m", "node.sandbox", enclosure],
                    capture_stdout=True,
                    capture_stderr=True,
                    cwd=folder,
                    env=child_environment(folder),
                )
                return decode_findings(done.stdout.decode())
            except (OSError, subprocess.CalledProcessError, ValueError) as error:
                return f"the sandbox can't be tried: {error}"
    return f"the sandbox was not ready within {TIMEOUT_S:g} s"
