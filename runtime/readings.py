"""The other tabs of a trace: the conversation, retrieved context, the event log, the frozen versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from releases.bundles import Bundle, Guardrail, ModelSpec, ToolManifest
from releases.policies import sentences
from runtime import inspections, labels, meters
from runtime.inspections import Passage
from runtime.labels import Badge
from runtime.masking import Shown
from runtime.meters import Meter
from runtime.models import Run, RunEvent, Step
from runtime.states import RunStatus, StepKind, StepStatus

MOST_RUNS = 50
MOST_RETRIEVALS = 50
LOG_PAGE = 200
LATEST = 5


# The conversation


@dataclass(frozen=True)
class Turn:
    """One run of the thread: what the customer wrote and what came back."""

    run: Run
    badge: Badge
    asked: str
    answered: str
    is_this: bool
    note: str


def conversation(run: Run, shown: Shown) -> tuple[list[Turn], bool]:
    """The thread in order, and whether earlier runs were left out."""
    found = list(run.thread.runs.order_by("-created_at", "-pk")[: MOST_RUNS + 1])
    turns = [turn(one, run, shown) for one in reversed(found[:MOST_RUNS])]
    return turns, len(found) > MOST_RUNS


def turn(one: Run, this: Run | None, shown: Shown) -> Turn:
    note = one.cause_detail or (labels.cause(one.cause) if one.cause and one.cause != "answered" else "")
    if one.cancel_reason:
        note = f"Stopped by {one.cancelled_by_label}: {one.cancel_reason}"
    return Turn(one, labels.run(one.status), shown(one.input_text), shown(one.answer), one == this, shown(note))


# Retrieved context


@dataclass(frozen=True)
class Search:
    step: Step
    asked: str
    passages: Sequence[Passage]


def searches(run: Run, shown: Shown) -> list[Search]:
    """Each retrieval with its passages; a passage is used when the answer names its citation."""
    steps = run.steps.filter(kind=StepKind.RETRIEVAL).select_related("payload").order_by("seq")[:MOST_RETRIEVALS]
    return [_search(step, run, shown) for step in steps]


def _search(step: Step, run: Run, shown: Shown) -> Search:
    payload = getattr(step, "payload", None)
    given = shown(payload.input.get("arguments") or {}) if payload else {}
    asked = ", ".join(str(value) for value in given.values()) if isinstance(given, dict) else ""
    result = shown(payload.output) if payload else {}
    return Search(step, asked[:300], inspections.passages(result, run.answer, step.public_id))


# The event log


@dataclass(frozen=True)
class Line:
    seq: int
    at: datetime | None
    what: str
    detail: str
    step: str = ""


@dataclass(frozen=True)
class Log:
    lines: Sequence[Line]
    next_first: int | None
    is_first_page: bool


def log(run: Run, first: int, shown: Shown) -> Log:
    """Steps and events in the order in which they were written. A step is in it twice when it took its time."""
    end = max(first, 1) + LOG_PAGE
    window = {"seq__gte": first, "seq__lt": end}
    steps = run.steps.filter(**window).order_by("seq")
    late = run.steps.filter(done_seq__gte=first, done_seq__lt=end).exclude(seq__gte=first, seq__lt=end)
    lines = [line for step in (*steps, *late) for line in _step_lines(step, shown)]
    lines += [_event_line(event, shown) for event in run.events.filter(**window).order_by("seq")]
    chosen = sorted((line for line in lines if first <= line.seq < end), key=lambda line: line.seq)
    return Log(chosen, end if run.seq >= end else None, not first)


def latest(run: Run, steps: Sequence[Step], shown: Shown) -> list[Line]:
    """The newest lines, given the last steps of the run."""
    events = run.events.order_by("-seq")[:LATEST]
    lines = [line for step in steps[-LATEST:] for line in _step_lines(step, shown)]
    lines += [_event_line(event, shown) for event in events]
    return sorted(lines, key=lambda line: -line.seq)[:LATEST]


def _step_lines(step: Step, shown: Shown) -> list[Line]:
    title = labels.name(step)
    name = shown(f"{title}: {step.summary}" if step.summary else title)
    ended = {
        StepStatus.DONE: "finished",
        StepStatus.FAILED: "failed",
        StepStatus.REFUSED: "refused",
        StepStatus.UNKNOWN: "unknown",
    }.get(StepStatus(step.status), "started")
    if step.kind == StepKind.GUARDRAIL:
        ended = "decided"
    if step.done_seq == step.seq:
        return [Line(step.seq, step.finished_at or step.started_at, f"{step.kind}.{ended}", name, step.public_id)]
    lines = [Line(step.seq, step.started_at, f"{step.kind}.started", title, step.public_id)]
    if step.done_seq:
        lines.append(Line(step.done_seq, step.finished_at, f"{step.kind}.{ended}", name, step.public_id))
    return lines


def _event_line(event: RunEvent, shown: Shown) -> Line:
    data = shown(event.data)
    parts = sorted(data.items(), key=lambda pair: pair[0] != "status") if isinstance(data, dict) else []
    # The status of a stopped run says its cause.
    detail = "; ".join(_said(*pair) for pair in parts if pair != ("cause", "cancelled"))
    who = f"{event.by_label}: " if event.by_label and detail else event.by_label
    return Line(event.seq, event.at, event.kind, f"{who}{detail}")


def _said(key: str, value: Any) -> str:
    """One value of an event in words; what has none is named by its key."""
    if key == "status" and value in list(RunStatus):
        return labels.run(value).label
    if key == "cause":
        return labels.cause(str(value))
    if key == "until":
        return f"until {datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S} UTC"
    return _short(value) if key == "title" else f"{key.replace('_', ' ')} {_short(value)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


# Versions


@dataclass(frozen=True)
class Versions:
    bundle: Bundle
    model: str
    fallback: str
    tools: Sequence[tuple[ToolManifest, str]]
    budgets: Sequence[Meter]
    guardrails: Sequence[tuple[Guardrail, str]]
    verification: str


def versions(run: Run, now: datetime) -> Versions:
    """What the run was executed with, in words."""
    bundle = run.release.bundle
    return Versions(
        bundle=bundle,
        model=_model(bundle.model),
        fallback=_model(bundle.fallback_model) if bundle.fallback_model else "",
        tools=[(tool, _effect(tool)) for tool in bundle.tools],
        budgets=meters.of_release(run, now),
        guardrails=[(rail, sentences.guardrail(rail)) for rail in bundle.guardrails],
        verification=sentences.verification(bundle.verification),
    )


def _model(spec: ModelSpec) -> str:
    label = {"scripted": "scripted, no real model", "replay": "replay of a recording"}.get(spec.provider, spec.provider)
    return f"{spec.name} ({label})"


def _effect(tool: ToolManifest) -> str:
    effect = {"read": "Reads", "write": "Writes", "egress": "Sends something out", "destructive": "Cannot be undone"}
    return effect[tool.effect] + (", moves money" if tool.moves_money else "")
