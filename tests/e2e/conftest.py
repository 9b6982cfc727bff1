"""The demo, run once as a newcomer would: a process of its own, an empty cache, a folder to look into afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


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


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), cache, "--seed", "2")
