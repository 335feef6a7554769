"""What today has used of an agent's daily budgets, as a page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from console import words
from releases.bundles import Daily, DailyLimits
from releases.models import Agent
from runtime.meters import NEAR, Meter
from runtime.models import Ledger
from runtime.policies import daily
from runtime.policies.daily import Amounts

MOST_PEOPLE = 10


@dataclass(frozen=True)
class Person:
    principal_id: str
    meters: Sequence[Meter]


@dataclass(frozen=True)
class Day:
    """`meters` are those of the agent, `people` the principals that used most; both only where there are limits."""

    day: date
    meters: Sequence[Meter]
    people: Sequence[Person]
    per_principal: Sequence[str]  # the limits of each person, in words

    @property
    def is_limited(self) -> bool:
        return bool(self.meters or self.per_principal)


def of_agent(agent: Agent, limits: Daily | None, day: date) -> Day:
    """Two queries at most: the agent's ledger, and the ten principals that used most."""
    limits = limits or Daily()
    standing = daily.scopes(limits)
    ledgers = Ledger.objects.filter(agent=agent, day=day)
    own = ledgers.filter(principal_id="").first() if "per_agent" in standing else None
    people = ledgers.exclude(principal_id="") if "per_principal" in standing else ledgers.none()
    return Day(
        day=day,
        meters=_meters(limits.per_agent, own),
        people=[Person(one.principal_id, _meters(limits.per_principal, one)) for one in _greatest(people)],
        per_principal=[f"{_shown(name, most)} {_unit(name)}".strip() for name, most in _set(limits.per_principal)],
    )


def _greatest(people: Any) -> list[Ledger]:
    return list(people.order_by("-settled_usd", "-settled_tokens", "-settled_runs", "principal_id")[:MOST_PEOPLE])


def _set(limits: DailyLimits) -> list[tuple[str, Any]]:
    return [(name, getattr(limits, name)) for name in daily.NAMES if getattr(limits, name) is not None]


def _meters(limits: DailyLimits, ledger: Ledger | None) -> list[Meter]:
    used = _used(ledger)
    return [_meter(name, used.of(name), most) for name, most in _set(limits)]


def _used(ledger: Ledger | None) -> Amounts:
    """Settled and reserved together: money in flight counts as spent."""
    if ledger is None:
        return Amounts()
    return Amounts(
        usd=ledger.settled_usd + ledger.reserved_usd,
        tokens=ledger.settled_tokens + ledger.reserved_tokens,
        model_calls=ledger.settled_model_calls + ledger.reserved_model_calls,
        tool_calls=ledger.settled_tool_calls + ledger.reserved_tool_calls,
        runs=ledger.settled_runs,
    )


def _meter(name: str, used: Decimal | int, most: Decimal | int) -> Meter:
    share = float(min(Decimal(used) / Decimal(most), Decimal(1))) if most else 1.0
    state = "full" if share >= 1 else "near" if share >= NEAR else ""
    label = "Cost" if name == "max_usd" else daily.WORDS[name].capitalize()
    return Meter(name, label, _shown(name, used), _shown(name, most), share, state)


def _shown(name: str, amount: Decimal | int) -> str:
    return words.money(amount) if name == "max_usd" else words.number(amount)


def _unit(name: str) -> str:
    return "" if name == "max_usd" else daily.WORDS[name]
