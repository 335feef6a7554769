"""Hard limits of a run: steps, tool calls, tokens, cost and working time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from releases.bundles import Budgets


@dataclass(frozen=True)
class Spent:
    """What a run has used so far. Waiting for a person is not in `working`."""

    steps: int
    tool_calls: int
    tokens: int
    cost_usd: Decimal
    working: timedelta


@dataclass(frozen=True)
class Allowed:
    pass


@dataclass(frozen=True)
class Exhausted:
    budget: str
    reason: str


def decide_budget(limits: Budgets, spent: Spent, *, for_tool_call: bool = False) -> Allowed | Exhausted:
    """Say whether one more step fits. A budget may be used up exactly."""
    if spent.steps >= limits.max_steps:
        return Exhausted("max_steps", f"All {limits.max_steps} steps are used.")
    if for_tool_call and spent.tool_calls >= limits.max_tool_calls:
        return Exhausted("max_tool_calls", f"All {limits.max_tool_calls} tool calls are used.")
    if spent.tokens >= limits.max_tokens:
        return Exhausted("max_tokens", f"{spent.tokens:,} tokens are used, the limit is {limits.max_tokens:,}.")
    if spent.cost_usd > limits.max_cost_usd:
        return Exhausted("max_cost_usd", f"${spent.cost_usd:.4f} is spent, the limit is ${limits.max_cost_usd}.")
    if spent.working >= timedelta(seconds=limits.max_seconds):
        return Exhausted("max_seconds", f"{limits.max_seconds} s of working time are used.")
    return Allowed()


def lowered(limits: Budgets, wanted: dict[str, object]) -> Budgets:
    """The release's limits, lowered to what the caller asked for.

    Raises:
        ValueError: names a limit that is unknown, malformed or higher than the release allows.
    """
    unknown = sorted(set(wanted) - set(Budgets.model_fields))
    if unknown:
        raise ValueError(f"There is no budget {', '.join(unknown)}. Known: {', '.join(Budgets.model_fields)}.")
    lower = Budgets.model_validate({**limits.model_dump(), **wanted})
    for name in wanted:
        if getattr(lower, name) > getattr(limits, name):
            raise ValueError(f"{name} {getattr(lower, name)} is above the release's {getattr(limits, name)}.")
    return lower
