"""Entry points for people: the overview, its export, and feedback on a run."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from console import exports, problems
from console.access import Request, requires
from console.exports import Cell
from runtime.models import Run
from telemetry import charts, feedback, overview
from telemetry.forms import FeedbackForm
from telemetry.models import Feedback
from telemetry.overview import Row, Table
from telemetry.policies import periods

MOST_COMMENTS = 20
EXPORTED = tuple(dict.fromkeys(column.key for column in (*overview.RELEASE_COLUMNS, *overview.TOOL_COLUMNS)))


@require_GET
@requires("metrics.read")
def overview_page(request: Request) -> HttpResponse:
    found = overview.build(request.GET, by=request.actor, now=timezone.now())
    links = {key: overview.runs_query(found.choice, status=status) for key, status in overview.STATUSES.items()}
    context = {
        "found": found,
        "tiles": [(tile, links.get(tile.key, "")) for tile in found.tiles],
        "ranges": list(periods.CHOICES.items()),
        "outcomes": [label for _, label, *_ in charts.OUTCOMES],
        "may_start": request.actor.may("runs.create"),
        "nav": "overview",
    }
    return render(request, "telemetry/overview.html", context)


@require_GET
@requires("metrics.read")
def overview_export(request: Request) -> StreamingHttpResponse:
    """The breakdown with raw numbers: shares between 0 and 1, durations in milliseconds."""
    found = overview.build(request.GET, by=request.actor, now=timezone.now())
    rows = [
        [part, row.name, row.detail, *_values(table, row)]
        for part, table in (("release", found.by_release), ("tool", found.by_tool))
        for row in table.rows
    ]
    period = found.choice.period
    file_name = f"overview-{period.key}-{period.end:%Y-%m-%dT%H}.csv"
    return exports.as_csv(file_name, ["part", "agent or tool", "release", *EXPORTED], rows)


def _values(table: Table, row: Row) -> list[Cell]:
    keys = {column.key for column in table.columns}
    return [getattr(row, key) if key in keys else None for key in EXPORTED]


@require_http_methods(["GET", "POST"])
@requires("feedback.give")
def feedback_page(request: Request, run_id: UUID) -> HttpResponse:
    visible = Run.objects.on_agents(request.actor.agents("runs.read"))
    run = get_object_or_404(visible.select_related("agent"), pk=run_id)
    if request.method == "POST":
        form = FeedbackForm(request.POST)
        if not form.is_valid():
            raise problems.Invalid("Choose whether the run was helpful or not, then save again.")
        feedback.give(run.pk, form.cleaned_data["score"], form.cleaned_data["comment"], by=request.actor)
        return redirect("telemetry:feedback", run.pk)
    context = {
        "run": run,
        "mine": feedback.of_run(run, request.actor),
        "all": Feedback.objects.filter(run=run).order_by("-changed_at")[:MOST_COMMENTS],
        "longest": feedback.LONGEST_COMMENT,
        "nav": "runs",
    }
    return render(request, "telemetry/feedback_form.html", context)
