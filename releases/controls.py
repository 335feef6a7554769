"""The kill switches as their page shows them: what each would stop, whether it is engaged, who may turn it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import QuerySet

from approvals.models import ApprovalRequest
from console.access import refusal
from console.actors import Actor
from releases import switches
from releases.bundles import ToolManifest
from releases.models import Agent, KillSwitch
from releases.policies import sentences
from releases.states import SERVER_MARK, Scope, SwitchEffect

Key = tuple[str, str, str]
AGENT_EFFECTS = (SwitchEffect.PAUSE_RUNS, SwitchEffect.WRITES_OFF, SwitchEffect.FORCE_REVIEW)
SERVER_EFFECTS = (SwitchEffect.DISABLE_TOOL, SwitchEffect.FORCE_REVIEW)


@dataclass(frozen=True)
class Words:
    """How an effect reads: what it governs, the states when lifted and engaged, what stops and what goes on."""

    label: str
    about: str
    free: str
    engaged: str
    act: str
    stops: str
    goes_on: str


WORDS = {
    SwitchEffect.PAUSE_RUNS: Words(
        "New runs",
        "Pausing holds new runs in the queue; those under way go on to their end.",
        "Allowed",
        "Paused",
        "Pause new runs",
        "No new run starts. Requests are accepted and wait in the queue until the switch is lifted.",
        "Runs already started go on to their end.",
    ),
    SwitchEffect.WRITES_OFF: Words(
        "Write tools",
        "Turning them off leaves reading and answering, for every agent.",
        "Allowed",
        "Off",
        "Turn write tools off",
        "No call that changes, sends or deletes something starts, also in runs that are under way.",
        "Reading and answering go on. A call already in flight ends.",
    ),
    SwitchEffect.FORCE_REVIEW: Words(
        "Review",
        "Engaged, every write of every agent asks a person, whatever the rules say.",
        "By rules",
        "Every write",
        "Ask a person before every write",
        "No write starts unless a person approves it.",
        "Nothing is refused; reading and answering go on.",
    ),
    SwitchEffect.DISABLE_TOOL: Words(
        "Calls",
        "",
        "On",
        "Off",
        "Turn off",
        "No call of it starts from the moment you confirm, also in runs that are under way.",
        "A call already in flight ends. The agent is told that the tool is off and can answer without it.",
    ),
}


@dataclass(frozen=True)
class Control:
    """One switch that can be turned."""

    scope: Scope
    effect: SwitchEffect
    target: str
    words: Words
    standing: KillSwitch | None
    waiting: int
    why_not_engage: str
    why_not_lift: str

    @property
    def key(self) -> str:
        which = f"server-{self.target}" if self.scope == Scope.SERVER else self.target or "everything"
        return f"{self.effect}-{which}".replace("_", "-").replace(".", "-")

    @property
    def phrase(self) -> str:
        return switches.lift_phrase(self.standing) if self.standing else ""

    @property
    def freezes(self) -> int:
        """How many requests that wait for a person would be frozen."""
        return self.waiting if self.effect in switches.STOPPING else 0

    @property
    def has_reason(self) -> bool:
        return bool(self.standing and self.standing.reason != switches.NO_REASON)


@dataclass(frozen=True)
class Line:
    """A row of the page: an agent or a tool with its switches."""

    name: str
    about: str
    url: str
    is_tool: bool
    controls: list[Control]

    @property
    def is_engaged(self) -> bool:
        return any(control.standing for control in self.controls)


@dataclass(frozen=True)
class Board:
    active: list[Control]
    everything: list[Control]
    agents: list[Line]
    servers: list[Line]
    tools: list[Line]


def board(by: Actor) -> Board:
    """Everything the page shows, in four queries."""
    standing = {(s.scope, s.effect, s.target): s for s in KillSwitch.objects.engaged()}
    agents = list(visible_agents(by).select_related("active_release"))
    maker = _Maker(by, standing, list(ApprovalRequest.objects.open().values_list("agent", "action")))
    everything = maker.make(
        Scope.EVERYTHING, "", (SwitchEffect.PAUSE_RUNS, SwitchEffect.WRITES_OFF, SwitchEffect.FORCE_REVIEW)
    )
    agent_lines = [_agent_line(maker, agent) for agent in agents]
    tool_lines = [
        _tool_line(maker, name, users) for name, users in sorted(_tools(agents, standing).items(), key=lambda t: t[0])
    ]
    active = [maker.one(Scope(scope), SwitchEffect(effect), target) for scope, effect, target in standing]
    return Board(active, everything, agent_lines, _server_lines(maker, agents), tool_lines)


def of_agent(by: Actor, agent: Agent) -> list[Control]:
    """The switches of one agent, for its own page, in two queries."""
    standing = KillSwitch.objects.engaged().filter(scope=Scope.AGENT, target=agent.slug)
    waiting = list(ApprovalRequest.objects.open().filter(agent=agent.slug).values_list("agent", "action"))
    maker = _Maker(by, {(s.scope, s.effect, s.target): s for s in standing}, waiting)
    return maker.make(Scope.AGENT, agent.slug, AGENT_EFFECTS)


def of_server(by: Actor, name: str) -> list[Control]:
    """The switches of one MCP server, for its own page, in two queries."""
    standing = KillSwitch.objects.engaged().filter(scope=Scope.SERVER, target=name)
    waiting = list(
        ApprovalRequest.objects.open().filter(action__startswith=name + SERVER_MARK).values_list("agent", "action")
    )
    maker = _Maker(by, {(s.scope, s.effect, s.target): s for s in standing}, waiting)
    return maker.make(Scope.SERVER, name, SERVER_EFFECTS)


def visible_agents(by: Actor) -> QuerySet[Agent]:
    allowed = by.agents("releases.read")
    agents = Agent.objects.all()
    return agents if allowed is None else agents.filter(slug__in=allowed)


class _Maker:
    def __init__(self, by: Actor, standing: Mapping[Key, KillSwitch], waiting: list[tuple[str, str]]) -> None:
        self.by, self.standing, self.waiting = by, standing, waiting

    def make(self, scope: Scope, target: str, effects: Iterable[SwitchEffect]) -> list[Control]:
        return [self.one(scope, effect, target) for effect in effects]

    def one(self, scope: Scope, effect: SwitchEffect, target: str) -> Control:
        return Control(
            scope=scope,
            effect=effect,
            target=target,
            words=WORDS[effect],
            standing=self.standing.get((scope, effect, target)),
            waiting=sum(self._is_behind(scope, target, agent, action) for agent, action in self.waiting),
            why_not_engage=self._why_not("switches.engage", scope, target),
            why_not_lift=self._why_not("switches.lift", scope, target),
        )

    def _why_not(self, permission: str, scope: Scope, target: str) -> str:
        if switches.may(self.by, permission, scope, target):
            return ""
        if self.by.may(permission):
            return "This reaches beyond the agents you are responsible for. Ask an operator of all agents."
        return refusal(permission)

    @staticmethod
    def _is_behind(scope: Scope, target: str, agent: str, action: str) -> bool:
        if scope == Scope.SERVER:
            return action.startswith(target + SERVER_MARK)
        return scope == Scope.EVERYTHING or target == (agent if scope == Scope.AGENT else action)


def _agent_line(maker: _Maker, agent: Agent) -> Line:
    release = agent.active_release
    about = f"Release {release.version}, {len(release.bundle.tools)} tools" if release else "No active release"
    return Line(agent.name, about, agent.get_absolute_url(), False, maker.make(Scope.AGENT, agent.slug, AGENT_EFFECTS))


def _tools(agents: Iterable[Agent], standing: Mapping[Key, KillSwitch]) -> dict[str, list[tuple[Agent, ToolManifest]]]:
    """Every tool of an active release with the agents that have it, and every tool that a switch names."""
    found: dict[str, list[tuple[Agent, ToolManifest]]] = {t: [] for scope, _, t in standing if scope == Scope.TOOL}
    for agent in agents:
        for tool in agent.active_release.bundle.tools if agent.active_release else ():
            found.setdefault(tool.name, []).append((agent, tool))
    return found


def _server_lines(maker: _Maker, agents: Iterable[Agent]) -> list[Line]:
    """Every MCP server that an active release names, and every one that a switch names."""
    found: dict[str, set[str]] = {target: set() for scope, _, target in maker.standing if scope == Scope.SERVER}
    for agent in agents:
        for tool in agent.active_release.bundle.tools if agent.active_release else ():
            if tool.server:
                found.setdefault(tool.server, set()).add(agent.name)
    return [
        Line(
            name,
            f"Its tools are used by {', '.join(sorted(users))}" if users else "No active release has its tools",
            "",
            True,
            maker.make(Scope.SERVER, name, SERVER_EFFECTS),
        )
        for name, users in sorted(found.items())
    ]


def _tool_line(maker: _Maker, name: str, users: list[tuple[Agent, ToolManifest]]) -> Line:
    effects = [SwitchEffect.DISABLE_TOOL]
    if any(tool.is_write for _, tool in users) or not users:
        effects.append(SwitchEffect.FORCE_REVIEW)
    who = ", ".join(agent.name for agent, _ in users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
    does = sentences.EFFECTS[users[0][1].effect].capitalize() if users else ""
    about = f"{does}. Used by {who}" if users else "No active release has it"
    return Line(name, about, "", True, maker.make(Scope.TOOL, name, effects))
