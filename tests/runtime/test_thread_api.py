"""Conversations, delays, memory and schedules as programs use them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from runtime.models import Memory, Run, Schedule
from tests import builders
from tests.programs import Program

pytestmark = pytest.mark.django_db

REQUEST = {"agent": "shop-support", "input": "Please refund order 1042", "user_id": "cust-1001"}


@pytest.fixture
def agent():
    return builders.a_release(builders.an_agent("shop-support")).agent


def test_a_message_to_a_busy_thread_is_queued_when_the_caller_says_so(agent):
    program = Program()
    first = program.post("/runs", REQUEST).json()
    again = {**REQUEST, "thread_id": first["thread_id"], "input": "And one thing more"}

    refused = program.post("/runs", again)
    queued = program.post("/runs", {**again, "on_busy": "queue"})
    thread = program.get(f"/threads/{first['thread_id']}").json()

    assert (refused.status_code, queued.status_code) == (409, 202)
    assert "on_busy queue" in refused.json()["detail"]
    assert queued.json()["wait_reason"] == "thread"
    assert (thread["active_run_id"], thread["in_line"]) == (first["run_id"], 1)
    assert [said["input"] for said in thread["runs"]] == [REQUEST["input"], "And one thing more"]


def test_a_message_can_interrupt(agent):
    program = Program()
    first = program.post("/runs", REQUEST).json()

    second = program.post("/runs", {**REQUEST, "thread_id": first["thread_id"], "on_busy": "interrupt"})

    assert second.status_code == 202
    assert program.get(f"/runs/{first['run_id']}").json()["cause"] == "interrupted"
    assert program.get(f"/threads/{first['thread_id']}").json()["active_run_id"] == second.json()["run_id"]


def test_without_the_scope_to_cancel_nothing_is_interrupted(agent):
    program = Program("runs.create", "runs.read")
    first = program.post("/runs", REQUEST).json()

    answer = program.post("/runs", {**REQUEST, "thread_id": first["thread_id"], "on_busy": "interrupt"})

    assert answer.status_code == 403
    assert Run.objects.count() == 1


def test_a_delayed_run_says_when_it_starts(agent):
    program = Program()
    at = now() + timedelta(hours=2)

    delayed = program.post("/runs", {**REQUEST, "delay_seconds": 3600})
    timed = program.post("/runs", {**REQUEST, "start_at": at.isoformat()})
    both = program.post("/runs", {**REQUEST, "delay_seconds": 1, "start_at": at.isoformat()})

    assert delayed.json()["wait_reason"] == "timer"
    assert delayed.json()["starts_at"] > now().isoformat()[:10]
    assert timed.status_code == 202
    assert both.status_code == 422


def test_the_threads_of_a_person_are_listed_with_their_taint(agent):
    thread = builders.a_thread(agent)
    builders.a_run(agent=agent, thread=thread, tainted=True)
    builders.a_thread(agent, principal_id="somebody")

    found = Program().get("/threads", {"user_id": "cust-1001"}).json()["items"]

    assert [(one["thread_id"], one["tainted"]) for one in found] == [(thread.public_id, True)]


def test_memory_is_listed_and_erased(agent):
    builders.a_memory(agent, value={"tier": 3}, tainted=True)
    program = Program()

    listed = program.get("/memories", {"user_id": "cust-1001"}).json()["items"]
    erased = program.post("/memories/erase", {"user_id": "cust-1001", "reason": "Asked for it"})

    assert [(one["key"], one["value"], one["tainted"]) for one in listed] == [("language", {"tier": 3}, True)]
    assert erased.json() == {"erased": 1}
    assert not Memory.objects.exists()


def test_a_schedule_is_kept_over_the_api(agent):
    program = Program()
    body = {"agent": "shop-support", "name": "Report", "input": "Sum up", "user_id": "desk", "expression": "every day"}

    made = program.post("/schedules", body)
    path = f"/schedules/{made.json()['schedule_id']}"
    started = program.post(f"{path}/run")
    off = program.post(f"{path}/disable", {"reason": "Not needed"})
    shown = program.get(path).json()
    wrong = program.post("/schedules", {**body, "expression": "sometimes"})

    assert (made.status_code, made.json()["is_on"]) == (201, True)
    assert started.status_code == 202
    assert off.json()["is_on"] is False
    assert [one["run_id"] for one in shown["occurrences"]] == [started.json()["run_id"]]
    assert wrong.json()["errors"].keys() == {"expression"}
    assert Schedule.objects.count() == 1


def test_the_runs_of_a_schedule_have_no_more_than_the_tokens_tool_scopes(agent):
    program = Program(tool_scopes=("orders:read",))

    made = program.post("/schedules", {
        "agent": "shop-support", "name": "Report", "input": "Sum up", "user_id": "desk", "expression": "every day",
        "scopes": ["orders:read", "refunds:write"],
    })  # fmt: skip

    assert made.json()["scopes"] == ["orders:read"]
