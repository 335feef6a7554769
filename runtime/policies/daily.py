"""Budgets over all runs of one UTC day: which apply, and why a call or a run does not fit into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from releases.bundles import Daily, DailyLimits
from runtime.policies.budgeting import Exhausted

NAMES = ("max_usd", "max_tokens", "max_model_calls", "max_tool_calls", "max_runs")
OF_A_MODEL_CALL = ("max_usd", "max_tokens", "max_model_calls")
OF_A_TOOL_CALL = ("max_tool_calls",)
OF_A_RUN = ("max_runs",)
WORDS = {
    "max_usd": "US dollars",
    "max_tokens": "tokens",
    "max_model_calls": "model calls",
    "max_tool_calls": "tool calls",
    "max_runs": "runs",
}
WHOSE = {"per_agent": "this agent", "per_principal": "this principal with this agent"}


@dataclass(frozen=True)
class Amounts:
    """What a call or a run uses of a day."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    runs: int = 0

    def of(self, name: str) -> Decimal | int:
        """The amount that the limit `name` is about."""
        amounts: dict[str, Decimal | int] = {
            "max_usd": self.usd,
            "max_tokens": self.tokens,
            "max_model_calls": self.model_calls,
            "max_tool_calls": self.tool_calls,
            "max_runs": self.runs,
        }
        return amounts[name]


@dataclass(frozen=True)
class Line:
    """One ledger as it stands: what is settled and reserved together."""

    scope: str  # per_agent or per_principal
    used: Amounts


def scopes(limits: Daily | None) -> dict[str, DailyLimits]:
    """The scopes with any limit, the agent first: ledgers are locked in this order."""
    found = {} if limits is None else {"per_agent": limits.per_agent, "per_principal": limits.per_principal}
    return {scope: part for scope, part in found.items() if part != DailyLimits()}


def is_limited(limits: Daily | None, names: Sequence[str]) -> bool:
    """Whether any of these limits exists; where none does, nothing has to be asked."""
    return any(getattr(part, name) is not None for part in scopes(limits).values() for name in names)


def why_refused(limits: Daily, lines: Sequence[Line], wanted: Amounts) -> Exhausted | None:
    """The first limit that `wanted` would exceed, in numbers. A limit may be used up exactly."""
    standing: Mapping[str, DailyLimits] = scopes(limits)
    for line in lines:
        for name in NAMES:
            most = getattr(standing[line.scope], name)
            used, more = line.used.of(name), wanted.of(name)
            if most is not None and used + more > most:
                return Exhausted(f"{line.scope}.{name}", _sentence(line.scope, name, used, more, most))
    return None


def _sentence(scope: str, name: str, used: Decimal | int, more: Decimal | int, most: Decimal | int) -> str:
    shown = _money if name == "max_usd" else _count
    what = "" if name == "max_usd" else f" {WORDS[name]}"
    return (
        f"Today (UTC) {WHOSE[scope]} has used {shown(used)} of {shown(most)}{what}, calls in flight included; "
        f"{shown(more)} more would exceed that."
    )


def _money(amount: Decimal | int) -> str:
    return f"${amount:,.4f}" if amount < 1 and amount else f"${amount:,.2f}"


def _count(amount: Decimal | int) -> str:
    return f"{amount:,}"


def until_tomorrow(now: datetime) -> timedelta:
    """How long the present day of the ledgers lasts."""
    here = now.astimezone(UTC)
    return datetime.combine(here.date() + timedelta(days=1), time(), UTC) - here
