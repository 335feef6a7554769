"""Entry points for programs that keep work that comes again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from ninja import Query, Router, Schema, Status
from pydantic import Field

from console import envelope, ids
from console.access import Request
from console.bearer import Token
from runtime import masking, on_behalf, runs, schedules
from runtime.models import Schedule
from runtime.on_behalf import OnBehalf, PrincipalOut
from runtime.states import DueOutcome, Overlap

router = Router(tags=["Schedules"])

LATEST = 20


class ScheduleIn(OnBehalf):
    agent: str = Field(min_length=1, max_length=50)
    name: str = Field(min_length=1, max_length=120)
    input: str = Field(min_length=1, max_length=runs.LONGEST_INPUT, description="What the agent is asked each time")
    expression: str = Field(
        min_length=1, max_length=120, description="every 15 minutes, or five cron fields: 0 9 * * mon-fri"
    )
    time_zone: str = Field("UTC", max_length=60, description="Whose clocks cron fields follow: Europe/Lisbon")
    overlap: Overlap = Field(
        Overlap.SKIP, description="While its run before has not ended: skip this time, or queue it"
    )
    scopes: list[Annotated[str, Field(min_length=1, max_length=80)]] | None = Field(None, max_length=100)


class DisableIn(envelope.Body):
    reason: str = Field(min_length=1, max_length=2000, description="Goes to the audit log")


class OccurrenceOut(Schema):
    due_at: datetime
    outcome: DueOutcome
    detail: str
    run_id: str | None


class ScheduleLine(Schema):
    schedule_id: str
    agent: str
    name: str
    user_id: str
    principal: PrincipalOut
    expression: str
    time_zone: str
    overlap: Overlap
    is_on: bool
    next_at: datetime | None = Field(description="When it starts a run next; null while it is off")
    stopped_reason: str
    created_by: str
    created_at: datetime


class ScheduleOut(ScheduleLine):
    input: str
    scopes: list[str]
    occurrences: list[OccurrenceOut] = Field(description=f"The latest {LATEST}, newest first")


class StartedOut(Schema):
    run_id: str


class ScheduleFilters(envelope.Filters):
    agent: str | None = Field(None, max_length=50)


@router.get("/schedules", auth=Token("schedules.read"), response=envelope.Page[ScheduleLine])
def list_schedules(request: Request, filters: Query[ScheduleFilters]) -> Any:
    """Schedules, newest first."""
    rows = schedules.visible_to(request.actor)
    rows = rows.filter(agent__slug=filters.agent) if filters.agent is not None else rows
    items, after = envelope.cut(rows, filters)
    return {"items": [_line(request, row) for row in items], "next_cursor": after}


@router.post("/schedules", auth=Token("schedules.manage"), response={201: ScheduleOut})
def create_schedule(request: Request, body: ScheduleIn) -> Status[Any]:
    """Make a schedule that is on. Its runs work with the token's tool scopes, as long as the token is valid."""
    principal = body.on_behalf_of(request.actor)
    schedule = schedules.create(
        agent=body.agent,
        name=body.name,
        text=body.input,
        principal_id=principal.id,
        principal_label=principal.label,
        attributes=principal.attributes,
        expression=body.expression,
        time_zone=body.time_zone,
        overlap=body.overlap,
        scopes=body.scopes,
        by=request.actor,
    )
    return Status(201, _whole(request, schedule))


@router.get("/schedules/{schedule_id}", auth=Token("schedules.read"), response=ScheduleOut)
def get_schedule(request: Request, schedule_id: envelope.ScheduleId) -> Any:
    """One schedule and what came of its latest times."""
    return _whole(request, schedules.visible_to(request.actor).get(pk=schedule_id))


@router.post("/schedules/{schedule_id}/enable", auth=Token("schedules.manage"), response=ScheduleOut)
def enable_schedule(request: Request, schedule_id: envelope.ScheduleId) -> Any:
    """Turn it on, for whoever asks. Times that passed meanwhile are not made up."""
    return _whole(request, schedules.enable(schedule_id, by=request.actor))


@router.post("/schedules/{schedule_id}/disable", auth=Token("schedules.manage"), response=ScheduleOut)
def disable_schedule(request: Request, schedule_id: envelope.ScheduleId, body: DisableIn) -> Any:
    """Turn it off. Runs that it has started go on."""
    return _whole(request, schedules.disable(schedule_id, by=request.actor, reason=body.reason))


@router.post("/schedules/{schedule_id}/run", auth=Token("schedules.manage"), response={202: StartedOut})
def run_schedule(request: Request, schedule_id: envelope.ScheduleId) -> Status[Any]:
    """Start it once now, whatever its times say."""
    return Status(202, {"run_id": schedules.run_now(schedule_id, by=request.actor).public_id})


def _line(request: Request, schedule: Schedule) -> dict[str, Any]:
    shown = masking.masked_for(request.actor, schedule.agent.slug)
    return {
        "schedule_id": schedule.public_id,
        "agent": schedule.agent.slug,
        "name": schedule.name,
        "user_id": shown(schedule.principal_id),
        "principal": on_behalf.shown(schedule.principal, shown),
        "expression": schedule.expression,
        "time_zone": schedule.time_zone,
        "overlap": schedule.overlap,
        "is_on": schedule.next_at is not None,
        "next_at": schedule.next_at,
        "stopped_reason": schedule.stopped_reason,
        "created_by": schedule.created_by_label,
        "created_at": schedule.created_at,
    }


def _whole(request: Request, schedule: Schedule) -> dict[str, Any]:
    shown = masking.masked_for(request.actor, schedule.agent.slug)
    found = schedule.occurrences.order_by("-due_at")[:LATEST]
    return {
        **_line(request, schedule),
        "input": shown(schedule.input_text),
        "scopes": schedule.scopes,
        "occurrences": [
            {
                "due_at": one.due_at,
                "outcome": one.outcome,
                "detail": one.detail,
                "run_id": ids.public("run", one.run_id) if one.run_id else None,
            }
            for one in found
        ],
    }
