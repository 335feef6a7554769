"""The verbs of an approval request: create, claim, decide, freeze, thaw, expire, void."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.timezone import now

from approvals import decisions, subjects
from approvals.models import ApprovalEvent, ApprovalRequest, Decision
from approvals.policies import deciding
from approvals.states import APPROVAL_MOVES, OPEN, ApprovalStatus, Verdict
from console import audit, live, people, problems, redact
from console.actors import Actor, system
from console.models import User
from console.states import move

CLAIM = timedelta(minutes=5)
LONGEST_REASON = 2000


def create(**fields: Any) -> ApprovalRequest:
    """Ask a person, inside the caller's transaction. One open request per subject: the second is refused."""
    request = ApprovalRequest.objects.create(**fields)
    _event(request, "created")
    announce(request)
    return request


@transaction.atomic
def claim(request_id: UUID, *, by: Actor, take_over: bool = False) -> ApprovalRequest:
    """Hold the request for five minutes, so that two people do not work on it at once.

    Claiming again renews. A request held by a colleague is left to them unless `take_over`, which is audited.

    Raises:
        ApprovalRequest.DoesNotExist: no such request, or not on an agent this actor may decide for.
        problems.Forbidden: a program asks, or somebody who cannot answer it: they would only keep others from it.
    """
    if not by.is_person:
        raise problems.Forbidden("Only a person can hold a request. A program decides without holding it first.")
    request = _visible(request_id, by, "approvals.decide")
    moment = now()
    other = request.claimed_until and request.claimed_until > moment and str(request.claimed_by_id) != by.id
    if request.status not in OPEN or (other and not take_over):
        return request
    if why := _why_never(request, by):
        raise problems.Forbidden(why)

    if not request.claimed_until or request.claimed_until <= moment or other:
        _event(request, "claimed", by=by)
    request.claimed_by = User.objects.get(pk=by.id)
    request.claimed_until = moment + CLAIM
    request.save(update_fields=["claimed_by", "claimed_until"])
    if other:
        audit.record(by, "approval.take_over", request, reason="Took the request over from a colleague.")
    announce(request)
    return request


