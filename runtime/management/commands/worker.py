"""`manage.py worker`: one worker process for runs and chores."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import socket
import sys
import threading
import time
import uuid
from argparse import ArgumentParser
from typing import Any

import django_rq
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from console import alarms, queue
from releases.bundles import ModelSpec
from releases.models import Agent
from runtime import providers, tools
from runtime.worker import AsyncWorker

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60


class Command(BaseCommand):
    requires_system_checks = ()  # they import every page; a worker shows none
    help = "Execute runs and chores until stopped (SIGTERM gives runs back; a second one stops at once)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--slot", default="", help="Name of this worker's place; a restart in the same slot takes over at once"
        )
        parser.add_argument("--burst", action="store_true", help="Stop when the queues are empty")

    def handle(self, *args: Any, **options: Any) -> None:
        tools.known()
        slot = options["slot"] or f"{socket.gethostname()}-{os.getpid()}"
        worker = self._begin(slot)
        gc.freeze()  # what is here now stays until the end
        worker.work(burst=options["burst"])
        if not options["burst"]:
            _leave_without_threads()

    def _begin(self, slot: str) -> AsyncWorker:
        """Begin a life. While the database restarts or is full, say what is waited for instead of breaking off."""
        queues = [django_rq.get_queue(name) for name in queue.QUEUES]
        deadline = time.monotonic() + LONGEST_WAIT_S
        while True:
            try:
                return AsyncWorker(
                    queues,
                    slot=slot,
                    on_ready=self._say_ready,
                    name=f"{slot}-{uuid.uuid4().hex[:8]}",
                    connection=queues[0].connection,
                    job_class=queue.Job,
                    queue_class=queue.Queue,
                    serializer="rq.serializers.JSONSerializer",
                )
            except OperationalError as away:
                alarms.look_at(away)
                if time.monotonic() > deadline:
                    raise CommandError(f"The database did not answer for {LONGEST_WAIT_S} s: {away}") from away
                self.stderr.write(f"Waiting for the database: {str(away).splitlines()[0]}")
                time.sleep(1)

    def _say_ready(self, worker: AsyncWorker) -> None:
        self.stdout.write(f"Worker {worker.slot} is ready (life {worker.life.pk}).")
        self.stdout.flush()
        threading.Thread(target=_preload, name="preload", daemon=True).start()


def _leave_without_threads() -> None:
    """End the process although a tool or a chore may still be in a call: what it does now takes no effect."""
    sys.stdout.flush()
    atexit._run_exitfuncs()  # noqa: SLF001 (os._exit would leave them out)
    os._exit(0)


def _preload() -> None:
    """Import what the active releases need while the worker already works."""
    try:
        providers.preload(_active_models())
    except Exception as missing:
        log.warning("A model's package could not be imported ahead: %s", missing)
    finally:
        connection.close()


def _active_models() -> list[ModelSpec]:
    active = Agent.objects.filter(active_release__isnull=False).select_related("active_release")
    bundles = [agent.active_release.bundle for agent in active if agent.active_release]
    return [model for bundle in bundles for model in (bundle.model, bundle.fallback_model) if model]
