"""The queues and their workers, for admins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import django_rq
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST
from redis.exceptions import RedisError

from console import alarms, queue, queue_controls, redact
from console.access import Request, requires

MOST_FAILED = 20


@dataclass(frozen=True)
class Failed:
    queue: str
    job_id: str
    function: str
    arguments: str
    at: datetime | None
    error: str


@require_GET
@requires("queues.read")
def queue_list(request: Request) -> HttpResponse:
    names = queue.QUEUES
    try:
        context = {
            "queues": [_figures(name) for name in names],
            "workers": queue_controls.registered(),
            "working": [job for name in names for job in queue_controls.working(name)],
            "failed": [job for name in names for job in _failed(name)],
            "is_suspended": queue_controls.is_suspended(),
            "alarms": [alarms.TEXTS[name] for name in alarms.current()],
            "may_control": request.actor.may("queues.manage"),
        }
    except RedisError:
        context = {"is_away": True}
    return render(request, "console/queue_list.html", context)


@require_POST
@requires("queues.manage")
def queue_empty(request: Request) -> HttpResponseBase:
    count = queue_controls.empty(_given(request, "queue"), by=request.actor, reason=_given(request, "reason"))
    return _back(request, f"{count} jobs removed. Runs among them are queued again within seconds.")


@require_POST
@requires("queues.manage")
def queue_requeue(request: Request) -> HttpResponseBase:
    name, job = _given(request, "queue"), _given(request, "job")
    count = queue_controls.requeue_failed(name, job, by=request.actor, reason=_given(request, "reason"))
    return _back(request, f"{count} failed jobs are in their queue again.")


@require_POST
@requires("queues.manage")
def queue_delete(request: Request) -> HttpResponseBase:
    name, job = _given(request, "queue"), _given(request, "job")
    is_done = queue_controls.delete(name, job, by=request.actor, reason=_given(request, "reason"))
    return _back(request, "The job is deleted." if is_done else "The job was gone already.")


@require_POST
@requires("queues.manage")
def queue_stop(request: Request) -> HttpResponseBase:
    name, job = _given(request, "queue"), _given(request, "job")
    is_told = queue_controls.stop(name, job, by=request.actor, reason=_given(request, "reason"))
    return _back(request, "Its worker has been told to stop it." if is_told else "The job is not executed any more.")


@require_POST
@requires("queues.manage")
def queue_suspend(request: Request) -> HttpResponseBase:
    queue_controls.suspend(by=request.actor, reason=_given(request, "reason"))
    return _back(request, "Workers take nothing more until they are resumed.")


@require_POST
@requires("queues.manage")
def queue_resume(request: Request) -> HttpResponseBase:
    queue_controls.resume(by=request.actor, reason=_given(request, "reason"))
    return _back(request, "Workers take jobs again.")


def _given(request: Request, name: str) -> str:
    return request.POST.get(name, "")[:600]


def _back(request: Request, said: str) -> HttpResponseBase:
    messages.success(request, said)
    return redirect("console:queue-list")


def _figures(name: str) -> dict[str, Any]:
    waiting = django_rq.get_queue(name)
    return {
        "name": name,
        "queued": waiting.count,
        "started": waiting.started_job_registry.count,
        "scheduled": waiting.scheduled_job_registry.count,
        "failed": waiting.failed_job_registry.count,
    }


def _failed(name: str) -> list[Failed]:
    waiting = django_rq.get_queue(name)
    ids = waiting.failed_job_registry.get_job_ids(0, MOST_FAILED - 1, desc=True)
    jobs = [job for job in map(waiting.fetch_job, ids) if job is not None]
    return [_described(name, job) for job in jobs]


def _described(name: str, job: Any) -> Failed:
    """What can be said of a job, whatever stands in Redis: its record may be forged."""
    try:
        function, arguments = str(job.func_name), ", ".join(str(argument) for argument in job.args)
    except Exception:
        function, arguments = "unreadable", ""
    result = job.latest_result()
    lines = (result.exc_string if result and result.exc_string else "").strip().splitlines()
    at = job.ended_at.replace(tzinfo=UTC) if job.ended_at and job.ended_at.tzinfo is None else job.ended_at
    error = redact.text(lines[-1]) if lines else ""
    return Failed(name, str(job.id)[:80], function[:120], arguments[:200], at, error[:300])
