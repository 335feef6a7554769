"""The page of a conversation, the pages of memory, and going on while a run is at work."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.models import AuditEntry
from console.roles import Role
from runtime.models import Memory, Run
from runtime.states import Hold, RunStatus
from tests import builders

pytestmark = pytest.mark.django_db

QUERIES = 14


def signed_in(role: Role = Role.OPERATOR, **options: str) -> Client:
    client = Client()
    client.force_login(builders.a_user(role, **options))
    return client


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def thread():
    release = builders.a_release(builders.an_agent("shop-support"))
    thread = builders.a_thread(release.agent)
    builders.a_run(agent=release.agent, thread=thread, input_text="Where is my order?", answer="On its way.")
    return thread


def address(thread) -> str:
    return f"/threads/{thread.public_id}/"


def test_a_conversation_shows_what_was_said_and_who_is_in_line(thread):
    builders.a_run(RunStatus.RUNNING, agent=thread.agent, thread=thread, input_text="And the other one?")
    builders.a_run(RunStatus.QUEUED, agent=thread.agent, thread=thread, held_for=Hold.THREAD, input_text="Hello?")

    shown = page(signed_in(), address(thread))

    for said in ("Where is my order?", "On its way.", "And the other one?", "A run is active", "1 message in line",
                 "waits for the run before it"):  # fmt: skip
        assert said in shown
    assert "Tainted" not in shown


def test_a_thread_says_that_it_is_tainted(thread):
    builders.a_run(agent=thread.agent, thread=thread, tainted=True)

    assert "Tainted" in page(signed_in(), address(thread))


def test_what_is_remembered_is_shown_to_those_who_may_see_it(thread):
    builders.a_memory(thread.agent, value="Portuguese", tainted=True)
    builders.a_memory(thread.agent, key="old", value="Quetzal", schema_version=7)

    shown = page(signed_in(), address(thread))

    assert "Portuguese" in shown
    assert "from a tainted run" in shown
    assert "nothing leads from there to 1" in shown
    assert "Quetzal" not in shown
    assert "Portuguese" not in page(signed_in(Role.AUDITOR), address(thread))


def test_the_page_takes_the_same_queries_however_long_the_conversation(thread):
    client = signed_in()
    client.get(address(thread))
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(address(thread))
    for number in range(20):
        builders.a_run(agent=thread.agent, thread=thread)
        builders.a_memory(thread.agent, key=f"key-{number}")
    with CaptureQueriesContext(connection) as many:
        client.get(address(thread))

    assert len(few) == len(many) <= QUERIES


def test_going_on_while_a_run_is_at_work_puts_the_message_in_line(thread):
    builders.a_run(RunStatus.RUNNING, agent=thread.agent, thread=thread)
    client = signed_in()
    form = {"thread": thread.public_id, "text": "One thing more", "principal_id": thread.principal_id}

    shown = page(client, f"/start/?thread={thread.public_id}")
    client.post("/start/", {**form, "on_busy": "queue"})

    assert "has not ended" in shown
    assert Run.objects.get(input_text="One thing more").held_for == Hold.THREAD


def test_a_delayed_run_shows_its_time_and_can_be_stopped(thread):
    client = signed_in()
    form = {"agent": "shop-support", "text": "Later please", "principal_id": "cus_1", "delay_minutes": "90"}

    client.post("/start/", form)

    run = Run.objects.get(input_text="Later please")
    assert run.held_for == Hold.TIMER
    assert "Starts" in page(client, run.get_absolute_url())
    client.post(f"{run.get_absolute_url()}cancel/", {"reason": "Not needed"})
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED


def test_the_memory_of_a_person_can_be_seen_and_an_entry_deleted(thread):
    entry = builders.a_memory(thread.agent, value="Portuguese")
    builders.a_memory(thread.agent, principal_id="somebody", value="Danish")
    client = signed_in()

    shown = page(client, "/memory/?principal=cust-1001")
    refused = client.post(f"/memory/{entry.public_id}/delete/", {"reason": ""})
    client.post(f"/memory/{entry.public_id}/delete/", {"reason": "It is wrong"})

    assert "Portuguese" in shown
    assert "Danish" not in shown
    assert refused.status_code == 422
    assert not Memory.objects.filter(pk=entry.pk).exists()
    assert AuditEntry.objects.get(action="memory.delete").reason == "It is wrong"


def test_all_of_a_person_can_be_erased_on_the_page(thread):
    builders.a_memory(thread.agent)
    builders.a_memory(thread.agent, key="other")

    signed_in().post("/memory/erase/", {"principal": "cust-1001", "reason": "Asked for it"})

    assert not Memory.objects.exists()


def test_the_list_of_memories_takes_the_same_queries_however_many(thread):
    client = signed_in()
    builders.a_memory(thread.agent, key="first")
    client.get("/memory/")
    with CaptureQueriesContext(connection) as few:
        client.get("/memory/")
    for number in range(20):
        builders.a_memory(thread.agent, key=f"key-{number}")
    with CaptureQueriesContext(connection) as many:
        client.get("/memory/")

    assert len(few) == len(many) <= QUERIES


def test_schedules_take_the_same_queries_however_many(thread):
    client = signed_in()
    schedule = builders.a_schedule(thread.agent)
    for place in ("/schedules/", f"/schedules/{schedule.public_id}/"):
        client.get(place)
        with CaptureQueriesContext(connection) as few:
            client.get(place)
        for _ in range(5):
            builders.a_schedule(thread.agent)
            builders.an_occurrence(schedule, builders.a_run(agent=thread.agent))
        with CaptureQueriesContext(connection) as many:
            client.get(place)
        assert len(few) <= len(many) <= QUERIES
        assert len(many) - len(few) <= 1  # the runs of the times, once there are any


def test_a_schedule_is_made_on_the_page_and_says_what_is_wrong(thread):
    client = signed_in()
    form = {"agent": "shop-support", "name": "Daily", "text": "Report", "principal_id": "cus_1", "time_zone": "UTC",
            "overlap": "skip", "expression": "sometimes"}  # fmt: skip

    refused = client.post("/schedules/new/", form)
    made = client.post("/schedules/new/", {**form, "expression": "0 9 * * mon-fri"})

    assert refused.status_code == 422
    assert "is no schedule" in refused.content.decode()
    assert made.status_code == 302
    assert "0 9 * * mon-fri" in page(client, made.url)
