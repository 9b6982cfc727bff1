"""What a wallet may spend: a limit on gas prices, one on a day, and a warning before it is empty.

Everything that leaves the wallet counts: gas, stakes and budgets. The day is the last 24 hours, kept by the hour.

Spec: protocols/README.md, "Chain".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOUR_S = 3600
DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Limits:
    daily_wei: int | None = None
    """None is no limit."""
    max_fee_wei: int = 10**15
    """Most per gas."""
    low_balance_wei: int = 0
    """Below it the operator is warned."""


@dataclass(frozen=True, slots=True)
class Spending:
    hours: Mapping[int, int] = field(default_factory=dict)
    """Hour since the epoch to wei."""


def compute_hour(now_s: float) -> int:
    return int(now_s) // HOUR_S


def spent_wei(spending: Spending, now_s: float) -> int:
    """Of the last 24 hours, the one that runs among them."""
    first = compute_hour(now_s) - DAY_HOURS + 1
    return sum(wei for hour, wei in spending.hours.items() if hour >= first)


def spend(spending: Spending, wei: int, now_s: float) -> Spending:
    """Add, and forget what is older than a day."""
    now = compute_hour(now_s)
    kept = {hour: spent for hour, spent in spending.hours.items() if hour > now - DAY_HOURS}
    return Spending(kept | {now: kept.get(now, 0) + wei})


def validate_spending(
    limits: Limits, spending: Spending, now_s: float, *, reserved_wei: int, value_wei: int, gas_wei: int, held_wei: int
) -> str | None:
    """Say why a transaction may not be sent; None if it may. `reserved_wei` is what is under way."""
    cost_wei = value_wei + gas_wei
    if held_wei < reserved_wei + cost_wei:
        held = f"the wallet holds {ether(held_wei)}" + (f", {ether(reserved_wei)} under way" if reserved_wei else "")
        return f"insufficient funds: {held}, and this takes {ether(value_wei)} and up to {ether(gas_wei)} of gas"
    spent = spent_wei(spending, now_s) + reserved_wei
    if limits.daily_wei is not None and spent + cost_wei > limits.daily_wei:
        said = f"{ether(spent)} of {ether(limits.daily_wei)} are spent, and this takes {ether(cost_wei)}"
        return f"the daily limit: {said}; wait, or raise chain.daily_limit_wei"
    return None


def ether(wei: int) -> str:
    return f"{wei / 10**18:.6g} ether"
