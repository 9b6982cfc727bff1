"""`job.toml`: each fault names file and key, and says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.client.jobspec import JobSpec, load_jobspec, to_units
from node.errors import ConfigError


def load(tmp_path: Path, text: str) -> JobSpec:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return load_jobspec(path)


def test_an_empty_file_is_the_default_job(tmp_path: Path) -> None:
    assert load(tmp_path, "") == JobSpec()
    assert JobSpec().price_wei == 242 * 10**15


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[terms]\nrounds = 0", "terms.rounds is 0, but must lie in 1 … 1024; correct terms.rounds"),
        ("[terms]\nworkers = 65", "terms.workers is 65, but must lie in 1 … 64; correct terms.workers"),
        ("[terms]\nsteps = true", "terms.steps is true; make it a whole number"),
        ("[terms]\nsamples = 33", "terms.samples is 33, but must lie in 1 … 32"),
        ("[terms]\nmax_applicants = 2", "max_applicants is 2, fewer than the 3 of terms.workers; let at least as many"),
        ("[terms]\nproof_window_s = -1", "terms.proof_window_s is -1, but must lie in 1 … 4294967295"),
        ("[terms]\nmax_loss = nan", "terms.max_loss is nan, but must lie in 0 … 1000000.0"),
        ('[terms]\nbudget_ether = "1,5"', "terms.budget_ether is wrong: '1,5' is no amount of ether"),
        ('[terms]\nstake_ether = "-1"', "terms.stake_ether is wrong: '-1' ether can't be paid"),
        ("[terms]\nbudget_ether = 0.24", "terms.budget_ether is 0.24; make it a string"),
        ('[model]\nbuiltin = "gpt"', "model.builtin is 'gpt', which there is none of; choose digits-mlp"),
        ("[model]\nlearning_rate = 0", "model.learning_rate is 0, but must lie in 1e-09 … 1000.0"),
        ("[data]\nheld_out_pages = 0", "data.held_out_pages is 0, but must lie in 1 … 100000"),
        ("seed = -1", "seed is -1, but must lie in 0 … 4294967295"),
        ('[token]\nbudget = "5"', "token.address is missing"),
        ('[token]\naddress = "0x12"\nbudget = "5"', "token.address is '0x12', which is no address"),
        (f'[token]\naddress = "0x{40 * "1"}"\nbudget = "-5"', "token.budget is wrong"),
        ("[term]\nrounds = 8", "unknown key term; did you mean terms?"),
    ],
)
def test_each_fault_names_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'job.toml'}: ")
    assert said in str(caught.value)


def test_a_job_in_a_token_takes_no_ether(tmp_path: Path) -> None:
    spec = load(tmp_path, f'[token]\naddress = "0x{40 * "1"}"\nbudget = "240.5"')
    assert spec.price_wei == 0
    assert spec.token is not None
    assert to_units(spec.token.budget, 6, "token.budget", "USD") == 240_500_000
    with pytest.raises(ConfigError, match="at most 0 decimals"):
        to_units(spec.token.budget, 0, "token.budget", "USD")
