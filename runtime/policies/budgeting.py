"""Hard limits of a run: steps, calls, tokens, cost, working time and a deadline.

A call is held against its limits before it is made, by what it may use (`Reserve`), and charged after by what it
used. A run does one thing at a time, so one reserve is all there is to hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from releases.bundles import Budgets

DEADLINE = "deadline"  # budget:deadline


@dataclass(frozen=True)
class Spent:
    """What a run has used so far. Waiting for a person is not in `working`; it is in `elapsed`, since creation."""

    steps: int
    tool_calls: int
    tokens: int
    cost_usd: Decimal
    working: timedelta
    model_calls: int = 0
    elapsed: timedelta = timedelta()


@dataclass(frozen=True)
class Reserve:
    """What the next call may use: an estimate from the length of its texts and the output it is allowed."""

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


A_STEP = Reserve()
A_TOOL_CALL = Reserve(tool_calls=1)


@dataclass(frozen=True)
class Allowed:
    pass


@dataclass(frozen=True)
class Exhausted:
    budget: str
    reason: str


class NotLower(ValueError):
    """A caller asked for more than the release allows. `errors` says what is wrong with which budget."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = errors


def decide_budget(limits: Budgets, spent: Spent, reserve: Reserve = A_STEP) -> Allowed | Exhausted:
    """Say whether one more step fits that may use `reserve`. A budget may be used up exactly."""
    if limits.deadline_seconds is not None and spent.elapsed >= timedelta(seconds=limits.deadline_seconds):
        return Exhausted(DEADLINE, passed(limits.deadline_seconds))
    if spent.steps >= limits.max_steps:
        return Exhausted("max_steps", f"All {limits.max_steps} steps are used.")
    return (
        _over_calls(limits, spent, reserve)
        or _over_tokens(limits, spent, reserve)
        or _over_cost(limits, spent, reserve)
        or _over_time(limits, spent)
        or Allowed()
    )


def passed(deadline_seconds: int) -> str:
    """The sentence for a run that is over because of its deadline."""
    return f"The deadline of {deadline_seconds:,} s after the run was created has passed."


def _over_calls(limits: Budgets, spent: Spent, reserve: Reserve) -> Exhausted | None:
    most = limits.max_model_calls
    if reserve.model_calls and most is not None and spent.model_calls + reserve.model_calls > most:
        return Exhausted("max_model_calls", f"All {most} model calls are used.")
    if reserve.tool_calls and spent.tool_calls + reserve.tool_calls > limits.max_tool_calls:
        return Exhausted("max_tool_calls", f"All {limits.max_tool_calls} tool calls are used.")
    return None


def _over_tokens(limits: Budgets, spent: Spent, reserve: Reserve) -> Exhausted | None:
    if spent.tokens >= limits.max_tokens:
        return Exhausted("max_tokens", f"{spent.tokens:,} tokens are used, the limit is {limits.max_tokens:,}.")
    if spent.tokens + reserve.tokens > limits.max_tokens:
        return Exhausted(
            "max_tokens",
            f"{spent.tokens:,} tokens are used and the next call may need {reserve.tokens:,} "
            f"({reserve.input_tokens:,} in, {reserve.output_tokens:,} out); the limit is {limits.max_tokens:,}.",
        )
    return None


def _over_cost(limits: Budgets, spent: Spent, reserve: Reserve) -> Exhausted | None:
    if spent.cost_usd > limits.max_cost_usd:
        return Exhausted("max_cost_usd", f"${spent.cost_usd:.4f} is spent, the limit is ${limits.max_cost_usd}.")
    if spent.cost_usd + reserve.cost_usd > limits.max_cost_usd:
        return Exhausted(
            "max_cost_usd",
            f"${spent.cost_usd:.4f} is spent and the next call may cost ${reserve.cost_usd:.4f}; "
            f"the limit is ${limits.max_cost_usd}.",
        )
    return None


def _over_time(limits: Budgets, spent: Spent) -> Exhausted | None:
    if spent.working >= timedelta(seconds=limits.max_seconds):
        return Exhausted("max_seconds", f"{limits.max_seconds} s of working time are used.")
    return None


def left(limits: Budgets, spent: Spent) -> timedelta:
    """How long a call may take until the working time or the deadline ends; may be negative."""
    working = timedelta(seconds=limits.max_seconds) - spent.working
    if limits.deadline_seconds is None:
        return working
    return min(working, timedelta(seconds=limits.deadline_seconds) - spent.elapsed)


def lowered(limits: Budgets, wanted: dict[str, object]) -> Budgets:
    """The release's limits, lowered to what the caller asked for. A limit the release does not have may be set.

    Raises:
        pydantic.ValidationError: a limit is malformed.
        NotLower: a limit is unknown, taken away, or higher than the release allows; names each.
    """
    known = Budgets.model_fields
    errors = {
        name: f"There is no budget {name}. Known: {', '.join(known)}." for name in sorted(set(wanted) - set(known))
    }
    if errors:
        raise NotLower(errors)
    lower = Budgets.model_validate({**limits.model_dump(), **wanted})
    for name in wanted:
        asked, most = getattr(lower, name), getattr(limits, name)
        if most is not None and (asked is None or asked > most):
            told = "no limit" if asked is None else asked
            errors[name] = f"{name} {told} is above the release's {most}. Budgets can only be lowered."
    if errors:
        raise NotLower(errors)
    return lower
