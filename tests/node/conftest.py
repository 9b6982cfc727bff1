"""What several tests of the node's parts share: the digits, packed once by the packing program itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of blobs and drafts: pages of 4, 90 of them held out, seed 1, rule `mean`: no momentum in a state."""
    folder = tmp_path_factory.mktemp("digits")
    for what in (["model", "--rule", "mean"], ["data"]):
        subprocess.run([sys.executable, "-m", "node.packing", *what, "--out", str(folder)], check=True)
    return folder
