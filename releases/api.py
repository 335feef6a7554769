"""Entry points for programs: agents, their releases, and kill switches."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from console import envelope
from console.access import Request
from console.bearer import Token
from releases import label_api, switches
from releases.models import Agent, KillSwitch, Release
from releases.states import Scope, SwitchEffect

router = Router()
router.add_router("", label_api.router)
AGENTS, SWITCHES = ["Agents and releases"], ["Kill switches"]


class ReleaseLine(Schema):
    """A release without its content."""

    release_id: str
    agent: str
    version: str
    digest: str = Field(description="SHA-256 of the canonical bundle")
    note: str
    model: str = Field(description="provider/name")
    tools: list[str]
    is_active: bool = Field(description="Whether it answers new runs")
    created_by: str
    created_at: datetime


class ReleaseOut(ReleaseLine):
    content: dict[str, Any] = Field(description="The whole bundle")


class AgentOut(Schema):
    agent: str = Field(description="The name to start runs with")
    name: str
    description: str
    owner: str | None
    active_release: str | None = Field(description="Version that answers new runs")
    active_release_id: str | None
    active_release_digest: str | None
    created_at: datetime


class SwitchOut(Schema):
    switch_id: str
    scope: Scope
    effect: SwitchEffect
    target: str
    title: str
    reason: str
    is_engaged: bool
    engaged_at: datetime
    engaged_by: str
    lifted_at: datetime | None
    lifted_by: str
    lift_reason: str
    lift_phrase: str = Field(description="What must be sent as `phrase` to lift it")
    blocked_calls: int


class SwitchFilters(envelope.Filters):
    engaged: bool | None = Field(None, description="true: only those that stop something now")


class Engage(envelope.Body):
    scope: Scope
    effect: SwitchEffect
    target: str = Field("", max_length=120, description="Agent or tool; empty for everything")
    reason: str = Field(min_length=1, max_length=2000)


class Lift(envelope.Body):
    reason: str = Field(min_length=1, max_length=2000)
    phrase: str = Field(max_length=200, description="The switch's lift_phrase, so that none is lifted by accident")


@router.get("/agents", auth=Token("releases.read"), response=envelope.Page[AgentOut], tags=AGENTS)
def list_agents(request: Request, filters: Query[envelope.Filters]) -> Any:
    """Agents this token may see."""
    mine = _agents(request)
    items, after = envelope.cut(mine, filters)
    return {"items": [_agent(agent) for agent in items], "next_cursor": after}


@router.get("/agents/{slug}", auth=Token("releases.read"), response=AgentOut, tags=AGENTS)
def get_agent(request: Request, slug: str) -> Any:
    """One agent and the release that answers its new runs."""
    return _agent(_agents(request).get(slug=slug))


@router.get("/agents/{slug}/releases", auth=Token("releases.read"), response=envelope.Page[ReleaseLine], tags=AGENTS)
def list_releases(request: Request, slug: str, filters: Query[envelope.Filters]) -> Any:
    """Releases of an agent, newest first."""
    agent = _agents(request).get(slug=slug)
    items, after = envelope.cut(Release.objects.filter(agent=agent).select_related("agent"), filters)
    return {"items": [_line(release) for release in items], "next_cursor": after}


@router.get("/releases/{release_id}", auth=Token("releases.read"), response=ReleaseOut, tags=AGENTS)
def get_release(request: Request, release_id: envelope.ReleaseId) -> Any:
    """One release with its whole content."""
    release = Release.objects.select_related("agent").get(pk=release_id, agent__in=_agents(request))
    return {**_line(release), "content": release.content}


@router.get("/switches", auth=Token("switches.read"), response=envelope.Page[SwitchOut], tags=SWITCHES)
def list_switches(request: HttpRequest, filters: Query[SwitchFilters]) -> Any:
    """Kill switches, engaged and lifted."""
    rows = KillSwitch.objects.all()
    if filters.engaged is not None:
        rows = rows.filter(lifted_at__isnull=filters.engaged)
    items, after = envelope.cut(rows, filters)
    return {"items": [_switch(switch) for switch in items], "next_cursor": after}


@router.post("/switches", auth=Token("switches.engage"), response=SwitchOut, tags=SWITCHES)
def engage_switch(request: Request, body: Engage) -> Any:
    """Stop something now. Engaging an engaged switch changes nothing and answers with it."""
    switch = switches.engage(body.scope, body.effect, body.target, by=request.actor, reason=body.reason)
    return _switch(switch)


@router.post("/switches/{switch_id}/lift", auth=Token("switches.lift"), response=SwitchOut, tags=SWITCHES)
def lift_switch(request: Request, switch_id: envelope.SwitchId, body: Lift) -> Any:
    """Allow it again. Needs a reason and the switch's phrase."""
    return _switch(switches.lift(switch_id, by=request.actor, reason=body.reason, phrase=body.phrase))


def _agents(request: Request) -> Any:
    agents = Agent.objects.select_related("active_release", "owner")
    allowed = request.actor.agents("releases.read")
    return agents if allowed is None else agents.filter(slug__in=allowed)


def _agent(agent: Agent) -> dict[str, Any]:
    active = agent.active_release
    return {
        "agent": agent.slug,
        "name": agent.name,
        "description": agent.description,
        "owner": str(agent.owner) if agent.owner else None,
        "active_release": active.version if active else None,
        "active_release_id": active.public_id if active else None,
        "active_release_digest": active.digest if active else None,
        "created_at": agent.created_at,
    }


def _line(release: Release) -> dict[str, Any]:
    content = release.content
    return {
        "release_id": release.public_id,
        "agent": release.agent.slug,
        "version": release.version,
        "digest": release.digest,
        "note": release.note,
        "model": f"{content['model']['provider']}/{content['model']['name']}",
        "tools": [tool["name"] for tool in content["tools"]],
        "is_active": release.agent.active_release_id == release.pk,
        "created_by": release.created_by_label,
        "created_at": release.created_at,
    }


def _switch(switch: KillSwitch) -> dict[str, Any]:
    return {
        "switch_id": switch.public_id,
        "scope": switch.scope,
        "effect": switch.effect,
        "target": switch.target,
        "title": switch.title,
        "reason": switch.reason,
        "is_engaged": switch.lifted_at is None,
        "engaged_at": switch.engaged_at,
        "engaged_by": switch.engaged_by_label,
        "lifted_at": switch.lifted_at,
        "lifted_by": switch.lifted_by_label,
        "lift_reason": switch.lift_reason,
        "lift_phrase": switches.lift_phrase(switch),
        "blocked_calls": switch.blocked_calls,
    }
