"""The health of the queue: counted right, for the right people, and with the same few queries at any size."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from console import ids, live
from console.roles import Role
from releases.models import SwitchEpoch
from runtime import health, workers
from runtime.models import Run, RunEvent, Worker
from runtime.policies.waiting import Reason
from runtime.states import Hold, RunPriority, RunStatus
from tests.builders import a_release, a_run, a_switch, an_actor, an_agent, an_event
from tests.programs import Program
from tests.runtime.test_run_views import signed_in, text_of

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12


@pytest.fixture(autouse=True)
def no_old_alarm():
    cache.delete(health.ALARM_KEY)
    yield
    cache.delete(health.ALARM_KEY)


def ago(**span) -> dict:
    moment = now() - timedelta(**span)
    return {"created_at": moment, "queued_at": moment}


def read(role: Role = Role.OPERATOR, **grant):
    return health.read(an_actor(role, **grant), now())


def a_worker(slot: str = "one", **fields) -> Worker:
    values = {"host": "box", "pid": 7, "lease_until": now() + timedelta(seconds=10), **fields}
    return Worker.objects.create(slot=slot, **values)


def counts(found) -> dict[str, int]:
    return {reason.value: group.count for reason, group in found.reasons.items() if group.count}


def test_waiting_runs_are_counted_by_reason_with_the_oldest_of_each():
    oldest = a_run(RunStatus.QUEUED, title="Oldest", **ago(minutes=9))
    a_run(RunStatus.QUEUED, **ago(minutes=1))
    a_run(RunStatus.QUEUED, wake_at=now() + timedelta(hours=1))
    a_run(RunStatus.QUEUED, held_for=Hold.SLOT, wait_reason="rate_limit")
    a_run(RunStatus.QUEUED, held_for=Hold.THREAD, wait_reason="thread")
    a_run(RunStatus.QUEUED, wait_reason="budget", wake_at=now() + timedelta(hours=1))
    a_run(RunStatus.WAITING)
    a_run(RunStatus.PAUSED)
    a_run(RunStatus.RUNNING)
    a_run(RunStatus.SUCCEEDED)

    found = read()

    assert counts(found) == {
        "worker": 2, "timer": 1, "rate_limit": 1, "thread": 1, "budget": 1, "person": 1, "paused": 1,
    }  # fmt: skip
    assert found.running.count == 1
    assert found.ready.oldest.run_id == oldest.pk
    assert found.ready.oldest.since == oldest.created_at


def test_a_run_that_was_enqueued_again_still_waits_since_it_came():
    run = a_run(RunStatus.QUEUED, created_at=now() - timedelta(minutes=9), queued_at=now())

    assert read().ready.oldest.since == run.created_at


def test_a_run_whose_time_has_come_waits_since_then():
    due = now() - timedelta(seconds=30)
    a_run(RunStatus.QUEUED, wake_at=due, **ago(hours=3))

    assert read().ready.oldest.since == due


def test_new_runs_of_a_paused_agent_wait_for_the_switch():
    stopped = an_agent("stopped")
    a_release(stopped)
    a_switch("pause_runs", "agent", "stopped")
    a_run(RunStatus.QUEUED, agent=stopped)
    a_run(RunStatus.QUEUED, agent=stopped, started_at=now())
    a_run(RunStatus.QUEUED)

    assert counts(read()) == {"switch": 1, "worker": 2}


def test_queues_and_agents_are_told_apart():
    shop, desk = an_agent("shop", "Shop"), an_agent("desk", "Desk")
    a_run(RunStatus.QUEUED, agent=shop, priority=RunPriority.BACKGROUND)
    a_run(RunStatus.RUNNING, agent=shop)
    a_run(RunStatus.WAITING, agent=desk)

    found = read()

    assert [(part.label, part.ready.count, part.running.count, part.other.count) for part in found.agents] == [
        ("Shop", 1, 1, 0),
        ("Desk", 0, 0, 1),
    ]
    assert [part.ready.count for part in found.priorities] == [0, 1, 0]


def test_somebody_of_one_agent_sees_that_agents_runs_only():
    a_run(RunStatus.QUEUED, agent=an_agent("mine"))
    foreign = a_run(RunStatus.QUEUED, agent=an_agent("foreign"), title="Not for them")
    an_event(foreign, "lease.lost", data={"slot": "one"})

    found = read(agent="mine")

    assert counts(found) == {"worker": 1}
    assert found.recoveries == []
    assert "Not for them" not in text_of(signed_in(Role.OPERATOR, agent="mine").get("/queue/"))


def test_workers_say_what_they_hold_and_what_they_have_seen():
    SwitchEpoch.objects.update_or_create(pk=1, defaults={"epoch": 4, "changed_at": now()})
    good = a_worker("one", seen_switch_epoch=4, version="2026.11", capacity=200)
    a_worker("two", seen_switch_epoch=3)
    a_worker("three", lease_until=now() - timedelta(seconds=1))
    a_run(RunStatus.RUNNING, worker=good)
    a_run(RunStatus.RUNNING, worker=good)

    found = read()

    assert [(life.worker.slot, life.in_flight, life.is_behind, life.is_expired) for life in found.alive] == [
        ("one", 2, False, False),
        ("three", 0, True, True),
        ("two", 0, True, False),
    ]
    assert found.capacity == 200


def test_a_life_that_died_is_told_from_one_that_ended():
    a_worker("one", lease_until=now() - timedelta(minutes=5), ended_at=now() - timedelta(minutes=4))
    a_worker("two", lease_until=now() - timedelta(minutes=2), ended_at=now() - timedelta(minutes=3))
    a_worker("old", lease_until=now() - timedelta(hours=3), ended_at=now() - timedelta(hours=3))

    assert {life.worker.slot: life.is_expired for life in read().dead} == {"one": True, "two": False}


def test_recoveries_are_listed_with_their_run_and_counted_for_the_worker():
    worker = a_worker("one")
    run = a_run(RunStatus.RUNNING, title="Rescued")
    an_event(run, "lease.lost", data={"worker": str(worker.pk), "slot": "one", "recovery": 2})
    an_event(run, "lease.lost", at=now() - timedelta(hours=2), data={"worker": str(worker.pk)})

    found = read()

    assert [(one.title, one.slot, one.number) for one in found.recoveries] == [("Rescued", "one", 2)]
    assert found.alive[0].recovered == 1


def test_rates_are_those_of_the_last_minutes():
    for _ in range(10):
        a_run(RunStatus.QUEUED)
    a_run(created_at=now() - timedelta(hours=1), finished_at=now() - timedelta(minutes=1))
    a_run(created_at=now() - timedelta(hours=1), finished_at=now() - timedelta(minutes=50))

    found = read()

    assert (found.accepted_per_minute, found.finished_per_minute) == (2.0, 0.2)


def test_titles_are_masked_for_those_who_only_look_on():
    a_run(RunStatus.QUEUED, title="Write to ana@example.com")

    assert "ana@" in read().ready.oldest.title
    assert "ana@" not in read(Role.AUDITOR).ready.oldest.title


# The page, the strip, the interface


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    return len(asked)


def test_the_number_of_queries_does_not_grow_with_the_queue():
    client = signed_in()
    client.get("/queue/")
    few = queries(client, "/queue/")

    for number in range(12):
        agent = an_agent(f"agent-of-{number}")
        a_run(RunStatus.QUEUED, agent=agent)
        run = a_run(RunStatus.RUNNING, agent=agent, worker=a_worker(f"slot-{number}"))
        an_event(run, "lease.lost", data={"slot": "one"})

    assert queries(client, "/queue/") == few <= MOST_QUERIES


def test_nothing_is_looked_for_among_finished_runs():
    for status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
        template = a_run(status)
        Run.objects.bulk_create(
            Run(**{**_columns(template), "id": ids.new(), "thread_id": template.thread_id}) for _ in range(1500)
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runtime_run")
        asked = {"now": now(), "unfinished": health.UNFINISHED, "agents": None}
        cursor.execute("EXPLAIN " + health.GROUPS_SQL, asked)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Seq Scan on runtime_run" not in plan, plan


def _columns(run: Run) -> dict:
    return {field.attname: getattr(run, field.attname) for field in Run._meta.concrete_fields}


def test_the_page_says_what_waits_and_who_works():
    a_worker("worker-1", version="2026.11.3", capacity=200)
    a_run(RunStatus.QUEUED, title="A patient run")

    page = text_of(signed_in().get("/queue/"))

    assert "A patient run" in page
    assert "worker-1" in page
    assert "2026.11.3" in page
    assert "0 of 200" in page


def test_an_empty_installation_says_so():
    page = text_of(signed_in().get("/queue/"))

    assert "No worker is running" in page
    assert "No run is unfinished" in page
    assert "Nothing had to be recovered" in page


@pytest.mark.parametrize(
    ("waits", "lives", "told"),
    [
        (timedelta(seconds=10), True, ""),
        (timedelta(minutes=5), True, "Runs wait too long for a worker."),
        (timedelta(seconds=10), False, "No worker is running."),
        (None, False, "No worker is running."),
        (None, True, ""),
    ],
)
def test_the_strip_speaks_up_when_runs_are_left_waiting(waits, lives, told):
    if lives:
        a_worker()
    if waits:
        a_run(RunStatus.QUEUED, created_at=now() - waits)

    page = text_of(signed_in().get("/queue/strip/"))

    assert (told in page) if told else not page.strip()


def test_runs_that_wait_for_something_else_are_no_alarm():
    a_worker()
    a_switch("pause_runs", "everything", "")
    a_run(RunStatus.QUEUED, started_at=None, **ago(hours=1))
    a_run(RunStatus.QUEUED, held_for=Hold.SLOT, **ago(hours=1))
    a_run(RunStatus.QUEUED, wake_at=now() + timedelta(hours=1), **ago(hours=1))

    assert health.alarm(now()) is None


def test_an_alarm_is_looked_up_once_for_all_pages_of_a_moment():
    client = signed_in()
    client.get("/queue/strip/")
    with CaptureQueriesContext(connection) as asked:
        client.get("/queue/strip/")

    assert not [query for query in asked if "runtime_worker" in query["sql"]]


def test_programs_read_the_same_figures():
    worker = workers.register("slot-1")
    run = a_run(RunStatus.QUEUED)
    a_run(RunStatus.RUNNING, worker=worker)

    answer = Program("health.read").get("/queue")

    assert answer.status_code == 200
    told = answer.json()
    assert told["waiting"]["worker"]["count"] == 1
    assert told["waiting"]["worker"]["oldest_run_id"] == run.public_id
    assert set(told["waiting"]) == {reason.value for reason in Reason}
    assert [(one["slot"], one["in_flight"]) for one in told["workers"]] == [("slot-1", 1)]
    assert Program("runs.read").get("/queue").status_code == 403
    assert RunEvent.objects.count() == 0


def test_a_list_says_why_each_run_waits_and_asks_for_switches_once():
    for number in range(3):
        stopped = an_agent(f"stopped-{number}")
        a_switch("pause_runs", "agent", stopped.slug)
        a_run(RunStatus.QUEUED, agent=stopped)
    a_run(RunStatus.QUEUED, held_for=Hold.SLOT, wait_reason="rate_limit")
    a_run(RunStatus.QUEUED, wait_reason="rate_limit")  # that was before
    a_run(RunStatus.WAITING)
    a_run(RunStatus.RUNNING, wait_reason="rate_limit")

    with CaptureQueriesContext(connection) as asked:
        items = Program("runs.read").get("/runs").json()["items"]
    about_switches = [query for query in asked if "releases_killswitch" in query["sql"]]
    page = text_of(signed_in().get("/runs/"))

    assert [item["wait_reason"] for item in items] == [
        "", "person", "worker", "rate_limit", "switch", "switch", "switch",
    ]  # fmt: skip
    assert len(about_switches) == 1
    assert page.count("Waits for a kill switch") == 3
    assert "Waits for a rate limit" in page
    assert "Waits for a worker" in page


def test_pages_are_told_when_a_worker_comes_or_goes(monkeypatch, django_capture_on_commit_callbacks):
    told: list[str] = []
    monkeypatch.setattr(live, "send", lambda *topics: told.extend(topics))

    with django_capture_on_commit_callbacks(execute=True):
        life = workers.register("told-1")
    assert health.TOPIC in told
    told.clear()
    with django_capture_on_commit_callbacks(execute=True):
        workers.end(life.pk)

    assert health.TOPIC in told
