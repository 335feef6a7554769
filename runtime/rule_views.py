"""Entry points for people who write rules: try one on past calls, and store it in a new release."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.views.decorators.http import require_GET, require_POST

from console import problems
from console.access import Request, requires
from releases import rulebooks
from releases.bundles import Rule
from releases.models import Release
from releases.policies import sentences, variables
from runtime import backtests, cards, labels, masking, rulings
from runtime.backtests import Tried
from runtime.policies.backtesting import Match
from runtime.rule_forms import RuleForm

MOST_SHOWN = 50
OF_THE_RELEASE = ("csrfmiddlewaretoken", "new_version", "note")
NAMED = ("id", "version", "reason")  # written where the rule is stored; trying it carries them along
VERDICTS = {
    "allow": labels.Badge("ok", "check", "Allowed"),
    "ask": labels.Badge("wait", "pause", "People asked"),
    "refuse": labels.Badge("warn", "shield-x", "Refused"),
}


@require_GET
@requires("releases.create")
def rule_try(request: Request, release_id: UUID) -> HttpResponse:
    """The form and, once a tool is chosen, what the rule would have done. Everything stands in the address."""
    release = _release(request, release_id)
    if "tool" not in request.GET:
        chosen = next((one for one in release.bundle.rules if one.id == request.GET.get("rule")), None)
        return _page(request, release, RuleForm(bundle=release.bundle, rule=chosen))
    form = RuleForm(request.GET, bundle=release.bundle)
    rule = form.rule(is_saved=False)
    if rule is None:
        return _page(request, release, form, status=422)
    most = form.cleaned_data["calls"] or backtests.USUAL_CALLS
    tried = backtests.attempt(rule, release.bundle.toolset[rule.tool], release.agent, most=most)
    return _page(request, release, form, rule=rule, tried=tried)


@require_POST
@requires("releases.create")
def rule_save(request: Request, release_id: UUID) -> HttpResponseBase:
    """Store the rule as it was tried, in a new release."""
    release = _release(request, release_id)
    form = RuleForm(request.POST, bundle=release.bundle)
    rule = form.rule(is_saved=True)
    label, note = request.POST.get("new_version", "").strip(), request.POST.get("note", "")[:500]
    if rule is None:
        return _page(request, release, form, status=422)
    try:
        made = rulebooks.with_rule(release, rule, version=label, by=request.actor, note=note)
    except problems.Problem as problem:
        return _page(request, release, form, rule=rule, problem=problem, status=problem.status)
    messages.success(request, f"{made} is stored with the rule {rule.id}. It answers no runs until you make it active.")
    return redirect(made)


@require_GET
@requires("releases.read")
def rule_figures(request: Request, release_id: UUID) -> HttpResponse:
    """What each rule of a release has come to in the last days."""
    allowed = request.actor.agents("releases.read")
    found = Release.objects.select_related("agent")
    release = (found if allowed is None else found.filter(agent__slug__in=allowed)).get(pk=release_id)
    figures = rulings.figures(release, now().astimezone(UTC).date())
    rules = [(rule, sentences.rule(rule), figures.get(rule.id, rulings.Figure())) for rule in release.bundle.rules]
    context = {
        "release": release,
        "rules": rules,
        "days": rulings.DAYS,
        "may_create": request.actor.may("releases.create", agent=release.agent.slug),
    }
    return render(request, "runtime/rule_figures.html", context)


def _release(request: Request, release_id: UUID) -> Release:
    """The release, if the actor may make new ones of its agent and see its runs."""
    found = Release.objects.select_related("agent")
    for permission in ("releases.create", "runs.read"):
        allowed = request.actor.agents(permission)
        found = found if allowed is None else found.filter(agent__slug__in=allowed)
    return found.get(pk=release_id)


def _page(
    request: Request,
    release: Release,
    form: RuleForm,
    *,
    rule: Rule | None = None,
    tried: Tried | None = None,
    problem: problems.Problem | None = None,
    status: int = 200,
) -> HttpResponse:
    part = (
        {"status": problem.status, "title": problem.title, "detail": problem.detail, **problem.extra} if problem else {}
    )
    context: dict[str, Any] = {
        "release": release,
        "form": form,
        "rule": rule,
        "sentence": sentences.rule(rule) if rule else "",
        "problem": part,
        "meanings": variables.MEANINGS,
        "tried": tried,
        "sent": _sent(form),
        "named": [(name, form[name].value()) for name in NAMED if form[name].value()],
        "is_storable": rule is not None or request.method == "POST",
        "new_version": request.POST.get("new_version", ""),
        "note": request.POST.get("note", ""),
    }
    if tried is not None:
        context |= {"changes": _changes(tried), **_listed(request, release, tried)}
    return render(request, "runtime/rule_form.html", context, status=status)


def _sent(form: RuleForm) -> list[tuple[str, str]]:
    """The fields of the rule as they were sent, to be sent again when it is stored."""
    if not isinstance(form.data, QueryDict):
        return []
    return [
        (name, value) for name, values in form.data.lists() if name not in (*OF_THE_RELEASE, *NAMED) for value in values
    ]


def _changes(tried: Tried) -> list[tuple[labels.Badge, labels.Badge, int]]:
    pairs = sorted(tried.report.changed.items(), key=lambda pair: -pair[1])
    return [(VERDICTS[was], VERDICTS[would], count) for (was, would), count in pairs]


def _listed(request: Request, release: Release, tried: Tried) -> dict[str, Any]:
    """The matches that would change first, then the others; newest first within each."""
    shown = masking.masked_for(request.actor, release.agent.slug)
    matches = sorted(tried.report.matches, key=lambda match: not match.changes)
    tool = release.bundle.toolset

    def line(match: Match) -> dict[str, Any]:
        past, run = match.past, tried.runs[match.past.key.run_id]
        return {
            "at": past.at,
            "title": shown(cards.title(tool[request.GET["tool"]], past.arguments)),
            "who": shown(run.principal_label or run.principal_id),
            "was": VERDICTS[past.verdict],
            "would": VERDICTS[match.would],
            "changes": match.changes,
            "error": match.error,
            "url": past.key.url,
        }

    return {"lines": [line(match) for match in matches[:MOST_SHOWN]], "more": max(0, len(matches) - MOST_SHOWN)}
