"""`/healthz`: this process answers. `/readyz`: what it depends on answers, each by name.

Both are answered before every other middleware: a probe has no session, no host name of ours and no https.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import django_rq
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse

from console import alarms, queue
from console.embedded import start

log = logging.getLogger(__name__)

Answer = Callable[[HttpRequest], HttpResponse]
# A worker beats every few seconds; one that is silent for longer is not counted.
SILENT_SECONDS = 90
_migrated = False


class HealthMiddleware:
    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/healthz":
            return alive()
        if request.path_info == "/readyz":
            return ready()
        return self.get_response(request)


def alive() -> HttpResponse:
    """Says which start of `up` this console belongs to, if it was started by one: another may hold its port."""
    answer = _answer({"status": "alive"}, 200)
    if settings.START:
        answer[start.HEADER] = settings.START
    return answer


def ready() -> HttpResponse:
    """503 when a dependency is down. The reason is for the log: an address or an account is nobody's business here."""
    checks = {"database": _check(_database), "migrations": _check(_migrations), "redis": _check(_redis)}
    is_ready = all(check["status"] == "ok" for check in checks.values())
    report = {
        "status": "ready" if is_ready else "not ready",
        "checks": checks,
        "workers": _workers(),
        "alarms": _alarms(),
    }
    return _answer(report, 200 if is_ready else 503)


def _answer(report: dict[str, Any], status: int) -> HttpResponse:
    return JsonResponse(
        report, status=status, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    )


def _check(ask: Callable[[], str]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found = ask()
    except Exception as failure:
        log.warning("Not ready: %s: %s", ask.__name__.strip("_"), failure)
        found = "down"
    return {"status": found, "ms": round((time.monotonic() - began) * 1000, 1)}


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _migrations() -> str:
    """Asked until all are applied: this process has the code of one version only, and applied ones stay."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return "ok" if _migrated else "missing"


def _redis() -> str:
    django_rq.get_connection(queue.CHORES).ping()
    return "ok"


def _alarms() -> list[str] | None:
    """What somebody has to mend, by name: information too, because a console that only reads still serves."""
    try:
        return alarms.current()
    except Exception as failure:
        log.warning("Alarms are unknown: %s", failure)
        return None


def _workers() -> dict[str, Any]:
    """How many workers beat lately: information, because the console also serves without any."""
    try:
        beats = queue.worker_heartbeats()
    except Exception as failure:
        log.warning("Workers are unknown: %s", failure)
        return {"alive": None, "last_heartbeat_at": None}
    now = datetime.now(UTC)
    alive = sum((now - beat).total_seconds() < SILENT_SECONDS for beat in beats)
    return {"alive": alive, "last_heartbeat_at": max(beats).isoformat() if beats else None}
