"""Entry points for programs: start, follow and cancel runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.timezone import now
from ninja import Header, Query, Router, Schema, Status
from pydantic import AwareDatetime, Field

from console import envelope, fetch, problems
from console.access import Request
from console.bearer import Token
from runtime import callbacks, forks, interventions, masking, runs, streams, wire
from runtime.models import Delivery, Run, Step
from runtime.on_behalf import OnBehalf
from runtime.states import CallbackEvent, OnBusy, RunKind, RunPriority, RunStatus
from runtime.waits import Waits
from runtime.wire import DeliveryOut, RunLine, RunOut, StepOut

router = Router(tags=["Runs"])

LARGEST_PAGE_WITH_PAYLOADS = 20


class BudgetsIn(envelope.Body):
    """Limits below those of the release. They can only be lowered."""

    max_steps: int | None = Field(None, gt=0)
    max_model_calls: int | None = Field(None, gt=0)
    max_tool_calls: int | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, gt=0)
    max_cost_usd: Decimal | None = Field(None, ge=0, allow_inf_nan=False)
    max_seconds: int | None = Field(None, gt=0)
    deadline_seconds: int | None = Field(None, gt=0, description="From the creation on, waiting included")
    max_approvals: int | None = Field(None, ge=0)
    max_repeats: int | None = Field(None, gt=0)
    max_model_attempts: int | None = Field(None, gt=0)


class RunIn(OnBehalf):
    agent: str = Field(min_length=1, max_length=50)
    input: str = Field(min_length=1, max_length=runs.LONGEST_INPUT, description="What the agent is asked to do")
    thread_id: envelope.ThreadId | None = Field(None, description="Continue this conversation")
    scopes: list[Annotated[str, Field(min_length=1, max_length=80)]] | None = Field(
        None, max_length=100, description="Tool scopes of the principal, at most the token's; left out: all of those"
    )
    callback_url: str = Field("", max_length=fetch.LONGEST_URL, description="Told of the events below")
    callback_events: list[CallbackEvent] = Field([], description="What it is told of; left out: run.finished only")
    budgets: BudgetsIn | None = None
    priority: RunPriority | None = Field(
        None, description="Its place in the queue: interactive (left out), background or evaluation"
    )
    on_busy: OnBusy = Field(
        OnBusy.REJECT,
        description="While a run of the thread has not ended: reject this one (409), queue it, or interrupt that one",
    )
    start_at: AwareDatetime | None = Field(None, description="Not before, with a time zone; a past time is now")
    delay_seconds: float | None = Field(None, gt=0, le=366 * 86_400, allow_inf_nan=False)


class CancelIn(envelope.Body):
    reason: str = Field(min_length=1, max_length=2000, description="Goes to the audit log and into the trace")


class PauseIn(envelope.Body):
    reason: str = Field(min_length=1, max_length=2000, description="Goes to the audit log and into the trace")


class ResumeIn(envelope.Body):
    reason: str = Field("", max_length=2000, description="Goes to the audit log and into the trace")


class ForkIn(envelope.Body):
    step: envelope.StepId | None = Field(
        None, description="The first step to do again; left out: from the beginning. Steps before it are taken over"
    )
    release: forks.Which = Field(forks.Which.SAME, description="That of the run, or the one active now")
    reason: str = Field(min_length=1, max_length=2000, description="Goes to the audit log and into the trace")


class RunFilters(envelope.Filters):
    status: list[RunStatus] = Field([], description="Repeat it for several")
    agent: str | None = Field(None, max_length=50)
    thread_id: envelope.ThreadId | None = None
    user_id: str | None = Field(None, max_length=120)
    kind: RunKind | None = None
    since: AwareDatetime | None = Field(None, description="Created at or after, with a time zone")


class StepFilters(envelope.Filters):
    payload: bool = Field(
        False, description=f"With inputs and outputs; limit is then at most {LARGEST_PAGE_WITH_PAYLOADS}"
    )


class StreamFilters(envelope.Filters):
    after: int | None = Field(None, ge=0, le=2**31 - 1, description="Events after this id; Last-Event-ID goes first")


class SecretOut(Schema):
    secret: str = Field(description="whsec_...: verifies the signature of callbacks of this token's runs")
    previous_valid_until: datetime | None = Field(description="Until then the secret before signs as well")


class RotateIn(envelope.Body):
    overlap_hours: float = Field(24, ge=0, le=168, description="How long the secret before signs as well")
    reason: str = Field(min_length=1, max_length=500, description="Goes to the audit log")


@router.post("/runs", auth=Token("runs.create"), response={202: RunOut, 200: RunOut})
def create_run(
    request: Request,
    body: RunIn,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200, pattern=r"^[ -~]*$")] = "",
) -> Status[Any]:
    """Start a run. It is accepted (202) and executed by a worker; follow it by its id.

    The same Idempotency-Key with the same body answers 200 with the first run; with another body 409.
    """
    if body.callback_url:
        _check_callback(body.callback_url)
    principal = body.on_behalf_of(request.actor)
    run, is_new = runs.create(
        agent=body.agent,
        text=body.input,
        by=request.actor,
        principal_id=principal.id,
        principal_label=principal.label,
        attributes=principal.attributes,
        thread_id=body.thread_id,
        scopes=body.scopes,
        idempotency_key=idempotency_key,
        callback_url=body.callback_url,
        callback_events=body.callback_events,
        budgets=body.budgets.model_dump(exclude_none=True) if body.budgets else None,
        priority=body.priority,
        on_busy=body.on_busy,
        start_at=body.start_at,
        delay=timedelta(seconds=body.delay_seconds) if body.delay_seconds else None,
    )
    run = Run.objects.select_related("agent", "release").get(pk=run.pk)
    return Status(202 if is_new else 200, _whole(request, run))


@router.get("/runs", auth=Token("runs.read"), response=envelope.Page[RunLine])
def list_runs(request: Request, filters: Query[RunFilters]) -> Any:
    """Runs, newest first."""
    rows = _visible(request).filter(**_chosen(filters)).defer("input_text", "answer")
    items, after = envelope.cut(rows, filters)
    pending = wire.pending_approvals(items)
    held = Waits(now())
    return {"items": [wire.line(run, pending, _shown(request, run), held) for run in items], "next_cursor": after}


@router.get("/runs/{run_id}", auth=Token("runs.read"), response=RunOut)
def get_run(request: Request, run_id: envelope.RunId) -> Any:
    """One run: what it was asked, where it stands, what it used and how it ended."""
    return _whole(request, _one(request, run_id))


@router.get("/runs/{run_id}/steps", auth=Token("runs.read"), response=envelope.Page[StepOut])
def list_steps(request: Request, run_id: envelope.RunId, filters: Query[StepFilters]) -> Any:
    """The steps of a run in order of time: every model call, tool call, verdict, approval and answer."""
    if filters.payload and filters.limit > LARGEST_PAGE_WITH_PAYLOADS:
        sentence = f"At most {LARGEST_PAGE_WITH_PAYLOADS} with payload=true."
        raise problems.Invalid(f"Payloads are large: {sentence}", errors={"limit": sentence})
    run = _one(request, run_id)
    rows = Step.objects.filter(run=run, seq__gt=_seq(filters.cursor)).order_by("seq")
    if filters.payload:
        rows = rows.select_related("payload")
    found = list(rows[: filters.limit + 1])
    items = found[: filters.limit]
    return {
        "items": [wire.step(row, _shown(request, run), with_payload=filters.payload) for row in items],
        "next_cursor": str(items[-1].seq) if len(found) > filters.limit else None,
    }


@router.get(
    "/runs/{run_id}/events/stream",
    auth=Token("runs.read"),
    openapi_extra={"responses": {200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}}},
)
def stream_events(
    request: Request,
    run_id: envelope.RunId,
    filters: Query[StreamFilters],
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**31 - 1)] = None,
) -> HttpResponseBase:
    """Follow a run as server-sent events: step.started, step.finished, run.*, draft; ends after run.finished.

    Ids are places in the run's journal. A reconnect with Last-Event-ID loses nothing and repeats nothing; 204 says
    that the run has ended and everything was sent.
    """
    run = _one(request, run_id)
    after = last_event_id if last_event_id is not None else filters.after or 0
    if streams.is_over(run, after):
        return HttpResponse(status=204)
    place = streams.take_place(request.actor)
    followed = streams.follow(run, after, place, listener=request.actor)
    response = StreamingHttpResponse(followed, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


@router.post("/runs/{run_id}/cancel", auth=Token("runs.cancel"), response=RunOut)
def cancel_run(request: Request, run_id: envelope.RunId, body: CancelIn) -> Any:
    """Stop a run before its next step. Cancelling a cancelled run changes nothing."""
    run = runs.cancel(run_id, by=request.actor, reason=body.reason)
    return _again(request, run)


@router.post("/runs/{run_id}/pause", auth=Token("runs.pause"), response=RunOut)
def pause_run(request: Request, run_id: envelope.RunId, body: PauseIn) -> Any:
    """Hold a run until somebody resumes it. An open question can still be decided, and its deadline keeps running.

    A running one stops before its next step, or in a model call or a read, which are made again later.
    """
    run = interventions.pause(run_id, by=request.actor, reason=body.reason)
    return _again(request, run)


@router.post("/runs/{run_id}/resume", auth=Token("runs.pause"), response=RunOut)
def resume_run(request: Request, run_id: envelope.RunId, body: ResumeIn) -> Any:
    """Let a paused run go on. Resuming one that is not paused changes nothing."""
    run = interventions.resume(run_id, by=request.actor, reason=body.reason)
    return _again(request, run)


@router.post("/runs/{run_id}/fork", auth=Token("runs.create"), response={202: RunOut, 200: RunOut})
def fork_run(
    request: Request,
    run_id: envelope.RunId,
    body: ForkIn,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200, pattern=r"^[ -~]*$")] = "",
) -> Status[Any]:
    """Retry from a step: a new run that takes over what was done before it. Needs the right to read the run as well.

    Only a run that has ended or is paused can be forked (409); a paused one is cancelled by it. Budgets begin afresh,
    approvals are asked for again. The same Idempotency-Key answers 200 with the first fork.
    """
    run, is_new = forks.fork(
        run_id,
        by=request.actor,
        reason=body.reason,
        step_id=body.step,
        release=body.release,
        idempotency_key=idempotency_key,
    )
    return Status(202 if is_new else 200, _again(request, run))


@router.get("/callback-secret", auth=Token("runs.create"), response=SecretOut, tags=["Callbacks"])
def get_callback_secret(request: Request) -> Any:
    """The key that callbacks of this token's runs are signed with (Standard Webhooks)."""
    return _secret(request)


