"""The demo as a process of its own, as a newcomer starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Demo:
    folder: Path
    status: int
    output: str
    errors: str

    @property
    def summary(self) -> Mapping[str, Any]:
        last: Mapping[str, Any] = json.loads(self.output.strip().splitlines()[-1])
        return last


def run_demo(folder: Path, cache: Path, *options: str) -> Demo:
    command = [sys.executable, "-m", "node.cli.main", "demo", "--json", "--dir", str(folder), *options]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=550)
    return Demo(folder, done.returncode, done.stdout, done.stderr)
