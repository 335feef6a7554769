from __future__ import annotations

import django_rq
import pytest
from django.test import Client
from redis.exceptions import ConnectionError as RedisAway
from rq.results import Result

from console import queue
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

    assert [row["queued"] for row in admin.get("/queues/").context["queues"]] == [0, 1]
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


def test_the_page_opens_while_redis_is_away(admin, monkeypatch):
    def away(*args):
        raise RedisAway("refused")

    monkeypatch.setattr(django_rq, "get_queue", away)

    assert "The queue server does not answer" in admin.get("/queues/").content.decode()
