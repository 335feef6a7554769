"""Kill switches: engage, lift, and the SQL that lets the starting statement itself ask.

A call's intent is committed by a statement that contains BLOCKING_SQL, in a transaction that holds the shared
side of SWITCH_LOCK; engaging takes the exclusive side. So an intent is either committed before the switch or
sees it: no call starts after the switch's commit, and no cache stands between.
"""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.utils.timezone import now

from approvals import requests
from console import audit, live, problems
from console.actors import Actor
from releases.models import KillSwitch, SwitchEpoch
from releases.policies.switching import Engaged
from releases.states import EFFECTS_OF_SCOPE, Scope, SwitchEffect

SWITCH_LOCK = 0x5D50

# Parameters: agent slug, tool name, whether the call writes. Yields the id of a switch that stops the call.
BLOCKING_SQL = """
    SELECT id FROM releases_killswitch
    WHERE lifted_at IS NULL
      AND (scope = 'everything' OR (scope = 'agent' AND target = %(agent)s) OR (scope = 'tool' AND target = %(tool)s))
      AND (effect = 'disable_tool' OR (effect = 'writes_off' AND %(is_write)s))
    ORDER BY effect LIMIT 1
"""


def pausing_sql(agent: str) -> str:
    """Yields a row when new runs of the agent are paused. `agent` is an SQL expression for its slug."""
    return f"""
        SELECT id FROM releases_killswitch
        WHERE lifted_at IS NULL AND effect = 'pause_runs'
          AND (scope = 'everything' OR (scope = 'agent' AND target = {agent}))
        LIMIT 1
    """


@transaction.atomic
def engage(scope: Scope, effect: SwitchEffect, target: str, *, by: Actor, reason: str) -> KillSwitch:
    """Stop something in one commit. Engaging an engaged switch changes nothing.

    Raises:
        problems.Forbidden: this actor may not pull switches here.
        problems.Invalid: the effect does not exist in this scope, or the target is missing.
    """
    _may(by, "switches.engage", scope, target)
    if effect not in EFFECTS_OF_SCOPE[scope] or (scope == Scope.EVERYTHING) == bool(target):
        raise problems.Invalid(f"There is no switch {effect} for {scope} {target!r}.")
    _lock()
    standing = KillSwitch.objects.engaged().filter(scope=scope, effect=effect, target=target).first()
    if standing:
        return standing

    switch = KillSwitch.objects.create(
        scope=scope,
        effect=effect,
        target=target,
        reason=reason.strip() or "No reason given yet.",
        epoch=_next_epoch(),
        engaged_by_id=by.id,
        engaged_by_label=by.label,
    )
    if effect in (SwitchEffect.DISABLE_TOOL, SwitchEffect.WRITES_OFF):
        requests.freeze(**_approvals_behind(switch), by=by, reason=f"{switch.title}: {switch.reason}")
    audit.record(by, "switch.engage", switch, reason=switch.reason, changes={"state": ["on", "off"]})
    live.announce("switches")
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
    switch.lift_reason = reason.strip()
    switch.save(update_fields=["lifted_at", "lifted_by_label", "lift_reason"])
    _next_epoch()
    if switch.effect in (SwitchEffect.DISABLE_TOOL, SwitchEffect.WRITES_OFF):
        requests.thaw(**_approvals_behind(switch), by=by, reason=reason)
    audit.record(by, "switch.lift", switch, reason=reason, changes={"state": ["off", "on"]})
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


def _may(by: Actor, permission: str, scope: Scope, target: str) -> None:
    """A switch over everything, or over a tool that several agents use, needs the right on every agent."""
    allowed = by.may(permission, agent=target) if scope == Scope.AGENT else by.agents(permission) is None
    if not allowed:
        raise problems.Forbidden(f"You may not {permission.replace('switches.', '')} this switch. Ask an operator.")


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SWITCH_LOCK])


def _next_epoch() -> int:
    row, _ = SwitchEpoch.objects.select_for_update().get_or_create(pk=1)
    row.epoch += 1
    row.changed_at = now()
    row.save(update_fields=["epoch", "changed_at"])
    return row.epoch


def _approvals_behind(switch: KillSwitch) -> dict[str, str | None]:
    return {
        "action": switch.target if switch.scope == Scope.TOOL else None,
        "agent": switch.target if switch.scope == Scope.AGENT else None,
    }
