"""Entry points for people who stop things and allow them again."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from console import paging, problems, shell
from console.access import Request, requires
from releases import acknowledgements, controls, forms, switches
from releases.models import KillSwitch
from releases.states import Scope, SwitchEffect

MOST_NAMED = 3
HISTORY = 20


@require_GET
@requires("switches.read")
def switch_list(request: Request) -> HttpResponse:
    epoch = switches.current_epoch()
    context = {
        "board": controls.board(request.actor),
        "seen": acknowledgements.of(epoch) if epoch else None,
        "history": paging.page(KillSwitch.objects.all(), request.GET, size=HISTORY),
    }
    return render(request, "releases/switch_list.html", context)


@require_POST
@requires("switches.engage")
def switch_engage(request: Request) -> HttpResponseBase:
    form = forms.EngageForm(request.POST)
    if not form.is_valid():
        raise problems.Invalid(
            "This switch does not exist.", errors={name: str(found[0]) for name, found in form.errors.items()}
        )
    data = form.cleaned_data
    switch = switches.engage(
        Scope(data["scope"]), SwitchEffect(data["effect"]), data["target"], by=request.actor, reason=data["reason"]
    )
    messages.success(request, f"{switch.title}. It holds from now on.")
    return redirect("releases:switch-list")


@require_POST
@requires("switches.lift")
def switch_lift(request: Request, switch_id: UUID) -> HttpResponseBase:
    switch = switches.lift(
        switch_id, by=request.actor, reason=request.POST.get("reason", ""), phrase=request.POST.get("phrase", "")
    )
    messages.success(request, f"Lifted: {switch.title}")
    return redirect("releases:switch-list")


@require_POST
@requires("switches.engage")
def switch_explain(request: Request, switch_id: UUID) -> HttpResponseBase:
    switches.explain(switch_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, "The reason is kept.")
    return redirect("releases:switch-list")


def _engaged(request: Request) -> list[KillSwitch]:
    """Read once for a page, where a counter and a banner both show them."""
    return shell.once(request, "switches", lambda: list(KillSwitch.objects.engaged()))


@require_GET
@requires("switches.read")
def switch_count(request: Request) -> HttpResponse:
    return render(request, "releases/_switch_count.html", {"engaged": len(_engaged(request))})


@require_GET
@requires("switches.read")
def switch_strip(request: Request) -> HttpResponse:
    engaged = _engaged(request)
    shows_reason = len(engaged) == 1 and engaged[0].reason != switches.NO_REASON
    is_sentence = shows_reason and engaged[0].reason.endswith((".", "!", "?"))
    return render(
        request,
        "releases/_switch_strip.html",
        {
            "engaged": engaged[:MOST_NAMED],
            "more": max(0, len(engaged) - MOST_NAMED),
            "unsaid": switches.NO_REASON,
            "stop": "" if is_sentence else ".",
        },
    )
