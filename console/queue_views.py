"""The queues for admins, read only.

django-rq's own pages can empty a queue without a trace in the audit log, and their inline scripts break our policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import django_rq
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET
from redis.exceptions import RedisError

from console import queue, redact
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
    names = (queue.RUNS, queue.CHORES)
    try:
        context = {
            "queues": [_figures(name) for name in names],
            "failed": [job for name in names for job in _failed(name)],
            "heartbeats": sorted(queue.worker_heartbeats(), reverse=True),
        }
    except RedisError:
        context = {"is_away": True}
    return render(request, "console/queue_list.html", context)


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
