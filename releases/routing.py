"""Which release answers a new run."""

from __future__ import annotations

from console import problems
from releases import switches
from releases.models import Agent, Release
from releases.policies import switching


def pick(agent_slug: str) -> tuple[Agent, Release]:
    """The agent and the release that answers its next run.

    Raises:
        problems.Missing: no such agent.
        problems.Problem: (503) new runs are paused by a kill switch, or the agent has no active release.
    """
    agent = Agent.objects.select_related("active_release").filter(slug=agent_slug).first()
    if agent is None:
        raise problems.Missing(f"There is no agent {agent_slug[:60]!r}.")
    paused = switching.decide_start(switches.engaged(), agent=agent.slug)
    if paused:
        raise problems.Problem(
            f"New runs are paused: {paused.title}. Nothing was started; try again later.",
            status=503,
            title="Service paused",
            retry_after=60,
        )
    if agent.active_release is None:
        raise problems.Problem(
            f"{agent.name} has no active release yet. Activate one first.", status=503, title="No active release"
        )
    agent.active_release.agent = agent
    return agent, agent.active_release
