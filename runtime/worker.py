"""The RQ worker of runs: many turns at once on one asyncio loop, chores in threads.

This module, `console.queue` and the scheduler are the only ones that know RQ. It relies on `rq>=3.0,<3.1`:
`BaseWorker.work` dequeues in the main thread and calls `execute_job`, which here starts the job elsewhere and
returns; `perform_job`'s two halves, `prepare_job_execution` and `_finalize_*`, are called around it. The contract
tests in tests/runtime/test_worker.py say what an upgrade breaks.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

from django.db import close_old_connections, connection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.utils import now as rq_now
from rq.worker import BaseWorker, WorkerStatus

from runtime import providers, workers
from runtime.engine import Engine

log = logging.getLogger(__name__)

TURNS_AT_ONCE = 200
LOST_LEASE = 70  # exit status: the supervisor starts a new life
_current: AsyncWorker | None = None


def current() -> AsyncWorker:
    """The worker of this process."""
    if _current is None:
        raise RuntimeError("Turns are executed by `manage.py worker` only.")
    return _current


def conninfo() -> str:
    """Where the engine's own connections go: the database that Django uses."""
    known = connection.settings_dict
    parts = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    return make_conninfo(**{name: str(known[key]) for name, key in parts.items() if known[key]})


def open_pool(size: int = 10) -> AsyncConnectionPool[Any]:
    """A pool for one event loop; open it inside that loop, never across a fork."""
    return AsyncConnectionPool(
        conninfo(), min_size=1, max_size=size, kwargs={"autocommit": True}, open=False, timeout=30, name="engine"
    )


class AsyncWorker(BaseWorker):
    """An RQ worker whose jobs overlap. Jobs that are coroutines run on the loop, others in threads."""

    def __init__(self, *args: Any, slot: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slot = slot
        self.room = threading.BoundedSemaphore(TURNS_AT_ONCE)
        self.loop = asyncio.new_event_loop()
        self.threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="chore")
        self.running: set[Future[Any]] = set()
        self.ticked_at = time.monotonic()
        self.life = workers.register(slot)
        self.engine = Engine(open_pool(), self.life.pk, is_draining=lambda: bool(self._stop_requested))

    @property
    def life_id(self) -> UUID:
        return self.life.pk

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """RQ's own loop, between the start and the orderly end of ours."""
        global _current
        _current = self
        loop_thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        loop_thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result()
        for name, beat in (("lease", self._keep_lease), ("reconciler", self._reconcile)):
            threading.Thread(target=beat, name=name, daemon=True).start()
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            self._drain()
            workers.end(self.life.pk)
            self.loop.call_soon_threadsafe(self.loop.stop)
            loop_thread.join(timeout=2)

    def dequeue_job_and_maintain_ttl(self, *args: Any, **kwargs: Any) -> Any:
        """The next job. What stands in the queue and is no job is left out; it does not end this worker."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(*args, **kwargs)
            except (ValueError, TypeError, LookupError, AttributeError) as wrong:
                log.warning("An entry of the queue cannot be read (%s); it is left out.", type(wrong).__name__)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Start the job and return; the next one is taken as soon as there is room."""
        self.room.acquire()
        try:
            execution = self.prepare_execution(job)
            self.prepare_job_execution(job, remove_from_intermediate_queue=len(self.queues) == 1)
        except BaseException:
            self.room.release()
            raise
        job.started_at = rq_now()
        future: Future[Any]
        try:
            function = job.func
            if inspect.iscoroutinefunction(function):
                future = asyncio.run_coroutine_threadsafe(function(*job.args), self.loop)
            else:
                future = self.threads.submit(_chore, function, tuple(job.args))
        except Exception:  # forged: no entry point, or not what it takes
            future = Future()
            future.set_exception(sys.exc_info()[1])
        self.running.add(future)
        future.add_done_callback(lambda done: self.threads.submit(self._ended, job, queue, execution, done))
        self.set_state(WorkerStatus.BUSY if self.running else WorkerStatus.IDLE)

    def run_directly(self, run_id: UUID) -> None:
        """Execute a run without Redis, which is away."""
        asyncio.run_coroutine_threadsafe(self.engine.run_turn(run_id), self.loop)

    def _ended(self, job: Job, queue: Queue, execution: Execution, done: Future[Any]) -> None:
        """Let RQ do its bookkeeping. What a job has done is in the database, so a failure here loses nothing."""
        try:
            error = done.exception()
            if error is None:
                self._finalize_success(job, queue, execution, None)
            else:
                log.error("Job %s (%s) failed.", job.id, job.func_name, exc_info=error)
                self._finalize_failure(job, queue, execution, (type(error), error, error.__traceback__))
        except RedisError as away:
            log.warning("Redis did not hear of the end of job %s: %s", job.id, away)
        finally:
            self.running.discard(done)
            self.room.release()

    async def _open(self) -> None:
        await self.engine.pool.open(wait=True)
        self._ticker = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while True:
            self.ticked_at = time.monotonic()
            await asyncio.sleep(0.25)

    def _keep_lease(self) -> None:
        """Prolong the lease each second, as long as the loop still ticks; leave the process when it is lost."""
        epoch, last = -1, time.monotonic()
        while not self.loop.is_closed():
            time.sleep(workers.BEAT.total_seconds())
            if time.monotonic() - self.ticked_at > workers.LEASE.total_seconds() / 2:
                log.error("The loop has stopped ticking; the lease is left to expire.")
                continue
            try:
                close_old_connections()
                seen = workers.beat(self.life.pk, epoch)
            except Exception as away:
                log.warning("The lease could not be prolonged: %s", away)
                connection.close()
                if time.monotonic() - last < workers.LEASE.total_seconds():
                    continue
                seen = None
            if seen is None:
                if self._stop_requested and not self.running:
                    return
                log.error("Worker %s has lost its lease; it stops so that a new life can begin.", self.slot)
                os._exit(LOST_LEASE)
            epoch, last = seen, time.monotonic()

    def _reconcile(self) -> None:
        while not self.loop.is_closed():
            time.sleep(1)
            try:
                close_old_connections()
                found = workers.reconcile()
                if found and found.forgotten and not self._redis_answers():
                    for run_id in found.forgotten:
                        self.run_directly(run_id)
            except Exception as away:
                log.warning("The reconciler could not finish its pass: %s", away)
                connection.close()

    def _redis_answers(self) -> bool:
        try:
            return bool(self.connection.ping())
        except RedisError:
            return False

    def _drain(self) -> None:
        """Wait for turns to give their runs back (they stop before their next step), then close."""
        deadline = time.monotonic() + 30
        while self.running and time.monotonic() < deadline:
            time.sleep(0.05)
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(timeout=10)

    async def _close(self) -> None:
        self._ticker.cancel()
        await self.engine.settle()
        await providers.aclose_all()
        await self.engine.pool.close()


def _chore(function: Any, args: tuple[Any, ...]) -> Any:
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()
