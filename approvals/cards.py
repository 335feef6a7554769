"""One request as its page shows it: finished values, so that the template only lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils.timezone import now

from approvals import decisions, forms, inbox, requests
from approvals.models import ApprovalRequest, Decision
from approvals.policies import deciding
from approvals.states import OPEN, SETTLED, ApprovalStatus, Verdict
from console import people, redact, words
from console.actors import Actor

RISK_BADGES = {
    "high": ("bad", "triangle-alert", "High risk"),
    "medium": ("warn", "gauge", "Medium risk"),
    "low": ("mute", "gauge", "Low risk"),
}
NUMBERS = {"amount", "number", "integer"}
LONG_CHARACTERS = 280
LONG_LINES = 5
ONE_LINE = 28  # characters that an input shows whole on a phone
ENOUGH_SIMILAR = 3
SIMILAR = 25


@dataclass(frozen=True)
class Row:
    """One argument. `text` is what its input holds and `proposed` what it held at first; `value` is what is read.

    `before` is set once a decision has edited it.
    """

    name: str
    label: str
    value: str
    text: str
    proposed: str
    control: str  # input, number, textarea, choice; empty when it cannot be edited
    note: str = ""
    origin: str = ""
    is_doubted: bool = False  # nobody speaks for the value
    before: str | None = None
    difference: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        return f"{forms.PREFIX}{self.name}"

    @property
    def is_long(self) -> bool:
        return is_long(self.value)

    @property
    def size(self) -> str:
        """How much there is of a value that its input does not show whole; empty where it does."""
        return f"{len(self.text):,} characters in {self.text.count(chr(10)) + 1:,} lines" if is_long(self.text) else ""

    @property
    def has_hidden(self) -> bool:
        """Whether an input would hide something that the call would carry."""
        return 'class="unseen"' in words.visible(self.value)


@dataclass(frozen=True)
class Card:
    request: ApprovalRequest
    rows: list[Row]
    badge: tuple[str, str, str]
    risk: tuple[str, str, str]
    right: deciding.MayDecide | deciding.MayNot
    decision: Decision | None
    holder: str
    is_mine: bool
    can_hold: bool
    can_take_over: bool
    may_ever: bool  # has the right to decide for this agent; whether now is `may`
    stopped_by: Mapping[str, Any] = field(default_factory=dict)
    similar: tuple[int, int] | None = None
    approvals: Sequence[Decision] = ()  # so far, where several people must approve
    may_reject: bool = False
    has_approved: bool = False  # the one who looks

    @property
    def counted(self) -> str:
        """`1 of 2 approved`; empty where one person decides."""
        needed = self.request.approvals_needed
        return f"{len(self.approvals)} of {needed} approved" if needed > 1 else ""

    @property
    def roles(self) -> str:
        """Who decides: `admin or operator`; empty: whoever may."""
        return deciding.listed(tuple(self.request.roles))

    @property
    def is_open(self) -> bool:
        return self.request.status in OPEN

    @property
    def is_question(self) -> bool:
        """Whether the answers are other words than approve and reject: something is asked, nothing proposed."""
        return bool(self.request.labels.get("reject", "Reject") != "Reject")

    @property
    def third(self) -> str:
        """The words on the button of the third answer; empty where the question does not offer one."""
        return requests.answers(self.request).get(Verdict.GIVE_UP, "")

    @property
    def answered(self) -> str:
        """The words of the answer that was given."""
        return requests.answers(self.request).get(Verdict(self.decision.verdict), "") if self.decision else ""

    @property
    def may(self) -> bool:
        return isinstance(self.right, deciding.MayDecide)

    @property
    def why_not(self) -> str:
        return "" if isinstance(self.right, deciding.MayDecide) else self.right.reason

    @property
    def stands_in_the_way(self) -> str:
        """The heading over `why_not`."""
        if isinstance(self.right, deciding.MayNot) and self.right.is_held:
            return f"{self.holder} holds this request"
        return "It waits for somebody else" if self.has_approved else "You cannot decide this"

    @property
    def lacked(self) -> str:
        """What an expired request lacked."""
        return decisions.lacking(self.request)

    @property
    def first_edit(self) -> str:
        """The field that the key for editing goes to; empty when nothing can be edited."""
        return next((row.key for row in self.rows if row.control), "")


def card(
    request: ApprovalRequest,
    *,
    by: Actor,
    posted: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Card:
    """`posted` and `errors` bring back what somebody typed when the server did not take it."""
    given = [_seen(decision, by) for decision in request.decisions.order_by("pk")]
    outcome = decisions.outcome(request) if given else None
    decision = _seen(outcome, by) if outcome else None
    right = requests.right(request, by=by)
    # Who has approved may still reject, and only that.
    rights = [right, requests.right(request, by=by, verdict=Verdict.REJECT)] if given else [right]
    is_kept_out = any(isinstance(each, deciding.MayNot) and each.is_held for each in rights)
    may_ever = by.may("approvals.decide", agent=request.agent) and by.is_person
    is_held = request.claimed_until is not None and request.claimed_until > now() and request.claimed_by is not None
    is_mine = is_held and str(request.claimed_by_id) == by.id
    is_pending = request.status == ApprovalStatus.PENDING
    # Who cannot answer reads; what somebody has typed stays, though the right was lost while they typed.
    may_edit = is_pending and may_ever and (isinstance(right, deciding.MayDecide) or bool(posted))
    return Card(
        request=request,
        rows=[
            _row(request, shown, decision, posted or {}, errors or {}, may_edit=may_edit) for shown in request.fields
        ],
        badge=inbox.BADGES[ApprovalStatus(request.status)],
        risk=RISK_BADGES[request.risk],
        right=right,
        decision=decision,
        holder=str(request.claimed_by) if is_held and request.status in OPEN else "",
        is_mine=is_mine,
        can_hold=is_pending and not is_held and isinstance(right, deciding.MayDecide) and by.is_person,
        can_take_over=is_pending and is_kept_out and by.is_person,
        may_ever=may_ever,
        stopped_by=_stopped_by(request),
        similar=_similar(request),
        approvals=[each for each in given if each.verdict == Verdict.APPROVE],
        may_reject=any(isinstance(each, deciding.MayDecide) for each in rights),
        has_approved=people.of(by) in {each.person_id or each.by_id for each in given},
    )


def _seen(decision: Decision, by: Actor) -> Decision:
    if not by.may("approvals.decide", agent=decision.request.agent):
        decision.edits, decision.reason = redact.personal(decision.edits), redact.personal(decision.reason)
    return decision


def is_long(text: str) -> bool:
    return len(text) > LONG_CHARACTERS or text.count("\n") >= LONG_LINES


def _row(
    request: ApprovalRequest,
    shown: Mapping[str, Any],
    decision: Decision | None,
    posted: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    may_edit: bool,
) -> Row:
    name = str(shown["name"])
    argument = request.arguments.get(name)
    text = forms.text_of(argument)
    control = _control(shown, argument, text) if may_edit and name in request.editable else ""
    value = forms.text_of(shown.get("value", argument))
    before: str | None = None
    if decision and name in decision.edits:
        before, value = value, forms.text_of(decision.edits[name][1])
    typed = posted.get(f"{forms.PREFIX}{name}", text)
    return Row(
        name=name,
        label=str(shown.get("label") or name),
        value=value,
        text=typed,
        proposed=text,
        control=control,
        note=str(shown.get("note") or ""),
        origin=str(shown.get("origin") or ""),
        is_doubted=bool(shown.get("is_doubted")),
        before=before,
        difference=difference(before, value) if before is not None else "",
        error=errors.get(name, ""),
    )


def _control(shown: Mapping[str, Any], argument: Any, text: str) -> str:
    if isinstance(argument, bool):
        return "choice"
    if shown.get("type") in NUMBERS or isinstance(argument, int | float):
        return "number"
    return "textarea" if len(text) > ONE_LINE or "\n" in text or isinstance(argument, list | dict) else "input"


def difference(before: str, after: str) -> str:
    """By how much a number changed; just that it changed for everything else."""
    try:
        delta = Decimal(after) - Decimal(before)
    except InvalidOperation:
        return "changed"
    return f"{abs(delta):,} {'more' if delta > 0 else 'less'}"


def _stopped_by(request: ApprovalRequest) -> Mapping[str, Any]:
    if request.status != ApprovalStatus.FROZEN:
        return {}
    event = request.events.filter(kind="frozen").last()
    return {**event.data, "by": event.by_label, "at": event.at} if event else {}


def _similar(request: ApprovalRequest) -> tuple[int, int] | None:
    """Of the last requests that were decided on the same tool under the same rule, how many as they were proposed."""
    alike = Decision.objects.filter(request__action=request.action, request__rule=request.rule)
    alike = alike.filter(request__status__in=SETTLED).exclude(request=request).order_by("-pk")
    settled: dict[Any, bool] = {}
    for key, verdict, edits in alike.values_list("request_id", "verdict", "edits")[:SIMILAR]:
        settled.setdefault(key, verdict == Verdict.APPROVE and not edits)  # the last word of each
    return (sum(settled.values()), len(settled)) if len(settled) >= ENOUGH_SIMILAR else None
