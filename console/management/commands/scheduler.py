from __future__ import annotations

import importlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import django_rq
from django.apps import apps
from django.core.management.base import BaseCommand
from django.utils.module_loading import module_has_submodule
from redis import Redis
from redis.exceptions import RedisError
from rq.cron import CronJob, CronScheduler
from rq.job import JobStatus

from console import queue

log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 5.0


class PeriodicJob(CronJob):
    """RQ would enqueue with pickle and a plain job; ours goes through the one door, and waits there at most once."""

    def enqueue(self, connection: Redis) -> None:  # type: ignore[override]
        job_id = f"periodic-{self.func_name.replace('.', '-')}"
        if not _still_waits(job_id, self.queue_name):
            queue.enqueue(self.func_name, job_id=job_id, queue=self.queue_name)


def _still_waits(job_id: str, queue_name: str) -> bool:
    """Whether no worker has taken the last one yet: another one behind it would do nothing more."""
    waiting = django_rq.get_queue(queue_name)
    job = waiting.fetch_job(job_id)
    return job is not None and job.get_status() == JobStatus.QUEUED and waiting.get_job_position(job_id) is not None


class Scheduler(CronScheduler):
    """RQ's scheduler, visible in its dashboard, that outlives an absent Redis."""

    def __init__(self, connection: Redis) -> None:
        super().__init__(connection)
        self.stopping = threading.Event()
        self._cron_jobs = [
            PeriodicJob(queue.CHORES, func=function, interval=seconds) for function, seconds in periodic_work()
        ]

    def run(self) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._stop)
        is_registered = False
        while not self.stopping.is_set():
            try:
                if not is_registered:
                    self.register_birth()
                    is_registered = True
                if self.enqueue_jobs():
                    self.save()
                self.heartbeat()
            except RedisError as away:
                log.warning("Redis does not answer: %s. Periodic work goes on when it does.", away)
            self.stopping.wait(min(max(self.calculate_sleep_interval(), 0.2), LONGEST_SLEEP_SECONDS))
        try:
            self.register_death()
        except RedisError:
            log.info("Redis is away; it forgets this scheduler by itself.")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping.set()


def periodic_work() -> Iterator[tuple[Callable[[], object], int]]:
    """Every app's `jobs.CRON`: (function, seconds between two calls)."""
    for app in apps.get_app_configs():
        if app.module is not None and module_has_submodule(app.module, "jobs"):
            yield from getattr(importlib.import_module(f"{app.name}.jobs"), "CRON", ())


class Command(BaseCommand):
    help = "Enqueue the periodic work of all apps (reconcile, expire, roll up, ...). One is enough; two do no harm."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        scheduler = Scheduler(django_rq.get_connection(queue.CHORES))
        log.info("Scheduling %s", ", ".join(f"{job.name} every {job.interval} s" for job in scheduler.get_jobs()))
        scheduler.run()
