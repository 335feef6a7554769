"""What is counted and timed of a run: the figures above its trace, and how many steps each filter would show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Sum

from console import words
from runtime import traces
from runtime.models import Run
from runtime.states import PARKED, RunStatus, StepKind, StepStatus
from runtime.traces import Look


@dataclass(frozen=True)
class Chip:
    key: str
    label: str
    count: int | None
    is_on: bool


@dataclass(frozen=True)
class Figure:
    label: str
    value: str
    note: str


def counts(run: Run) -> dict[str, Any]:
    """Everything that is counted over the steps of a run, in one query."""
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    tools = Q(kind__in=[StepKind.TOOL, StepKind.RETRIEVAL])
    return run.steps.order_by().aggregate(
        all=Count("pk"),
        retrieval=Count("pk", filter=Q(kind=StepKind.RETRIEVAL)),
        tools_failed=Count("pk", filter=tools & traces.ERRORS),
        tools_retried=Count("pk", filter=tools & Q(attempt__gt=1)),
        model_time=Sum(took, filter=Q(kind=StepKind.MODEL)),
        switched=Count("pk", filter=traces.SWITCHED),
        asked=Count("pk", filter=Q(kind=StepKind.APPROVAL, status=StepStatus.STARTED)),
        **{key: Count("pk", filter=condition) for key, (_, condition) in traces.FILTERS.items()},
    )


def chips(counted: Mapping[str, Any], look: Look) -> list[Chip]:
    found = [Chip("", "All", None, not look.show)]
    found += [
        Chip(key, label, counted[key], look.show == key)
        for key, (label, _) in traces.FILTERS.items()
        if counted[key] or look.show == key
    ]
    return found


def of(run: Run, counted: Mapping[str, Any], now: datetime) -> list[Figure]:
    working, parked = spent(run, now)
    held = paused(run, now)
    rested = "".join(
        f", {words.span(time.total_seconds())} {word}"
        for time, word in ((parked - held, "waiting"), (held, "paused"))
        if time >= timedelta(seconds=1)
    )
    elapsed = (run.finished_at or now) - run.created_at
    most = run.budgets.get("max_steps")
    planned = "2 more planned" if run.status in PARKED and counted["asked"] else ""
    failed, retried = counted["tools_failed"], counted["tools_retried"]
    cached = f" ({words.number(run.cached_tokens)} cached)" if run.cached_tokens else ""
    return [
        Figure("Elapsed", words.duration(elapsed), f"{words.duration(working)} working{rested}"),
        Figure("Steps", words.number(run.steps_used), planned or (f"of {words.number(most)} allowed" if most else "")),
        Figure("Model calls", words.number(run.model_calls), _total(counted["model_time"])),
        Figure("Tool calls", words.number(run.tool_calls), f"{failed} failed, {retried} retried"),
        Figure(
            "Tokens",
            words.number(run.input_tokens + run.output_tokens),
            f"{words.number(run.input_tokens)} in{cached}, {words.number(run.output_tokens)} out",
        ),
        Figure("Cost", words.money(run.cost_usd), _cost_word(run)),
    ]


def _total(time: timedelta | None) -> str:
    return f"{words.duration(time)} in total" if time else "none yet"


def _cost_word(run: Run) -> str:
    known = {"exact": "Exact price", "estimated": "Estimated price", "unpriced": "Some calls have no price"}
    return known.get(run.cost_basis, run.cost_basis)


def spent(run: Run, now: datetime) -> tuple[timedelta, timedelta]:
    """Working and parked time so far, the present stretch included."""
    working, parked = timedelta(milliseconds=run.working_ms), timedelta(milliseconds=run.parked_ms)
    if run.status == RunStatus.RUNNING and run.turn_started_at:
        working += max(now - run.turn_started_at, timedelta())
    if run.status in PARKED and run.waiting_since:
        parked += max(now - run.waiting_since, timedelta())
    return working, parked


def paused(run: Run, now: datetime) -> timedelta:
    """The part of the parked time that somebody's pause took."""
    found = timedelta(milliseconds=run.paused_ms)
    if run.status == RunStatus.PAUSED and run.waiting_since:
        found += max(now - run.waiting_since, timedelta())
    return found
