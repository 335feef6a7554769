"""Entry points for people who intervene in a run."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from console import ids, problems
from console.access import Request, requires
from runtime import forks, interventions, masking, runs
from runtime.forks import Which
from runtime.models import Run
from runtime.states import RunStatus


@require_POST
@requires("runs.cancel")
def run_cancel(request: Request, run_id: UUID) -> HttpResponse:
    run = runs.cancel(run_id, by=request.actor, reason=request.POST.get("reason", ""))
    return _back(request, run, "Stopped" if run.status == RunStatus.CANCELLED else "Stopping")


@require_POST
@requires("runs.pause")
def run_pause(request: Request, run_id: UUID) -> HttpResponse:
    run = interventions.pause(run_id, by=request.actor, reason=request.POST.get("reason", ""))
    return _back(request, run, "Paused" if run.status == RunStatus.PAUSED else "Pausing before its next step")


@require_POST
@requires("runs.pause")
def run_resume(request: Request, run_id: UUID) -> HttpResponse:
    run = interventions.resume(run_id, by=request.actor, reason=request.POST.get("reason", ""))
    word = "Resumed, and waiting for the decision" if run.status == RunStatus.WAITING else "Resumed"
    return _back(request, run, word)


@require_POST
@requires("runs.create")
def run_fork(request: Request, run_id: UUID) -> HttpResponse:
    run, _ = forks.fork(
        run_id,
        by=request.actor,
        reason=request.POST.get("reason", ""),
        step_id=_step(request.POST.get("step", "")),
        release=_which(request.POST.get("release", "")),
        idempotency_key=request.POST.get("form_id", "")[:60],
    )
    return _back(request, run, "Started a new run")


def _back(request: Request, run: Run, word: str) -> HttpResponse:
    shown = masking.masked_for(request.actor, run.agent.slug)
    messages.success(request, f"{word}: {shown(run.title)}")
    return redirect("runtime:run-detail", run.pk)


def _step(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return ids.parse("stp", text)
    except ValueError as wrong:
        raise problems.Missing(f"There is no step {text[:60]!r}.") from wrong


def _which(text: str) -> Which:
    try:
        return Which(text or Which.SAME)
    except ValueError as wrong:
        raise problems.Invalid(
            f"{text[:60]!r} is no choice of a release. Choose the same or the active one.",
            errors={"release": "Choose the same or the active one."},
        ) from wrong
