"""Jobs on their way from Redis to the loop and back, in the threads of one worker.

One thread takes jobs as long as there is room and waits in Redis while there is none to take; another tells Redis of
those that have ended. Neither has a timer that work would wait for. Redis may go away and come back, or forget
everything: what a job does stands in the database, so nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import close_old_connections
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from console import queue
from runtime.batching import MOST_AT_ONCE, Batches, Taken
from runtime.policies import lanes, placing

log = logging.getLogger(__name__)

AT_ONCE = {queue.CHORES: 8, queue.CALLBACKS: lanes.PLACES}  # threads of each queue that is none of runs
WAIT_S = 5
KEEP_EVERY_S = 30
LONGEST_BACKOFF_S = 2.0


class Registered(Protocol):
    """What the intake asks of RQ's worker."""

    connection: Any
    executions: dict[str, Execution]

    def introduce(self) -> None: ...
    def look_after(self) -> None: ...
    def finalize(
        self, job: Job, queue: Queue, execution: Execution, error: BaseException | None, *, is_stopped: bool
    ) -> None: ...


@dataclass(eq=False)
class Started:
    """Something that holds a place: a job, or a turn that was begun without Redis."""

    place: int
    job: Taken | None
    began: float
    future: asyncio.Future[Any] | None = None
    is_stopped: bool = False  # somebody asked for it


