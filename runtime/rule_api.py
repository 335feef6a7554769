"""Entry points for programs that write rules: try one on past calls, store it in a new release."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Router, Schema
from pydantic import Field

from console import envelope, ids
from console.access import Request
from console.bearer import Token
from releases import rulebooks
from releases.bundles import Name
from releases.models import Release
from runtime import backtests, cards, masking

router = Router(tags=["Agents and releases"])

MOST_LISTED = 200


class TryIn(envelope.Body):
    rule: dict[str, Any] = Field(description="As in the bundle; see the reference of the bundle")
    calls: int = Field(backtests.USUAL_CALLS, ge=1, le=backtests.MOST_CALLS, description="Past calls to look at")


class RuleIn(envelope.Body):
    rule: dict[str, Any] = Field(description="As in the bundle. One of the same id is replaced")
    version: Name = Field(description="Label of the new release")
    note: str = Field("", max_length=500)


class ChangeOut(Schema):
    was: str
    would_be: str
    calls: int


class MatchOut(Schema):
    """A past call for which the rule holds."""

    run_id: str
    step_id: str
    at: datetime
    title: str
    was: str = Field(description="allow, ask or refuse: its verdict then")
    would_be: str
    error: str = Field(description="Why the condition could not be evaluated; it then counts as holding")


class TriedOut(Schema):
    examined: int
    matched: int
    failed: int = Field(description="Matches only because the condition could not be evaluated")
    changed: list[ChangeOut]
    since: datetime | None = Field(description="Time of the oldest call that was looked at")
    is_cut: bool = Field(description="There are older calls")
    matches: list[MatchOut] = Field(description=f"Newest first, at most {MOST_LISTED}; needs runs.read")


class MadeOut(Schema):
    release_id: str
    version: str
    digest: str


@router.post("/releases/{release_id}/rules/try", auth=Token("releases.create"), response=TriedOut)
def try_rule(request: Request, release_id: envelope.ReleaseId, body: TryIn) -> Any:
    """Say what a rule would have done about the newest calls of its tool. Nothing is stored."""
    release = _release(request, release_id)
    rule = rulebooks.rule_of(body.rule, release.bundle)
    tool = release.bundle.toolset[rule.tool]
    tried = backtests.attempt(rule, tool, release.agent, most=body.calls)
    shown = masking.masked_for(request.actor, release.agent.slug)
    report = tried.report
    may_see = request.actor.may("runs.read", agent=release.agent.slug)
    return {
        "examined": report.examined,
        "matched": report.matched,
        "failed": report.failed,
        "changed": [
            {"was": was, "would_be": to, "calls": count} for (was, to), count in sorted(report.changed.items())
        ],
        "since": tried.since,
        "is_cut": tried.is_cut,
        "matches": [
            {
                "run_id": ids.public("run", match.past.key.run_id),
                "step_id": ids.public("stp", match.past.key.step_id),
                "at": match.past.at,
                "title": shown(cards.title(tool, match.past.arguments)),
                "was": match.past.verdict,
                "would_be": match.would,
                "error": match.error,
            }
            for match in report.matches[: MOST_LISTED if may_see else 0]
        ],
    }


@router.post("/releases/{release_id}/rules", auth=Token("releases.create"), response=MadeOut)
def add_rule(request: Request, release_id: envelope.ReleaseId, body: RuleIn) -> Any:
    """Store a new release: this one with the rule. It answers no runs until it is made active."""
    release = _release(request, release_id)
    rule = rulebooks.rule_of(body.rule, release.bundle)
    made = rulebooks.with_rule(release, rule, version=body.version, by=request.actor, note=body.note)
    return {"release_id": made.public_id, "version": made.version, "digest": made.digest}


def _release(request: Request, release_id: Any) -> Release:
    allowed = request.actor.agents("releases.create")
    found = Release.objects.select_related("agent")
    return (found if allowed is None else found.filter(agent__slug__in=allowed)).get(pk=release_id)
