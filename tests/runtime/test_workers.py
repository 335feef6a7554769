"""Real worker processes, killed and deprived of Redis: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

import django_rq
import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from rq.job import JobStatus

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from console import queue
from console.actors import system
from releases import bundles, switches
from releases.models import Release
from releases.states import Scope, SwitchEffect
from runtime import jobs, tools, worker, workers
from runtime.models import Run, Step, Worker
from runtime.states import FINAL, RunStatus
from tests import builders
from tests.patience import PATIENCE_S, until
from tests.runtime import forgetful_worker, harness

pytestmark = pytest.mark.django_db(transaction=True)
MANAGE = settings.BASE_DIR / "manage.py"


class Processes:
    """Worker processes on the test database; ended with the test."""

    def __init__(self) -> None:
        name = connection.settings_dict["NAME"]
        self.env = os.environ | {
            "DATABASE_URL": urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}")),
            "STEADYHAND_TOOLS": '["tests.runtime.harness"]',
            "PYTHONPATH": str(settings.BASE_DIR),
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, slot: str = "w1", *, program: Sequence[str] = (str(MANAGE), "worker")) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, *program, "--slot", slot], env=self.env)
        self.running.append(process)
        return process

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def processes() -> Iterator[Processes]:
    for _ in harness.fresh():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS spy_sent (key text)")
            cursor.execute("TRUNCATE spy_sent")
        started = Processes()
        yield started
        started.stop()


def a_chaos_release(script: str = "chaos", **content: object) -> Release:
    use = ("spy_read", "spy_pay", "unsafe_send")
    manifests = [tools.known()[name].manifest.model_dump(mode="json") for name in use]
    budgets = bundles.Budgets().model_dump(mode="json")
    return builders.a_release(
        model={"provider": "scripted", "name": script}, tools=manifests, budgets=budgets, **content
    )


def finished(runs: list[Run]) -> bool:
    return not Run.objects.filter(pk__in=[run.pk for run in runs]).exclude(status__in=FINAL).exists()


def test_killed_workers_and_a_flushed_redis_lose_and_repeat_nothing(processes: Processes):
    release = a_chaos_release()
    runs = [harness.start(release, f"run {number}") for number in range(30)]
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    victim = processes.start()
    until(lambda: Run.objects.filter(status__in=[*FINAL, RunStatus.RUNNING]).exists())

    for _ in range(3):
        time.sleep(chance.uniform(0.02, 0.3))
        victim.kill()
        victim.wait()
        django_rq.get_connection(queue.RUNS).flushdb()
        victim = processes.start()
        until(lambda: Run.objects.filter(status__in=[*FINAL, RunStatus.RUNNING]).exists())
    until(lambda: finished(runs))

    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.SUCCEEDED}
    assert len(harness.paid()) == 30
    assert len({key.split(":")[0] for key, _ in harness.paid()}) == 30
    for run in Run.objects.all():
        done = [step.name for step in run.steps.filter(kind="tool", status="done")]
        assert done == ["spy_read", "spy_pay"]
        seqs = [*run.steps.values_list("seq", flat=True), *run.events.values_list("seq", flat=True)]
        assert len(seqs) == len(set(seqs))


def test_a_turn_that_stands_still_is_ended_and_its_run_goes_on(processes: Processes):
    """An error of ours in a worker that lives and keeps its lease: nobody else would ever free the run."""
    runs = [harness.start(a_chaos_release(), f"run {number}") for number in range(3)]
    processes.start(program=("-m", forgetful_worker.NAME))
    until(lambda: finished(runs))

    found = Run.objects.order_by("recoveries")
    assert [(run.status, run.recoveries) for run in found] == [(RunStatus.SUCCEEDED, count) for count in (0, 0, 1)]
    assert len(harness.paid()) == len(runs)
    [freed] = found[2].events.filter(kind="lease.lost")
    assert "stood still at" in freed.data["why"]
    assert "Engine.commit" in freed.data["why"]


def test_an_unsafe_call_in_flight_when_its_worker_dies_is_settled_never_repeated(processes: Processes):
    run = harness.start(a_chaos_release("unsafe-chaos"))
    victim = processes.start()
    until(lambda: sent() == 1)

    victim.kill()
    victim.wait()
    processes.start()
    until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)

    request = ApprovalRequest.objects.get()
    assert request.labels["approve"] == "It happened"
    requests.decide(request.pk, Verdict.APPROVE, by=system("test"), reason="seen in the outbox")
    until(lambda: finished([run]))
    assert Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED
    assert sent() == 1


def test_an_approval_wakes_a_run_and_a_waiting_run_holds_nothing(processes: Processes):
    rule = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment needs a person."}
    run = harness.start(a_chaos_release(rules=[rule]))
    processes.start()
    until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    redis = django_rq.get_connection(queue.RUNS)
    until(lambda: not redis.keys("rq:job:*"))
    assert Run.objects.get(pk=run.pk).worker is None

    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=system("test"), reason="")
    until(lambda: finished([run]))

    assert len(harness.paid()) == 1


def test_a_worker_gives_its_runs_back_when_it_is_stopped(processes: Processes):
    runs = [harness.start(a_chaos_release(), f"run {number}") for number in range(20)]
    first = processes.start("w1")
    until(lambda: Run.objects.filter(status__in=[RunStatus.RUNNING, *FINAL]).exists())

    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=PATIENCE_S) == 0
    assert not Run.objects.filter(status=RunStatus.RUNNING).exists()
    assert not Worker.objects.filter(ended_at__isnull=True).exists()

    processes.start("w2")
    until(lambda: finished(runs))
    assert len(harness.paid()) == 20


def test_a_new_life_in_a_slot_fences_the_one_before():
    old = workers.register("slot")
    run = builders.a_run(RunStatus.RUNNING, worker=old, fence=3)

    workers.register("slot")

    run.refresh_from_db()
    assert (run.status, run.worker, run.fence) == (RunStatus.QUEUED, None, 3)
    assert workers.beat(old.pk, -1) is None
    assert run.events.get().kind == "lease.lost"


def test_the_reconciler_frees_the_runs_of_an_expired_lease():
    life = workers.register("slot")
    run = builders.a_run(RunStatus.RUNNING, worker=life, fence=1)
    Worker.objects.filter(pk=life.pk).update(lease_until=life.started_at)

    found = workers.reconcile()

    assert found is not None and found.orphans == [run.pk]
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    jobs_queued = django_rq.get_queue(queue.RUNS).job_ids
    assert jobs_queued == [f"{run.public_id}-1"]


def test_only_one_reconciler_works_at_a_time():
    with psycopg.connect(worker.conninfo()) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [workers.RECONCILER_LOCK])

        assert workers.reconcile() is None


def test_no_call_starts_after_the_commit_of_a_kill_switch(processes: Processes):
    """Many runs in flight, a switch in the middle: every intent was committed before the switch, or refused."""
    release = a_chaos_release()
    runs = [harness.start(release, f"run {number}") for number in range(40)]
    processes.env["STEADYHAND_TURNS_AT_ONCE"] = "3"  # so that most of them still have their payment before them
    processes.start("w1")
    processes.start("w2")
    until(lambda: len(harness.paid()) >= 3)

    switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "spy_pay", by=system("test"), reason="stop")
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM runtime_step WHERE name = 'spy_pay'")
        before = {row[0] for row in cursor.fetchall()}
    until(lambda: finished(runs))

    started = set(Step.objects.filter(run__in=runs, name="spy_pay").values_list("pk", flat=True))
    assert started <= before
    assert Run.objects.filter(steps__rule="kill_switch").exists()


def test_engaging_waits_for_an_intent_that_is_being_committed():
    """The two sides of the switch lock: remove either and this fails."""
    a_chaos_release()
    order: list[str] = []
    with psycopg.connect(worker.conninfo()) as intent:
        intent.execute("SELECT pg_advisory_xact_lock_shared(%s)", [switches.SWITCH_LOCK])

        def engage() -> None:
            switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "spy_pay", by=system("test"), reason="stop")
            order.append("switch")
            connection.close()

        engaging = threading.Thread(target=engage)
        engaging.start()
        time.sleep(0.3)
        order.append("intent")
        intent.commit()
        engaging.join(timeout=PATIENCE_S)

    assert order == ["intent", "switch"]


@pytest.mark.parametrize(
    "forged",
    [
        ("os.system", ["id"]),
        ("runtime.runs.create", ["x"]),
        ("runtime.jobs.run_turn", [{"id": 1}]),
        ("runtime.jobs.run_turn", ["x" * 100]),
    ],
)
def test_a_forged_job_is_not_executed(forged):
    function, args = forged
    job = queue.Job.create(function, args=args, connection=django_rq.get_connection(queue.RUNS), serializer="json")

    with pytest.raises(queue.ForgedJob):
        job.perform()


def test_a_forged_callback_is_not_followed():
    job = queue.Job.create(jobs.sweep_callbacks, connection=django_rq.get_connection(queue.RUNS))
    job._success_callback_name = "os.getcwd"

    assert job.success_callback is None


def test_a_replayed_job_of_a_finished_run_changes_nothing(processes: Processes):
    run = harness.start(a_chaos_release())
    processes.start()
    until(lambda: finished([run]))
    before = Run.objects.values().get(pk=run.pk)

    django_rq.get_queue(queue.RUNS).enqueue_call(
        "runtime.jobs.run_turn", args=(run.public_id,), result_ttl=60, job_id="again"
    )
    again = django_rq.get_queue(queue.RUNS).fetch_job("again")
    until(lambda: again is None or again.get_status(refresh=True) == JobStatus.FINISHED)

    assert Run.objects.values().get(pk=run.pk) == before
    assert len(harness.paid()) == 1


def sent() -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM spy_sent")
        return int(cursor.fetchone()[0])
