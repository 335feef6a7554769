"""What engaged kill switches mean for one call or one new run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from releases.states import SERVER_MARK, Scope, SwitchEffect


@dataclass(frozen=True)
class Engaged:
    """An engaged switch, as far as deciding goes."""

    id: str
    scope: Scope
    effect: SwitchEffect
    target: str
    title: str
    reason: str


def covers(switch: Engaged, *, agent: str, tool: str | None = None) -> bool:
    if switch.scope == Scope.EVERYTHING:
        return True
    if switch.scope == Scope.AGENT:
        return switch.target == agent
    if switch.scope == Scope.SERVER:
        return tool is not None and tool.startswith(switch.target + SERVER_MARK)
    return tool is not None and switch.target == tool


def decide_start(switches: Iterable[Engaged], *, agent: str) -> Engaged | None:
    """The switch that stops a new run of this agent, if any."""
    return _first(switches, SwitchEffect.PAUSE_RUNS, agent=agent, tool=None)


def decide_call(switches: Iterable[Engaged], *, agent: str, tool: str, is_write: bool) -> Engaged | None:
    """The switch that stops a call, if any. A disabled tool is named before a general stop of writes."""
    found = list(switches)
    disabled = _first(found, SwitchEffect.DISABLE_TOOL, agent=agent, tool=tool)
    if disabled is None and is_write:
        return _first(found, SwitchEffect.WRITES_OFF, agent=agent, tool=tool)
    return disabled


def decide_review(switches: Iterable[Engaged], *, agent: str, tool: str) -> Engaged | None:
    """The switch that makes a write ask a person, if any."""
    return _first(switches, SwitchEffect.FORCE_REVIEW, agent=agent, tool=tool)


def _first(switches: Iterable[Engaged], effect: SwitchEffect, *, agent: str, tool: str | None) -> Engaged | None:
    return next((s for s in switches if s.effect == effect and covers(s, agent=agent, tool=tool)), None)
