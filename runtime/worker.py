"""The RQ worker of runs: many turns at once on one asyncio loop, chores and callbacks in threads.

This module, `intake`, `batching`, `console.queue` and the scheduler are the only ones that know RQ (`rq>=3.0,<3.1`).
RQ's worker takes one job, executes it and looks for the next. This one executes on a loop in the main thread what its
intake takes from Redis, keeps its lease in threads (see `leases`), and reconciles in another. Of RQ it uses
registration, heartbeats, commands, maintenance and the bookkeeping of failures. The contract tests in
tests/runtime/test_worker.py say what an upgrade breaks.

A first SIGTERM or SIGINT: no more work is taken, turns stop before their next step and give their runs back; what is
still in a call after WARM_S is cancelled, and ending the life frees its run. Gone after at most GONE_S. A second one:
the life is ended and the process leaves at once.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any
from uuid import UUID

import uvloop
from django.conf import settings
from django.db import close_old_connections, connection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import BaseWorker, WorkerStatus

from console import alarms, queue
from releases import switches
from runtime import lanes, leases, pools, providers, recovery, toolbox, workers
from runtime.batching import Batches
from runtime.engine import Engine
from runtime.intake import Intake
from runtime.states import RunPriority

log = logging.getLogger(__name__)

WARM_S = 8.0
GONE_S = 9.5
COLD_S = 2.0
ECHO_S = 0.3  # a second signal within this time is an echo of the first
TTL_S = 25  # RQ shows a worker for this long, and a minute, after its last sign of life
LOST_LEASE = 70  # exit status: the supervisor starts a new life
# The engine says the same few statements all the time, each over keys: planned once, they are never planned again.
FEW_STATEMENTS = "-c plan_cache_mode=force_generic_plan -c jit=off"
HELD_BY_MISTAKE = timedelta(seconds=3)
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
    given: dict[str, Any] = {name: str(known[key]) for name, key in parts.items() if known[key]}
    return make_conninfo(**given | settings.DATABASE_OPTIONS)


def open_pool(size: int = 10) -> AsyncConnectionPool[Any]:
    """A pool for one event loop; open it inside that loop, never across a fork."""
    locked = f"-c lock_timeout={pools.LOCKED_S * 1000:.0f}"
    return pools.Pool(
        make_conninfo(conninfo(), options=f"{settings.DATABASE_OPTIONS['options']} {FEW_STATEMENTS} {locked}"),
        min_size=1,
        max_size=size,
        kwargs={"autocommit": True, "prepare_threshold": 0},
        open=False,
        timeout=30,
        name="engine",
    )


class AsyncWorker(BaseWorker):
    """An RQ worker whose jobs overlap. Its queues are those of runs by priority, then those of chores and callbacks."""

    def __init__(
        self,
        queues: Sequence[Queue],
        *,
        slot: str,
        turns_at_once: int = 0,
        on_ready: Callable[[AsyncWorker], None] = lambda worker: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(queues, worker_ttl=TTL_S, prepare_for_work=False, **kwargs)
        self.hostname, self.pid, self.ip_address = socket.gethostname(), os.getpid(), "unknown"
        self.log.setLevel(logging.WARNING)
        self.slot = slot
        self._on_ready = on_ready
        self.loop = uvloop.new_event_loop()
        self.batches = Batches(self, self.queues, chained=len(queue.RUN_QUEUES))
        self.intake = Intake(self, self.batches, self.loop, places=turns_at_once or settings.TURNS_AT_ONCE)
        self.turns: Counter[UUID] = Counter()  # runs that a task of this process works on
        self.given_back: set[UUID] = set()  # runs whose turn ended while this worker was stopping
        self.ticked_at = leases.clock()
        self.stopped_at: float | None = None
        self._stopping = asyncio.Event()
        self._over = threading.Event()
        sent_at = leases.clock()
        self.life = workers.register(slot, capacity=self.intake.places)
        self.lease = leases.Lease(
            self.life, sent_at=sent_at, ticked_at=lambda: self.ticked_at, on_beat=self._heard, on_lost=self._lost
        )
        self.engine = Engine(
            open_pool(),
            self.life.pk,
            is_draining=lambda: self.stopped_at is not None,
            is_trusted=self.lease.is_trusted,
        )

    def work(self, *args: Any, **options: Any) -> bool:
        """Work until stopped; with `burst=True`, until the queues are empty."""
        global _current
        _current = self
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self.request_stop)
        self.lease.keep()
        try:
            self.loop.run_until_complete(self._serve(is_burst=bool(options.get("burst"))))
        finally:
            self._leave()
            _current = None
        return True

    async def turn(self, run_id: UUID) -> None:
        """One turn of a run, known to this worker for as long as it takes."""
        self.turns[run_id] += 1
        try:
            await self.engine.run_turn(run_id)
        finally:
            self.turns[run_id] -= 1
            if not self.turns[run_id]:
                del self.turns[run_id]
            if self.stopped_at is not None:
                self.given_back.add(run_id)

    # What RQ asks of a worker

    def introduce(self) -> None:
        """Tell Redis of this worker, also when it has forgotten it."""
        self.connection.delete(self.key)
        self._set_ip_address(self.connection)
        self.register_birth()  # type: ignore[no-untyped-call]  # rq leaves it untyped, as those below
        self.set_state(WorkerStatus.STARTED)
        if self.pubsub is None:
            self.subscribe()  # type: ignore[no-untyped-call]

    def look_after(self) -> None:
        """RQ's maintenance, every ten minutes: registries of dead workers, intermediate lists."""
        if self.birth_date is not None and self.should_run_maintenance_tasks:
            try:
                self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
            except RedisError:
                raise
            except Exception as wrong:
                log.warning("RQ's maintenance met something that it cannot read: %s", wrong)

    def finalize(
        self, job: Job, queue: Queue, execution: Execution, error: BaseException | None, *, is_stopped: bool
    ) -> None:
        """RQ's bookkeeping of one job: a failure, one that was stopped, or a result that is kept."""
        if error is None:
            self._finalize_success(job, queue, execution, None)
            return
        if is_stopped:
            self._stopped_job_id = job.id
        self._finalize_failure(job, queue, execution, (type(error), error, error.__traceback__))

    def handle_payload(self, message: Any) -> None:
        """A command from outside. What cannot be read is left out."""
        try:
            command = json.loads(message["data"])
            name = command["command"]
        except (ValueError, TypeError, KeyError):
            log.warning("A command to this worker cannot be read; it is left out.")
            return
        if name == "stop-job":
            self._stop_command(job=str(command.get("job_id", "")))
        elif name == "stop-execution":
            self._stop_command(execution=str(command.get("execution_id", "")))
        elif name == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)

    def request_stop_execution(self, execution_id: str) -> None:
        self._stop_command(execution=execution_id)

    def _stop_command(self, **which: str) -> None:
        if not self.intake.stop(**which):
            log.info("A command asks to stop %s, which is not executed here.", which)

    def request_stop(self, signum: int, frame: FrameType | None = None) -> None:
        """The first signal: stop in order. The second: leave at once."""
        moment = leases.clock()
        if self.stopped_at is None:
            self.stopped_at = moment
            self._stop_requested = True
            _later(GONE_S, os._exit, 1)
            self.loop.call_soon_threadsafe(self._stopping.set)
        elif moment - self.stopped_at > ECHO_S:
            log.warning("Worker %s leaves at once.", self.slot)
            _later(COLD_S, os._exit, 1)
            threading.Thread(target=self._leave_at_once, daemon=True).start()

    request_force_stop = request_stop

    # From start to end

    async def _serve(self, *, is_burst: bool) -> None:
        ticker = self.loop.create_task(self._tick())
        await self.engine.pool.open(wait=True)
        self.intake.open(on_empty=self._stop_when_empty if is_burst else None)
        threading.Thread(target=self._reconcile, name="reconciler", daemon=True).start()
        listener = self.loop.create_task(self.engine.listen({switches.TOPIC: self.acknowledge}))
        self._on_ready(self)
        await self._stopping.wait()
        listener.cancel()
        self.intake.close()
        lanes.OURS.close()
        await self._wind_down()
        await asyncio.to_thread(self._end_life)
        ticker.cancel()
        closings = (
            (self.engine.settle(), 0.3),
            (toolbox.aclose_all(), 1.0),  # programs that it started have that long to end
            (providers.aclose_all(), 0.3),
            (self.engine.pool.close(timeout=0.2), 0.3),
        )
        for closing, seconds in closings:
            try:
                await asyncio.wait_for(closing, timeout=seconds)
            except Exception as unwilling:
                log.debug("Something did not close in time: %r", unwilling)

    async def _wind_down(self) -> None:
        """Let turns come to their next step; cancel those that do not in time."""
        asked = leases.clock() if self.stopped_at is None else self.stopped_at
        running = [started.future for started in self.intake.running if started.future is not None]
        if running:
            _, running_still = await asyncio.wait(running, timeout=max(0, asked + WARM_S - leases.clock()))
            for future in running_still:
                future.cancel()
            if running_still:
                log.warning("%d turns were in a call until the end; their runs are free again.", len(running_still))
                await asyncio.wait(running_still, timeout=0.3)

    def _end_life(self) -> None:
        """Nothing is held from here on: what this worker had is free."""
        self._over.set()
        self.lease.give_up()
        try:
            close_old_connections()
            workers.end(self.life.pk, given_back=self.given_back)
        except Exception as away:
            log.warning("The life could not be ended (%s); its lease runs out.", away)
        finally:
            connection.close()

    def _leave(self) -> None:
        """Say so to Redis, and end the threads."""
        if not self._over.is_set():  # something broke before it came to that
            self._end_life()
        self.intake.finish(timeout=0.3)
        try:
            self.teardown()  # type: ignore[no-untyped-call]
        except RedisError as away:
            log.debug("Redis did not hear of the end of this worker: %s", away)

    def _leave_at_once(self) -> None:
        self.lease.give_up()
        try:
            workers.end(self.life.pk)
            self.register_death()  # type: ignore[no-untyped-call]
        except Exception as away:
            log.warning("The life could not be ended (%s); its lease runs out.", away)
        os._exit(0)

    def _stop_when_empty(self) -> None:
        self.stopped_at = leases.clock()
        self.loop.call_soon_threadsafe(self._stopping.set)

    # The lease

    async def _tick(self) -> None:
        while True:
            self.ticked_at = leases.clock()
            await asyncio.sleep(0.25)

    def _heard(self, beat: workers.Beat) -> None:
        """Tell the engine which of its runs are to stop; at each beat, because it may be looking just now."""
        for run_id in beat.interrupted:
            self.loop.call_soon_threadsafe(self.engine.interrupt, run_id)

    async def acknowledge(self) -> None:
        """A switch was pulled or lifted: say at once that it was seen, not with the next beat."""
        self.lease.hurry()

    def _lost(self, why: str) -> None:
        log.error("Worker %s has lost its lease: %s. It stops so that a new life can begin.", self.slot, why)
        self.intake.closing.set()
        for started in self.intake.running:
            if started.future is not None:
                self.loop.call_soon_threadsafe(started.future.cancel)
        self._over.wait(0.2)
        os._exit(LOST_LEASE)

    # Reconciling

    def _reconcile(self) -> None:
        lately: dict[UUID, float] = {}
        for number in itertools.count(1):
            if self._over.wait(1):
                connection.close()
                return
            self._do(functools.partial(workers.reconcile, lately=lately, mends=number % 10 == 0))
            if number % 3 == 0:
                self._do(self._release_what_nobody_works_on)
                self._do(self._release_what_stands_still)
            if self.intake.is_away and self.stopped_at is None:
                self._do(self._claim_without_redis)

    def _do(self, duty: Callable[[], Any]) -> None:
        """One duty of the reconciler. What goes wrong with it, each time perhaps, keeps no other from being done."""
        try:
            close_old_connections()
            duty()
        except Exception as away:
            log.warning("The reconciler could not finish its pass: %s", away)
            alarms.look_at(away)
            connection.close()

    def _release_what_nobody_works_on(self) -> None:
        held = recovery.held_longer(self.life.pk, HELD_BY_MISTAKE)
        lost = [run_id for run_id in held if run_id not in self.turns]
        if lost:
            log.warning("%d runs were held without a turn; they are free again.", len(lost))
            why = "its worker held it without working on it"
            recovery.release(self.life.pk, lost, why=why, held_longer=HELD_BY_MISTAKE)

    def _release_what_stands_still(self) -> None:
        """A backstop: every wait of a turn has an end, so one that outlasts them all is an error of ours."""
        for turn in self.engine.standing_still():
            where = turn.waits_at
            log.error("%s stands still at %s; its turn is ended, and the run is free again.", turn.public_id, where)
            why = f"its turn stood still at {where}"
            recovery.release(self.life.pk, [turn.run_id], why=why, held_longer=HELD_BY_MISTAKE)
            if turn.task is not None:
                self.loop.call_soon_threadsafe(turn.task.cancel)

    def _claim_without_redis(self) -> None:
        room = dict(zip(RunPriority, self.intake.room(), strict=True))
        for run_id, _, priority in recovery.runnable(max(room.values())):
            if room[RunPriority(priority)] > 0 and run_id not in self.turns:
                place = list(RunPriority).index(RunPriority(priority))
                self.intake.begin(place, self.turn, run_id)
                room = dict(zip(RunPriority, self.intake.room(), strict=True))


def _later(seconds: float, function: Callable[..., Any], *args: Any) -> None:
    timer = threading.Timer(seconds, functools.partial(function, *args))
    timer.daemon = True
    timer.start()
