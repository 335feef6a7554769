"""What the reconciler finds and mends, pass by pass, without worker processes."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import django_rq
import psycopg
import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.utils.timezone import now

from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console import alarms, queue
from runtime import recovery, worker, workers
from runtime.models import Run, Worker
from runtime.states import RunPriority, RunStatus, StepKind, StepStatus
from tests import builders
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _fresh():
    alarms._raised.clear()
    yield from harness.fresh()


def dies_over(run: Run, slot: str = "slot") -> Run:
    """A worker claims the run and dies; the next life in its slot frees it."""
    life = workers.register(slot)
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, worker=life, fence=run.fence + 1, turn_started_at=now(), wake_at=None
    )
    workers.register(slot)
    run.refresh_from_db()
    return run


def waits_s(run: Run) -> float:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM wake_at - clock_timestamp()) FROM runtime_run WHERE id = %s", [run.pk]
        )
        return float(cursor.fetchone()[0] or 0)


def queued(name: str = queue.RUNS) -> list[str]:
    return list(django_rq.get_queue(name).job_ids)


def test_a_run_that_kills_its_workers_waits_longer_each_time_and_then_fails_with_its_evidence():
    run = builders.a_run(RunStatus.QUEUED)

    waits = [round(waits_s(dies_over(run))) for _ in range(recovery.MOST_RECOVERIES)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60]
    assert run.status == RunStatus.QUEUED

    dies_over(run)

    assert (run.status, run.cause, run.worker) == (RunStatus.FAILED, "recovery_limit", None)
    deaths = list(run.events.filter(kind="lease.lost"))
    assert len(deaths) == recovery.MOST_RECOVERIES + 1
    last = run.events.get(kind="run.finished")
    assert [told["worker"] for told in last.data["workers"]] == [death.data["worker"] for death in deaths]
    assert "slot (pid" in run.cause_detail
    step = run.steps.order_by("seq").last()
    assert (step.kind, step.status, step.error) == (StepKind.ANSWER, StepStatus.FAILED, "recovery_limit")
    assert queued().count(f"{run.public_id}-{run.fence}") == 0


def test_progress_forgives_the_deaths_before_it():
    run = builders.a_run(RunStatus.QUEUED)
    for _ in range(recovery.MOST_RECOVERIES):
        dies_over(run)
    Run.objects.filter(pk=run.pk).update(steps_used=3)

    dies_over(run)

    assert (run.status, run.recoveries) == (RunStatus.QUEUED, 1)
    assert waits_s(run) == 0


def test_a_worker_that_ends_in_order_is_no_death():
    life = workers.register("slot")
    run = builders.a_run(RunStatus.RUNNING, worker=life, fence=1)

    workers.end(life.pk)

    run.refresh_from_db()
    assert (run.status, run.recoveries, run.wake_at) == (RunStatus.QUEUED, 0, None)
    assert run.events.get().kind == "run.yielded"
    assert queued() == [f"{run.public_id}-1"]


def test_a_call_that_was_open_when_the_run_was_given_up_is_not_said_to_have_failed():
    run = builders.a_run(RunStatus.QUEUED, recoveries=recovery.MOST_RECOVERIES)
    step = builders.a_step(run, status=StepStatus.STARTED)

    dies_over(run)

    step.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert step.status == StepStatus.UNKNOWN


def test_a_run_held_without_a_turn_is_released_and_others_are_not():
    life = workers.register("slot")
    lost, kept, fresh = (
        builders.a_run(RunStatus.RUNNING, worker=life, fence=1, turn_started_at=now() - age)
        for age in (LONG_AGO, LONG_AGO, timedelta(0))
    )
    other = builders.a_run(
        RunStatus.RUNNING, worker=workers.register("other"), fence=1, turn_started_at=now() - LONG_AGO
    )

    held = recovery.held_longer(life.pk, timedelta(seconds=3))
    released = recovery.release(life.pk, [lost.pk, other.pk], why="nobody works on it")

    assert set(held) == {lost.pk, kept.pk}
    assert released == [lost.pk]
    statuses = {run.pk: run.status for run in Run.objects.all()}
    assert statuses[lost.pk] == RunStatus.QUEUED
    assert {statuses[run.pk] for run in (kept, fresh, other)} == {RunStatus.RUNNING}


def test_forgotten_runs_go_into_the_queue_of_their_priority_once():
    runs = {
        priority: builders.a_run(RunStatus.QUEUED, priority=priority, queued_at=now() - LONG_AGO)
        for priority in RunPriority
    }
    builders.a_run(RunStatus.QUEUED)  # just now: its job is on its way
    builders.a_run(RunStatus.QUEUED, queued_at=now() - LONG_AGO, wake_at=now() + LONG_AGO)
    due = builders.a_run(RunStatus.QUEUED, wake_at=now() - timedelta(seconds=1))

    for _ in range(3):  # a queue that stands still is not made longer by each pass
        found = workers.reconcile()

    assert found is not None and set(found.forgotten) == {due.pk, *(run.pk for run in runs.values())}
    assert set(queued()) == {f"{runs[RunPriority.INTERACTIVE].public_id}-0", f"{due.public_id}-0"}
    assert len(queued()) == 2
    assert queued(queue.BACKGROUND) == [f"{runs[RunPriority.BACKGROUND].public_id}-0"]
    assert queued(queue.EVALUATION) == [f"{runs[RunPriority.EVALUATION].public_id}-0"]
    django_rq.get_connection(queue.RUNS).flushdb()
    workers.reconcile()
    assert len(queued()) == 2


@pytest.mark.parametrize("status", ["started", "queued"])  # died after the start was noted, or with the id in its hands
def test_a_job_that_was_taken_but_never_claimed_is_queued_again(status):
    run = builders.a_run(RunStatus.QUEUED, queued_at=now() - LONG_AGO)
    workers.reconcile()
    redis = django_rq.get_connection(queue.RUNS)
    redis.lpop(f"rq:queue:{queue.RUNS}")
    redis.hset(f"rq:job:{run.public_id}-0", "status", status)

    workers.reconcile()

    assert queued() == [f"{run.public_id}-0"]


def test_what_was_put_there_lately_is_not_asked_for_each_second():
    builders.a_run(RunStatus.QUEUED, queued_at=now() - LONG_AGO)
    lately: dict = {}

    found = [workers.reconcile(lately=lately) for _ in range(2)]

    assert [len(each.forgotten) for each in found] == [1, 0]


def test_an_error_in_the_middle_leaves_everything_for_the_next_pass(monkeypatch):
    life = workers.register("slot")
    run = builders.a_run(RunStatus.RUNNING, worker=life, fence=1)
    Worker.objects.filter(pk=life.pk).update(lease_until=life.started_at)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'broken'; END $$;"
            "CREATE TRIGGER broken BEFORE INSERT ON runtime_runevent FOR EACH ROW EXECUTE FUNCTION broken()"
        )
    try:
        with pytest.raises(DatabaseError, match="broken"):
            workers.reconcile()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER broken ON runtime_runevent; DROP FUNCTION broken()")
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING

    assert workers.reconcile().orphans == [run.pk]


def test_a_full_disk_raises_an_alarm_and_leaves_the_run_for_later(settings):
    """PostgreSQL's own error for it, in the middle of a turn."""
    run = harness.start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Paid.")))
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON runtime_step FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
    try:
        harness.work(run)
        run.refresh_from_db()
        assert run.status == RunStatus.QUEUED
        assert alarms.current() == [alarms.DISK_FULL]
        assert Client().get("/readyz").json()["alarms"] == ["disk_full"]
        admin = Client()
        admin.force_login(builders.a_user("admin"))
        assert "disk of the database is full" in admin.get("/queues/").content.decode()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full_disk ON runtime_step; DROP FUNCTION full_disk()")

    assert harness.work(run).status == RunStatus.SUCCEEDED
    assert len(harness.paid()) == 1


