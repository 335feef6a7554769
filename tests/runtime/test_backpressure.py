"""Work is turned away before it is accepted, with a time to come back; what was accepted stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils.timezone import now

from console import problems
from console.roles import Role
from runtime import backpressure
from runtime.models import Run
from runtime.states import Hold, RunPriority, RunStatus
from tests import builders
from tests.runtime import harness

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent():
    return builders.a_release(builders.an_agent("shop-support")).agent


def waiting(agent: Any, count: int = 1, **fields: Any) -> None:
    for _ in range(count):
        builders.a_run(RunStatus.QUEUED, agent=agent, **fields)


def guard(agent: Any, priority: str = RunPriority.INTERACTIVE) -> None:
    backpressure.guard(agent, priority)


def test_a_full_queue_takes_no_more_and_says_when_to_come_back(agent, settings):
    settings.QUEUE_LIMIT = 3
    waiting(agent, 2)
    guard(agent)

    waiting(agent)

    with pytest.raises(problems.TooMany, match="3 runs or more are waiting") as refused:
        guard(agent)
    assert refused.value.retry_after == 30
    assert Run.objects.count() == 3


def test_each_priority_has_a_queue_of_its_own(agent, settings):
    settings.QUEUE_LIMIT = 1
    waiting(agent, priority=RunPriority.EVALUATION)

    guard(agent, RunPriority.INTERACTIVE)
    with pytest.raises(problems.TooMany):
        guard(agent, RunPriority.EVALUATION)


def test_runs_that_wait_for_a_slot_count_and_those_that_wait_for_their_time_do_not(agent, settings):
    settings.QUEUE_LIMIT = 1
    waiting(agent, 2, held_for=Hold.TIMER, wake_at=now() + timedelta(hours=1))
    guard(agent)

    waiting(agent, held_for=Hold.SLOT, slots={"agent:shop-support": 1})

    with pytest.raises(problems.TooMany):
        guard(agent)


def test_one_agent_cannot_fill_the_queue_for_others(agent, settings):
    settings.AGENT_QUEUE_LIMIT = 2
    waiting(agent, 2)

    guard(builders.an_agent("another"))
    with pytest.raises(problems.TooMany, match="of Shop Support are waiting"):
        guard(agent)


def test_nothing_is_taken_in_while_a_run_waits_too_long(agent, settings):
    settings.QUEUE_OLDEST_SECONDS = 60
    waiting(agent, queued_at=now() - timedelta(seconds=59))
    guard(agent)

    waiting(agent, queued_at=now() - timedelta(seconds=90))

    with pytest.raises(problems.TooMany, match="has waited 90 s"):
        guard(agent)


def test_the_time_to_come_back_follows_what_ended_lately(agent, settings):
    settings.QUEUE_LIMIT = 10
    waiting(agent, 10)
    for _ in range(6):
        builders.a_run(agent=agent, finished_at=now())

    with pytest.raises(problems.TooMany) as refused:
        guard(agent)

    assert refused.value.retry_after == 10  # a tenth of the queue at 6 ends a minute


def test_delayed_runs_have_an_end_too(agent, monkeypatch):
    monkeypatch.setattr(backpressure, "MOST_DELAYED", 1)
    waiting(agent, held_for=Hold.TIMER, wake_at=now() + timedelta(hours=1))

    with pytest.raises(problems.TooMany):
        harness.start(agent.active_release, delay=timedelta(hours=1))


def test_the_counts_read_only_indexes(agent):
    waiting(agent, 50)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        plans = []
        for sql in (backpressure.DEPTH_SQL, backpressure.OF_AGENT_SQL):
            cursor.execute(f"EXPLAIN {sql}", {"agent": agent.pk, "priority": "interactive", "most": 2000})
            plans += [row[0] for row in cursor.fetchall()]

    scans = [line for line in plans if "Scan" in line and "runtime_run" in line]
    assert scans
    assert all("Index Only Scan" in line for line in scans), "\n".join(plans)


def test_the_form_says_why_and_keeps_what_was_typed(agent, settings):
    settings.QUEUE_LIMIT = 1
    waiting(agent)
    client = Client()
    client.force_login(builders.a_user(Role.OPERATOR))

    answer = client.post("/start/", {"agent": "shop-support", "text": "Please help me", "principal_id": "cus_1"})

    page = answer.content.decode()
    assert answer.status_code == 429
    assert "Nothing was started" in page
    assert "which is the limit" in page
    assert "Please help me" in page
