"""A run and its steps as programs see them: in the API, in the event stream and in callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils.timezone import now
from ninja import Schema
from pydantic import Field

from approvals.models import ApprovalRequest
from console import envelope, ids
from runtime import calls, figures, meters, on_behalf
from runtime.masking import Shown
from runtime.models import Delivery, Run, RunEvent, Step
from runtime.on_behalf import PrincipalOut
from runtime.states import PARKED, DeliveryStatus, RunKind, RunPriority, RunStatus, StepKind, StepStatus
from runtime.waits import Waits

MOST_FORKS = 50


class Tokens(Schema):
    input: int
    cached: int = Field(description="Part of input")
    output: int
    total: int


class Budget(Schema):
    limit: int | str | None = Field(description="null where there is none")
    used: int | str | None = Field(description="null where nothing is counted up")


class RunLine(Schema):
    """A run without its texts."""

    run_id: str
    agent: str
    agent_version: str = Field(description="Version of the release it is executed with")
    release_id: str
    release_digest: str
    user_id: str = Field(description="The principal the work is done for")
    user_label: str
    principal: PrincipalOut
    thread_id: str
    kind: RunKind
    priority: RunPriority = Field(description="Which queue it waits in")
    title: str
    status: RunStatus
    is_final: bool
    cause: str = Field(description="Code of why it ended; empty before")
    cause_detail: str
    wait_reason: str = Field(description="Why nobody works on it: worker, timer, person, ...; else empty")
    starts_at: datetime | None = Field(description="A queued run does not start before")
    risk_level: str
    tainted: bool = Field(description="Whether it has read untrusted content")
    steps_used: int
    model_calls: int
    tool_calls: int
    tool_errors: int
    tools_called: list[str]
    tokens: Tokens
    estimated_cost_usd: str = Field(description="Decimal number as text")
    cost_basis: str = Field(description="exact, estimated or unpriced")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    working_ms: int = Field(description="Time spent working, without waiting for people")
    waiting_ms: int = Field(description="Time parked for a person's decision or by a pause")
    paused_ms: int = Field(description="The part of waiting_ms in which somebody had paused it")
    forked_from: str | None = Field(description="The run it retries from one of its steps")
    forked_at_step: int | None = Field(description="seq of that run's first step that this one does again")
    pending_approval_id: str | None = Field(description="The request a person has to decide now")
    links: dict[str, str]


class Cancellation(Schema):
    requested_at: datetime
    by: str
    reason: str


class Pause(Schema):
    requested_at: datetime
    by: str
    reason: str


class RunOut(RunLine):
    input: str
    answer: str
    scopes: list[str]
    started_by: str
    budgets: dict[str, Budget]
    cancellation: Cancellation | None
    pause: Pause | None = Field(description="Asked for and not ended yet; status says whether it has begun")
    forks: list[str] = Field(description="Runs that retry this one, oldest first, 50 at most")
    last_event_id: int = Field(description="Begin the event stream here to see only what comes next")


class Payload(Schema):
    input: Any
    output: Any


class StepOut(Schema):
    step_id: str
    seq: int = Field(description="Place in the run's journal at which it began")
    done_seq: int | None = Field(description="Place at which its result came; null while it is not known")
    kind: StepKind
    name: str
    status: StepStatus
    verdict: str
    rule: str
    summary: str
    error: str
    attempt: int
    call_id: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    tokens: Tokens
    cost_usd: str
    cost_basis: str
    payload: Payload | None = None


class Attempt(Schema):
    number: int
    at: datetime
    took_ms: int | None = Field(description="null: no outcome was written down, so it may have arrived or not")
    answer: int | None = Field(description="HTTP status of the receiver; null when nobody answered")
    error: str


class DeliveryOut(Schema):
    delivery_id: str
    webhook_id: str = Field(description="The same for every attempt")
    event_id: int = Field(description="Place of the event in the run's journal")
    type: str
    happened_at: datetime
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    last_error: str
    tries: list[Attempt]


def line(run: Run, pending: Mapping[UUID, str], shown: Shown, waits: Waits | None = None) -> dict[str, Any]:
    """The fields of RunLine. The run comes with its agent and release; `pending` from pending_approvals.

    `shown` says how texts are shown to whoever asks: as they are, or with personal data masked.
    """
    working, parked = figures.spent(run, now())
    return {
        "run_id": run.public_id,
        "agent": run.agent.slug,
        "agent_version": run.release.version,
        "release_id": run.release.public_id,
        "release_digest": run.release.digest,
        "user_id": shown(run.principal_id),
        "user_label": shown(run.principal_label),
        "principal": on_behalf.shown(run.principal, shown),
        "thread_id": ids.public("thr", run.thread_id),
        "kind": run.kind,
        "priority": run.priority,
        "title": shown(run.title),
        "status": run.status,
        "is_final": run.is_final,
        "cause": run.cause,
        "cause_detail": shown(run.cause_detail),
        "wait_reason": (waits or Waits(now())).reason(run) or "",
        "starts_at": run.wake_at if run.status == RunStatus.QUEUED else None,
        "risk_level": run.risk_level,
        "tainted": run.tainted,
        "steps_used": run.steps_used,
        "model_calls": run.model_calls,
        "tool_calls": run.tool_calls,
        "tool_errors": run.tool_errors,
        "tools_called": run.tools_called,
        "tokens": tokens(run),
        "estimated_cost_usd": money(run.cost_usd),
        "cost_basis": run.cost_basis,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "working_ms": int(working.total_seconds() * 1000),
        "waiting_ms": int(parked.total_seconds() * 1000),
        "paused_ms": int(figures.paused(run, now()).total_seconds() * 1000),
        "forked_from": ids.public("run", run.forked_from_id) if run.forked_from_id else None,
        "forked_at_step": run.forked_at_step,
        "pending_approval_id": pending.get(run.pk),
        "links": _links(run, pending.get(run.pk)),
    }


def whole(run: Run, shown: Shown) -> dict[str, Any]:
    """The fields of RunOut."""
    cancellation = run.cancel_requested_at and {
        "requested_at": run.cancel_requested_at,
        "by": run.cancelled_by_label,
        "reason": shown(run.cancel_reason),
    }
    pause = run.pause_requested_at and {
        "requested_at": run.pause_requested_at,
        "by": run.paused_by_label,
        "reason": shown(run.pause_reason),
    }
    return {
        **line(run, pending_approvals([run]), shown),
        "input": shown(run.input_text),
        "answer": shown(run.answer),
        "scopes": sorted(run.scopes),
        "started_by": run.started_by_label,
        "budgets": _budgets(run),
        "cancellation": cancellation,
        "pause": pause,
        "forks": [fork.public_id for fork in run.forks.only("id").order_by("id")[:MOST_FORKS]],
        "last_event_id": run.seq,
    }


def step(row: Step, shown: Shown, *, with_payload: bool = False) -> dict[str, Any]:
    """The fields of StepOut."""
    took = row.finished_at and int((row.finished_at - row.started_at).total_seconds() * 1000)
    found = getattr(row, "payload", None) if with_payload else None
    return {
        "step_id": row.public_id,
        "seq": row.seq,
        "done_seq": row.done_seq,
        "kind": row.kind,
        "name": row.name,
        "status": row.status,
        "verdict": row.verdict,
        "rule": row.rule,
        "summary": shown(row.summary),
        "error": row.error,
        "attempt": row.attempt,
        "call_id": row.call_id,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "duration_ms": took,
        "tokens": tokens(row),
        "cost_usd": money(row.cost_usd),
        "cost_basis": row.cost_basis,
        "payload": {"input": shown(found.input), "output": shown(found.output)} if found else None,
    }


def started(row: Step) -> dict[str, Any]:
    """The step as it was when it began, whatever is known of it now."""
    return {
        "step_id": row.public_id,
        "seq": row.seq,
        "kind": row.kind,
        "name": row.name,
        "status": StepStatus.STARTED,
        "attempt": row.attempt,
        "call_id": row.call_id,
        "started_at": row.started_at,
    }


def event(row: RunEvent, shown: Shown) -> dict[str, Any]:
    return {"at": row.at, "by": row.by_label, **shown(row.data)}


def end(run: Run, shown: Shown) -> dict[str, Any]:
    """How a run ended: the last event of its stream and the body of its callback."""
    return {
        **origin(run, shown),
        "status": run.status,
        "cause": run.cause,
        "cause_detail": shown(run.cause_detail),
        "answer": shown(run.answer),
        "steps_used": run.steps_used,
        "tools_called": run.tools_called,
        "tokens": tokens(run),
        "estimated_cost_usd": money(run.cost_usd),
        "cost_basis": run.cost_basis,
        "finished_at": run.finished_at,
    }


def origin(run: Run, shown: Shown) -> dict[str, Any]:
    """What never changes of a run: the head of every callback."""
    return {
        "run_id": run.public_id,
        "agent": run.agent.slug,
        "agent_version": run.release.version,
        "user_id": shown(run.principal_id),
        "thread_id": ids.public("thr", run.thread_id),
        "created_at": run.created_at,
    }


def delivery(row: Delivery) -> dict[str, Any]:
    """The fields of DeliveryOut. The delivery comes with its tries."""
    tries = [
        {"number": one.number, "at": one.at, "took_ms": one.took_ms, "answer": one.answer, "error": one.error}
        for one in row.tries.all()
    ]
    return {
        "delivery_id": row.public_id,
        "webhook_id": row.webhook_id,
        "event_id": row.seq,
        "type": row.kind,
        "happened_at": row.happened_at,
        "status": row.status,
        "attempts": row.attempts,
        "next_attempt_at": row.next_at,
        "delivered_at": row.delivered_at,
        "last_error": row.last_error,
        "tries": tries,
    }


def tokens(row: Run | Step) -> dict[str, int]:
    return {
        "input": row.input_tokens,
        "cached": row.cached_tokens,
        "output": row.output_tokens,
        "total": row.input_tokens + row.output_tokens,
    }


def money(usd: Decimal) -> str:
    """A plain decimal without trailing zeros: "0.0012", never "1.2E-3"."""
    text = f"{usd:.8f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def pending_approvals(runs: Iterable[Run]) -> dict[UUID, str]:
    """The open request of each parked run, by the run's key."""
    waiting = {run.public_id: run.pk for run in runs if run.status in PARKED}
    if not waiting:
        return {}
    about = Q()
    for public_id in waiting:
        about |= Q(subject_id__startswith=f"{public_id}:")
    found = ApprovalRequest.objects.open().filter(about, subject_kind__in=calls.ABOUT_RUNS)
    return {waiting[item.subject_id.partition(":")[0]]: item.public_id for item in found.only("id", "subject_id")}


def _links(run: Run, approval: str | None) -> dict[str, str]:
    here = f"{envelope.ROOT}runs/{run.public_id}"
    links = {
        "self": here,
        "steps": f"{here}/steps",
        "events": f"{here}/events/stream",
        "deliveries": f"{here}/deliveries",
        "cancel": f"{here}/cancel",
        "pause": f"{here}/pause",
        "resume": f"{here}/resume",
        "fork": f"{here}/fork",
        "page": f"{settings.BASE_URL}/runs/{run.public_id}/",
    }
    if approval:
        links["approval"] = f"{envelope.ROOT}approvals/{approval}"
    return links


def _budgets(run: Run) -> dict[str, Any]:
    used = {**meters.used(run, now()), "max_cost_usd": money(run.cost_usd)}
    return {name: {"limit": limit, "used": used.get(name)} for name, limit in meters.limits(run).items()}