def a_waiting_run() -> tuple[Run, ApprovalRequest]:
    """Parked by the engine, and so long ago that a decision would have woken it."""
    rule = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment needs a person."}
    script = saying(calling("spy_pay", order_id="1", amount="5.00"), "Paid.")
    run = harness.work(harness.start(a_scripted_release(script, rules=[rule])))
    assert run.status == RunStatus.WAITING
    Run.objects.filter(pk=run.pk).update(waiting_since=now() - LONG_AGO)
    return run, ApprovalRequest.objects.get()


def test_a_run_that_waits_for_an_open_request_is_left_alone():
    _, request = a_waiting_run()

    assert workers.reconcile().mended == []
    request.refresh_from_db()
    assert request.status == ApprovalStatus.PENDING


def test_a_run_whose_request_was_decided_without_it_is_told():
    run, request = a_waiting_run()
    ApprovalRequest.objects.filter(pk=request.pk).update(status=ApprovalStatus.APPROVED, decided_at=now())
    builders.a_decision(request, Verdict.APPROVE, by_kind="system")

    assert workers.reconcile().mended == [run.pk]

    assert Run.objects.get(pk=run.pk).status == RunStatus.QUEUED
    assert harness.work(run).status == RunStatus.SUCCEEDED
    assert len(harness.paid()) == 1


@pytest.mark.parametrize("fate", ["void", "gone"])
def test_a_run_whose_request_cannot_be_decided_any_more_fails_and_says_so(fate):
    run, request = a_waiting_run()
    if fate == "void":
        ApprovalRequest.objects.filter(pk=request.pk).update(status=ApprovalStatus.VOID)
    else:
        request.events.all().delete()
        request.delete()

    assert workers.reconcile().mended == [run.pk]

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.FAILED, "approval_lost")
    assert run.steps.order_by("seq").last().kind == StepKind.ANSWER
    assert not run.steps.filter(status=StepStatus.STARTED).exists()
    assert harness.paid() == []


