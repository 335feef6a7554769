from __future__ import annotations

import os
import pickle

import django_rq
import pytest
from django.test import Client
from redis.exceptions import ConnectionError as RedisAway
from rq.results import Result

from console import queue
from console.models import AuditEntry
from console.roles import Role
from tests.builders import a_user

# Jobs reach the queue when the transaction commits, so there has to be a real one.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(a_user(Role.ADMIN))
    return client


def test_the_queues_are_counted(admin):
    waiting = django_rq.get_queue(queue.CHORES)
    waiting.enqueue_call("approvals.jobs.expire", args=("apr_1",))

    html = admin.get("/queues/").content.decode()

    assert [row["queued"] for row in admin.get("/queues/").context["queues"]] == [0, 0, 0, 1, 0]
    assert "No worker is running" in html


def test_a_failed_job_is_told_with_its_error_and_without_secrets(admin):
    waiting = django_rq.get_queue(queue.CHORES)
    job = waiting.enqueue_call("approvals.jobs.expire", args=("<b>apr_1</b>",))
    waiting.failed_job_registry.add(job)
    Result.create_failure(job, 60, "Traceback\nValueError: password=hunter2222 is wrong")

    html = admin.get("/queues/").content.decode()

    assert "approvals.jobs.expire" in html
    assert "<b>apr_1</b>" not in html
    assert "ValueError: password=•••" in html
    assert "hunter2222" not in html


def test_each_control_does_its_work_and_is_audited(admin):
    waiting = django_rq.get_queue(queue.CHORES)
    failed = waiting.enqueue_call("approvals.jobs.expire", args=("apr_1",))
    waiting.remove(failed)
    waiting.failed_job_registry.add(failed)
    Result.create_failure(failed, 60, "Traceback\nValueError: wrong")
    other = waiting.enqueue_call("approvals.jobs.expire", args=("apr_2",))
    fields = {"queue": queue.CHORES, "reason": "Tidying up."}
    page = admin.get("/queues/").content.decode()
    assert "Requeue failed" in page and "Suspend" in page

    assert admin.post("/queues/requeue/", fields).status_code == 302
    assert set(waiting.job_ids) == {failed.id, other.id}
    assert waiting.failed_job_registry.count == 0
    assert admin.post("/queues/delete/", {**fields, "job": other.id}).status_code == 302
    assert waiting.job_ids == [failed.id] and waiting.fetch_job(other.id) is None
    assert admin.post("/queues/empty/", fields).status_code == 302
    assert waiting.count == 0
    assert admin.post("/queues/suspend/", {"reason": "Maintenance."}).status_code == 302
    assert "Workers are suspended" in admin.get("/queues/").content.decode()
    assert admin.post("/queues/resume/", {"reason": "Done."}).status_code == 302
    assert admin.post("/queues/stop/", {**fields, "job": "gone"}).status_code == 302

    said = list(AuditEntry.objects.order_by("id").values_list("action", "object_id"))
    assert said == [
        ("queue.requeue", "chores"), ("queue.delete", "chores"), ("queue.empty", "chores"),
        ("queue.suspend", "all"), ("queue.resume", "all"), ("queue.stop_job", "chores"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/queues/empty/", {"queue": "chores"}, 422),
        ("/queues/empty/", {"queue": "other", "reason": "Why not."}, 404),
        ("/queues/suspend/", {"reason": "x" * 501}, 422),
    ],
)
def test_a_control_needs_a_reason_and_a_queue_of_ours(admin, path, fields, status):
    django_rq.get_queue(queue.CHORES).enqueue_call("approvals.jobs.expire", args=("apr_1",))

    assert admin.post(path, fields).status_code == status

    assert django_rq.get_queue(queue.CHORES).count == 1
    assert not AuditEntry.objects.exists()


def test_a_control_that_redis_did_not_take_is_not_said_to_have_happened(admin, monkeypatch):
    monkeypatch.setitem(django_rq.settings.QUEUES[queue.CHORES], "URL", "redis://127.0.0.1:1/0")

    assert admin.post("/queues/suspend/", {"reason": "Maintenance."}).status_code == 503

    assert not AuditEntry.objects.exists()


def test_a_worker_that_writes_pickle_into_redis_reaches_nothing(admin, tmp_path):
    """django-rq's own page of workers would load it."""
    mark = tmp_path / "executed"
    redis = django_rq.get_connection(queue.CHORES)
    redis.sadd("rq:workers", "rq:worker:evil")
    redis.hset("rq:worker:evil", mapping={"birth": "never", "last_heartbeat": "x", "pid": "y", "state": "busy"})
    bomb = pickle.dumps(_Bomb(f"touch {mark}"))
    redis.hset("rq:job:bomb", mapping={"data": bomb, "meta": bomb, "result": bomb, "status": "failed"})
    redis.zadd("rq:failed:chores", {"bomb": 2**40})
    redis.zadd("rq:wip:chores", {"bomb:1": 2**40})

    page = admin.get("/queues/")
    admin.post("/queues/requeue/", {"queue": "chores", "reason": "x"})
    admin.post("/queues/delete/", {"queue": "chores", "job": "bomb", "reason": "x"})

    assert page.status_code == 200
    assert not mark.exists()
    assert not redis.exists("rq:job:bomb")


class _Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_the_page_opens_while_redis_is_away(admin, monkeypatch):
    def away(*args):
        raise RedisAway("refused")

    monkeypatch.setattr(django_rq, "get_queue", away)

    assert "The queue server does not answer" in admin.get("/queues/").content.decode()
