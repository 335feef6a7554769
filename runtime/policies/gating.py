"""The gate: whether a proposed call may start, in one fixed order. The first refusal wins.

kill switch -> release allow-list -> write tools enabled -> identity -> schema -> secrets -> budgets and loop guard
-> content: guardrails over the arguments (refuse) -> unlabelled or destructive (ask) -> provenance (ask) -> content
(ask) -> forced review (ask) -> the operator's rules (refuse, ask, allow) -> allow. No rule of an operator allows what
provenance asks about: of several that ask, the strictest does.
A rule that is only logged changes no verdict; what it would have come to goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from console.actors import EVERY_SCOPE
from console.principals import NOBODY, Principal
from releases.bundles import Budgets, Bundle, ToolManifest
from releases.policies import ruleoftwo, switching
from releases.policies.switching import Engaged
from releases.policies.variables import Circumstances, Totals
from runtime.policies import budgeting, provenance, ruling
from runtime.policies.budgeting import Exhausted, Spent
from runtime.policies.looping import Loop
from runtime.policies.provenance import Knowledge, Labels, Unjustified
from runtime.policies.ruling import Applied, Held
from runtime.states import RunStatus

RISKS = ("low", "medium", "high")
# How a finding that does not let the call pass ends the run; empty where the run goes on.
CONTENT_ENDS = {"refuse": "", "stop": RunStatus.REFUSED, "escalate": RunStatus.ESCALATED}


@dataclass(frozen=True)
class Content:
    """What a guardrail has found in the arguments, and what is to follow: flag, redact, ask, refuse, stop, escalate."""

    rule: str
    version: str
    check: str
    finding: str
    then: str
    risk: str = "medium"
    evidence: tuple[str, ...] = ()


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
    tainted: bool = False  # whatever `known` says
    thread_id: str = ""
    now: datetime | None = None
    totals: Totals | None = None  # of the tool today; read only where its rules ask for them
    content: tuple[Content, ...] = ()  # what guardrails have found in the arguments


@dataclass(frozen=True)
class Allow:
    rule: str = "default"
    reason: str = ""
    is_reviewed: bool = False  # because a person approved it
    origins: provenance.Verdict | None = None  # once the run is tainted: where the values come from
    rules: tuple[Applied, ...] = ()  # rules of the operator that held


@dataclass(frozen=True)
class Refuse:
    rule: str
    reason: str
    switch_id: str = ""
    ends_run: bool = False  # a budget is used up: no further call can pass either
    rules: tuple[Applied, ...] = ()
    ends: str = ""  # the status that it ends the run with; left out: failed
    content: tuple[Content, ...] = ()


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
    approvals_needed: int = 1  # different people
    ask_roles: tuple[str, ...] = ()  # who decides; empty: whoever may
    rules: tuple[Applied, ...] = ()
    content: tuple[Content, ...] = ()  # what guardrails have found, whoever asks


Verdict = Allow | Refuse | Ask


def decide_call(facts: Facts) -> Verdict:
    """Judge one proposed call. A reviewed call is never asked about again, but every refusal still holds."""
    manifest = facts.bundle.toolset.get(facts.tool)
    refusal = (
        _switched_off(facts, manifest)
        or _not_in_release(facts, manifest)
        or (manifest and (_not_permitted(facts, manifest) or _malformed(facts)))
        or _over_budget(facts)
        or _by_content(facts)
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


def _by_content(facts: Facts) -> Refuse | None:
    found = next((one for one in facts.content if one.then in CONTENT_ENDS), None)
    if found is None:
        return None
    ends = CONTENT_ENDS[found.then]
    return Refuse(f"guardrail:{found.rule}", found.finding, ends_run=bool(ends), ends=ends, content=(found,))


def _by_rules(facts: Facts, manifest: ToolManifest) -> Verdict:
    found = ruling.held(facts.bundle.rules, manifest, facts.arguments or {}, _around(facts))
    in_force = [one for one in found if one.rule.mode == "enforce"]
    origins = None if facts.reviewed else _origins(facts)
    verdict = _with(in_force, facts, manifest, origins)
    if not found:
        return verdict
    applied = []
    for one in found:
        is_log = one.rule.mode == "log"
        would = _with([*in_force, one], facts, manifest, origins) if is_log else verdict
        changes = is_log and kind(would) != kind(verdict)
        applied.append(Applied(one.rule.id, one.rule.version, kind(would), is_log, changes, one.error))
    return replace(verdict, rules=tuple(applied))


def kind(verdict: Verdict) -> str:
    """In one word: allow, ask, refuse."""
    return type(verdict).__name__.lower()


def _around(facts: Facts) -> Circumstances:
    return Circumstances(
        agent=facts.agent,
        principal=facts.principal,
        scopes=facts.scopes,
        thread_id=facts.thread_id,
        tainted=facts.tainted or (facts.known is not None and facts.known.is_tainted),
        approvals=facts.approvals,
        tool_calls=facts.spent.tool_calls,
        now=facts.now,
        totals=facts.totals,
    )


def _with(rules: list[Held], facts: Facts, manifest: ToolManifest, origins: provenance.Verdict | None) -> Verdict:
    """The verdict when these rules, which hold, are in force."""
    refusing = next((one for one in rules if one.rule.then == "refuse"), None)
    if refusing:
        return Refuse(f"rule:{refusing.rule.id}", refusing.reason)
    if facts.reviewed:
        return Allow("approved", is_reviewed=True)
    asking = _strictest(facts, manifest, rules, origins)
    if asking is None:
        allowing = next((one.rule for one in rules if one.rule.then == "allow"), None)
        if allowing:
            return Allow(f"rule:{allowing.id}", allowing.reason, origins=origins)
        return Allow(origins=origins)
    if facts.approvals >= facts.budgets.max_approvals:
        return Refuse(
            "budget:max_approvals", f"This run has asked people {facts.approvals} times already.", ends_run=True
        )
    return replace(asking, origins=origins, content=facts.content)


def _origins(facts: Facts) -> provenance.Verdict | None:
    """Where the values of a write come from, as soon as an outsider may have had a say in it."""
    if facts.known is None or facts.labels is None or not facts.known.is_tainted:
        return None
    verdict = provenance.decide(facts.known, facts.labels, facts.arguments or {})
    return None if verdict.rule == "read" else verdict


def _strictest(
    facts: Facts, manifest: ToolManifest, rules: list[Held], origins: provenance.Verdict | None
) -> Ask | None:
    """Of all that want people asked, the one with the highest risk; with four eyes if any of them wants that.

    As many people are asked as any of them wants, and only those whom all of them accept. Where nobody is accepted by
    all, whom the strictest one accepts.
    """
    minutes = facts.bundle.approval_minutes
    asks = [_asking(one) for one in rules if one.rule.then == "ask"]
    if not manifest.labelled:
        asks.append(Ask("unlabelled", "1", "Nobody has reviewed what this tool can do.", "high", minutes))
    if manifest.effect == "destructive":
        asks.append(Ask("destructive", "1", "This cannot be undone.", "high", minutes))
    if isinstance(origins, Unjustified) and _is_enforced(facts.bundle) and not asks_alone(origins):
        asks.append(Ask(origins.rule, "1", origins.reason, "high", minutes))
    asks += [
        Ask(f"guardrail:{one.rule}", one.version, one.finding, one.risk, minutes)
        for one in facts.content
        if one.then == "ask"
    ]
    switch = switching.decide_review(facts.switches, agent=facts.agent, tool=facts.tool)
    if manifest.is_write and (switch or facts.bundle.force_human_review):
        why = f"{switch.title}. {switch.reason}" if switch else "This release sends every write to a person."
        asks.append(Ask("forced-review", "1", why, "medium", minutes))
    if not asks:
        return None
    strictest = max(asks, key=_weight)
    return replace(
        strictest,
        four_eyes=any(ask.four_eyes for ask in asks),
        approvals_needed=max(ask.approvals_needed for ask in asks),
        ask_roles=_accepted([ask for ask in asks if ask.ask_roles]),
    )


def _weight(ask: Ask) -> tuple[int, int, bool]:
    return RISKS.index(ask.risk), ask.approvals_needed, ask.four_eyes


def _accepted(asks: list[Ask]) -> tuple[str, ...]:
    """The roles that all of them accept; where there are none, those of the strictest. Empty only without asks."""
    if not asks:
        return ()
    common = set.intersection(*(set(ask.ask_roles) for ask in asks))
    return tuple(sorted(common or set(max(asks, key=_weight).ask_roles)))


def _asking(one: Held) -> Ask:
    rule = one.rule
    return Ask(
        f"rule:{rule.id}",
        rule.version,
        one.reason,
        rule.risk,
        rule.due_minutes,
        rule.four_eyes,
        one.conditions,
        approvals_needed=rule.approvals_needed,
        ask_roles=tuple(sorted(rule.ask_roles)),
    )


def _is_enforced(bundle: Bundle) -> bool:
    """Whether a call on nobody's word asks. To note it is enough only where the Rule of Two holds without a person."""
    return bundle.provenance == "enforce" or ruleoftwo.judge(bundle).is_open


def asks_alone(origins: Unjustified) -> bool:
    """Whether the gate asks about this anyway, tainted or not."""
    return origins.rule in ("unlabelled", "destructive")
