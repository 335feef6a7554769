"""Which release answers a new run."""

from __future__ import annotations

from console import problems
from releases.models import Agent, Release


def pick(agent_slug: str) -> tuple[Agent, Release]:
    """The agent and the release that answers its next run.

    A switch that pauses new runs does not refuse them: what is accepted waits until it is lifted.

    Raises:
        problems.Missing: no such agent.
        problems.Problem: (503) the agent has no active release.
    """
    agent = Agent.objects.select_related("active_release").filter(slug=agent_slug).first()
    if agent is None:
        raise problems.Missing(f"There is no agent {agent_slug[:60]!r}.")
    if agent.active_release is None:
        raise problems.Problem(
            f"{agent.name} has no active release yet. Activate one first.", status=503, title="No active release"
        )
    agent.active_release.agent = agent
    return agent, agent.active_release
