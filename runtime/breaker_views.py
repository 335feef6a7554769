"""Entry points for people who look after tools and models that are out of order."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from console.access import Request, requires
from runtime import breakers

MOST_NAMED = 3


@require_GET
@requires("breakers.read")
def breaker_list(request: Request) -> HttpResponse:
    return render(request, "runtime/breaker_list.html", {"board": breakers.board(request.actor)})


@require_GET
@requires("breakers.read")
def breaker_strip(request: Request) -> HttpResponse:
    found = breakers.open_now(request.actor)
    context = {"open": found[:MOST_NAMED], "more": max(0, len(found) - MOST_NAMED)}
    return render(request, "runtime/_breaker_strip.html", context)


@require_POST
@requires("breakers.set")
def breaker_hold(request: Request) -> HttpResponseBase:
    kind, name = breakers.parse(request.POST.dict())
    breakers.hold(kind, name, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{name} is held open. Calls are refused until somebody closes it.")
    return redirect("runtime:breaker-list")


@require_POST
@requires("breakers.set")
def breaker_close(request: Request) -> HttpResponseBase:
    kind, name = breakers.parse(request.POST.dict())
    breakers.close(kind, name, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"Calls to {name} pass again.")
    return redirect("runtime:breaker-list")
