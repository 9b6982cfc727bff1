"""`job.toml`: what a requester writes down about a job, read into frozen values.

Every fault names file and key. Amounts are in ether, as decimal strings, so that no float touches money.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

from node.config import address_fault
from node.errors import ConfigError
from node.toml_table import Check, between, parse, read_text
from protocols.ids import Address, Wei
from protocols.job import MAX_APPLICANTS, MAX_ROUNDS, MAX_SAMPLES, MAX_SEATS

ETHER_DECIMALS = 18
WEI_PER_ETHER = 10**ETHER_DECIMALS
UINT32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A model that ships with SkyNet."""

    name: str
    """What the packing program calls it."""
    batch: int
    """Rows of its pages."""
    is_proved: bool = False
    """Whether workers prove steps of their training, or losses of their weights."""


MODELS = {"digits-mlp": BuiltIn("digits", 4), "digits-mlp-proved": BuiltIn("digits-proved", 8, is_proved=True)}
DATASETS = {"digits": "digits"}
"""What ships with SkyNet, and what the packing program calls it."""

# -- Checks --------------------------------------------------------------------


def _one_of(names: Iterable[str]) -> Check:
    return lambda value: None if value in names else f"is {value!r}, which there is none of; choose {', '.join(names)}"


def _amount(value: str) -> str | None:
    try:
        to_wei(value, "")
    except ConfigError as error:
        return f"is wrong: {error.problem}"
    return None


# -- The file ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelSpec:
    builtin: Annotated[str, _one_of(MODELS)] = "digits-mlp"
    """A model that ships with SkyNet."""
    package: Path | None = None
    """Folder that `skynet model pack` made, instead of a built-in model."""
    learning_rate: Annotated[float | None, between(1e-9, 1e3)] = None
    """Of the built-in model's inner optimizer instead of its own; a package has its own."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    builtin: Annotated[str, _one_of(DATASETS)] = "digits"
    held_out_pages: Annotated[int, between(1, 100_000)] = 16
    """Held-out pages that evaluation proofs draw from."""
    permute_labels: bool = False
    """Shuffle the labels: a control experiment, accuracy must fall to chance."""


@dataclass(frozen=True, slots=True)
class TermsSpec:
    workers: Annotated[int, between(1, MAX_SEATS)] = 3
    rounds: Annotated[int, between(1, MAX_ROUNDS)] = 8
    steps: Annotated[int, between(1, UINT32)] = 600
    """Inner steps a round, each on one page."""
    samples: Annotated[int, between(1, MAX_SAMPLES)] = 1
    budget_ether: Annotated[str, _amount] = "0.24"
    stake_ether: Annotated[str, _amount] = "0.1"
    move_fee_ether: Annotated[str, _amount] = "0.001"
    max_applicants: Annotated[int, between(1, MAX_APPLICANTS)] = 256
    """The join window closes early when so many have applied. Few is quick; many is a fairer draw of the seats."""
    join_window_s: Annotated[int, between(1, UINT32)] = 30
    ready_window_s: Annotated[int, between(1, UINT32)] = 60
    round_timeout_s: Annotated[int, between(1, UINT32)] = 60
    proof_window_s: Annotated[int, between(1, UINT32)] = 300
    max_loss: Annotated[float, between(0, 1e6)] = 0.0
    """A proof with a larger loss earns nothing; 0 is no bound."""


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What budget and moving fees are paid in instead of ether; stakes are always in ether."""

    address: Annotated[Address, address_fault]
    budget: Annotated[str, _amount]
    """In whole tokens: how many decimals they have, the token says."""
    move_fee: Annotated[str, _amount] = "0"


@dataclass(frozen=True, slots=True)
class JobSpec:
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    terms: TermsSpec = TermsSpec()
    seed: Annotated[int, between(0, UINT32)] = 1
    token: TokenSpec | None = None

    @property
    def price_wei(self) -> Wei:
        """What posting it takes from the wallet in ether: the budget and the fees of two moves."""
        if self.token is not None:
            return Wei(0)
        terms = self.terms
        return Wei(to_wei(terms.budget_ether, "budget") + 2 * to_wei(terms.move_fee_ether, "fee"))


def load_jobspec(path: Path) -> JobSpec:
    """Read a job file. Raises ConfigError that names file and key."""
    spec = parse(JobSpec, read_text(path, missing="write one, for example the README's job.toml"), path)
    terms = spec.terms
    if terms.max_applicants < terms.workers:
        problem = f"terms.max_applicants is {terms.max_applicants}, fewer than the {terms.workers} of terms.workers"
        raise ConfigError(path, problem, "let at least as many apply as are to work")
    return spec


def to_wei(ether: str, where: str) -> Wei:
    """Return the amount in wei. Raises ConfigError for anything but a decimal of at most 18 places."""
    return to_units(ether, ETHER_DECIMALS, where, "ether")


def to_units(amount: str, decimals: int, where: str, unit: str) -> Wei:
    """Return the amount in a token's smallest unit. Raises ConfigError."""
    try:
        units = Decimal(amount).scaleb(decimals)
        whole = int(units)
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigError(where, f"{amount!r} is no amount of {unit}", 'write it like "0.25"') from None
    if units != whole or not 0 <= whole < 2**128:
        raise ConfigError(where, f"{amount!r} {unit} can't be paid", f"use 0 or more, with at most {decimals} decimals")
    return Wei(whole)
