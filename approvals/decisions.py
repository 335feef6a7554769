"""What the decisions of a request come to: who has approved, what settled it, and whether that still counts."""

from __future__ import annotations

from collections.abc import Sequence

from approvals.models import ApprovalRequest, Decision
from approvals.policies import deciding
from approvals.states import OPEN, Verdict
from console import people


def outcome(request: ApprovalRequest) -> Decision | None:
    """The decision that settled the request; None while it is open, and where it ended without one."""
    last = request.decisions.last()
    if last is None or request.status in OPEN:
        return None
    is_whole = last.verdict != Verdict.APPROVE or deciding.is_approved(request.approvals_needed, approved_by(request))
    return last if is_whole else None


def deciders(request: ApprovalRequest) -> str:
    """Who has approved, in their order: `Ada and Ben`."""
    labels = list(request.decisions.filter(verdict=Verdict.APPROVE).order_by("pk").values_list("by_label", flat=True))
    return " and ".join([", ".join(labels[:-1]), labels[-1]]) if len(labels) > 1 else "".join(labels)


def lacking(request: ApprovalRequest) -> str:
    """What an expired request lacked: `Nobody decided`, or `Only 1 of 2 people approved`."""
    given = len(approved_by(request))
    return f"Only {given} of {request.approvals_needed} people approved" if given else "Nobody decided"


def approved_by(request: ApprovalRequest) -> frozenset[str]:
    """The different people who have approved."""
    approvals = request.decisions.filter(verdict=Verdict.APPROVE).values_list("person_id", "by_id")
    return frozenset(person or by for person, by in approvals)


def why_lapsed(request: ApprovalRequest, decisions: Sequence[Decision]) -> str:
    """Why an approval does not count any more at the moment its action is to be done; empty while it does.

    Every one of the people whose approval was needed must still have the right to it.
    """
    if not decisions or any(decision.verdict != Verdict.APPROVE for decision in decisions):
        return "It was not approved."
    approvers = frozenset(decision.person_id or decision.by_id for decision in decisions)
    if not deciding.is_approved(request.approvals_needed, approvers):
        return f"Only {len(approvers)} of {request.approvals_needed} people have approved it."
    for decision in decisions:
        if decision.at > request.due_at:
            return f"It was approved after its deadline of {request.due_at:%H:%M} UTC."
        if not _may_still(decision, request):
            return f"{decision.by_label} may not decide requests of {request.agent_name} any more."
    return ""


def _may_still(decision: Decision, request: ApprovalRequest) -> bool:
    if decision.by_kind == "system":
        return True
    actor = people.still(decision.by_kind, decision.by_id)
    if actor is None:
        return False
    has_role = not request.roles or any(actor.has_role(role, agent=request.agent) for role in request.roles)
    return actor.may("approvals.decide", agent=request.agent) and has_role
