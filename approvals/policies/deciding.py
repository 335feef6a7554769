"""Who may answer a request, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from approvals.states import ApprovalStatus, Verdict


@dataclass(frozen=True)
class Question:
    status: ApprovalStatus
    due_at: datetime
    requested_by: str  # id of the actor that started the work
    requested_for: str  # id of the principal it is done for
    four_eyes: bool
    version: int
    claimed_by: str | None  # id of the person who holds the claim
    claimed_until: datetime | None
    authored_by: str = ""  # id of the actor that wrote what asks, such as the release
    approvals_needed: int = 1
    approved_by: frozenset[str] = frozenset()  # ids of the people who have approved so far
    roles: tuple[str, ...] = ()  # only people with one of these decide; empty: whoever has the permission


@dataclass(frozen=True)
class MayDecide:
    pass


@dataclass(frozen=True)
class MayNot:
    reason: str
    stale: bool = False  # the page shows something that is no longer so
    is_held: bool = False  # only that a colleague works on it: it can be taken over


def decide_right(
    question: Question,
    *,
    by: str,
    version: int | None,
    now: datetime,
    roles: frozenset[str] = frozenset(),
    verdict: Verdict = Verdict.APPROVE,
) -> MayDecide | MayNot:
    """Say whether the person `by` may give this answer now. The permission itself was checked before.

    `roles` are those of the question that the person has. Who has approved may still reject, but counts once.
    """
    if question.status == ApprovalStatus.FROZEN:
        return MayNot("A kill switch stops this action. It can be decided once the switch is lifted.", stale=True)
    if question.status != ApprovalStatus.PENDING:
        return MayNot(f"This request is already {question.status}.", stale=True)
    if question.due_at <= now:
        return MayNot(f"This request was due at {question.due_at:%H:%M} UTC and has expired.", stale=True)
    if version is not None and version != question.version:
        return MayNot("The request has changed since you opened it. Read it again before you decide.", stale=True)
    if question.roles and not roles & set(question.roles):
        return MayNot(
            f"This is decided by somebody with the role {listed(question.roles)}. Ask a colleague who has it."
        )
    if by == question.requested_for:
        return MayNot("Nobody decides on a request made for themselves. Ask a colleague.")
    if question.four_eyes and by == question.requested_by:
        return MayNot("This needs a second person: you started the work yourself. Ask a colleague.")
    if question.four_eyes and by == question.authored_by:
        return MayNot("This needs a second person: you made the release that asks. Ask a colleague.")
    if verdict == Verdict.APPROVE and by in question.approved_by:
        given = len(question.approved_by)
        return MayNot(f"You have approved this, {given} of {question.approvals_needed}. You may still reject it.")
    if _held_by_other(question, by, now):
        return MayNot("A colleague is working on this request. Take it over first.", stale=True, is_held=True)
    return MayDecide()


def is_approved(needed: int, people: frozenset[str]) -> bool:
    """Whether enough different people have approved."""
    return len(people) >= needed


def listed(roles: tuple[str, ...]) -> str:
    """`admin or operator`."""
    return " or ".join(sorted(roles))


def _held_by_other(question: Question, by: str, now: datetime) -> bool:
    held = question.claimed_until is not None and question.claimed_until > now
    return held and question.claimed_by is not None and question.claimed_by != by