def test_an_expired_request_expires_its_run():
    run, request = a_waiting_run()
    ApprovalRequest.objects.filter(pk=request.pk).update(status=ApprovalStatus.EXPIRED)

    workers.reconcile()

    assert Run.objects.get(pk=run.pk).status == RunStatus.EXPIRED


def test_an_open_request_of_a_run_that_has_ended_is_void():
    run, request = a_waiting_run()
    Run.objects.filter(pk=run.pk).update(status=RunStatus.CANCELLED, finished_at=now() - LONG_AGO)

    workers.reconcile()

    request.refresh_from_db()
    assert request.status == ApprovalStatus.VOID


def test_a_request_that_is_being_decided_right_now_is_not_overtaken():
    """The request is locked before the run, as a deciding person does; whoever decides goes first."""
    run, request = a_waiting_run()
    ApprovalRequest.objects.filter(pk=request.pk).update(status=ApprovalStatus.VOID)
    with psycopg.connect(worker.conninfo()) as person:
        person.execute("SELECT 1 FROM approvals_approvalrequest WHERE id = %s FOR UPDATE", [request.pk])
        person.execute("UPDATE approvals_approvalrequest SET status = 'pending' WHERE id = %s", [request.pk])
        mending = harness.in_background(lambda: (workers.reconcile(), connection.close()))
        mending.join(1)
        assert mending.is_alive()
        person.commit()
        mending.join(10)

    assert Run.objects.get(pk=run.pk).status == RunStatus.WAITING


def a_held_run(life: Worker, held: timedelta = LONG_AGO) -> Run:
    """`held`: how long ago this life has taken it."""
    return builders.a_run(RunStatus.RUNNING, worker=life, fence=1, turn_started_at=now() - held)


def test_whoever_holds_one_run_and_does_not_go_on_holds_up_no_other():
    dead = workers.register("dead")
    stuck, other = a_held_run(dead), a_held_run(dead)
    Worker.objects.filter(pk=dead.pk).update(ended_at=now())
    with psycopg.connect(worker.conninfo()) as frozen:
        frozen.execute("SELECT 1 FROM runtime_run WHERE id = %s FOR UPDATE", [stuck.pk])
        reconciling = harness.in_background(lambda: (workers.reconcile(), connection.close()))
        reconciling.join(10)
        freed = Run.objects.get(pk=other.pk).status
        frozen.rollback()
        reconciling.join(10)

    assert freed == RunStatus.QUEUED
    workers.reconcile()
    assert Run.objects.get(pk=stuck.pk).status == RunStatus.QUEUED


def test_a_run_that_cannot_be_ended_does_not_keep_others_from_being_freed(monkeypatch):
    dead = workers.register("dead")
    poisoned, other = a_held_run(dead), a_held_run(dead)
    Run.objects.filter(pk=poisoned.pk).update(recoveries=recovery.MOST_RECOVERIES)
    Worker.objects.filter(pk=dead.pk).update(ended_at=now())

    def broken(run: Run, *said: str, evidence: dict) -> None:
        Run.objects.filter(pk=run.pk).update(cause="half ended")
        raise LookupError("an error of ours")

    monkeypatch.setattr(recovery, "fail", broken)
    workers.reconcile()

    assert Run.objects.get(pk=other.pk).status == RunStatus.QUEUED
    poisoned.refresh_from_db()
    assert (poisoned.status, poisoned.cause) == (RunStatus.QUEUED, "")
    assert waits_s(poisoned) > recovery.LONGEST_BACKOFF_S - 5


def test_a_run_that_its_worker_has_taken_again_since_it_was_missed_stays_with_it():
    life = workers.register("test")
    missed, taken_again = a_held_run(life), a_held_run(life, timedelta(0))

    freed = recovery.release(life.pk, [missed.pk, taken_again.pk], why="test", held_longer=timedelta(seconds=3))

    assert freed == [missed.pk]
    assert Run.objects.get(pk=taken_again.pk).status == RunStatus.RUNNING


def test_what_goes_wrong_with_one_duty_of_the_reconciler_keeps_no_other_from_being_done(monkeypatch):
    done: list[str] = []

    def duty(name: str) -> Any:
        def broken(*args: Any, **options: Any) -> None:
            done.append(name)
            raise LookupError("an error of ours")

        return broken

    class Passes:
        left = 3

        def wait(self, seconds: float) -> bool:
            self.left -= 1
            return self.left < 0

    names = ["_release_what_nobody_works_on", "_release_what_stands_still", "_claim_without_redis"]
    for name in names:
        monkeypatch.setattr(worker.AsyncWorker, name, duty(name))
    monkeypatch.setattr(workers, "reconcile", duty("reconcile"))
    one = object.__new__(worker.AsyncWorker)
    vars(one).update(_over=Passes(), stopped_at=None, intake=SimpleNamespace(is_away=True))

    one._reconcile()

    assert done == ["reconcile", names[2]] * 2 + ["reconcile", *names]
