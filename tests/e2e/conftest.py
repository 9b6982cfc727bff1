"""One run of the demo for all who look into it, with an empty cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # `demo_run`: importlib mode leaves folders of tests out

from demo_run import Demo, run_demo


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), cache, "--seed", "2")
