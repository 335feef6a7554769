"""Kill switches: engage, lift, and the SQL that lets the starting statement itself ask.

A call's intent is committed by a statement that contains `blocking_sql`, which takes the shared side of SWITCH_LOCK
until that commit and only then looks; engaging takes the exclusive side. So an intent is either committed before the
switch or sees it: no call starts after the switch's commit, and no cache stands between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from console import audit, live, problems, redact
from console.actors import Actor
from releases.models import Agent, KillSwitch, Release, SwitchEpoch
from releases.policies import switching
from releases.policies.switching import Engaged
from releases.states import EFFECTS_OF_SCOPE, SERVER_MARK, Scope, SwitchEffect

# Taken before any row by whoever takes it: nobody waits for it while holding an approval request.
SWITCH_LOCK = 0x5D50
PAGE = "/switches/"
TOPIC = "switched"  # what workers listen to, to say at once that they have seen it; no page does
NO_REASON = "No reason given yet."
STOPPING = (SwitchEffect.DISABLE_TOOL, SwitchEffect.WRITES_OFF)
_servers: list[Callable[[str], bool]] = []


class _Behind(TypedDict):
    """Which approval requests a switch stops."""

    action: str | None
    agent: str | None
    prefix: str


def register_servers(is_known: Callable[[str], bool]) -> None:
    """Say who knows the names of MCP servers that no release names yet, in `apps.ready()`."""
    _servers.append(is_known)


def blocking_sql(agent: str, tool: str, is_write: str, is_reviewed: str) -> str:
    """An expression for the id of a switch that stops a call, or that wants a person asked about it first; else NULL.

    It takes the shared side of SWITCH_LOCK for the rest of the transaction, and looks only then. The arguments are
    SQL expressions: the agent's slug, the tool's name, whether the call writes, whether a person approved it. They come
    from our own code, never from outside.
    """
    return f"releases_blocking_switch({agent}, {tool}, {is_write}, {is_reviewed})"


def pausing_sql(agent: str) -> str:
    """Yields a row when new runs of the agent are paused. `agent` is an SQL expression for its slug."""
    # `agent` comes from our own code, never from outside.
    return f"""
        SELECT id FROM releases_killswitch
        WHERE lifted_at IS NULL AND effect = 'pause_runs'
          AND (scope = 'everything' OR (scope = 'agent' AND target = {agent}))
        LIMIT 1
    """  # noqa: S608


@transaction.atomic
def engage(scope: Scope, effect: SwitchEffect, target: str, *, by: Actor, reason: str) -> KillSwitch:
    """Stop something in one commit. Engaging an engaged switch changes nothing.

    Raises:
        problems.Forbidden: this actor may not pull switches here.
        problems.Invalid: the effect does not exist in this scope, or there is no such target.
    """
    _may(by, "switches.engage", scope, target)
    if effect not in EFFECTS_OF_SCOPE[scope] or (scope == Scope.EVERYTHING) == bool(target):
        raise problems.Invalid(f"There is no switch {effect} for {scope} {target[:60]!r}.")
    if not _exists(scope, target):
        raise problems.Invalid(
            f"There is no {scope} {target[:60]!r}. Check the spelling: a switch on a wrong name stops nothing."
        )
    _lock()
    standing = KillSwitch.objects.engaged().filter(scope=scope, effect=effect, target=target).first()
    if standing:
        return standing

    switch = KillSwitch.objects.create(
        scope=scope,
        effect=effect,
        target=target,
        reason=redact.text(reason.strip()) or NO_REASON,
        epoch=_next_epoch(),
        engaged_by_id=by.id,
        engaged_by_label=by.label,
    )
    if effect in STOPPING:
        requests.freeze(**_approvals_behind(switch), by=by, reason=_said(switch.title, switch.reason), url=PAGE)
    audit.record(by, "switch.engage", switch, reason=switch.reason, changes={"state": ["on", "off"]})
    live.announce("switches", TOPIC)
    return switch


@transaction.atomic
def lift(switch_id: UUID, *, by: Actor, reason: str, phrase: str) -> KillSwitch:
    """Allow it again. Raises the risk, so it needs the phrase typed out and a reason. Lifting twice is harmless.

    Raises:
        KillSwitch.DoesNotExist: no such switch.
        problems.Forbidden: this actor may not lift switches.
        problems.Invalid: the phrase or the reason is missing.
    """
    switch = KillSwitch.objects.get(pk=switch_id)
    _may(by, "switches.lift", Scope(switch.scope), switch.target)
    if phrase.strip().lower() != lift_phrase(switch):
        raise problems.Invalid(
            f"Type “{lift_phrase(switch)}” to confirm. The switch stays as it is.",
            errors={"phrase": f"Type {lift_phrase(switch)}."},
        )
    if not reason.strip():
        raise problems.Invalid("Say why it is safe again; it goes to the audit log.", errors={"reason": "Say why."})
    _lock()
    switch.refresh_from_db()
    if switch.lifted_at is not None:
        return switch

    switch.lifted_at = now()
    switch.lifted_by_label = by.label
    switch.lift_reason = redact.text(reason.strip())
    switch.save(update_fields=["lifted_at", "lifted_by_label", "lift_reason"])
    _next_epoch()
    if switch.effect in STOPPING:
        requests.thaw(**_approvals_behind(switch), by=by, reason=switch.lift_reason, still=_still_stopped(), url=PAGE)
    audit.record(by, "switch.lift", switch, reason=reason, changes={"state": ["off", "on"]})
    live.announce("switches", TOPIC)
    return switch


@transaction.atomic
def explain(switch_id: UUID, *, by: Actor, reason: str) -> KillSwitch:
    """Give the reason that was left out in the hurry of engaging.

    Raises:
        KillSwitch.DoesNotExist: no such switch.
        problems.Forbidden: this actor may not pull this switch.
        problems.Conflict: it has a reason already; reasons are not rewritten.
        problems.Invalid: the reason is empty.
    """
    switch = KillSwitch.objects.select_for_update().get(pk=switch_id)
    _may(by, "switches.engage", Scope(switch.scope), switch.target)
    if not reason.strip():
        raise problems.Invalid("Say why it was engaged.", errors={"reason": "Say why."})
    if switch.reason != NO_REASON:
        raise problems.Conflict("This switch has a reason already. What was written stays as it is.")
    switch.reason = redact.text(reason.strip())
    switch.save(update_fields=["reason"])
    audit.record(by, "switch.explain", switch, reason=switch.reason, changes={"reason": [NO_REASON, switch.reason]})
    live.announce("switches")
    return switch


def lift_phrase(switch: KillSwitch) -> str:
    """What must be typed before a switch is lifted."""
    return f"turn on {switch.target or 'everything'}".lower()


def engaged() -> list[Engaged]:
    """Every engaged switch, read from the database each time."""
    return [
        Engaged(str(s.pk), Scope(s.scope), SwitchEffect(s.effect), s.target, s.title, s.reason)
        for s in KillSwitch.objects.engaged()
    ]


def current_epoch() -> int:
    return SwitchEpoch.objects.filter(pk=1).values_list("epoch", flat=True).first() or 0


def count_blocked(switch_id: UUID) -> None:
    KillSwitch.objects.filter(pk=switch_id).update(blocked_calls=F("blocked_calls") + 1)


def may(by: Actor, permission: str, scope: Scope, target: str) -> bool:
    """A switch over everything, or over a tool that several agents use, needs the right on every agent."""
    return by.may(permission, agent=target) if scope == Scope.AGENT else by.agents(permission) is None


def _may(by: Actor, permission: str, scope: Scope, target: str) -> None:
    if not may(by, permission, scope, target):
        raise problems.Forbidden(f"You may not {permission.removeprefix('switches.')} this switch. Ask an operator.")


def _exists(scope: Scope, target: str) -> bool:
    """Tools count from any release, because runs under way keep theirs."""
    if scope == Scope.AGENT:
        return Agent.objects.filter(slug=target).exists()
    if scope == Scope.SERVER:
        named = Release.objects.filter(content__tools__contains=[{"server": target}]).exists()
        return named or any(is_known(target) for is_known in _servers)
    return scope == Scope.EVERYTHING or Release.objects.filter(content__tools__contains=[{"name": target}]).exists()


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SWITCH_LOCK])


def _next_epoch() -> int:
    row, _ = SwitchEpoch.objects.select_for_update().get_or_create(pk=1)
    row.epoch += 1
    row.changed_at = now()
    row.save(update_fields=["epoch", "changed_at"])
    return row.epoch


def _approvals_behind(switch: KillSwitch) -> _Behind:
    if switch.scope == Scope.SERVER:
        return {"action": None, "agent": None, "prefix": switch.target + SERVER_MARK}
    return {
        "prefix": "",
        "action": switch.target if switch.scope == Scope.TOOL else None,
        "agent": switch.target if switch.scope == Scope.AGENT else None,
    }


def _still_stopped() -> Callable[[ApprovalRequest], str]:
    """For each request, what other engaged switch stops it; what waits for a person counts as a write."""
    rest = engaged()

    def ask(request: ApprovalRequest) -> str:
        other = switching.decide_call(rest, agent=request.agent, tool=request.action, is_write=True)
        return _said(other.title, other.reason) if other else ""

    return ask


def _said(title: str, reason: str) -> str:
    return title if reason == NO_REASON else f"{title}. {reason}"
