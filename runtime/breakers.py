"""Circuit breakers as people see and turn them: hold one open, close it again. Workers open them: see circuits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.timezone import now

from console import audit, live, problems, redact
from console.access import refusal
from console.actors import Actor
from releases import controls
from releases.bundles import Bundle
from releases.models import Agent, Release
from runtime import circuits
from runtime.models import Breaker
from runtime.states import BreakerKind, BreakerState

LONGEST_REASON = 2000
MOST_RELEASES = 200
# state -> tone, icon, word
BADGES = {
    BreakerState.CLOSED: ("ok", "check", "Works"),
    BreakerState.OPEN: ("bad", "unplug", "Out of order"),
    BreakerState.HALF_OPEN: ("warn", "loader", "Being tried"),
    BreakerState.HELD: ("warn", "hand", "Held open"),
}


@transaction.atomic
def hold(kind: BreakerKind, name: str, *, by: Actor, reason: str) -> Breaker:
    """Keep it open until a person closes it, whatever probes would say. Holding a held one changes nothing.

    Raises:
        problems.Forbidden: this actor may not turn breakers, or only on some agents.
        problems.Invalid: no release has such a tool or model, or the reason is missing.
    """
    _may(by)
    reason = _reason(reason)
    if not _exists(kind, name):
        raise problems.Invalid(f"There is no {kind} {name[:60]!r} in any release. Check the spelling.")
    Breaker.objects.get_or_create(kind=kind, name=name)
    breaker = Breaker.objects.select_for_update().get(kind=kind, name=name)
    if breaker.state == BreakerState.HELD:
        return breaker

    moment, before = now(), breaker.state
    breaker.opened_at = moment if before == BreakerState.CLOSED else breaker.opened_at
    breaker.open_until = breaker.probe_until = None
    return _turned(breaker, BreakerState.HELD, moment, by=by, action="breaker.hold", reason=reason)


@transaction.atomic
def close(kind: BreakerKind, name: str, *, by: Actor, reason: str) -> Breaker:
    """Let calls pass again at once, and forget how often it opened. Closing a closed one changes nothing.

    Raises:
        Breaker.DoesNotExist: it never opened.
        problems.Forbidden, problems.Invalid: as for `hold`.
    """
    _may(by)
    reason = _reason(reason)
    breaker = Breaker.objects.select_for_update().get(kind=kind, name=name)
    if breaker.state == BreakerState.CLOSED:
        return breaker

    breaker.openings = 0
    breaker.open_until = breaker.probe_until = None
    return _turned(breaker, BreakerState.CLOSED, now(), by=by, action="breaker.close", reason=reason)


def _turned(breaker: Breaker, after: BreakerState, moment: datetime, *, by: Actor, action: str, reason: str) -> Breaker:
    before = breaker.state
    breaker.state = after
    breaker.probe_by = ""
    breaker.reason = reason
    breaker.changed_by_label = by.label
    breaker.changed_at = moment
    breaker.save()
    audit.record(by, action, breaker, reason=reason, changes={"state": [before, after]})
    live.announce(circuits.TOPIC)
    return breaker


def why_not(by: Actor) -> str:
    """Why this actor may not turn a breaker; empty when they may. A tool and a model serve many agents."""
    if by.agents("breakers.set") is None:
        return ""
    if by.may("breakers.set"):
        return "Tools and models serve agents beyond those you are responsible for. Ask an operator of all agents."
    return refusal("breakers.set")


@dataclass(frozen=True)
class Line:
    """A tool or a model with its breaker, as the page shows it."""

    kind: BreakerKind
    name: str
    used_by: str
    breaker: Breaker | None

    @property
    def state(self) -> BreakerState:
        return BreakerState(self.breaker.state) if self.breaker else BreakerState.CLOSED

    @property
    def badge(self) -> tuple[str, str, str]:
        return BADGES[self.state]

    @property
    def is_closed(self) -> bool:
        return self.state == BreakerState.CLOSED

    @property
    def is_due(self) -> bool:
        """Whether the next call becomes the probe."""
        until = self.breaker.open_until if self.breaker and self.state == BreakerState.OPEN else None
        return until is not None and until <= now()

    @property
    def key(self) -> str:
        """For ids in the page; names hold dots, slashes and spaces."""
        return f"{self.kind}-{self.name.encode().hex()[:40]}-{len(self.name)}"


@dataclass(frozen=True)
class Board:
    tools: list[Line]
    models: list[Line]
    open: int
    why_not: str


def board(by: Actor) -> Board:
    """Every tool and model of active releases, and every breaker that is not closed, in two queries."""
    agents = list(controls.visible_agents(by).select_related("active_release"))
    rows = {(BreakerKind(row.kind), row.name): row for row in Breaker.objects.all()}
    users = _users(agents)
    if by.agents("breakers.read") is None:  # what only older releases use is nobody's in particular
        users = {**{key: "Not in an active release" for key, row in rows.items() if _is_open(row)}, **users}
    lines = [Line(kind, name, who, rows.get((kind, name))) for (kind, name), who in sorted(users.items())]
    return Board(
        tools=[line for line in lines if line.kind == BreakerKind.TOOL],
        models=[line for line in lines if line.kind == BreakerKind.MODEL],
        open=sum(not line.is_closed for line in lines),
        why_not=why_not(by),
    )


def open_now(by: Actor) -> list[Breaker]:
    """Those that refuse calls, of what this actor may see. One query while there is none."""
    found = list(Breaker.objects.exclude(state=BreakerState.CLOSED))
    if not found or by.agents("breakers.read") is None:
        return found
    seen = _users(controls.visible_agents(by).select_related("active_release"))
    return [breaker for breaker in found if (BreakerKind(breaker.kind), breaker.name) in seen]


def _users(agents: Iterable[Agent]) -> dict[tuple[BreakerKind, str], str]:
    """Who uses what, as words."""
    found: dict[tuple[BreakerKind, str], list[str]] = {}
    for agent in agents:
        for key in _used(agent.active_release.bundle) if agent.active_release else ():
            found.setdefault(key, []).append(agent.name)
    return {key: _named(names) for key, names in found.items()}


def _used(bundle: Bundle) -> Iterable[tuple[BreakerKind, str]]:
    if not circuits.watches(bundle.model):
        return
    for tool in bundle.tools:
        yield BreakerKind.TOOL, tool.name
    for spec in filter(None, (bundle.model, bundle.fallback_model)):
        yield BreakerKind.MODEL, circuits.model_name(spec)


def _named(names: list[str]) -> str:
    return "Used by " + ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_open(breaker: Breaker) -> bool:
    return breaker.state != BreakerState.CLOSED


def _exists(kind: BreakerKind, name: str) -> bool:
    """Tools and models count from any release, because runs under way keep theirs."""
    if Breaker.objects.filter(kind=kind, name=name).exists():
        return True
    if kind == BreakerKind.TOOL:
        return Release.objects.filter(content__tools__contains=[{"name": name}]).exists()
    newest = Release.objects.order_by("-created_at")[:MOST_RELEASES]
    return any((kind, name) in set(_used(release.bundle)) for release in newest)


def _may(by: Actor) -> None:
    if why := why_not(by):
        raise problems.Forbidden(why)


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise problems.Invalid("Say why. It is kept in the audit log.", errors={"reason": "Say why."})
    return redact.text(reason[:LONGEST_REASON])


def parse(posted: Mapping[str, str]) -> tuple[BreakerKind, str]:
    """Which breaker a form means.

    Raises:
        problems.Invalid: it names none.
    """
    try:
        kind = BreakerKind(posted.get("kind", ""))
    except ValueError as wrong:
        raise problems.Invalid("Say whether it is a tool or a model.") from wrong
    name = posted.get("name", "")
    if not name or len(name) > 200 or "\0" in name:
        raise problems.Invalid("Say which tool or model it is.")
    return kind, name
