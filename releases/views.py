"""Entry points for people who look after agents and their releases."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Max, QuerySet
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console import ids, paging, problems
from console.access import Request, requires
from releases import controls, diffs, forms, label_views, releases
from releases.models import Activation, Agent, Release
from releases.policies import sentences

HISTORY = 50
MOST_OPTIONS = 200


@require_GET
@requires("releases.read")
def agent_list(request: Request) -> HttpResponse:
    agents = controls.visible_agents(request.actor).select_related("active_release", "owner")
    agents = agents.annotate(changed_at=Max("activations__at"), made=Count("releases", distinct=True))
    return render(request, "releases/agent_list.html", {"agents": agents})


@require_GET
@requires("releases.read")
def agent_detail(request: Request, slug: str) -> HttpResponse:
    agent = _agents(request).get(slug=slug)
    page = paging.page(agent.releases.all(), request.GET, size=HISTORY)
    context = {
        "agent": agent,
        "page": page,
        "activations": Activation.objects.filter(agent=agent).select_related("release", "previous")[:HISTORY],
        "options": _options(agent),
        "may_create": request.actor.may("releases.create", agent=agent.slug),
        "switches": controls.of_agent(request.actor, agent) if request.actor.may("switches.read") else [],
    }
    return render(request, "releases/agent_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("releases.create")
def release_create(request: Request, slug: str) -> HttpResponseBase:
    """A form that keeps what was typed, whatever is wrong with it."""
    agent = _agents(request).get(slug=slug)
    if not request.actor.may("releases.create", agent=agent.slug):
        raise problems.Forbidden(f"You may not create releases of {agent.name}. Ask its owner.")
    if request.method != "POST":
        return _create_page(request, agent, _copy_of(request, agent), "")
    form = forms.ReleaseForm(request.POST, request.FILES)
    text, note = str(request.POST.get("bundle", "")), str(request.POST.get("note", ""))[:500]
    try:
        text = form.text()
        release = releases.create(agent, forms.content(text), by=request.actor, note=note)
    except problems.Problem as problem:
        return _create_page(request, agent, text, note, problem)
    messages.success(request, f"{release} is stored. It answers no runs until you make it active.")
    return redirect(release)


@require_GET
@requires("releases.read")
def release_detail(request: Request, release_id: UUID) -> HttpResponse:
    release = _releases(request).get(pk=release_id)
    other = _against(release)
    bundle = release.bundle
    context = {
        "release": release,
        "bundle": bundle,
        "is_active": release.agent.active_release_id == release.pk,
        "was_active": release.activations.exists(),
        "why_not": releases.why_not(release, by=request.actor),
        "labels": label_views.card(release, request.actor),
        "models": [("Model", sentences.model(bundle.model))]
        + ([("Fallback", sentences.model(bundle.fallback_model))] if bundle.fallback_model else []),
        "budgets": sentences.budgets(bundle.budgets),
        "tools": [(tool, sentences.tool(tool)) for tool in bundle.tools],
        "rules": [(rule, sentences.rule(rule)) for rule in bundle.rules],
        "guardrails": [(guard, sentences.guardrail(guard)) for guard in bundle.guardrails],
        "extras": sentences.extras(bundle),
        "comparison": diffs.compare(other, release) if other else None,
        "activations": release.activations.select_related("previous")[:HISTORY],
        "options": [option for option in _options(release.agent) if option.pk != release.pk],
        "may_create": request.actor.may("releases.create", agent=release.agent.slug),
    }
    return render(request, "releases/release_detail.html", context)


@require_GET
@requires("releases.read")
def release_bundle(request: Request, release_id: UUID) -> HttpResponse:
    """The bundle as stored: what the digest is taken over, and what a new release can be made from."""
    release = _releases(request).get(pk=release_id)
    answer = JsonResponse(_in_order(release), json_dumps_params={"indent": 2, "ensure_ascii": False})
    answer["Content-Disposition"] = f'attachment; filename="{release.agent.slug}-{release.version}.json"'
    return answer


@require_GET
@requires("releases.read")
def release_compare(request: Request) -> HttpResponse:
    before, after = (_named(request, name) for name in ("a", "b"))
    if before.agent_id != after.agent_id:
        raise problems.Invalid(f"{before} and {after} belong to different agents, so there is nothing to compare.")
    context = {
        "agent": after.agent,
        "comparison": diffs.compare(before, after),
        "options": _options(after.agent),
    }
    return render(request, "releases/release_compare.html", context)


@require_POST
@requires("releases.activate")
def release_activate(request: Request, release_id: UUID) -> HttpResponseBase:
    _releases(request).get(pk=release_id)
    release = releases.activate(release_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{release} answers all new runs. Runs in flight keep theirs.")
    return redirect(release)


def _agents(request: Request) -> QuerySet[Agent]:
    return controls.visible_agents(request.actor).select_related("active_release", "owner")


def _releases(request: Request) -> QuerySet[Release]:
    return Release.objects.filter(agent__in=controls.visible_agents(request.actor)).select_related(
        "agent__active_release"
    )


def _named(request: Request, name: str) -> Release:
    try:
        key = ids.parse("rel", request.GET.get(name, ""))
    except ValueError as wrong:
        raise problems.Missing("Choose two releases to compare.") from wrong
    return _releases(request).get(pk=key)


def _against(release: Release) -> Release | None:
    """What a release is set against: the active one, or for the active one the one before it."""
    active = release.agent.active_release
    if active is not None and active.pk != release.pk:
        active.agent = release.agent
        return active
    latest = release.activations.select_related("previous__agent").first()
    return latest.previous if latest else None


def _options(agent: Agent) -> list[Release]:
    return list(agent.releases.defer("content")[:MOST_OPTIONS])


def _copy_of(request: Request, agent: Agent) -> str:
    """The text a new release starts from: the bundle named in the address, without its version label."""
    try:
        key = ids.parse("rel", request.GET.get("copy", ""))
    except ValueError:
        return ""
    release = agent.releases.filter(pk=key).first()
    return json.dumps({**_in_order(release), "version": ""}, indent=2, ensure_ascii=False) if release else ""


def _in_order(release: Release) -> dict[str, Any]:
    """The content in the order of the schema; the database keeps no order of keys."""
    return release.bundle.model_dump(mode="json")


def _create_page(
    request: Request, agent: Agent, text: str, note: str, problem: problems.Problem | None = None
) -> HttpResponse:
    context: dict[str, Any] = {"agent": agent, "text": text, "note": note, "problem": None}
    if problem is not None:
        part = {"status": problem.status, "title": problem.title, "detail": problem.detail, **problem.extra}
        context["problem"] = part
    return render(request, "releases/release_form.html", context, status=problem.status if problem else 200)