class Intake:
    """The places of one worker. `queues` are those of runs by priority, then others with threads of their own."""

    def __init__(self, worker: Registered, batches: Batches, loop: asyncio.AbstractEventLoop, *, places: int) -> None:
        self.worker = worker
        self.batches = batches
        self.loop = loop
        self.places = places
        self.is_away = False  # Redis does not answer
        self.closing = threading.Event()
        self._running: set[Started] = set()
        self._counts = [0] * len(batches.queues)
        self._lock = threading.Lock()
        self._is_waiting_for_room = False
        self._handed: tuple[int, bytes] | None = None
        self._ended: queues.SimpleQueue[tuple[Started, BaseException | None] | None] = queues.SimpleQueue()
        self._threaded = [each.name for each in batches.queues[batches.chained :]]
        self._rooms = [ThreadPoolExecutor(AT_ONCE[name], thread_name_prefix=name) for name in self._threaded]
        self._kept_at = time.monotonic()
        self._on_empty: Callable[[], None] | None = None
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("intake", self._take_on), ("ended", self._see_off))
        ]

    def open(self, *, on_empty: Callable[[], None] | None = None) -> None:
        """Begin to take jobs. `on_empty` is called, from a thread, once nothing is queued and nothing runs."""
        self._on_empty = on_empty
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take no more; what runs goes on."""
        self.closing.set()
        threading.Thread(target=self._ring, daemon=True).start()

    def finish(self, timeout: float) -> None:
        """Tell Redis of what has ended, and end the threads."""
        self._ended.put(None)
        for thread in self._threads:
            thread.join(timeout=timeout)
        for room in self._rooms:
            room.shutdown(wait=False, cancel_futures=True)

    @property
    def running(self) -> list[Started]:
        with self._lock:
            return list(self._running)

    def room(self) -> list[int]:
        """How many more may be started of each class of runs, if none of the others are."""
        with self._lock:
            return placing.rooms(placing.limits(self.places, self._counts[: self.batches.chained]))

    def begin(self, place: int, function: Callable[..., Any], *args: Any) -> None:
        """Start something without Redis."""
        self._start([(Started(place, None, time.monotonic()), function, args)])

    def stop(self, *, execution: str = "", job: str = "") -> bool:
        """Cancel what a command of RQ names. False: it is not executed here."""
        for started in self.running:
            if started.job is not None and (started.job.execution == execution or started.job.id == job):
                started.is_stopped = True
                if started.future is not None:
                    self.loop.call_soon_threadsafe(started.future.cancel)
                return True
        return False

    # Taking

    def _take_on(self) -> None:
        backoff = 0.1
        while not self.closing.is_set():
            try:
                self._take()
                self.is_away, backoff = False, 0.1
            except RedisError as away:
                if not self.is_away:
                    log.warning("Redis does not answer (%s). Runs are claimed from the database meanwhile.", away)
                self.is_away = True
                self.closing.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_S)
            except Exception:
                log.exception("Taking jobs went wrong; it is tried again.")
                self.closing.wait(1)
        if self._handed is not None:
            self.batches.push_back(*self._handed)

    def _take(self) -> None:
        self._look_after()
        with self._lock:
            limits = self._limits()
            running = len(self._running)
        batch = self.batches.take(limits, running, self._handed)
        self._handed = None
        if batch.answer == "unknown":
            self.worker.introduce()
        elif batch.answer == "suspended":
            self.closing.wait(1)
        else:
            if batch.jobs:
                self._read(batch.jobs)
            if len(batch.jobs) < MOST_AT_ONCE:
                self._wait(is_empty=not batch.jobs)

    def _limits(self) -> list[int]:
        chained = self.batches.chained
        counts = zip(self._threaded, self._counts[chained:], strict=True)
        threaded = [AT_ONCE[name] - count for name, count in counts]
        return [*placing.limits(self.places, self._counts[:chained]), *threaded]

    def _wait(self, *, is_empty: bool) -> None:
        with self._lock:
            limits = self._limits()
            chained = self.batches.chained
            rooms = [*placing.rooms(limits[:chained]), *limits[chained:]]
            places = [place for place, room in enumerate(rooms) if room > 0]
            is_idle = is_empty and not self._running
            self._is_waiting_for_room = len(places) < len(rooms) or self._on_empty is not None
        if is_idle and self._on_empty is not None:
            self._on_empty()
            self.closing.wait(WAIT_S)
        elif not self.closing.is_set():
            self._handed = self.batches.wait(places, WAIT_S)

    def _look_after(self) -> None:
        if time.monotonic() - self._kept_at > KEEP_EVERY_S:
            self._kept_at = time.monotonic()
            self.batches.keep([started.job for started in self.running if started.job is not None])
        self.worker.look_after()

    def _read(self, jobs: Sequence[Taken]) -> None:
        """Find out what each asks for. What is forged ends at once, as failed."""
        began, readable = time.monotonic(), []
        for job in jobs:
            started = Started(job.place, job, began)
            try:
                function, args = queue.asked(job.id, job.data)
            except queue.ForgedJob as forged:
                self._hold([started])
                self._ended.put((started, forged))
            else:
                readable.append((started, function, args))
        self._start(readable)

    def _start(self, batch: Sequence[tuple[Started, Callable[..., Any], Sequence[Any]]]) -> None:
        self._hold([started for started, _, _ in batch])
        self.loop.call_soon_threadsafe(self._run, batch)

    def _hold(self, batch: Sequence[Started]) -> None:
        with self._lock:
            self._running.update(batch)
            for started in batch:
                self._counts[started.place] += 1
                if started.job is not None:
                    self.worker.executions[started.job.execution] = self.batches.execution(started.job)

    # On the loop

    def _run(self, batch: Sequence[tuple[Started, Callable[..., Any], Sequence[Any]]]) -> None:
        for started, function, args in batch:
            try:
                if _is_coroutine(function):
                    started.future = self.loop.create_task(function(*args))
                else:
                    started.future = self.loop.run_in_executor(self._room(started.place), _chore, function, args)
            except Exception as wrong:  # it does not take these ids
                self._ended.put((started, wrong))
                continue
            started.future.add_done_callback(functools.partial(self._done, started))
            if started.is_stopped:
                started.future.cancel()

    def _room(self, place: int) -> ThreadPoolExecutor:
        """The threads of a queue; those of the first that has any for what came by a queue of runs."""
        return self._rooms[max(0, place - self.batches.chained)]

    def _done(self, started: Started, future: asyncio.Future[Any]) -> None:
        self._ended.put((started, asyncio.CancelledError() if future.cancelled() else future.exception()))

    # Ending

    def _see_off(self) -> None:
        is_over = False
        while not is_over:
            batch = [self._ended.get()]
            while not self._ended.empty():
                batch.append(self._ended.get())
            is_over = None in batch
            try:
                self._end([ended for ended in batch if ended is not None])
            except RedisError as away:
                log.warning("Redis did not hear of the end of %d jobs: %s", len(batch), away)
            except Exception:
                log.exception("Telling Redis of the end of %d jobs went wrong.", len(batch))

    def _end(self, batch: Sequence[tuple[Started, BaseException | None]]) -> None:
        with self._lock:
            for started, _ in batch:
                self._running.discard(started)
                self._counts[started.place] -= 1
            rings, self._is_waiting_for_room = self._is_waiting_for_room, False
        well, seconds, moment = [], 0.0, time.monotonic()
        rest: list[tuple[Started, Taken, BaseException | None]] = []
        for started, error in batch:
            if started.job is not None and error is None and started.job.result_ttl == "0":
                well.append(started.job)
                seconds += moment - started.began
                self.worker.executions.pop(started.job.execution, None)
            elif started.job is not None:
                rest.append((started, started.job, error))
        if well or rings:
            self.batches.end(well, well=len(well), seconds=seconds, ring=rings)
        for started, job, error in rest:
            self._end_by_rq(started, job, error)

    def _end_by_rq(self, started: Started, taken: Taken, error: BaseException | None) -> None:
        """Leave a failure, or a result that is kept, to RQ. A record that cannot be read is removed."""
        execution = self.worker.executions.pop(taken.execution, None) or self.batches.execution(taken)
        try:
            job = queue.Job.fetch(taken.id, connection=self.worker.connection, serializer="json")
        except (NoSuchJobError, ValueError, TypeError):
            self.batches.end([taken], well=0, seconds=0, ring=False)
            return
        waiting = self.batches.queues[taken.place]
        self.worker.finalize(job, waiting, execution, error, is_stopped=started.is_stopped)

    def _ring(self) -> None:
        try:
            self.batches.ring()
        except RedisError as away:
            log.debug("Nobody waits for Redis any more: %s", away)


@functools.cache
def _is_coroutine(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _chore(function: Callable[..., Any], args: Sequence[str]) -> Any:
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()
