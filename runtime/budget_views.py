"""Entry points for people who watch what agents may spend."""

from __future__ import annotations

from datetime import UTC

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console import ids
from console.access import Request, requires
from releases.models import Agent, Release
from runtime import days, masking


@require_GET
@requires("runs.read")
def agent_budgets(request: Request, slug: str) -> HttpResponse:
    """What today has used of the limits of the release that answers, or of another one of the agent."""
    allowed = request.actor.agents("runs.read")
    agents = Agent.objects.select_related("active_release")
    agent = (agents if allowed is None else agents.filter(slug__in=allowed)).get(slug=slug)
    release = _release(agent, request.GET.get("release", ""))
    today = timezone.now().astimezone(UTC).date()
    shown = masking.masked_for(request.actor, agent.slug)
    day = days.of_agent(agent, release.bundle.daily if release else None, today)
    context = {
        "agent": agent,
        "release": release,
        "is_active": release is not None and release.pk == agent.active_release_id,
        "day": day,
        "people": [(shown(person.principal_id), person.meters) for person in day.people],
    }
    return render(request, "runtime/agent_budgets.html", context)


def _release(agent: Agent, key: str) -> Release | None:
    """The release asked for, if it is one of the agent; otherwise the one that answers new runs."""
    try:
        asked = ids.parse("rel", key)
    except ValueError:
        return agent.active_release
    return agent.releases.filter(pk=asked).first() or agent.active_release
