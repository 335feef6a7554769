"""Entry points for people who look after what callers are told."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from console import ids, paging
from console.access import Request, requires
from runtime import deliveries, delivery_lists, run_lists
from runtime.states import CallbackEvent, DeliveryStatus

FILTERS = ("status", "kind", "run")


@require_GET
@requires("deliveries.read")
def delivery_list(request: Request) -> HttpResponse:
    """Messages to callers, newest first. `top` keeps those that came later behind a bar."""
    found = delivery_lists.matching(request.actor, request.GET)
    top = _top(request.GET.get("top", ""))
    known = found.filter(pk__lte=top) if top else found
    page = paging.page(delivery_lists.with_everything(known), request.GET)
    is_newest = not request.GET.get("before") and not request.GET.get("after")
    rest = run_lists.without_place(request.GET)
    context = {
        "page": page,
        "rows": delivery_lists.rows(page.items, request.actor),
        "newer": delivery_lists.newer_count(found, top) if top else 0,
        "most_new": delivery_lists.MOST_NEW,
        "top": ids.public("dlv", page.items[0].pk) if page.items and is_newest and not top else request.GET.get("top"),
        "is_newest": is_newest,
        "rest": rest,
        "count_note": f"{paging.capped_count(found)} messages",
        "statuses": [(one.value, delivery_lists.BADGES[one].label) for one in DeliveryStatus],
        "kinds": [(one.value, delivery_lists.EVENTS[one]) for one in CallbackEvent],
        "is_filtered": any(request.GET.get(name) for name in FILTERS),
        "here": f"{reverse('runtime:delivery-list')}{'?' if rest else ''}{rest}",
        "with_runs": True,
    }
    return render(request, "runtime/delivery_list.html", context)


def _top(text: str) -> UUID | None:
    try:
        return ids.parse("dlv", text)
    except ValueError:
        return None


@require_POST
@requires("deliveries.send")
def send_again(request: Request, delivery_id: UUID) -> HttpResponse:
    sent = deliveries.send_again(delivery_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"Sending again: {delivery_lists.EVENTS[CallbackEvent(sent.kind)]}")
    back = request.POST.get("back", "")
    is_ours = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return redirect(back if is_ours else reverse("runtime:delivery-list"))
