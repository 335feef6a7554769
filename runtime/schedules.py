"""Work that comes again: the verbs of a schedule, and the pass that starts what is due.

A due time is started once: its row is locked, and an occurrence is unique per schedule and time. Times that passed
while nobody looked give one run, not a burst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils.timezone import now

from console import audit, principals, problems
from console.actors import Actor, system
from console.models import ApiToken, User
from console.principals import Principal, narrowed
from releases.models import Agent
from runtime import acting, interventions, journal, runs
from runtime.models import Occurrence, Run, Schedule
from runtime.policies import recurring
from runtime.policies.recurring import Recurrence
from runtime.states import FINAL, DueOutcome, Overlap, RunPriority

MOST_AT_ONCE = 100
MOST_PER_AGENT = 500


@transaction.atomic
def create(
    *,
    agent: str,
    name: str,
    text: str,
    principal_id: str,
    expression: str,
    by: Actor,
    principal_label: str = "",
    attributes: Mapping[str, str] | None = None,
    time_zone: str = "UTC",
    overlap: Overlap = Overlap.SKIP,
    scopes: Iterable[str] | None = None,
    reason: str = "",
) -> Schedule:
    """Make a schedule that is on. Its runs have the scopes that its author holds, now and when they start.

    Raises:
        problems.Missing: no such agent, or not one on which the actor may keep schedules and start runs.
        problems.Invalid: something cannot be used; `errors` says which field.
        problems.Forbidden: the actor may not act for this principal.
        problems.Conflict: the agent has too many schedules.
    """
    found = Agent.objects.filter(slug=agent).first()
    if found is None or not (by.may("schedules.manage", agent=agent) and by.may("runs.create", agent=agent)):
        raise problems.Missing(f"There is no agent {agent[:60]!r}.")
    if found.schedules.count() >= MOST_PER_AGENT:
        raise problems.Conflict(f"{found.name} has {MOST_PER_AGENT} schedules already. Turn to a run that does more.")
    recurrence = _checked(name, text, principal_id, expression, time_zone)
    principal = acting.claimed(by, principal_id, principal_label, attributes or {}, is_kept=False)
    moment = now()
    schedule = Schedule.objects.create(
        agent=found,
        name=journal.plain(name).strip(),
        input_text=journal.plain(text).strip(),
        principal_id=principal.id,
        principal_label=principal.label,
        principal_attributes=dict(principal.attributes),
        scopes=narrowed(by.tool_scopes if scopes is None else scopes, by.tool_scopes),
        expression=recurrence.expression,
        time_zone=time_zone,
        overlap=overlap,
        next_at=recurrence.next_after(moment, anchor=moment),
        created_by_kind=by.kind,
        created_by_id=by.id,
        created_by_label=by.label,
    )
    audit.record(by, "schedule.create", schedule, reason=reason, changes={"expression": [None, schedule.expression]})
    return schedule


@transaction.atomic
def enable(schedule_id: UUID, *, by: Actor) -> Schedule:
    """Turn it on; from then on it works for whoever turned it on. Times that passed meanwhile are not made up.

    Raises:
        Schedule.DoesNotExist: no such schedule, or not one that the actor may manage and start runs for.
        problems.Forbidden: a program that may not act for its principal.
    """
    schedule = _locked(schedule_id, by)
    if not by.may("runs.create", agent=schedule.agent.slug):
        raise Schedule.DoesNotExist
    if schedule.next_at is not None:
        return schedule
    acting.guard_kept(by, schedule.principal)
    moment = now()
    schedule.next_at = _recurrence(schedule).next_after(moment, anchor=moment)
    schedule.stopped_reason = ""
    schedule.created_by_kind, schedule.created_by_id, schedule.created_by_label = by.kind, by.id, by.label
    schedule.scopes = narrowed(schedule.scopes, by.tool_scopes)
    schedule.save()
    audit.record(by, "schedule.enable", schedule, reason="", changes={"is_on": [False, True]})
    return schedule


@transaction.atomic
def disable(schedule_id: UUID, *, by: Actor, reason: str) -> Schedule:
    """Turn it off. A run that it has started goes on. Repeating it is harmless.

    Raises:
        Schedule.DoesNotExist: no such schedule, or not one that the actor may manage.
        problems.Invalid: the reason is missing.
    """
    schedule = _locked(schedule_id, by)
    if schedule.next_at is None:
        return schedule
    _stop(schedule, by, interventions.checked_reason(reason))
    return schedule


@transaction.atomic
def run_now(schedule_id: UUID, *, by: Actor) -> Run:
    """Start it once, whatever its times and its overlap say. The run is the actor's own.

    Raises:
        Schedule.DoesNotExist: no such schedule, or not one that the actor may manage.
        problems.Problem: as runs.create.
    """
    schedule = _locked(schedule_id, by)
    run = _start(schedule, by, narrowed(schedule.scopes, by.tool_scopes), "")
    Occurrence.objects.create(
        schedule=schedule, due_at=now(), outcome=DueOutcome.STARTED, run=run, detail=f"Started by hand by {by.label}"
    )
    return run


def start_due() -> int:
    """Start what is due. Any number of processes may do so at the same time. Returns how many times came up."""
    count = 0
    for key in (
        Schedule.objects.filter(next_at__lte=now()).order_by("next_at").values_list("pk", flat=True)[:MOST_AT_ONCE]
    ):
        count += _start_if_due(key)
    return count


@transaction.atomic
def _start_if_due(key: UUID) -> bool:
    moment = now()
    due = Schedule.objects.select_for_update(of=("self",), skip_locked=True).select_related("agent")
    schedule = due.filter(pk=key, next_at__lte=moment).first()
    if schedule is None or schedule.next_at is None:
        return False
    due_at = schedule.next_at
    outcome, detail, run = _come_up(schedule, due_at)
    Occurrence.objects.create(schedule=schedule, due_at=due_at, outcome=outcome, detail=detail, run=run)
    if schedule.next_at is not None:  # its author has lost the right: it is off
        schedule.next_at = _recurrence(schedule).next_after(moment, anchor=due_at)
        schedule.save(update_fields=["next_at"])
    return True


def _come_up(schedule: Schedule, due_at: datetime) -> tuple[DueOutcome, str, Run | None]:
    author = _author(schedule)
    if not author.may("runs.create", agent=schedule.agent.slug):
        why = f"{schedule.created_by_label} may no longer start runs of {schedule.agent.name}."
        _stop(schedule, SCHEDULER, why)
        return DueOutcome.REFUSED, why, None
    if schedule.overlap == Overlap.SKIP and _is_at_work(schedule):
        return DueOutcome.SKIPPED, "The run before has not ended.", None
    actor = Actor(
        "system",
        schedule.public_id,
        f"{schedule.name} (schedule of {schedule.created_by_label})",
        tool_scopes=author.tool_scopes,
    )
    try:
        key = f"due-{due_at.isoformat()}"
        return DueOutcome.STARTED, "", _start(schedule, actor, narrowed(schedule.scopes, author.tool_scopes), key)
    except problems.Problem as refused:
        return DueOutcome.REFUSED, refused.detail, None


def _start(schedule: Schedule, by: Actor, scopes: list[str], key: str) -> Run:
    one_at_a_time = {f"schedule:{schedule.public_id}": 1} if schedule.overlap == Overlap.QUEUE else {}
    run, _ = runs.create(
        agent=schedule.agent.slug,
        text=schedule.input_text,
        by=by,
        principal_id=schedule.principal_id,
        principal_label=schedule.principal_label,
        attributes=schedule.principal_attributes,
        is_kept=True,
        scopes=scopes,
        idempotency_key=key,
        priority=RunPriority.BACKGROUND,
        slots=one_at_a_time,
    )
    return run


def _is_at_work(schedule: Schedule) -> bool:
    return schedule.occurrences.filter(run__isnull=False).exclude(run__status__in=FINAL).exists()


def _stop(schedule: Schedule, by: Actor, reason: str) -> None:
    schedule.next_at, schedule.stopped_reason = None, reason
    schedule.save(update_fields=["next_at", "stopped_reason"])
    audit.record(by, "schedule.disable", schedule, reason=reason, changes={"is_on": [True, False]})


def _author(schedule: Schedule) -> Actor:
    """Who made the schedule, with the rights held now; nobody when the account or the token has ended."""
    if schedule.created_by_kind == "system":
        return SCHEDULER
    nobody = Actor("anonymous", "", schedule.created_by_label)
    if schedule.created_by_kind == "token":
        token = ApiToken.objects.select_related("owner").filter(pk=schedule.created_by_id).first()
        is_live = token and token.revoked_at is None and token.expires_at > now()
        return token.actor() if token and is_live else nobody
    user = User.objects.filter(pk=schedule.created_by_id, is_active=True).first()
    return user.actor() if user else nobody


def _checked(name: str, text: str, principal_id: str, expression: str, time_zone: str) -> Recurrence:
    errors: dict[str, str] = {}
    if not name.strip() or len(name) > 120:
        errors["name"] = "Give it a name of at most 120 characters."
    if not text.strip() or len(text) > runs.LONGEST_INPUT:
        errors["input"] = f"Say what the agent should do, in at most {runs.LONGEST_INPUT:,} characters."
    errors |= principals.wrong_with(Principal(principal_id.strip()))
    recurrence = None
    try:
        recurrence = recurring.parse(expression, time_zone)
    except recurring.BadExpression as wrong:
        errors["time_zone" if "time zone" in str(wrong) else "expression"] = str(wrong)
    if errors or recurrence is None:
        raise problems.Invalid(" ".join(errors.values()), errors=errors)
    return recurrence


def _recurrence(schedule: Schedule) -> Recurrence:
    return recurring.parse(schedule.expression, schedule.time_zone)


def _locked(schedule_id: UUID, by: Actor) -> Schedule:
    found = visible_to(by, "schedules.manage").select_for_update(of=("self",))
    return found.get(pk=schedule_id)


def visible_to(actor: Actor, right: str = "schedules.read") -> QuerySet[Schedule]:
    allowed = actor.agents(right)
    rows = Schedule.objects.select_related("agent")
    return rows if allowed is None else rows.filter(agent__slug__in=allowed)


SCHEDULER = system("scheduler")
