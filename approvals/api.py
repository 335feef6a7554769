"""Entry points for programs: read approval requests and decide them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from ninja import Query, Router, Schema
from pydantic import Field

from approvals import decisions, inbox, requests
from approvals.models import ApprovalRequest, Decision
from approvals.policies import deciding
from approvals.states import ApprovalStatus, Verdict
from console import envelope, problems, redact
from console.access import Request
from console.bearer import Token

router = Router(tags=["Approvals"])


class DecisionOut(Schema):
    verdict: Verdict
    reason: str
    arguments: dict[str, Any] = Field(description="The arguments as decided")
    edits: dict[str, Any] = Field(description="Argument to [proposed, decided]")
    by: str
    at: datetime


class ApprovalLine(Schema):
    """What is asked, in short."""

    approval_id: str
    status: ApprovalStatus
    version: int = Field(description="Send it back with the decision, so that you decide on what you read")
    title: str
    action: str
    agent: str
    release: str
    risk: str
    amount_usd: str | None
    subject_kind: str
    subject_url: str
    created_at: datetime
    due_at: datetime
    decided_at: datetime | None


class ApprovalOut(ApprovalLine):
    arguments: dict[str, Any] = Field(description="What would be executed, exactly")
    editable: list[str] = Field(description="Arguments that `edits` may change")
    answers: dict[Verdict, str] = Field(description="Verdicts that are offered, with the words on their buttons")
    rule: str
    rule_version: str
    why: str
    if_nobody_decides: str
    reversible: bool
    four_eyes: bool
    evidence: list[Any]
    approvals_needed: int = Field(description="How many different people must approve")
    approvals: list[DecisionOut] = Field(description="Who has approved so far")
    roles: list[str] = Field(description="Only people with one of these roles decide; empty: whoever may")
    decision: DecisionOut | None = Field(description="What settled it")
    may_decide: bool
    may_not_because: str


class ApprovalFilters(envelope.Filters):
    status: ApprovalStatus | None = None
    agent: str | None = Field(None, max_length=50)
    action: str | None = Field(None, max_length=120)
    risk: str | None = Field(None, pattern="^(low|medium|high)$")


class Decide(envelope.Body):
    verdict: Verdict
    reason: str = Field("", max_length=requests.LONGEST_REASON, description="Required unless you approve")
    edits: dict[str, Any] = Field({}, description="Argument to its new value; only when approving")
    version: int | None = Field(None, ge=1, description="version of the request you read; refused if it changed")


@router.get("/approvals", auth=Token("approvals.read"), response=envelope.Page[ApprovalLine])
def list_approvals(request: Request, filters: Query[ApprovalFilters]) -> Any:
    """Approval requests, newest first."""
    chosen = filters.model_dump(include={"status", "agent", "action", "risk"}, exclude_none=True)
    items, after = envelope.cut(_visible(request).filter(**chosen), filters)
    return {"items": [_line(inbox.masked(item, request.actor)) for item in items], "next_cursor": after}


@router.get("/approvals/{approval_id}", auth=Token("approvals.read"), response=ApprovalOut)
def get_approval(request: Request, approval_id: envelope.ApprovalId) -> Any:
    """One request with the exact arguments, why a person is asked, and whether this token may answer."""
    return _full(request, _visible(request).get(pk=approval_id))


@router.post("/approvals/{approval_id}/decision", auth=Token("approvals.decide"), response=ApprovalOut)
def decide_approval(request: Request, approval_id: envelope.ApprovalId, body: Decide) -> Any:
    """Give one of the request's answers: approve (with or without edits), reject, and where it offers it, give_up.

    The same decision again changes nothing. Where several people must approve, the request stays open until enough
    have; one rejection ends it.
    """
    if body.verdict != Verdict.APPROVE and body.edits:
        raise problems.Invalid("Edits belong to an approval.", errors={"edits": "Only with approve."})
    requests.decide(
        approval_id, body.verdict, by=request.actor, reason=body.reason, edits=body.edits, version=body.version
    )
    return _full(request, ApprovalRequest.objects.get(pk=approval_id))


def _visible(request: Request) -> QuerySet[ApprovalRequest]:
    return ApprovalRequest.objects.on_agents(request.actor.agents("approvals.read"))


def _line(item: ApprovalRequest) -> dict[str, Any]:
    return {
        "approval_id": item.public_id,
        "status": item.status,
        "version": item.version,
        "title": item.title,
        "action": item.action,
        "agent": item.agent,
        "release": item.release,
        "risk": item.risk,
        "amount_usd": _money(item.amount_usd),
        "subject_kind": item.subject_kind,
        "subject_url": item.subject_url,
        "created_at": item.created_at,
        "due_at": item.due_at,
        "decided_at": item.decided_at,
    }


def _full(request: Request, item: ApprovalRequest) -> dict[str, Any]:
    right = requests.right(item, by=request.actor)
    inbox.masked(item, request.actor)
    return {
        **_line(item),
        "arguments": item.arguments,
        "editable": item.editable,
        "answers": requests.answers(item),
        "rule": item.rule,
        "rule_version": item.rule_version,
        "why": item.why,
        "if_nobody_decides": item.if_nobody_decides,
        "reversible": item.reversible,
        "four_eyes": item.four_eyes,
        "evidence": item.evidence,
        "approvals_needed": item.approvals_needed,
        "approvals": [_decision(request, item, each) for each in item.decisions.filter(verdict=Verdict.APPROVE)],
        "roles": item.roles,
        "decision": _decision(request, item, decisions.outcome(item)),
        "may_decide": isinstance(right, deciding.MayDecide),
        "may_not_because": getattr(right, "reason", ""),
    }


def _decision(request: Request, item: ApprovalRequest, decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    works_on_it = request.actor.may("approvals.decide", agent=item.agent)
    told = {"reason": decision.reason, "arguments": decision.arguments, "edits": decision.edits}
    return {
        "verdict": decision.verdict,
        **(told if works_on_it else redact.personal(told)),
        "by": decision.by_label,
        "at": decision.at,
    }


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.2f}"
