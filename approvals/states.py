"""Every status of an approval request and every legal move."""

from enum import StrEnum


class ApprovalStatus(StrEnum):
    PENDING = "pending"  # a person may decide
    FROZEN = "frozen"  # a kill switch stands in the way; the deadline rests
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"  # nobody decided in time
    VOID = "void"  # the question went away: the run was cancelled or its facts changed


APPROVAL_MOVES = {
    ApprovalStatus.PENDING: frozenset(
        {
            ApprovalStatus.FROZEN,
            ApprovalStatus.APPROVED,
            ApprovalStatus.REJECTED,
            ApprovalStatus.EXPIRED,
            ApprovalStatus.VOID,
        }
    ),
    ApprovalStatus.FROZEN: frozenset({ApprovalStatus.PENDING, ApprovalStatus.REJECTED, ApprovalStatus.VOID}),
    ApprovalStatus.APPROVED: frozenset({ApprovalStatus.VOID}),  # void again when the facts differ at dispatch
    ApprovalStatus.REJECTED: frozenset(),
    ApprovalStatus.EXPIRED: frozenset(),
    ApprovalStatus.VOID: frozenset(),
}

OPEN = frozenset({ApprovalStatus.PENDING, ApprovalStatus.FROZEN})
SETTLED = frozenset({ApprovalStatus.APPROVED, ApprovalStatus.REJECTED})  # by people, and still so


class Verdict(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    GIVE_UP = "give_up"  # neither can be said: what waits for the answer ends. Only where the question offers it
