"""What an admin may do to the queues: empty, put back, delete, stop, suspend, resume. Each is audited with its reason.

A run is never lost by it: its row says that it is queued, and the sweep puts it into the queue again. What can be
lost is a chore, which its own schedule repeats.

django-rq's pages are not mounted. They read job records with pickle in several places (the list of workers, deleting
all failed jobs), so that whoever can write to Redis would gain code execution in the web server; they act without a
trace in the audit log; and they need Django's admin site and inline scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import django_rq
import rq.command
import rq.suspension
from django.db import transaction
from redis.exceptions import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.worker import BaseWorker

from console import audit, problems, queue
from console.actors import Actor

LONGEST_REASON = 500
MOST_AT_ONCE = 1000
MOST_SHOWN = 20


@dataclass(frozen=True)
class Subject:
    """A queue, or all of them, for the audit log."""

    name: str = ""

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "queue", self.name or "all", f"Queue {self.name}" if self.name else "All queues", "/queues/"


@dataclass(frozen=True)
class Working:
    """A job that a worker executes."""

    queue: str
    job_id: str
    function: str
    arguments: str
    since: datetime | None


@dataclass(frozen=True)
class Registered:
    """A worker as RQ knows it."""

    name: str
    state: str
    where: str
    seen_at: datetime | None
    executing: int


def empty(name: str, *, by: Actor, reason: str) -> int:
    """Remove every job that waits in the queue. Returns how many."""
    with _audited(by, "queue.empty", name, reason) as changes:
        count = int(_queue(name).empty())
        changes["waiting"] = [count, 0]
    return count


def requeue_failed(name: str, job_id: str = "", *, by: Actor, reason: str) -> int:
    """Put a failed job back into its queue, or all of them. Returns how many; one that is gone counts as none."""
    waiting = _queue(name)
    registry = waiting.failed_job_registry
    with _audited(by, "queue.requeue", name, reason) as changes:
        keys = [job_id] if job_id else registry.get_job_ids(0, MOST_AT_ONCE - 1)
        count = sum(_requeued(registry, key) for key in keys)
        changes |= {"requeued": [0, count], **({"job": ["failed", job_id]} if job_id else {})}
    return count


def delete(name: str, job_id: str, *, by: Actor, reason: str) -> bool:
    """Remove one job that waits or has failed. False: it is gone already."""
    waiting = _queue(name)
    with _audited(by, "queue.delete", name, reason) as changes:
        removed = waiting.connection.lrem(waiting.key, 0, job_id)
        removed += waiting.connection.zrem(waiting.failed_job_registry.key, job_id)
        if removed:
            job = _job(waiting, job_id)
            if job is not None:
                job.delete()
            waiting.connection.delete(queue.Job.key_for(job_id))  # also a record that cannot be read
        changes["job"] = [job_id, "deleted" if removed else "was gone"]
    return bool(removed)


def stop(name: str, job_id: str, *, by: Actor, reason: str) -> bool:
    """Tell the worker that executes the job to break it off. A run that is broken off is put back into the queue."""
    with _audited(by, "queue.stop_job", name, reason) as changes:
        changes["job"] = [job_id, "told to stop"]
        try:
            rq.command.send_stop_job_command(_queue(name).connection, job_id, serializer="json")
        except (NoSuchJobError, InvalidJobOperation, ValueError):
            changes["job"] = [job_id, "is not executed"]
            return False
    return True


def suspend(*, by: Actor, reason: str) -> None:
    """Let all workers finish what they execute and take nothing more, until they are resumed."""
    with _audited(by, "queue.suspend", "", reason) as changes:
        rq.suspension.suspend(_connection())
        changes["workers"] = ["working", "suspended"]


def resume(*, by: Actor, reason: str) -> None:
    with _audited(by, "queue.resume", "", reason) as changes:
        rq.suspension.resume(_connection())
        changes["workers"] = ["suspended", "working"]


def is_suspended() -> bool:
    return bool(rq.suspension.is_suspended(_connection()))


def registered() -> list[Registered]:
    """Every worker that Redis knows."""
    return sorted(map(_registered, queue.workers()), key=lambda worker: worker.name)


def working(name: str) -> list[Working]:
    """Some of the jobs that are being executed, those first that have been for longest."""
    waiting = _queue(name)
    members = waiting.connection.zrange(waiting.started_job_registry.key, 0, MOST_SHOWN - 1)
    keys = [member.decode(errors="replace").partition(":")[0] for member in members]
    jobs = [(key, _job(waiting, key)) for key in keys]
    return [_described(name, key, job) for key, job in jobs]


def _registered(worker: BaseWorker) -> Registered:
    where = f"{worker.hostname or '?'}, pid {worker.pid or '?'}"
    seen_at, executing = worker.last_heartbeat, worker.current_execution_count
    return Registered(worker.name[:80], worker.get_state()[:20], where[:80], seen_at, executing)


def _described(name: str, job_id: str, job: Any) -> Working:
    try:
        function, arguments = str(job.func_name), ", ".join(map(str, job.args))
    except Exception:  # its record may be forged, or gone
        function, arguments = "unreadable", ""
    since = job.started_at if job is not None else None
    since = since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since
    return Working(name, job_id[:80], function[:120], arguments[:200], since)


@contextmanager
def _audited(by: Actor, action: str, name: str, reason: str) -> Iterator[dict[str, Any]]:
    """The entry and the act together: when Redis does not take it, nothing is said to have happened."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise problems.Invalid(
            f"Say why, in at most {LONGEST_REASON} characters; it is kept in the audit log.",
            errors={"reason": "Say why."},
        )
    changes: dict[str, Any] = {}
    try:
        with transaction.atomic():
            yield changes
            audit.record(by, action, Subject(name), reason=reason, changes=changes)
    except RedisError as away:
        raise problems.Problem("The queue server does not answer. Try again.", status=503, title="Not done") from away


def _queue(name: str) -> Any:
    if name not in queue.QUEUES:
        raise problems.Missing(f"There is no queue {name[:60]!r}.")
    return django_rq.get_queue(name)


def _connection() -> Any:
    return django_rq.get_connection(queue.CHORES)


def _job(waiting: Any, job_id: str) -> Any:
    try:
        return queue.Job.fetch(job_id, connection=waiting.connection, serializer="json")
    except (NoSuchJobError, ValueError, TypeError):
        return None


def _requeued(registry: Any, job_id: str) -> bool:
    try:
        registry.requeue(job_id)
    except (NoSuchJobError, InvalidJobOperation, ValueError, TypeError):
        return False
    return True
