"""The gate: whether a proposed call may start, in one fixed order. The first refusal wins.

kill switch -> release allow-list -> write tools enabled -> identity -> schema -> secrets -> budgets and loop guard
-> unlabelled or destructive (ask) -> provenance (ask) -> forced review (ask) -> the operator's rules (refuse, ask,
allow) -> allow. No rule of an operator allows what provenance asks about: of several that ask, the strictest does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from console.actors import EVERY_SCOPE
from console.principals import NOBODY, Principal
from releases.bundles import Budgets, Bundle, Rule, ToolManifest
from releases.policies import switching
from releases.policies.switching import Engaged
from runtime.policies import budgeting, conditions, provenance
from runtime.policies.budgeting import Exhausted, Spent
from runtime.policies.looping import Loop
from runtime.policies.provenance import Knowledge, Labels, Unjustified

RISKS = ("low", "medium", "high")


@dataclass(frozen=True)
class Facts:
    """All that is known about one call when it is judged."""

    tool: str
    bundle: Bundle
    agent: str
    switches: tuple[Engaged, ...]
    scopes: frozenset[str]
    arguments: Mapping[str, Any] | None  # canonical; None when the schema refused them
    schema_errors: Mapping[str, str]
    has_secret: bool
    spent: Spent
    budgets: Budgets
    repeats: int  # identical calls made before
    approvals: int  # persons asked so far in this run
    reviewed: bool = False  # a person approved exactly this call
    known: Knowledge | None = None  # what the run knows about the origin of values
    labels: Labels | None = None  # of the tool
    loop: Loop | None = None  # the same few calls were made again and again before
    principal: Principal = NOBODY  # for whom the run works: kind, id, attributes
    barred: str = ""  # why the member of staff it works for may do nothing with this agent any more


@dataclass(frozen=True)
class Allow:
    rule: str = "default"
    reason: str = ""
    is_reviewed: bool = False  # because a person approved it
    origins: provenance.Verdict | None = None  # once the run is tainted: where the values come from


@dataclass(frozen=True)
class Refuse:
    rule: str
    reason: str
    switch_id: str = ""
    ends_run: bool = False  # a budget is used up: no further call can pass either


@dataclass(frozen=True)
class Ask:
    rule: str
    version: str
    reason: str
    risk: str
    due_minutes: int
    four_eyes: bool = False
    conditions: tuple[str, ...] = ()
    origins: provenance.Verdict | None = None


Verdict = Allow | Refuse | Ask


def decide_call(facts: Facts) -> Verdict:
    """Judge one proposed call. A reviewed call is never asked about again, but every refusal still holds."""
    manifest = facts.bundle.toolset.get(facts.tool)
    refusal = (
        _switched_off(facts, manifest)
        or _not_in_release(facts, manifest)
        or (manifest and (_not_permitted(facts, manifest) or _malformed(facts)))
        or _over_budget(facts)
    )
    if refusal or manifest is None:
        return refusal or Refuse("release-tools", "The tool is not part of this release.")
    return _by_rules(facts, manifest)


def _switched_off(facts: Facts, manifest: ToolManifest | None) -> Refuse | None:
    is_write = manifest is None or manifest.is_write
    switch = switching.decide_call(facts.switches, agent=facts.agent, tool=facts.tool, is_write=is_write)
    if switch is None or manifest is None:
        return None
    return Refuse("kill_switch", f"Kill switch: {switch.title}. {switch.reason}", switch_id=switch.id)


def _not_in_release(facts: Facts, manifest: ToolManifest | None) -> Refuse | None:
    if manifest is None:
        known = ", ".join(sorted(facts.bundle.toolset)) or "none"
        return Refuse("release-tools", f"There is no tool {facts.tool[:80]!r} in this release. Tools: {known}.")
    if manifest.is_write and not facts.bundle.write_tools_enabled:
        return Refuse("write-tools-off", "Write tools are off in this release.")
    return None


def _not_permitted(facts: Facts, manifest: ToolManifest) -> Refuse | None:
    if facts.barred:
        return Refuse("principal-role", facts.barred)
    if not manifest.scope:
        return None
    if not {EVERY_SCOPE, manifest.scope} & facts.scopes:
        return Refuse("principal-scope", f"The person this run works for lacks the scope {manifest.scope}.")
    kind = facts.principal.kind
    of_kind = facts.bundle.principal_scopes.get(kind)
    if of_kind is not None and not {EVERY_SCOPE, manifest.scope} & set(of_kind):
        return Refuse("principal-kind", f"This release lets nobody of the kind {kind} use the scope {manifest.scope}.")
    return None


def _malformed(facts: Facts) -> Refuse | None:
    if facts.arguments is None:
        wrong = "; ".join(f"{place}: {text}" for place, text in facts.schema_errors.items())
        return Refuse("schema", f"The arguments do not fit the tool. {wrong}"[:1000])
    if facts.has_secret:
        return Refuse("secret-in-arguments", "The arguments contain what looks like a credential.")
    return None


def _over_budget(facts: Facts) -> Refuse | None:
    room = budgeting.decide_budget(facts.budgets, facts.spent, budgeting.A_TOOL_CALL)
    if isinstance(room, Exhausted):
        return Refuse(f"budget:{room.budget}", room.reason, ends_run=True)
    if facts.repeats >= facts.budgets.max_repeats:
        return Refuse(
            "loop-guard",
            f"The same call was made {facts.repeats} times already; the limit is {facts.budgets.max_repeats}.",
            ends_run=True,
        )
    if facts.loop is not None:
        return Refuse("loop-guard", f"{facts.loop.sentence}; the limit is {facts.budgets.max_repeats}.", ends_run=True)
    return None


def _by_rules(facts: Facts, manifest: ToolManifest) -> Verdict:
    matching = [rule for rule in facts.bundle.rules if rule.tool == facts.tool and _holds(rule, facts)]
    refusing = next((rule for rule in matching if rule.then == "refuse"), None)
    if refusing:
        return Refuse(f"rule:{refusing.id}", refusing.reason)
    if facts.reviewed:
        return Allow("approved", is_reviewed=True)
    origins = _origins(facts)
    asking = _strictest(facts, manifest, matching, origins)
    if asking is None:
        allowing = next((rule for rule in matching if rule.then == "allow"), None)
        if allowing:
            return Allow(f"rule:{allowing.id}", allowing.reason, origins=origins)
        return Allow(origins=origins)
    if facts.approvals >= facts.budgets.max_approvals:
        return Refuse(
            "budget:max_approvals", f"This run has asked people {facts.approvals} times already.", ends_run=True
        )
    return replace(asking, origins=origins)


def _origins(facts: Facts) -> provenance.Verdict | None:
    """Where the values of a write come from, as soon as an outsider may have had a say in it."""
    if facts.known is None or facts.labels is None or not facts.known.is_tainted:
        return None
    verdict = provenance.decide(facts.known, facts.labels, facts.arguments or {})
    return None if verdict.rule == "read" else verdict


def _strictest(
    facts: Facts, manifest: ToolManifest, matching: list[Rule], origins: provenance.Verdict | None
) -> Ask | None:
    """Of all that want a person asked, the one with the highest risk; with four eyes if any of them wants that."""
    minutes = facts.bundle.approval_minutes
    asks = [
        Ask(
            f"rule:{rule.id}",
            rule.version,
            rule.reason,
            rule.risk,
            rule.due_minutes,
            rule.four_eyes,
            tuple(conditions.sentence(condition) for condition in rule.when),
        )
        for rule in matching
        if rule.then == "ask"
    ]
    if not manifest.labelled:
        asks.append(Ask("unlabelled", "1", "Nobody has reviewed what this tool can do.", "high", minutes))
    if manifest.effect == "destructive":
        asks.append(Ask("destructive", "1", "This cannot be undone.", "high", minutes))
    if isinstance(origins, Unjustified) and facts.bundle.provenance == "enforce" and not asks_alone(origins):
        asks.append(Ask(origins.rule, "1", origins.reason, "high", minutes))
    switch = switching.decide_review(facts.switches, agent=facts.agent, tool=facts.tool)
    if manifest.is_write and (switch or facts.bundle.force_human_review):
        why = f"{switch.title}. {switch.reason}" if switch else "This release sends every write to a person."
        asks.append(Ask("forced-review", "1", why, "medium", minutes))
    if not asks:
        return None
    strictest = max(asks, key=lambda ask: (RISKS.index(ask.risk), ask.four_eyes))
    return replace(strictest, four_eyes=any(ask.four_eyes for ask in asks))


def asks_alone(origins: Unjustified) -> bool:
    """Whether the gate asks about this anyway, tainted or not."""
    return origins.rule in ("unlabelled", "destructive")


def _holds(rule: Rule, facts: Facts) -> bool:
    return all(conditions.holds(condition, facts.arguments or {}) for condition in rule.when)
