"""The audit log for people: read, filter, verify. There is no way to change it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from console import audit, diffs, paging, problems, words
from console.access import Request, requires
from console.models import AuditEntry


@require_GET
@requires("audit.read")
def audit_list(request: Request) -> HttpResponse:
    entries = _filtered(request)
    page = paging.page(entries, request.GET)
    return render(
        request,
        "console/audit_list.html",
        {
            "page": page,
            "count_note": f"{paging.capped_count(entries)} entries",
            "kinds": [(kind, kind.title()) for kind in KINDS],
            "actions": AuditEntry.objects.order_by("action").values_list("action", flat=True).distinct()[:100],
            "may_verify": request.actor.may("audit.verify"),
            "is_filtered": any(request.GET.get(name) for name in FILTERS),
        },
    )


KINDS = ("user", "token", "system")
FILTERS = ("actor", "object", "action", "kind", "from")


def _filtered(request: Request) -> QuerySet[AuditEntry]:
    wanted = {name: request.GET.get(name, "").strip()[:200] for name in FILTERS}
    entries = AuditEntry.objects.all()
    if wanted["actor"]:
        entries = entries.filter(actor_label__icontains=wanted["actor"])
    if wanted["object"]:
        entries = entries.filter(object_id=wanted["object"]) | entries.filter(object_label__icontains=wanted["object"])
    if wanted["action"]:
        entries = entries.filter(action__startswith=wanted["action"])
    kinds = [kind for kind in request.GET.getlist("kind") if kind in KINDS]
    if kinds:
        entries = entries.filter(actor_kind__in=kinds)
    if wanted["from"]:
        entries = entries.filter(at__gte=_day(wanted["from"]))
    return entries


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as wrong:
        raise problems.Invalid(f"{text[:40]!r} is not a date. Write it like 2026-11-24.") from wrong


@require_GET
@requires("audit.read")
def audit_detail(request: Request, entry_id: int) -> HttpResponse:
    entry = get_object_or_404(AuditEntry, pk=entry_id)
    same = AuditEntry.objects.filter(object_kind=entry.object_kind, object_id=entry.object_id).order_by("-id")[:8]
    changes = [_change(name, pair) for name, pair in entry.changes.items()]
    context: dict[str, Any] = {
        "entry": entry,
        "short_changes": [change for change in changes if not change.is_long],
        "long_changes": [change for change in changes if change.is_long],
        "same_object": same,
    }
    return render(request, "console/audit_detail.html", context)


@dataclass(frozen=True)
class Change:
    """One field of an entry, before and after; `None` before means that it was set for the first time."""

    name: str
    before: Any
    after: Any

    @property
    def is_long(self) -> bool:
        return any("\n" in diffs.text_of(side) or len(diffs.text_of(side)) > 120 for side in (self.before, self.after))

    @property
    def before_text(self) -> str:
        return diffs.text_of(self.before)

    @property
    def after_text(self) -> str:
        return diffs.text_of(self.after) or words.NOTHING


def _change(name: str, pair: Any) -> Change:
    before, after = pair if isinstance(pair, list) and len(pair) == 2 else (None, pair)
    return Change(name, before, after)


@require_POST
@requires("audit.verify")
def audit_verify(request: Request) -> HttpResponse:
    found = audit.verify()
    if found.first_bad_id is None:
        messages.success(request, f"The chain is whole: {found.entries:,} entries fit together.")
        return redirect("console:audit-list")
    messages.error(
        request, f"The chain breaks at entry {found.first_bad_id}: {found.why}. The {found.entries:,} before it fit."
    )
    return redirect("console:audit-detail", found.first_bad_id)
