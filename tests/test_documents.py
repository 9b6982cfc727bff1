"""What the README says is what the programs do."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from node.client.jobspec import load_jobspec
from node.errors import exit_code_table

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_of_exit_statuses_is_the_programs() -> None:
    assert exit_code_table() in README


def test_the_readme_s_job_file_is_read(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    assert tomllib.loads(text[1])["terms"]["workers"] == 3
    path = tmp_path / "job.toml"
    path.write_text(text[1])
    assert load_jobspec(path).terms.steps == 600


@pytest.mark.parametrize("program", ["node.cli.main", "node.cli.node", "sim.cli"])
def test_every_program_explains_itself(program: str) -> None:
    done = subprocess.run([sys.executable, "-m", program, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "usage:" in done.stdout
