"""Entry points for people who keep work that comes again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console import paging, problems
from console.access import Request, requires
from releases.models import Agent
from runtime import labels, masking, schedules
from runtime.models import Occurrence, Schedule
from runtime.schedule_forms import ScheduleForm
from runtime.states import DueOutcome, Overlap

LATEST = 50
OUTCOMES = {
    DueOutcome.STARTED: labels.Badge("ok", "play", "Started"),
    DueOutcome.SKIPPED: labels.Badge("mute", "skip-forward", "Left out"),
    DueOutcome.REFUSED: labels.Badge("warn", "triangle-alert", "Not started"),
}


@require_GET
@requires("schedules.read")
def schedule_list(request: Request) -> HttpResponse:
    page: paging.Page[Schedule] = paging.page(schedules.visible_to(request.actor), request.GET)
    context = {
        "page": page,
        "rows": [_line(request, schedule) for schedule in page.items],
        "may_create": bool(_agents(request)),
    }
    return render(request, "runtime/schedule_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("schedules.manage")
def schedule_create(request: Request) -> HttpResponseBase:
    """The form; a refused one comes back with everything that was typed."""
    agents = _agents(request)
    if request.method != "POST":
        form = ScheduleForm(agents=agents, initial={"agent": request.GET.get("agent", ""), "time_zone": "UTC"})
        return render(request, "runtime/schedule_form.html", {"form": form, "agents": agents})
    form = ScheduleForm(request.POST, agents=agents)
    status = 422
    if form.is_valid():
        try:
            schedule = schedules.create(
                **{name: form.cleaned_data[name] for name in form.fields if name != "overlap"},
                overlap=Overlap(form.cleaned_data["overlap"]),
                by=request.actor,
            )
        except problems.Problem as problem:
            form.refuse(problem)
            status = problem.status
        else:
            messages.success(request, f"{schedule.name} is on.")
            return redirect("runtime:schedule-detail", schedule.pk)
    return render(request, "runtime/schedule_form.html", {"form": form, "agents": agents}, status=status)


@require_GET
@requires("schedules.read")
def schedule_detail(request: Request, schedule_id: UUID) -> HttpResponse:
    schedule = schedules.visible_to(request.actor).get(pk=schedule_id)
    found = schedule.occurrences.select_related("run").order_by("-due_at")[:LATEST]
    manages = request.actor.may("schedules.manage", agent=schedule.agent.slug)
    context = {
        **_line(request, schedule),
        "text": masking.masked_for(request.actor, schedule.agent.slug)(schedule.input_text),
        "occurrences": [_occurrence(one) for one in found],
        "latest": LATEST,
        "may_manage": manages,
        "may_start": manages and request.actor.may("runs.create", agent=schedule.agent.slug),
        "overlap": "left out" if schedule.overlap == Overlap.SKIP else "started when it has ended",
    }
    return render(request, "runtime/schedule_detail.html", context)


@require_POST
@requires("schedules.manage")
def schedule_enable(request: Request, schedule_id: UUID) -> HttpResponseBase:
    schedule = schedules.enable(schedule_id, by=request.actor)
    messages.success(request, f"{schedule.name} is on.")
    return redirect("runtime:schedule-detail", schedule_id)


@require_POST
@requires("schedules.manage")
def schedule_disable(request: Request, schedule_id: UUID) -> HttpResponseBase:
    schedule = schedules.disable(schedule_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{schedule.name} is off.")
    return redirect("runtime:schedule-detail", schedule_id)


@require_POST
@requires("schedules.manage")
def schedule_run(request: Request, schedule_id: UUID) -> HttpResponseBase:
    run = schedules.run_now(schedule_id, by=request.actor)
    return redirect("runtime:run-detail", run.pk)


def _line(request: Request, schedule: Schedule) -> dict[str, Any]:
    shown = masking.masked_for(request.actor, schedule.agent.slug)
    return {
        "schedule": schedule,
        "principal": shown(schedule.principal_label or schedule.principal_id),
        "zone": "" if schedule.expression.startswith("every") else schedule.time_zone,
    }


def _occurrence(one: Occurrence) -> dict[str, Any]:
    run = one.run
    return {
        "due_at": one.due_at,
        "detail": one.detail,
        "badge": OUTCOMES[DueOutcome(one.outcome)],
        "run": run,
        "run_badge": labels.run(run.status) if run else None,
    }


def _agents(request: Request) -> list[Agent]:
    """The agents for which the person may keep schedules."""
    found = Agent.objects.exclude(active_release__content__model__provider="replay").order_by("name")
    return [
        agent
        for agent in found
        if request.actor.may("schedules.manage", agent=agent.slug)
        and request.actor.may("runs.create", agent=agent.slug)
    ]
