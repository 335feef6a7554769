"""Entry points for people who want to know what the tools are, who has them and how they do."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console import problems
from console.access import Request, requires
from releases.policies import label_words
from releases.policies.labelling import EFFECTS
from telemetry import inventory, tool_use
from telemetry.inventory import Line
from telemetry.models import LastRollUp
from telemetry.tool_use import Use

MOST_LINES = 300
SHOWN: dict[str, tuple[str, Callable[[Line], bool]]] = {
    "active": ("In an active release", lambda line: line.is_active),
    "idle": ("In no active release", lambda line: not line.is_active),
    "unlabelled": ("Not reviewed", lambda line: not line.manifest.labelled),
    "differs": ("Labels differ", lambda line: line.differs_between_releases or line.differs_from_code),
    "untrusted": ("Returns untrusted text", lambda line: line.manifest.output_trust == "untrusted"),
    "stopped": ("Switched off or out of order", lambda line: bool(line.switches or line.breaker_badge or line.refused)),
}


@require_GET
@requires("releases.read")
def tool_list(request: Request) -> HttpResponse:
    """Every tool with its labels and use; seven statements of its own, whatever the number of tools."""
    known = inventory.lines(request.actor)
    found = [line for line in known if _fits(line, request)]
    used = tool_use.of_all(request.actor.agents("metrics.read"), timezone.now())
    context = {
        "lines": [(line, used.get(line.name, Use())) for line in found[:MOST_LINES]],
        "found": len(found),
        "known": len(known),
        "is_filtered": any(request.GET.get(name) for name in ("q", "effect", "show")),
        "left_out": inventory.left_out(request.actor),
        "most_releases": inventory.MOST_RELEASES,
        "effects": [(effect, label_words.EFFECTS[effect][0]) for effect in EFFECTS],
        "shown": [(key, label) for key, (label, _) in SHOWN.items()],
        "last": LastRollUp.objects.first(),
        "days": tool_use.DAYS,
        "nav": "tools",
    }
    return render(request, "telemetry/tool_list.html", context)


@require_GET
@requires("releases.read")
def tool_detail(request: Request, name: str) -> HttpResponse:
    line = inventory.line(name, request.actor)
    if line is None:
        raise problems.Missing("There is no such tool, or it is not open to you.")
    days = tool_use.of_days(name, request.actor.agents("metrics.read"), timezone.now())
    context = {
        "line": line,
        "tool": line.manifest,
        "labels": label_words.described(line.manifest),
        "arguments": inventory.arguments(line.manifest),
        "variants": inventory.variants(line),
        "days": days,
        "calls": [float(use.calls) for _, use in days],
        "last": LastRollUp.objects.first(),
        "nav": "tools",
    }
    return render(request, "telemetry/tool_detail.html", context)


def _fits(line: Line, request: Request) -> bool:
    words = request.GET.get("q", "").casefold().split()
    effect, show = request.GET.get("effect", ""), request.GET.get("show", "")
    text = f"{line.name} {line.manifest.description} {line.words}".casefold()
    return (
        all(word in text for word in words)
        and effect in ("", line.manifest.effect)
        and (show not in SHOWN or SHOWN[show][1](line))
    )