@router.post("/callback-secret/rotate", auth=Token("runs.create"), response=SecretOut, tags=["Callbacks"])
def rotate_callback_secret(request: Request, body: RotateIn) -> Any:
    """Make a new key. During the overlap callbacks carry two signatures; with 0 the old key ends at once."""
    callbacks.rotate(by=request.actor, overlap=timedelta(hours=body.overlap_hours), reason=body.reason)
    return _secret(request)


@router.get(
    "/runs/{run_id}/deliveries", auth=Token("runs.read"), response=envelope.Page[DeliveryOut], tags=["Callbacks"]
)
def list_deliveries(request: Request, run_id: envelope.RunId, filters: Query[envelope.Filters]) -> Any:
    """What the callback URL of a run was told, or will be, newest first, with every attempt."""
    run = _one(request, run_id)
    items, after = envelope.cut(Delivery.objects.filter(run=run).prefetch_related("tries"), filters)
    return {"items": [wire.delivery(row) for row in items], "next_cursor": after}


def _secret(request: Request) -> dict[str, Any]:
    moment, known = now(), callbacks.key(request.actor.id)
    until = known.previous_until if known and known.previous_until > moment else None
    return {"secret": callbacks.secrets(request.actor.id, moment)[0], "previous_valid_until": until}


def _visible(request: Request) -> QuerySet[Run]:
    rows = Run.objects.on_agents(request.actor.agents("runs.read"))
    return rows.select_related("agent", "release").defer("release__content")


def _one(request: Request, run_id: Any) -> Run:
    return _visible(request).get(pk=run_id)


def _again(request: Request, run: Run) -> dict[str, Any]:
    """The run as it is after what was done to it."""
    return _whole(request, Run.objects.select_related("agent", "release").get(pk=run.pk))


def _whole(request: Request, run: Run) -> dict[str, Any]:
    return wire.whole(run, _shown(request, run))


def _shown(request: Request, run: Run) -> masking.Shown:
    return masking.masked_for(request.actor, run.agent.slug)


def _chosen(filters: RunFilters) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "status__in": filters.status or None,
        "agent__slug": filters.agent,
        "thread_id": filters.thread_id,
        "principal_id": filters.user_id,
        "kind": filters.kind,
        "created_at__gte": filters.since,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _seq(cursor: str) -> int:
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        way_out = "Use next_cursor of the page before."
        raise problems.Invalid(f"The cursor is not one this list gave out. {way_out}", errors={"cursor": way_out})
    return int(cursor)


def _check_callback(url: str) -> None:
    try:
        fetch.check(url)
    except fetch.Refused as refused:
        errors = {"callback_url": str(refused)}
        raise problems.Invalid(f"The callback URL cannot be used. {refused}", errors=errors) from refused
