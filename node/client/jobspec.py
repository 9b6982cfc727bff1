"""`job.toml`: what a requester writes down about a job, read into frozen values.

Every fault names file and key. Amounts are in ether, as decimal strings, so that no float touches money.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from node.errors import ConfigError
from node.toml_table import parse, read_text
from protocols.ids import Wei

WEI_PER_ETHER = 10**18


@dataclass(frozen=True, slots=True)
class ModelSpec:
    builtin: str = "digits-mlp"
    """A model that ships with SkyNet."""
    learning_rate: float = 0.005
    """Of the inner optimizer, Adam."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    builtin: str = "digits"
    challenge_pages: int = 16
    """Held-out pages that evaluation proofs draw from."""
    permute_labels: bool = False
    """Shuffle the labels: a control experiment, accuracy must fall to chance."""


@dataclass(frozen=True, slots=True)
class TermsSpec:
    workers: int = 3
    rounds: int = 8
    steps: int = 600
    """Inner steps a round, each on one page."""
    samples: int = 1
    budget_ether: str = "0.24"
    stake_ether: str = "0.1"
    move_fee_ether: str = "0.001"
    max_applicants: int = 256
    """The join window closes early when so many have applied. Few is quick; many is a fairer draw of the seats."""
    join_window_s: int = 30
    ready_window_s: int = 60
    round_timeout_s: int = 60
    proof_window_s: int = 300
    max_loss: float = 0.0
    """A proof with a larger loss earns nothing; 0 is no bound."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    terms: TermsSpec = TermsSpec()
    seed: int = 1


def load_jobspec(path: Path) -> JobSpec:
    """Read a job file. Raises ConfigError that names file and key."""
    spec = parse(JobSpec, read_text(path, missing="write one, for example the README's job.toml"), path)
    for name in ("budget_ether", "stake_ether", "move_fee_ether"):
        to_wei(getattr(spec.terms, name), f"{path}: terms.{name}")
    for name, value in (("seed", spec.seed), *((f.name, getattr(spec.terms, f.name)) for f in fields(spec.terms))):
        if isinstance(value, int | float) and not 0 <= value < 2**32:
            raise ConfigError(path, f"{name} is {value}", "give it a value from 0 to 4294967295")
    return spec


def to_wei(ether: str, where: str) -> Wei:
    """Return the amount in wei. Raises ConfigError for anything but a decimal of at most 18 places."""
    try:
        wei = Decimal(ether) * WEI_PER_ETHER
        whole = int(wei)
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigError(where, f"{ether!r} is no amount of ether", 'write it like "0.25"') from None
    if wei != whole or not 0 <= whole < 2**128:
        raise ConfigError(where, f"{ether!r} ether can't be paid", "use 0 or more, with at most 18 decimals")
    return Wei(whole)
