"""What the command palette finds of runs: an id, or words of a recent run."""

from __future__ import annotations

from collections.abc import Iterator

from console import ids
from console.actors import Actor
from console.shell import Found
from runtime import traces
from runtime.models import Run

MOST = 5
RECENT = 2000  # words are looked for in this many of the newest runs, so that a million do not slow the palette down


def find(actor: Actor, text: str) -> Iterator[Found]:
    runs = Run.objects.on_agents(actor.agents("runs.read"))
    try:
        found = runs.filter(pk=ids.parse("run", text.strip()))
    except ValueError:
        newest = runs.order_by("-created_at", "-id").values("pk")[:RECENT]
        found = Run.objects.filter(pk__in=newest, title__icontains=text.strip()).order_by("-created_at", "-id")
    for run in found.select_related("agent")[:MOST]:
        title = traces.masked_for(actor, run.agent.slug)(run.title)
        yield Found(title, "Run", run.get_absolute_url(), "activity")
