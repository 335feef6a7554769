"""The door to the queue. RQ carries names of our few entry points and ids, nothing else.

Whoever can write to Redis can at most ask for work that the database already allows: the payload is JSON, the
function must be one that an app lists in its `jobs.ENTRY_POINTS`, and callbacks and webhooks are never followed.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
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
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError

log = logging.getLogger(__name__)

RUNS = "runs"
CHORES = "chores"
LONGEST_ARGUMENT = 64


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
        function = entry_points().get(str(self.func_name))
        if function is None:
            raise ForgedJob(f"Job {self.id} asks for {str(self.func_name)[:80]!r}, which is no entry point.")
        if self.instance is not None or self.kwargs or not all(_is_id(argument) for argument in self.args):
            raise ForgedJob(f"Job {self.id} carries more than ids.")
        return function

    success_callback = property(lambda self: None)
    failure_callback = property(lambda self: None)
    stopped_callback = property(lambda self: None)

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Never: a forged record could name any address."""


class Queue(DjangoRQ):
    job_class = Job


def _is_id(argument: Any) -> bool:
    return isinstance(argument, str) and len(argument) <= LONGEST_ARGUMENT


def enqueue(entry_point: str, *ids: str, job_id: str | None = None, queue: str = CHORES) -> None:
    """Ask a worker to call the entry point, by its dotted name, with the ids once the transaction has committed.

    Redis may be away or forget: whoever enqueues keeps a row that a sweep finds again.
    """
    transaction.on_commit(lambda: _push(entry_point, ids, job_id, queue), robust=True)


def worker_heartbeats() -> list[datetime]:
    """When each registered worker last said that it lives."""
    workers = rq.worker.BaseWorker.all(connection=django_rq.get_connection(CHORES))
    return [worker.last_heartbeat for worker in workers if worker.last_heartbeat is not None]


def _push(entry_point: str, ids: tuple[str, ...], job_id: str | None, queue: str) -> None:
    try:
        django_rq.get_queue(queue).enqueue_call(
            entry_point,
            args=ids,
            job_id=job_id,
            result_ttl=0,
            failure_ttl=86400,
        )
    except RedisError as away:
        log.warning("Redis did not take %s%s: %s. The sweep finds it again.", entry_point, ids, away)
