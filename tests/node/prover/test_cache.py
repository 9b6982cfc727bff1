"""The cache: made once, whole or not at all, whoever is killed when."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.prover.cache import obtain

MAKE = """
import sys, time
from pathlib import Path
from node.prover.cache import obtain

def make(folder):
    (folder / "half").write_bytes(b"x" * 1000)
    Path(sys.argv[2]).touch()
    time.sleep(float(sys.argv[3]))
    (folder / "whole").write_text("done")

folder, was_cached = obtain(Path(sys.argv[1]), "thing", make)
print(was_cached, (folder / "whole").read_text())
"""
ROOT = Path(__file__).resolve().parents[3]


def start(cache: Path, mark: Path, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(cache), str(mark), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_maker_leaves_room_for_the_next(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with start(cache, tmp_path / "mark", 60) as killed:
        wait_for(tmp_path / "mark")
        with start(cache, tmp_path / "second", 0) as waiting:
            time.sleep(0.2)
            assert waiting.poll() is None  # it waits for the lock
            killed.send_signal(signal.SIGKILL)
            output, _ = waiting.communicate(timeout=20)
    assert output == "False done\n"
    assert sorted(os.listdir(cache)) == ["thing", "thing.lock"]


def test_one_makes_and_all_use(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [start(cache, tmp_path / "mark", 0.1) for _ in range(4)]
    outputs = sorted(process.communicate(timeout=20)[0] for process in processes)
    assert outputs == ["False done\n"] + ["True done\n"] * 3


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        obtain(tmp_path, "thing", fail)
    assert os.listdir(tmp_path) == ["thing.lock"]
    folder, was_cached = obtain(tmp_path, "thing", lambda part: (part / "whole").touch())
    assert (folder / "whole").exists()
    assert not was_cached
    assert obtain(tmp_path, "thing", fail) == (folder, True)