@transaction.atomic
def decide(
    request_id: UUID,
    verdict: Verdict,
    *,
    by: Actor,
    reason: str,
    edits: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> Decision:
    """Answer the question and wake what waits for it, in one transaction.

    `edits` maps arguments to new values; they pass the tool's schema and the policy again. Deciding the same
    way a second time changes nothing. To give up is an answer only where the question offers it: see `answers`.
    Where several people must approve, all but the last approval leave the request open; one rejection ends it.

    Raises:
        ApprovalRequest.DoesNotExist: no such request, or not on an agent this actor may decide for.
        problems.Forbidden: this person may not decide it; says why.
        problems.Conflict: it was decided, expired, frozen or changed meanwhile.
        problems.Invalid: the edits or the reason cannot be used.
    """
    request = _visible(request_id, by, "approvals.decide")
    person = people.of(by)
    repeated = Decision.objects.filter(request=request, by_id=by.id, verdict=verdict).first()
    if repeated and not edits:
        return repeated
    _guard(request, by, version, verdict)
    if verdict not in answers(request):
        raise problems.Invalid(f"This request does not offer to {verdict.replace('_', ' ')}. Approve or reject it.")
    reason = _reason(verdict, reason)
    arguments = _decided_arguments(request, verdict, edits or {})

    decision = Decision.objects.create(
        request=request,
        verdict=verdict,
        arguments=arguments,
        edits=_edits(request.arguments, arguments),
        reason=reason,
        by_kind=by.kind,
        by_id=by.id,
        by_label=by.label,
        person_id=person,
    )
    given = decisions.approved_by(request)
    if verdict == Verdict.APPROVE and not deciding.is_approved(request.approvals_needed, given):
        return _voted(request, decision, len(given), by)
    after = ApprovalStatus.APPROVED if verdict == Verdict.APPROVE else ApprovalStatus.REJECTED
    _settle(request, after)
    _event(request, "decided", by=by, verdict=verdict, edits=decision.edits, reason=reason)
    subjects.handler(request.subject_kind).decided(request, decision)

    changes: dict[str, Any] = {"status": [ApprovalStatus.PENDING, after], **decision.edits}
    audit.record(by, f"approval.{verdict}", request, reason=reason, changes=changes)
    announce(request)
    return decision


def _voted(request: ApprovalRequest, decision: Decision, given: int, by: Actor) -> Decision:
    """One of several approvals: the request stays open, for somebody else to take."""
    request.claimed_by = request.claimed_until = None
    request.save(update_fields=["claimed_by", "claimed_until"])
    counted = f"{given} of {request.approvals_needed}"
    _event(request, "voted", by=by, verdict=decision.verdict, counted=counted, reason=decision.reason)
    changes = {"approvals": [f"{given - 1} of {request.approvals_needed}", counted]}
    audit.record(by, "approval.approve", request, reason=decision.reason, changes=changes)
    announce(request)
    return decision


def answers(request: ApprovalRequest) -> dict[Verdict, str]:
    """What may be answered, with the words on each button. A third answer is there only where it has words."""
    words = {Verdict.APPROVE: "Approve", Verdict.REJECT: "Reject"}
    return {**words, **{Verdict(name): str(word) for name, word in request.labels.items() if name in list(Verdict)}}


def right(
    request: ApprovalRequest, *, by: Actor, verdict: Verdict = Verdict.APPROVE
) -> deciding.MayDecide | deciding.MayNot:
    """Whether this actor may answer so now and, if not, why: what stands beside the buttons."""
    if not by.may("approvals.decide", agent=request.agent):
        return deciding.MayNot(f"Your role may not decide requests of {request.agent_name}. Ask a colleague who may.")
    return _may(request, by, None, verdict)


def expire_due(moment: datetime | None = None) -> int:
    """End every request whose deadline has passed; each in its own transaction. Returns how many."""
    moment = moment or now()
    due = ApprovalRequest.objects.filter(status=ApprovalStatus.PENDING, due_at__lte=moment)
    return sum(expire(key, moment=moment) for key in due.values_list("pk", flat=True)[:500])


@transaction.atomic
def expire(request_id: UUID, *, moment: datetime) -> bool:
    """End one request that nobody decided in time. False when it was decided meanwhile."""
    request = ApprovalRequest.objects.select_for_update().get(pk=request_id)
    if request.status != ApprovalStatus.PENDING or request.due_at > moment:
        return False
    _settle(request, ApprovalStatus.EXPIRED)
    _event(request, "expired")
    subjects.handler(request.subject_kind).ended(request)
    reason = f"{decisions.lacking(request)} by {request.due_at:%H:%M} UTC."
    audit.record(system("sweeper"), "approval.expire", request, reason=reason)
    announce(request)
    return True


@transaction.atomic
def void(subject_kind: str, subject_id: str, *, by: Actor, reason: str) -> ApprovalRequest | None:
    """Withdraw the open or just approved request of a subject: the facts it was bound to no longer hold."""
    request = (
        ApprovalRequest.objects.select_for_update()
        .filter(subject_kind=subject_kind, subject_id=subject_id, status__in=[*OPEN, ApprovalStatus.APPROVED])
        .first()
    )
    if request is None:
        return None
    before = request.status
    _settle(request, ApprovalStatus.VOID)
    _event(request, "voided", by=by, reason=reason)
    audit.record(by, "approval.void", request, reason=reason, changes={"status": [before, ApprovalStatus.VOID]})
    announce(request)
    return request


@transaction.atomic
def freeze(*, action: str | None, agent: str | None, by: Actor, reason: str, url: str = "", prefix: str = "") -> int:
    """Stop the clock of open requests for an action (or all of an agent's, or all). Returns how many.

    `prefix` is how the actions begin that are meant; `url` leads to what stops them.
    """
    moment, frozen = now(), 0
    for request in _matching(ApprovalStatus.PENDING, action, agent, prefix):
        request.left_when_frozen = max(request.due_at - moment, timedelta(minutes=1))
        request.status = move(APPROVAL_MOVES, ApprovalStatus(request.status), ApprovalStatus.FROZEN)
        request.version += 1
        request.save(update_fields=["left_when_frozen", "status", "version"])
        _event(request, "frozen", by=by, reason=reason, url=url)
        announce(request)
        frozen += 1
    return frozen


@transaction.atomic
def thaw(
    *,
    action: str | None,
    agent: str | None,
    by: Actor,
    reason: str,
    still: Callable[[ApprovalRequest], str] = lambda request: "",
    url: str = "",
    prefix: str = "",
) -> int:
    """Start the clock again with the time that was left. Returns how many.

    `still` says what else stops a request; one that it answers for stays frozen, with that as the new reason.
    """
    moment, thawed = now(), 0
    for request in _matching(ApprovalStatus.FROZEN, action, agent, prefix):
        other = still(request)
        if other:
            _event(request, "frozen", by=by, reason=other, url=url)
            announce(request)
            continue
        request.due_at = moment + (request.left_when_frozen or timedelta(minutes=1))
        request.left_when_frozen = None
        request.status = move(APPROVAL_MOVES, ApprovalStatus(request.status), ApprovalStatus.PENDING)
        request.version += 1
        request.save(update_fields=["due_at", "left_when_frozen", "status", "version"])
        _event(request, "thawed", by=by, reason=reason)
        announce(request)
        thawed += 1
    return thawed


def announce(request: ApprovalRequest) -> None:
    live.announce("approvals", f"approval:{request.public_id}")


def _matching(status: ApprovalStatus, action: str | None, agent: str | None, prefix: str) -> list[ApprovalRequest]:
    found = ApprovalRequest.objects.select_for_update().filter(status=status).order_by("pk")
    if action is not None:
        found = found.filter(action=action)
    if prefix:
        found = found.filter(action__startswith=prefix)
    if agent is not None:
        found = found.filter(agent=agent)
    return list(found)


def _visible(request_id: UUID, by: Actor, permission: str) -> ApprovalRequest:
    locked = ApprovalRequest.objects.select_for_update(of=("self",))
    return locked.on_agents(by.agents(permission)).get(pk=request_id)


def _may(
    request: ApprovalRequest, by: Actor, version: int | None, verdict: Verdict
) -> deciding.MayDecide | deciding.MayNot:
    held = frozenset(role for role in request.roles if by.has_role(role, agent=request.agent))
    return deciding.decide_right(
        _question(request), by=people.of(by), version=version, now=now(), roles=held, verdict=verdict
    )


def _why_never(request: ApprovalRequest, by: Actor) -> str:
    """Why this actor can give neither answer, whatever changes; empty when one of them is theirs to give."""
    found = [_may(request, by, None, verdict) for verdict in (Verdict.APPROVE, Verdict.REJECT)]
    whys = [each.reason for each in found if isinstance(each, deciding.MayNot) and not each.stale]
    return whys[0] if len(whys) == len(found) else ""


def _guard(request: ApprovalRequest, by: Actor, version: int | None, verdict: Verdict) -> None:
    answer = _may(request, by, version, verdict)
    if isinstance(answer, deciding.MayDecide):
        return
    if not answer.stale:
        raise problems.Forbidden(answer.reason)
    decision = decisions.outcome(request)
    raise problems.Conflict(_what_was_decided(decision) if decision else answer.reason)


def _question(request: ApprovalRequest) -> deciding.Question:
    return deciding.Question(
        status=ApprovalStatus(request.status),
        due_at=request.due_at,
        requested_by=people.behind(request.requested_by) if request.four_eyes else request.requested_by,
        authored_by=people.behind(request.authored_by) if request.four_eyes else request.authored_by,
        requested_for=people.behind(request.requested_for),
        four_eyes=request.four_eyes,
        version=request.version,
        claimed_by=str(request.claimed_by_id) if request.claimed_by_id else None,
        claimed_until=request.claimed_until,
        approvals_needed=request.approvals_needed,
        approved_by=decisions.approved_by(request) if request.approvals_needed > 1 else frozenset(),
        roles=tuple(request.roles),
    )


def _what_was_decided(decision: Decision) -> str:
    words = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected", Verdict.GIVE_UP: "gave up on"}
    word = words[Verdict(decision.verdict)]
    changed = "; ".join(f"{name} {before} became {after}" for name, (before, after) in decision.edits.items())
    why = f" Reason: {decision.reason}" if decision.reason else ""
    return (
        f"{decision.by_label} {word} this at {decision.at:%H:%M} UTC{f', with edits: {changed}' if changed else ''}."
        f"{why} Your answer was not used."
    )


def _reason(verdict: Verdict, reason: str) -> str:
    reason = reason.strip()
    if verdict == Verdict.REJECT and not reason:
        raise problems.Invalid(
            "A rejection needs a reason: the agent receives it and can act on it.", errors={"reason": "Say why."}
        )
    if verdict == Verdict.GIVE_UP and not reason:
        raise problems.Invalid("Giving up needs a reason: it stays with the run.", errors={"reason": "Say why."})
    if len(reason) > LONGEST_REASON:
        raise problems.Invalid(
            f"The reason has {len(reason)} characters; at most {LONGEST_REASON} are kept. Shorten it.",
            errors={"reason": f"At most {LONGEST_REASON} characters."},
        )
    return redact.text(reason)


def _decided_arguments(request: ApprovalRequest, verdict: Verdict, edits: Mapping[str, Any]) -> dict[str, Any]:
    if verdict != Verdict.APPROVE or not edits:
        return dict(request.arguments)
    if request.approvals_needed > 1:
        raise problems.Invalid(
            f"{request.approvals_needed} people approve this exactly as it is proposed. "
            "Reject the request and say what should change.",
            errors=dict.fromkeys(sorted(edits), "Cannot be edited."),
        )
    locked = sorted(set(edits) - set(request.editable))
    if locked:
        raise problems.Invalid(
            f"{', '.join(locked)} cannot be edited here. Reject the request and say what should change.",
            errors=dict.fromkeys(locked, "Cannot be edited."),
        )
    return subjects.handler(request.subject_kind).check(request, {**request.arguments, **edits})


def _edits(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = sorted(set(before) | set(after))
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _settle(request: ApprovalRequest, after: ApprovalStatus) -> None:
    request.status = move(APPROVAL_MOVES, ApprovalStatus(request.status), after)
    request.decided_at = now()
    request.version += 1
    request.save(update_fields=["status", "decided_at", "version"])


def _event(request: ApprovalRequest, kind: str, *, by: Actor | None = None, **data: Any) -> None:
    ApprovalEvent.objects.create(request=request, kind=kind, by_label=by.label if by else "", data=data)
