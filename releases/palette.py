"""What the command palette finds of agents and their releases."""

from __future__ import annotations

from collections.abc import Iterator

from console.actors import Actor
from console.shell import Found
from releases.models import Agent, Release

MOST = 5


def find(actor: Actor, text: str) -> Iterator[Found]:
    allowed, words = actor.agents("releases.read"), text.strip()
    agents = Agent.objects.filter(name__icontains=words)
    releases = Release.objects.filter(version__icontains=words).select_related("agent").defer("content")
    if allowed is not None:
        agents, releases = agents.filter(slug__in=allowed), releases.filter(agent__slug__in=allowed)
    for agent in agents[:MOST]:
        yield Found(agent.name, "Agent", agent.get_absolute_url(), "bot")
    for release in releases[:MOST]:
        yield Found(f"{release.agent.name} {release.version}", "Release", release.get_absolute_url(), "layers")
