"""The door to the queue. RQ carries names of our few entry points and ids, nothing else.

Whoever can write to Redis can at most ask for work that the database already allows: the payload is JSON, the
function must be one that an app lists in its `jobs.ENTRY_POINTS`, and callbacks and webhooks are never followed.
"""

from __future__ import annotations

import importlib
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import django_rq
import rq.job
import rq.worker
from django.apps import apps
from django.db import transaction
from django.utils.module_loading import module_has_submodule
from django_rq.queues import DjangoRQ
from redis.exceptions import RedisError, ResponseError
from rq.exceptions import NoSuchJobError

log = logging.getLogger(__name__)

RUNS = "runs-interactive"
BACKGROUND = "runs-background"
EVALUATION = "runs-evaluation"
RUN_QUEUES = (RUNS, BACKGROUND, EVALUATION)  # in the order in which a worker takes them
CHORES = "chores"
CALLBACKS = "callbacks"  # apart from chores: a job of it waits for a stranger
QUEUES = (*RUN_QUEUES, CHORES, CALLBACKS)
KEEP_FAILED_S = 86_400
LONGEST_ARGUMENT = 64
LARGEST_RECORD = 16_384  # bytes of what a job says, unpacked


class ForgedJob(Exception):
    """A job asks for something that is not an entry point of ours. It is not executed."""


@lru_cache(maxsize=1)
def entry_points() -> dict[str, Callable[..., Any]]:
    """Every function the queue may call, by dotted name, as listed by the apps' `jobs` modules."""
    found: dict[str, Callable[..., Any]] = {}
    for app in apps.get_app_configs():
        if app.module is not None and module_has_submodule(app.module, "jobs"):
            jobs = importlib.import_module(f"{app.name}.jobs")
            for function in getattr(jobs, "ENTRY_POINTS", ()):
                found[f"{function.__module__}.{function.__qualname__}"] = function
    return found


class Job(rq.job.Job):
    """A job that calls entry points with ids, whatever else its record in Redis says."""

    def restore(self, raw_data: Any) -> Any:
        """Read the record. One that cannot be read is left out: it must not take the worker down with it."""
        try:
            super().restore(raw_data)
            self._deserialize_data()  # type: ignore[no-untyped-call]  # rq leaves it untyped
        except NoSuchJobError:
            raise
        except Exception as wrong:
            log.warning("Job %s has a record that cannot be read (%s); it is left out.", self.id, type(wrong).__name__)
            raise NoSuchJobError(f"The record of job {self.id} cannot be read.") from wrong
        self._dependency_ids, self.meta = [], {}
        self.retries_left = self.repeats_left = self.rate_limit_key = self.group_id = None

    @property
    def func(self) -> Callable[..., Any]:
        return allowed(self.id, self.func_name, self.instance, self.args, self.kwargs)

    success_callback = property(lambda self: None)
    failure_callback = property(lambda self: None)
    stopped_callback = property(lambda self: None)

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Never: a forged record could name any address."""


class Queue(DjangoRQ):
    job_class = Job

    def get_redis_server_version(self) -> tuple[int, int, int]:
        """Asked for before each push, and used only to tell servers apart that are older than any we support."""
        return 7, 2, 0


def allowed(job_id: str, name: Any, instance: Any, args: Any, kwargs: Any) -> Callable[..., Any]:
    """The entry point that a job asks for.

    Raises:
        ForgedJob: it is none of ours, or the job carries more than ids.
    """
    function = entry_points().get(str(name))
    if function is None:
        raise ForgedJob(f"Job {job_id} asks for {str(name)[:80]!r}, which is no entry point.")
    if instance is not None or kwargs or not isinstance(args, list | tuple) or not all(map(_is_id, args)):
        raise ForgedJob(f"Job {job_id} carries more than ids.")
    return function


def asked(job_id: str, data: bytes) -> tuple[Callable[..., Any], list[str]]:
    """What a job asks for, from the `data` of its record alone: the entry point and its ids.

    A worker that takes many jobs at once needs no more of a record than this.

    Raises:
        ForgedJob: as `allowed`, or the record cannot be read.
    """
    try:
        text = zlib.decompressobj().decompress(data, LARGEST_RECORD) if data[:1] == b"x" else data[:LARGEST_RECORD]
        name, instance, args, kwargs = json.loads(text)
    except (ValueError, TypeError, RecursionError, zlib.error) as wrong:
        raise ForgedJob(f"The record of job {job_id} cannot be read ({type(wrong).__name__}).") from wrong
    return allowed(job_id, name, instance, args, kwargs), list(args)


def _is_id(argument: Any) -> bool:
    return isinstance(argument, str) and len(argument) <= LONGEST_ARGUMENT


def enqueue(entry_point: str, *ids: str, job_id: str | None = None, queue: str = CHORES) -> None:
    """Ask a worker to call the entry point, by its dotted name, with the ids once the transaction has committed.

    Redis may be away or forget: whoever enqueues keeps a row that a sweep finds again.
    """
    transaction.on_commit(lambda: _push(entry_point, ids, job_id, queue), robust=True)


def enqueue_all(entry_point: str, jobs: Sequence[tuple[str, str, str]]) -> None:
    """Ask for many calls once the transaction has committed: (id, job id, queue) each.

    A job that still stands in its queue is left alone, so asking again does not make the queue longer.
    """
    if jobs:
        transaction.on_commit(lambda: _push_missing(entry_point, jobs), robust=True)


def workers() -> list[rq.worker.BaseWorker]:
    """Every worker that Redis knows. One whose record cannot be read is left out."""
    connection = django_rq.get_connection(CHORES)
    found = []
    for key in rq.worker.BaseWorker.all_keys(connection=connection):
        try:
            worker = rq.worker.BaseWorker.find_by_key(key, connection=connection, job_class=Job, serializer="json")
        except (ValueError, TypeError, ResponseError) as forged:
            log.warning("The record of worker %r cannot be read: %s", key[:80], forged)
            continue
        if worker is not None:
            found.append(worker)
    return found


def worker_heartbeats() -> list[datetime]:
    """When each registered worker last said that it lives."""
    return [worker.last_heartbeat for worker in workers() if worker.last_heartbeat is not None]


def _push_missing(entry_point: str, jobs: Sequence[tuple[str, str, str]]) -> None:
    queues = {name: django_rq.get_queue(name) for name in {queue for _, _, queue in jobs}}
    connection = django_rq.get_connection(RUNS)
    try:
        with connection.pipeline(transaction=False) as pipe:
            for each in queues.values():
                pipe.lrange(each.key, 0, -1)
            waiting = dict(zip(queues, map(set, pipe.execute()), strict=True))
            for key, job_id, name in jobs:
                # A job's own record may still call it queued though a worker died with it in its hands.
                if job_id.encode() not in waiting[name]:
                    queues[name].enqueue_call(
                        entry_point, args=(key,), job_id=job_id, result_ttl=0, failure_ttl=KEEP_FAILED_S, pipeline=pipe
                    )
            pipe.execute()
    except RedisError as away:
        log.warning("Redis did not take %d jobs for %s: %s. The sweep finds them again.", len(jobs), entry_point, away)


def _push(entry_point: str, ids: tuple[str, ...], job_id: str | None, queue: str) -> None:
    try:
        django_rq.get_queue(queue).enqueue_call(
            entry_point,
            args=ids,
            job_id=job_id,
            result_ttl=0,
            failure_ttl=KEEP_FAILED_S,
        )
    except RedisError as away:
        log.warning("Redis did not take %s%s: %s. The sweep finds it again.", entry_point, ids, away)
