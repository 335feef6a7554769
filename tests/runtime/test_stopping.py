"""Real worker processes that are stopped, frozen, or cut off from the database."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from releases import bundles, switches
from releases.states import Scope, SwitchEffect
from runtime import hearing, leases, tools, worker, workers
from runtime.engine import Engine
from runtime.models import Run, Worker
from runtime.states import RunStatus
from tests import builders
from tests.patience import PATIENCE_S, until
from tests.runtime import harness, slow, timed_worker
from tests.runtime.test_worker import Idle, enqueue, idle, is_started  # noqa: F401
from tests.runtime.test_workers import Processes, processes, sent  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = PATIENCE_S
NEVER_S = 3600


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "begun"


@pytest.fixture
def slowly(processes: Processes, mark: Path) -> Processes:  # noqa: F811
    modules = '["tests.runtime.harness", "tests.runtime.slow"]'
    processes.env |= {"STEADYHAND_TOOLS": modules, "SLOW_S": str(NEVER_S), "SLOW_MARK": str(mark)}
    return processes


def timed(slowly: Processes, slot: str, **times: float) -> subprocess.Popen[bytes]:
    slowly.env["WORKER_TIMES"] = json.dumps(times)
    return slowly.start(slot, program=("-m", timed_worker.NAME))


def a_slow_run(script: str) -> Run:
    use = ("slow_read", "slow_block", "slow_send")
    release = builders.a_release(
        model={"provider": "scripted", "name": script},
        tools=[tools.known()[name].manifest.model_dump(mode="json") for name in use],
        budgets=bundles.Budgets().model_dump(mode="json"),
    )
    return harness.start(release, script)


@pytest.mark.parametrize("script", ["slow_read", "slow_block"])
def test_a_stopped_worker_is_gone_in_ten_seconds_and_its_runs_are_free(slowly, mark, script):
    assert script in tools.known() and slow.SLOW_S == 0
    run = a_slow_run(script)
    process = timed(slowly, "w1", WARM_S=1, GONE_S=NEVER_S)
    until(mark.exists)

    moment = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SECONDS) == 0
    assert time.monotonic() - moment > 1  # its turns were given that time to come to their next step
    assert worker.WARM_S + 1 < worker.GONE_S < 10

    run.refresh_from_db()
    assert (run.status, run.worker, run.recoveries) == (RunStatus.QUEUED, None, 0)
    assert run.events.filter(kind="run.yielded", data__why="its worker stopped").exists()
    slowly.env["SLOW_S"] = "0"
    slowly.start("w2")
    until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED)


def test_a_second_signal_leaves_at_once(slowly, mark):
    run = a_slow_run("slow_block")
    process = timed(slowly, "w1", WARM_S=NEVER_S, GONE_S=NEVER_S, COLD_S=NEVER_S)
    until(mark.exists)
    process.send_signal(signal.SIGTERM)
    time.sleep(2 * worker.ECHO_S)

    process.send_signal(signal.SIGINT)
    process.wait(timeout=SECONDS)

    run.refresh_from_db()
    assert (run.status, run.worker) == (RunStatus.QUEUED, None)
    assert not Worker.objects.filter(ended_at__isnull=True).exists()


def test_a_frozen_worker_does_nothing_more_after_its_thaw(slowly, mark):
    """Frozen before an unsafe call, thawed after another worker has made it: it leaves, and the call is made once."""
    slowly.env["SLOW_S"] = "10"  # over before another worker may take over
    run = a_slow_run("slow_model")
    frozen = slowly.start("w1")
    until(mark.exists)
    frozen.send_signal(signal.SIGSTOP)
    slowly.env["SLOW_S"] = "0"
    slowly.start("w2")

    until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED)
    after = Run.objects.values().get(pk=run.pk)
    frozen.send_signal(signal.SIGCONT)

    assert frozen.wait(timeout=SECONDS) == worker.LOST_LEASE
    assert Run.objects.values().get(pk=run.pk) == after
    assert sent() == 1


def test_a_process_whose_loop_stands_still_lets_its_lease_go(idle):  # noqa: F811
    process = idle.start("w1")
    enqueue("freeze")

    assert process.wait(timeout=SECONDS) == worker.LOST_LEASE


def test_workers_wait_for_the_database_and_go_on(slowly):
    """What a restart looks like from outside: every connection is cut, and none is let in for a while."""
    slowly.env["SLOW_S"] = "0.3"
    runs = [a_slow_run("slow_model") for _ in range(10)]
    process = slowly.start("w1")
    until(lambda: Run.objects.filter(status=RunStatus.RUNNING).exists())
    name = connection.settings_dict["NAME"]
    with psycopg.connect(worker.conninfo().replace(f"dbname={name}", "dbname=postgres"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                [name, connection.connection.info.backend_pid],
            )
            time.sleep(3)
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    until(lambda: not Run.objects.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING]).exists())

    assert process.poll() is None
    assert {run.status for run in Run.objects.filter(pk__in=[run.pk for run in runs])} <= {
        RunStatus.SUCCEEDED,
        RunStatus.WAITING,  # cut off between its unsafe call and the answer: a person settles it
    }
    assert sent() == len({key for (key,) in _marks()}) == Run.objects.filter(steps__name="slow_send").distinct().count()


def _marks() -> list[tuple[str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM spy_sent")
        return list(cursor.fetchall())


def test_a_worker_started_without_a_database_says_so_and_waits(slowly):
    env = slowly.env | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    command = [sys.executable, settings.BASE_DIR / "manage.py", "worker"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    slowly.running.append(process)

    assert process.stderr is not None
    assert "Waiting for the database" in process.stderr.readline()
    process.terminate()


class Watched:
    """A lease of a real life, and what came of it."""

    def __init__(self, ticks: bool = True) -> None:
        sent_at = leases.clock()
        self.life = workers.register("watched")
        self.lost = threading.Event()
        self.why = ""
        self.beats: list[workers.Beat] = []
        ticked_at = leases.clock() - (0 if ticks else 3600)
        self.lease = leases.Lease(
            self.life,
            sent_at=sent_at,
            ticked_at=lambda: leases.clock() if ticks else ticked_at,
            on_beat=self.beats.append,
            on_lost=self._lose,
        )

    def _lose(self, why: str) -> None:
        self.why = why
        self.lost.set()


@pytest.fixture
def beats_often(monkeypatch):
    monkeypatch.setattr(workers, "BEAT", timedelta(seconds=0.2))


@pytest.fixture
def elapse(monkeypatch):
    """Let so many seconds pass at once, by the clock of leases."""
    elapsed, clock = [0.0], leases.clock
    monkeypatch.setattr(leases, "clock", lambda: clock() + sum(elapsed))
    return elapsed.append


def is_somebody_blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


def test_a_beat_that_hangs_ends_the_trust_before_the_lease_ends(beats_often, elapse):
    """Without the watching thread, whoever waits for the answer of a beat would never look at the clock."""
    began, lease_s = leases.clock(), workers.LEASE.total_seconds()
    watched = Watched()
    with psycopg.connect(worker.conninfo()) as other:
        other.execute("SELECT 1 FROM runtime_worker WHERE id = %s FOR UPDATE", [watched.life.pk])
        watched.lease.keep()
        until(is_somebody_blocked)
        assert not watched.lost.is_set()

        elapse(began + lease_s - 1 - leases.clock())
        assert watched.lost.wait(SECONDS)

    assert not watched.lease.is_trusted()
    assert "in time" in watched.why


def test_trust_counts_from_before_the_beat_was_sent(monkeypatch, elapse):
    monkeypatch.setattr(workers, "BEAT", timedelta(seconds=600))
    watched = Watched()
    with psycopg.connect(worker.conninfo()) as other:
        other.execute("SELECT 1 FROM runtime_worker WHERE id = %s FOR UPDATE", [watched.life.pk])
        watched.lease.keep()
        watched.lease.hurry()
        until(is_somebody_blocked)
        moment = leases.clock()
        elapse(5)
        other.rollback()
        until(lambda: bool(watched.beats))
        trusted_until = watched.lease.trusted_until
        watched.lease.give_up()

    assert trusted_until <= moment + workers.LEASE.total_seconds() - leases.MARGIN_S


def test_a_life_that_was_ended_is_lost_at_the_next_beat(beats_often):
    watched = Watched()
    watched.lease.keep()
    until(lambda: bool(watched.beats))

    workers.end(watched.life.pk)

    assert watched.lost.wait(SECONDS)
    assert "ended" in watched.why


def test_without_ticks_nothing_is_prolonged(beats_often, elapse):
    watched = Watched(ticks=False)

    watched.lease.keep()
    time.sleep(1)
    elapse(workers.LEASE.total_seconds())

    assert watched.lost.wait(SECONDS)
    assert watched.beats == []


def test_a_wall_clock_that_jumps_moves_no_lease(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: timezone.datetime.now(tz=timezone.utc) + timedelta(days=1))
    monkeypatch.setattr(time, "time", lambda: 0.0)

    life = workers.register("slot")
    beat = workers.beat(life.pk, -1)

    with connection.cursor() as cursor:
        cursor.execute("SELECT lease_until - clock_timestamp(), ended_at FROM runtime_worker WHERE id = %s", [life.pk])
        left, ended_at = cursor.fetchone()
    assert beat is not None
    assert timedelta(0) < left <= workers.LEASE
    assert ended_at is None
    workers.reconcile()
    assert workers.beat(life.pk, -1) is not None


def test_a_beat_brings_the_runs_that_somebody_wants_to_stop():
    life = workers.register("slot")
    held, other = (builders.a_run(RunStatus.RUNNING, worker=life, fence=1) for _ in range(2))
    builders.a_run(RunStatus.QUEUED, cancel_requested_at=timezone.now())
    assert workers.beat(life.pk, -1).interrupted == []

    Run.objects.filter(pk=held.pk).update(cancel_requested_at=timezone.now())

    assert workers.beat(life.pk, -1).interrupted == [held.pk]
    Run.objects.filter(pk=other.pk).update(pause_requested_at=timezone.now())
    assert set(workers.beat(life.pk, -1).interrupted) == {held.pk, other.pk}


def test_a_process_that_cannot_trust_its_lease_makes_no_call():
    """Frozen between intent and call: the call stays open, for whoever takes the run over to judge."""
    next(harness.fresh())
    run = harness.start(harness.a_scripted_release(harness.saying(harness.calling("spy_send", text="hi"), "Sent.")))
    life = workers.register("frozen")

    async def go() -> None:
        async with worker.open_pool(4) as pool:
            engine = Engine(pool, life.pk, is_trusted=lambda: False)
            await engine.run_turn(run.pk)
            await engine.settle()

    asyncio.run(go())

    assert harness.effects == []
    assert run.steps.get(name="spy_send").status == "started"


def test_a_pulled_switch_is_acknowledged_without_waiting_for_the_next_beat(monkeypatch):
    monkeypatch.setattr(workers, "BEAT", timedelta(seconds=600))
    watched, operator = Watched(), builders.an_actor()
    watched.lease.keep()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    acknowledge = worker.AsyncWorker.acknowledge
    heard = {switches.TOPIC: lambda: acknowledge(SimpleNamespace(lease=watched.lease))}
    listening = asyncio.run_coroutine_threadsafe(hearing.listen(heard), loop)

    def is_acknowledged() -> bool:  # until it has joined, it is told in vain
        switch = switches.engage(Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "", by=operator, reason="stop")
        time.sleep(0.5)
        seen, _, _ = workers.acknowledged(switch.epoch)
        switches.lift(switch.pk, by=operator, reason="again", phrase=switches.lift_phrase(switch))
        return seen == 1

    until(is_acknowledged)
    listening.cancel()
    watched.lease.give_up()
    loop.call_soon_threadsafe(loop.stop)
