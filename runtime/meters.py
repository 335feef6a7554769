"""Every limit of a run with what is used of it: raw for programs, as meters for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from console import words
from releases.bundles import Budgets
from runtime import figures, labels, traces
from runtime.models import Run
from runtime.policies import budgeting

NEAR = 0.8  # share of a limit from which it deserves a look
CAPS = (
    "max_steps",
    "max_model_calls",
    "max_tool_calls",
    "max_tokens",
    "max_cost_usd",
    "max_seconds",
    "deadline_seconds",
    "max_approvals",
)


@dataclass(frozen=True)
class Meter:
    """One limit. `state`: "" while there is room, near, full, or ended where it has ended the run."""

    name: str
    label: str
    used: str
    limit: str
    share: float | None = None  # of the limit, 0 to 1; None: there is no limit, or nothing is counted
    state: str = ""

    @property
    def word(self) -> str:
        return {"near": "nearly used up", "full": "used up", "ended": "ended the run"}.get(self.state, "")

    @property
    def width(self) -> str:
        """How far a bar is filled, as SVG wants it; "" where there is nothing to fill."""
        return "" if self.share is None else traces.percent(self.share * 100)


def used(run: Run, now: datetime) -> dict[str, int | Decimal]:
    """What is counted of each limit, in the unit of the limit."""
    return {
        "max_steps": run.steps_used,
        "max_model_calls": run.model_calls,
        "max_tool_calls": run.tool_calls,
        "max_tokens": run.input_tokens + run.output_tokens,
        "max_cost_usd": run.cost_usd,
        "max_seconds": round(figures.spent(run, now)[0].total_seconds()),
        "deadline_seconds": max(0, round(((run.finished_at or now) - run.created_at).total_seconds())),
        "max_approvals": run.approvals_asked,
    }


def limits(run: Run) -> dict[str, Any]:
    """Every limit of the run; None where it has none. One accepted before a limit existed has its default."""
    return Budgets.model_validate(run.budgets).model_dump(mode="json")


def of_run(run: Run, now: datetime) -> list[Meter]:
    """What a page shows of the limits that are counted up."""
    counted, standing = used(run, now), limits(run)
    return [_meter(run, name, counted[name], standing[name]) for name in CAPS]


def of_release(run: Run, now: datetime) -> list[Meter]:
    """All limits, also those that nothing is counted up against."""
    standing = limits(run)
    rest = [name for name in labels.BUDGETS if name not in CAPS]
    return [
        *of_run(run, now),
        *(Meter(name, labels.BUDGETS[name].capitalize(), "", words.number(standing[name])) for name in rest),
    ]


def _meter(run: Run, name: str, count: int | Decimal, limit: Any) -> Meter:
    shown = _SHOWN.get(name, words.number)
    label = labels.BUDGETS[name].capitalize()
    if limit is None:
        return Meter(name, label, shown(count), "no limit")
    most = Decimal(str(limit))
    share = float(min(Decimal(count) / most, Decimal(1))) if most else 1.0
    return Meter(name, label, shown(count), shown(most), share, _state(run, name, share))


def _state(run: Run, name: str, share: float) -> str:
    budget = budgeting.DEADLINE if name == "deadline_seconds" else name
    if run.cause == f"budget:{budget}":
        return "ended"
    if share >= 1:
        return "full"
    return "near" if share >= NEAR else ""


def _seconds(count: Any) -> str:
    """Limits are counted in whole seconds; a fraction would claim to know more."""
    return f"{count:.0f} s" if count < 60 else words.duration(float(count) * 1000)


_SHOWN: dict[str, Callable[[Any], str]] = {
    "max_cost_usd": words.money,
    "max_seconds": _seconds,
    "deadline_seconds": _seconds,
}
