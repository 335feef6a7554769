"""Entry points for people who watch runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console import ids, paging
from console.access import Request, requires
from console.templatetags import ui
from releases import switches
from releases.models import Agent, Release
from releases.policies import switching
from runtime import (
    controls,
    delivery_lists,
    drafts,
    figures,
    inspections,
    labels,
    masking,
    meters,
    readings,
    run_lists,
    runs,
    traces,
)
from runtime.models import Run
from runtime.policies.waiting import Reason
from runtime.states import PARKED, RunStatus
from runtime.traces import Look
from runtime.waits import Waits

MOST_RELEASES = 40
LONGEST_SAID = 1000  # of an answer that is read out when a run ends
MOST_FORKS = 10


# The list


@require_GET
@requires("runs.read")
def run_list(request: Request) -> HttpResponse:
    return render(request, "runtime/run_list.html", {**_listing(request), **_choices(request)})


@require_GET
@requires("runs.read")
def run_rows(request: Request) -> HttpResponse:
    """The rows alone. `top` keeps runs that came later behind a bar."""
    return render(request, "runtime/_run_rows.html", _listing(request))


def _listing(request: Request) -> dict[str, Any]:
    now = timezone.now()
    chosen = run_lists.filters(request.GET, now)
    found = run_lists.matching(runs.visible_to(request.actor), chosen)
    top = request.GET.get("top", "")
    with run_lists.patience(chosen):
        page: paging.Page[Run] = run_lists.page(found, request.GET)
        newer = run_lists.newer_count(found, top) if top else 0
        count = run_lists.count(found, chosen, page)
    is_newest = not request.GET.get("before") and not request.GET.get("after")
    return {
        "page": page,
        "rows": run_lists.rows(page.items, lambda run: masking.masked_for(request.actor, run.agent.slug), now),
        "filters": chosen,
        "count": count,
        "newer": newer,
        "most_new": run_lists.MOST_NEW,
        "top": (top or (run_lists.cursor(page.items[0]) if page.items else "")) if is_newest else "",
        "is_newest": is_newest,
        "rest": run_lists.without_place(request.GET),
    }


def _choices(request: Request) -> dict[str, Any]:
    """What the filters offer, from what this person may see."""
    allowed = request.actor.agents("runs.read")
    agents = Agent.objects.select_related("active_release")
    releases = Release.objects.order_by("-created_at")
    if allowed is not None:
        agents, releases = agents.filter(slug__in=allowed), releases.filter(agent__slug__in=allowed)
    known = list(agents)
    tools = {tool["name"] for one in known if one.active_release for tool in one.active_release.content["tools"]}
    versions = dict.fromkeys(releases.values_list("version", flat=True)[:MOST_RELEASES])
    return {
        "statuses": [(status.value, labels.RUNS[status].label) for status in RunStatus],
        "agents": [(one.slug, one.name) for one in known],
        "releases": [(version, version) for version in versions],
        "tools": [(name, name) for name in sorted(tools)],
        "causes": run_lists.causes(request.GET.get("cause", "")),
        "ranges": run_lists.ranges(request.GET.get("since", "")),
        "kinds": list(run_lists.KINDS.items()),
        "presets": run_lists.presets(request.GET),
        "may_start": request.actor.may("runs.create"),
    }


# The trace


@require_GET
@requires("runs.read")
def run_detail(request: Request, run_id: UUID) -> HttpResponse:
    return render(request, "runtime/run_detail.html", _trace(request, _run(request, run_id)))


@require_GET
@requires("runs.read")
def run_steps(request: Request, run_id: UUID) -> HttpResponse:
    """What changes while a run works, without the shell around it, and without a step that somebody has opened."""
    return render(request, "runtime/_live.html", {**_trace(request, _run(request, run_id)), "is_part": True})


@require_GET
@requires("runs.read")
def run_draft(request: Request, run_id: UUID) -> HttpResponse:
    """The text that the model is writing right now; 204 when there is none."""
    run = runs.visible_to(request.actor).select_related("agent").only("id", "agent__slug").get(pk=run_id)
    text = drafts.read(run_id)
    if text is None:
        return HttpResponse(status=204)
    shown = masking.masked_for(request.actor, run.agent.slug)
    return HttpResponse(ui.visible(shown(text)))


@require_GET
@requires("runs.read")
def step_payload(request: Request, run_id: UUID, step_id: UUID) -> HttpResponse:
    """One step, opened: the only place that reads a payload of any size."""
    run = _run(request, run_id)
    step = run.steps.select_related("payload").get(pk=step_id)
    shown = masking.masked_for(request.actor, run.agent.slug)
    opened = inspections.build(run, step, _part(request), shown)
    retry = controls.retry(run, request.actor, step)
    context = {"run": run, "inspection": opened, "retry": retry, "is_chosen": True, **_words()}
    return render(request, "runtime/_inspector.html", context)


def _run(request: Request, run_id: UUID) -> Run:
    found = runs.visible_to(request.actor).select_related("agent__active_release", "release", "thread")
    found = found.defer("agent__active_release__content")
    found = found.annotate(is_forked=Exists(Run.objects.filter(forked_from=OuterRef("pk"))))
    run: Run = found.get(pk=run_id)
    return run


def _part(request: Request) -> str:
    wanted = request.GET.get("part", "")
    return wanted if wanted in inspections.PARTS else "summary"


def _without_step(query: QueryDict) -> str:
    """The address a live region asks again; which step is open, it reads from the page."""
    kept = query.copy()
    for name in ("step", "part", "act"):
        kept.pop(name, None)
    return kept.urlencode()


def _words() -> dict[str, Any]:
    return {"parts": inspections.PARTS.items()}


def _trace(request: Request, run: Run) -> dict[str, Any]:
    look, now = Look.of(request.GET), timezone.now()
    shown = masking.masked_for(request.actor, run.agent.slug)
    counted = figures.counts(run)
    return {
        "run": run,
        "look": look,
        "title": shown(run.title),
        "principal": shown(run.principal.name),
        "whom": labels.whom(run.principal, shown),
        "starter": labels.starter(run.started_by_kind, run.started_by_label),
        "badge": labels.run(run.status),
        "cause": labels.cause(run.cause) if run.cause not in ("", "answered", "cancelled") else "",
        "detail": shown(run.cause_detail),
        "said": shown(run.answer)[:LONGEST_SAID] if run.is_final else "",
        "cancel_reason": shown(run.cancel_reason),
        "pause_reason": shown(run.pause_reason),
        "figures": figures.of(run, counted, now),
        "meters": meters.of_run(run, now),
        "counted": counted,
        "touched": traces.touched(run, shown) if counted["switched"] else [],
        "controls": controls.of(run, request.actor),
        "forked_from": ids.public("run", run.forked_from_id) if run.forked_from_id else "",
        "forks": _forks(run),
        "held": _held(run),
        "opened": {request.GET.get("act", ""): True},
        "may_start": request.actor.may("runs.create", agent=run.agent.slug),
        "rest": _without_step(request.GET),
        **_words(),
        **_tab(request, run, look, counted, shown),
    }


def _tab(request: Request, run: Run, look: Look, counted: dict[str, Any], shown: masking.Shown) -> dict[str, Any]:
    """What the chosen tab shows; the others cost nothing."""
    now = timezone.now()
    if look.tab == "conversation":
        turns, is_cut = readings.conversation(run, shown)
        writing = shown(drafts.read(run.pk) or "") if run.status == RunStatus.RUNNING else ""
        return {"turns": turns, "is_cut": is_cut, "writing": writing, **_asking(run)}
    if look.tab == "context":
        return {"searches": readings.searches(run, shown), **_asking(run)}
    if look.tab == "events":
        return {"log": readings.log(run, look.first, shown), **_asking(run)}
    if look.tab == "deliveries":
        return {**delivery_lists.told(run, request.actor), **_asking(run)}
    if look.tab == "versions":
        return {"versions": readings.versions(run, now), **_asking(run)}
    if look.tab == "data":
        return {"asked": shown(run.input_text), "answered": shown(run.answer), **_asking(run)}
    return _timeline(request, run, look, counted, shown)


def _timeline(request: Request, run: Run, look: Look, counted: dict[str, Any], shown: masking.Shown) -> dict[str, Any]:
    asking = _asking(run)
    found = traces.build(run, look, counted, timezone.now(), shown, asked=asking["asking"])
    steps = [row.step for row in found.rows if row.step]
    is_end = found.next_first is None and not look.show
    step = traces.selected(run, found)
    return {
        "timeline": found,
        "chips": figures.chips(counted, look),
        "latest": readings.latest(run, steps, shown) if is_end else [],
        "inspection": inspections.build(run, step, _part(request), shown) if step else None,
        "retry": controls.retry(run, request.actor, step) if step else None,
        "is_chosen": look.step is not None,
        "is_wide": request.GET.get("wide") == "yes",
        **asking,
    }


def _held(run: Run) -> str:
    """The switch that keeps a new run in the queue."""
    if Waits(timezone.now()).reason(run) != Reason.SWITCH:
        return ""
    switch = switching.decide_start(switches.engaged(), agent=run.agent.slug)
    return f"{switch.title}. {switch.reason}" if switch else ""


def _forks(run: Run) -> list[Run]:
    """The runs that retry this one, oldest first."""
    if not run.is_forked:  # type: ignore[attr-defined]  # annotated by _run
        return []
    return list(run.forks.only("id", "status").order_by("id")[:MOST_FORKS])


def _asking(run: Run) -> dict[str, Any]:
    """The open question of a parked run, and where it is answered."""
    step = traces.asked(run) if run.status in PARKED else None
    return {"asking": step, "review_url": inspections.review_url(step.payload.input) if step else ""}
