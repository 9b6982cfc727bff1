"""`skynet-sim` as its user meets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sim.cli import main


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_an_unknown_scenario_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    error = refuse(capsys, "digit")
    assert "'digit'" in error
    assert "digits-kill" in error


def test_too_few_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "3 seats" in refuse(capsys, "digits", "--nodes", "2")


def test_a_seed_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--seed" in refuse(capsys, "digits", "--seed", "one")


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits"]) == 0
    output = capsys.readouterr().out
    for words in ("training: unproved", "job settled", "books balanced", "trace "):
        assert words in output


def test_the_simulator_needs_neither_jax_nor_ezkl_nor_libp2p() -> None:
    code = "import sys, sim.cli; print(sorted({'jax', 'ezkl', 'libp2p', 'web3', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
