"""What the command palette finds of runs: an id, or words of a recent run; after a verb, what may be done with them."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from console import ids
from console.actors import Actor
from console.shell import Found
from runtime import controls, masking
from runtime.models import Run

MOST = 5
RECENT = 2000  # words are looked for in this many of the newest runs, so that a million do not slow the palette down
VERBS = {
    "pause": ("Pause", "circle-pause"),
    "resume": ("Resume", "circle-play"),
    "stop": ("Stop", "square"),
    "again": ("Start again", "rotate-ccw"),
}
WORDS = {"pause": "pause", "resume": "resume", "stop": "stop", "cancel": "stop", "retry": "again", "again": "again"}


def find(actor: Actor, text: str) -> Iterator[Found]:
    """Runs that match. An id, or a verb before the words (`pause headphones`), offers what may be done with each.

    A command only leads to the run's page with its question open; nothing is done from here.
    """
    verb, _, rest = text.strip().partition(" ")
    wanted = WORDS.get(verb.lower(), "") if rest.strip() else ""
    found, is_exact = _runs(actor, rest if wanted else text)
    for run in found.select_related("agent__active_release", "release")[:MOST]:
        title = masking.masked_for(actor, run.agent.slug)(run.title)
        if not wanted:
            yield Found(title, "Run", run.get_absolute_url(), "activity")
        if wanted or is_exact:
            yield from _commands(actor, run, title, wanted)


def _runs(actor: Actor, text: str) -> tuple[QuerySet[Run], bool]:
    runs = Run.objects.on_agents(actor.agents("runs.read"))
    try:
        return runs.filter(pk=ids.parse("run", text.strip())), True
    except ValueError:
        newest = runs.order_by("-created_at", "-id").values("pk")[:RECENT]
        found = Run.objects.filter(pk__in=newest, title__icontains=text.strip()).order_by("-created_at", "-id")
        return found, False


def _commands(actor: Actor, run: Run, title: str, wanted: str) -> Iterator[Found]:
    may = controls.of(run, actor)
    offered = {"pause": may.may_pause, "resume": may.may_resume, "stop": may.may_cancel, "again": bool(may.start_again)}
    for act, is_offered in offered.items():
        if is_offered and wanted in ("", act):
            label, icon = VERBS[act]
            yield Found(f"{label}: {title}", "Command", f"{run.get_absolute_url()}?act={act}", icon)
