"""Entry points for people who decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_GET, require_POST

from approvals import cards, decisions, forms, inbox, requests
from approvals.models import ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import ids, problems, words
from console.access import Request, requires

MOST_COUNTED = 99
MOST_TOLD = 40  # characters of an edited value


@require_GET
@requires("approvals.read")
def approval_list(request: Request) -> HttpResponse:
    """The queue. On a wide screen the first request is shown beside it, without taking it."""
    filters = inbox.Filters.of(request.GET)
    listing = inbox.listing(request.actor, filters)
    return _page(request, filters, listing, listing.first, is_chosen=False)


@require_GET
@requires("approvals.read")
def approval_detail(request: Request, request_id: UUID) -> HttpResponse:
    approval = inbox.visible(request.actor).get(pk=request_id)
    filters = inbox.Filters.of(request.GET)
    return _page(request, filters, inbox.listing(request.actor, filters), approval, is_chosen=True)


@require_GET
@requires("approvals.read")
def approval_state(request: Request, request_id: UUID) -> HttpResponse:
    """What may change while the request is open: its status, holder, and what stands in the way."""
    approval = inbox.visible(request.actor).get(pk=request_id)
    card = cards.card(inbox.masked(approval, request.actor), by=request.actor)
    return render(request, "approvals/_now.html", _now(request, card, inbox.Filters.of(request.GET)))


@require_GET
@requires("approvals.read")
def approval_rows(request: Request) -> HttpResponse:
    """The left pane alone. `upto` keeps rows that came later behind a bar."""
    filters = inbox.Filters.of(request.GET)
    listing = inbox.listing(request.actor, filters, upto=_id(request.GET.get("upto", "")))
    return render(request, "approvals/_rows.html", _left(request, filters, listing, request.GET.get("sel", "")))


@require_GET
@requires("approvals.read")
def approval_count(request: Request) -> HttpResponse:
    waiting = inbox.visible(request.actor).filter(status=ApprovalStatus.PENDING).order_by()[: MOST_COUNTED + 1].count()
    return render(request, "approvals/_count.html", {"waiting": waiting, "most": MOST_COUNTED})


@require_GET
@requires("approvals.read")
def approval_next(request: Request) -> HttpResponse:
    """Where to go on. `after` names the request that is being left."""
    filters, after = inbox.Filters.of(request.GET), _id(request.GET.get("after", ""))
    left = inbox.visible(request.actor).filter(pk=after).first() if after else None
    return redirect(_address(inbox.following(request.actor, filters, after=left), filters))


@require_POST
@requires("approvals.decide")
def approval_decide(request: Request, request_id: UUID) -> HttpResponseBase:
    approval = inbox.visible(request.actor).get(pk=request_id)
    posted = request.POST.dict()
    filters = inbox.Filters.of(request.GET)
    try:
        decision = _decide(request, approval, posted)
    except problems.Problem as problem:
        return _refused(request, request_id, filters, posted, problem)
    messages.success(request, _told(decision, approval))
    return redirect(_address(inbox.following(request.actor, filters, after=approval), filters))


def _decide(request: Request, approval: ApprovalRequest, posted: Mapping[str, str]) -> Decision:
    verdict, version = _verdict(posted), _version(posted)
    if version is None:
        raise problems.Invalid("The form does not say which version of the request it shows. Open the request again.")
    return requests.decide(
        approval.pk,
        verdict,
        by=request.actor,
        reason=forms.reason(posted),
        edits=forms.edits(approval, posted) if verdict == Verdict.APPROVE else None,
        version=version,
    )


@require_POST
@requires("approvals.decide")
def approval_claim(request: Request, request_id: UUID) -> HttpResponse:
    """Comes from a button, or from the page itself when it was opened; never from a GET."""
    approval = requests.claim(request_id, by=request.actor, take_over="take_over" in request.POST)
    address, shown = _address(approval, inbox.Filters.of(request.GET)), _version(request.POST.dict(), "shown")
    return redirect(f"{address}{'&' if '?' in address else '?'}shown={shown}" if shown is not None else address)


def _page(
    request: Request,
    filters: inbox.Filters,
    listing: inbox.Listing,
    approval: ApprovalRequest | None,
    *,
    is_chosen: bool,
    status: int = 200,
    posted: Mapping[str, str] | None = None,
    problem: problems.Problem | None = None,
) -> HttpResponse:
    errors = problem.extra.get("errors", {}) if problem else {}
    seen = inbox.masked(approval, request.actor) if approval else None
    card = cards.card(seen, by=request.actor, posted=posted, errors=errors) if seen else None
    context = {
        **_left(request, filters, listing, approval.public_id if approval else ""),
        **(_now(request, card, filters) if card else {"card": None}),
        "is_chosen": is_chosen,
        "reasons": forms.REASONS,
        "posted": posted or {},
        "problem": _as_part(problem) if problem else None,
        "today": inbox.today(request.actor) if card is None else None,
    }
    return render(request, "approvals/approval_list.html", context, status=status)


def _left(request: Request, filters: inbox.Filters, listing: inbox.Listing, chosen: str) -> dict[str, Any]:
    return {
        "filters": filters,
        "listing": listing,
        "tabs": list(inbox.counts(request.actor, filters)),
        "choices": inbox.choices(request.actor, filters),
        "chosen": chosen,
        **_address_parts(filters),
    }


def _now(request: Request, card: cards.Card, filters: inbox.Filters) -> dict[str, Any]:
    """`shown` is the version that stands on the page, kept through its refreshes."""
    shown = _version(request.GET, "shown")
    has_changed = card.is_open and shown is not None and shown != card.request.version
    return {
        "card": card,
        "has_changed": has_changed,
        "shown": card.request.version if shown is None else shown,
        **_address_parts(filters),
    }


def _address_parts(filters: inbox.Filters) -> dict[str, str]:
    return {"query": filters.query, "rest": f"&{filters.query[1:]}" if filters.query else ""}


def _refused(
    request: Request, request_id: UUID, filters: inbox.Filters, posted: Mapping[str, str], problem: problems.Problem
) -> HttpResponse:
    """The page as it is now, with what was typed and why it was not taken."""
    approval = inbox.visible(request.actor).get(pk=request_id)
    listing = inbox.listing(request.actor, filters)
    return _page(
        request, filters, listing, approval, is_chosen=True, status=problem.status, posted=posted, problem=problem
    )


def _as_part(problem: problems.Problem) -> dict[str, Any]:
    return {"status": problem.status, "title": problem.title, "detail": problem.detail, **problem.extra}


def _address(approval: ApprovalRequest | None, filters: inbox.Filters) -> str:
    url = reverse("approvals:detail", args=[approval.pk]) if approval else reverse("approvals:list")
    return f"{url}{filters.query}"


def _verdict(posted: Mapping[str, str]) -> Verdict:
    try:
        return Verdict(posted.get("verdict", ""))
    except ValueError as wrong:
        raise problems.Invalid("Say which answer you give.") from wrong


def _version(posted: Mapping[str, str], name: str = "version") -> int | None:
    text = posted.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _said(decision: Decision, approval: ApprovalRequest) -> str:
    word = str(approval.labels.get(decision.verdict) or "")
    if word and word not in ("Approve", "Reject"):
        return word
    if decision.verdict != Verdict.APPROVE:
        return "Rejected"
    given = len(decisions.approved_by(approval)) if approval.approvals_needed > 1 else 1
    if given < approval.approvals_needed:
        return f"Approved, {given} of {approval.approvals_needed}; it waits for somebody else"
    count = len(decision.edits)
    return f"Approved with {count} {'edit' if count == 1 else 'edits'}" if count else "Approved"


def _told(decision: Decision, approval: ApprovalRequest) -> SafeString:
    """What was decided and, since a title says what was proposed, what was made of it; with the way to the run."""
    changed = "".join(
        f"; {name.replace('_', ' ')} {Truncator(str(after)).chars(MOST_TOLD)}"
        for name, (_, after) in decision.edits.items()
    )
    said = f"{_said(decision, approval)}: {approval.title}{changed}"
    if not approval.subject_url:
        return words.visible(said)
    return format_html('{} <a href="{}">Open run</a>', words.visible(said), approval.subject_url)


def _id(text: str) -> UUID | None:
    try:
        return ids.parse("apr", text)
    except ValueError:
        return None
