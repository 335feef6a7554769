"""Runs as programs start, read, follow and cancel them."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils.timezone import now

from console import ids
from console.models import AuditEntry
from console.roles import Role
from releases.states import Scope, SwitchEffect
from runtime.models import Callback, Run
from runtime.states import RunKind, RunStatus, StepKind
from tests.builders import a_release, a_run, a_step, a_switch, a_thread, an_agent, an_approval, an_event
from tests.programs import Program

pytestmark = pytest.mark.django_db

REQUEST = {"agent": "shop-support", "input": "Please refund order 1042.", "user_id": "cust-1001"}


@pytest.fixture
def agent():
    agent = an_agent("shop-support")
    a_release(agent, version="2026.11.1")
    return agent


def test_create_accepts_a_run_and_says_where_to_follow_it(agent):
    answer = Program().post("/runs", {**REQUEST, "user_label": "Ana Lima"})

    told = answer.json()
    run = Run.objects.get()
    assert answer.status_code == 202
    assert told["run_id"] == run.public_id
    assert (told["agent"], told["agent_version"]) == ("shop-support", "2026.11.1")
    assert told["release_digest"] == agent.active_release.digest
    assert (told["status"], told["is_final"]) == ("queued", False)
    assert (told["user_id"], told["user_label"]) == ("cust-1001", "Ana Lima")
    assert (told["steps_used"], told["tools_called"], told["estimated_cost_usd"]) == (0, [], "0.0")
    assert told["links"]["self"] == f"/api/v1/runs/{run.public_id}"
    assert run.events.get().kind == "run.created"


def test_create_with_an_unknown_or_foreign_agent_is_the_same_404(agent):
    a_release(an_agent("secret-agent"))
    program = Program("runs.create", agent="shop-support")

    foreign = program.post("/runs", {**REQUEST, "agent": "secret-agent"})
    unknown = program.post("/runs", {**REQUEST, "agent": "absent-agent"})

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["detail"].replace("secret", "absent") == unknown.json()["detail"]


def test_create_keeps_within_the_budgets_of_the_release(agent):
    program = Program()

    lower = program.post("/runs", {**REQUEST, "budgets": {"max_steps": 5, "max_cost_usd": "0.10"}})
    higher = program.post("/runs", {**REQUEST, "budgets": {"max_steps": 500, "max_tokens": 10**9, "max_seconds": 5}})
    new = program.post("/runs", {**REQUEST, "budgets": {"max_model_calls": 3, "deadline_seconds": 60}})

    assert lower.json()["budgets"]["max_steps"] == {"limit": 5, "used": 0}
    assert Decimal(lower.json()["budgets"]["max_cost_usd"]["limit"]) == Decimal("0.10")
    assert higher.status_code == 422
    assert set(higher.json()["errors"]) == {"budgets.max_steps", "budgets.max_tokens"}
    assert lower.json()["budgets"]["deadline_seconds"] == {"limit": None, "used": 0}
    assert new.json()["budgets"]["max_model_calls"] == {"limit": 3, "used": 0}
    assert new.json()["budgets"]["deadline_seconds"] == {"limit": 60, "used": 0}


def test_over_the_runs_of_a_day_a_request_is_told_when_to_come_back(agent):
    content = agent.active_release.content | {"daily": {"per_principal": {"max_runs": 1}}}
    type(agent.active_release).objects.filter(pk=agent.active_release_id).update(content=content)
    program = Program()

    first, second = program.post("/runs", REQUEST), program.post("/runs", REQUEST)

    assert (first.status_code, second.status_code) == (202, 429)
    assert 0 < int(second.headers["Retry-After"]) <= 86_400
    assert "daily.per_principal.max_runs" in second.json()["detail"]
    assert Run.objects.count() == 1


def test_create_gives_a_run_no_tool_scope_that_the_token_lacks(agent):
    program = Program(tool_scopes=("orders:read",))

    own = program.post("/runs", REQUEST)
    beyond = program.post("/runs", {**REQUEST, "scopes": ["refunds:write"]})

    assert own.json()["scopes"] == ["orders:read"]
    assert beyond.status_code == 422
    assert "scopes" in beyond.json()["errors"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", ""),
        ("input", "   "),
        ("input", "x" * 50_001),
        ("user_id", ""),
        ("user_id", "x" * 121),
        ("thread_id", "thr_nonsense"),
        ("scopes", [""]),
        ("callback_url", "file:///etc/passwd"),
        ("callback_url", "http://127.0.0.1/hook"),
        ("callback_url", "http://user:secret@example.com/"),
        ("budgets", {"max_cost_usd": "NaN"}),
        ("budgets", {"max_steps": -1}),
    ],
)
def test_create_names_the_field_that_cannot_be_used(agent, field, value):
    answer = Program().post("/runs", {**REQUEST, field: value})

    assert answer.status_code == 422
    assert any(name.split(".")[0] == field for name in answer.json()["errors"])
    assert not Run.objects.exists()


def test_the_same_key_and_body_answer_with_the_first_run(agent):
    program = Program()

    first = program.post("/runs", REQUEST, **{"Idempotency-Key": "order-1042"})
    again = program.post("/runs", REQUEST, **{"Idempotency-Key": "order-1042"})
    other = program.post("/runs", {**REQUEST, "input": "Something else."}, **{"Idempotency-Key": "order-1042"})

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json()["run_id"] == again.json()["run_id"]
    assert Run.objects.count() == 1


def test_two_tokens_may_use_the_same_key(agent):
    answers = [Program().post("/runs", REQUEST, **{"Idempotency-Key": "order-1042"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]


@pytest.mark.django_db(transaction=True)
def test_two_requests_with_one_key_at_the_same_instant_make_one_run():
    a_release(an_agent("shop-support"))
    program, start, answers = Program(), threading.Barrier(4), []

    def send():
        start.wait()
        answers.append(program.post("/runs", REQUEST, **{"Idempotency-Key": "race"}))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert Run.objects.count() == 1


def test_a_thread_goes_on_with_its_own_person_only(agent):
    thread = a_thread(agent, principal_id="cust-1001")
    key = ids.public("thr", thread.pk)

    own = Program().post("/runs", {**REQUEST, "thread_id": key})
    foreign = Program().post("/runs", {**REQUEST, "thread_id": key, "user_id": "cust-2"})

    assert own.json()["thread_id"] == key
    assert foreign.status_code == 404


def test_a_thread_takes_one_run_at_a_time(agent):
    first = Program().post("/runs", REQUEST).json()

    second = Program().post("/runs", {**REQUEST, "thread_id": first["thread_id"]})

    assert second.status_code == 409
    assert first["run_id"] in second.json()["detail"]


def test_a_full_queue_turns_new_runs_away_and_loses_none(agent, settings):
    settings.QUEUE_LIMIT = 2
    program = Program()
    accepted = [program.post("/runs", REQUEST, **{"Idempotency-Key": f"k{n}"}) for n in range(2)]

    refused = program.post("/runs", REQUEST, **{"Idempotency-Key": "k2"})
    repeated = program.post("/runs", REQUEST, **{"Idempotency-Key": "k1"})

    assert [answer.status_code for answer in accepted] == [202, 202]
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert repeated.status_code == 200  # what was accepted is not turned away afterwards
    assert Run.objects.count() == 2


def test_while_new_runs_are_paused_a_request_is_accepted_and_waits_for_the_switch(agent):
    a_switch(SwitchEffect.PAUSE_RUNS, Scope.EVERYTHING, "")

    answer = Program().post("/runs", REQUEST)

    assert answer.status_code == 202
    assert Program().get(f"/runs/{answer.json()['run_id']}").json()["wait_reason"] == "switch"


def test_a_callback_is_remembered_with_the_run(agent):
    answer = Program().post("/runs", {**REQUEST, "callback_url": "https://example.com/hook"})

    run = Run.objects.get(pk=ids.parse("run", answer.json()["run_id"]))
    assert run.callback_url == "https://example.com/hook"
    assert Callback.objects.get(run=run).attempts == 0


def test_get_tells_what_was_used_and_what_is_left(agent):
    run = a_run(
        agent=agent,
        steps_used=7,
        model_calls=3,
        tool_calls=2,
        tools_called=["lookup_order", "issue_refund"],
        input_tokens=1200,
        cached_tokens=200,
        output_tokens=80,
        cost_usd=Decimal("0.00123400"),
        risk_level="high",
        answer="Done.",
        working_ms=4100,
        parked_ms=60_000,
    )

    told = Program().get(f"/runs/{run.public_id}").json()

    assert told["tokens"] == {"input": 1200, "cached": 200, "output": 80, "total": 1280}
    assert (told["estimated_cost_usd"], told["cost_basis"]) == ("0.001234", "exact")
    assert (told["tools_called"], told["risk_level"]) == (["lookup_order", "issue_refund"], "high")
    assert (told["working_ms"], told["waiting_ms"]) == (4100, 60_000)
    assert told["budgets"]["max_tokens"] == {"limit": 200_000, "used": 1280}
    assert told["budgets"]["max_repeats"]["used"] is None
    assert (told["answer"], told["is_final"], told["cause"]) == ("Done.", True, "answered")


def test_a_waiting_run_names_the_approval_it_waits_for(agent):
    run = a_run(RunStatus.WAITING, agent=agent, waiting_since=now() - timedelta(seconds=90))
    step = a_step(run, StepKind.APPROVAL)
    request = an_approval(run, subject_kind="run.call", subject_id=f"{run.public_id}:{step.public_id}")
    program = Program()

    told = program.get(f"/runs/{run.public_id}").json()
    listed = program.get("/runs").json()["items"][0]

    assert told["pending_approval_id"] == listed["pending_approval_id"] == request.public_id
    assert told["links"]["approval"] == f"/api/v1/approvals/{request.public_id}"
    assert 90_000 <= told["waiting_ms"] < 100_000


def test_list_pages_by_cursor_without_gap_or_repeat(agent):
    made = [a_run(agent=agent).public_id for _ in range(5)]
    program = Program()

    first = program.get("/runs", {"limit": 2}).json()
    a_run(agent=agent)  # a newer one shifts nothing
    second = program.get("/runs", {"limit": 2, "cursor": first["next_cursor"]}).json()
    third = program.get("/runs", {"limit": 2, "cursor": second["next_cursor"]}).json()

    got = [item["run_id"] for page in (first, second, third) for item in page["items"]]
    assert got == made[::-1]
    assert third["next_cursor"] is None


def test_list_filters(agent):
    thread = a_thread(agent)
    wanted = a_run(RunStatus.FAILED, agent=agent, thread=thread, kind=RunKind.EVAL, principal_id="cust-7")
    a_run(agent=agent, created_at=now() - timedelta(days=2))
    other = a_run(RunStatus.CANCELLED, agent=an_agent("other"))
    program = Program()

    def found(**query):
        return {item["run_id"] for item in program.get("/runs", query).json()["items"]}

    assert found(status="failed") == {wanted.public_id}
    assert found(status=["failed", "cancelled"]) == {wanted.public_id, other.public_id}
    assert found(thread_id=ids.public("thr", thread.pk)) == {wanted.public_id}
    assert found(user_id="cust-7") == {wanted.public_id}
    assert found(kind="eval") == {wanted.public_id}
    assert found(agent="other") == {other.public_id}
    assert found(since=(now() - timedelta(hours=1)).isoformat()) == {wanted.public_id, other.public_id}


def test_a_time_without_a_zone_is_refused():
    answer = Program().get("/runs", {"since": "2026-11-24T10:00:00"})

    assert answer.status_code == 422
    assert "since" in answer.json()["errors"]


def test_list_shows_only_runs_of_the_tokens_agents(agent):
    mine = a_run(agent=agent)
    a_run(agent=an_agent("other"))

    listed = Program("runs.read", agent="shop-support").get("/runs").json()["items"]

    assert [item["run_id"] for item in listed] == [mine.public_id]


def test_list_asks_the_database_equally_often_for_one_run_and_for_many(agent, django_assert_max_num_queries):
    for _ in range(10):
        a_run(RunStatus.WAITING, agent=agent)
    program = Program()

    with django_assert_max_num_queries(6):
        program.get("/runs")


@pytest.mark.parametrize(("role", "told"), [(Role.SUPPORT, "ana@example.com"), (Role.AUDITOR, "•••")])
def test_personal_data_is_masked_for_those_who_only_look_on(agent, role, told):
    text = "Write to ana@example.com"
    run = a_run(agent=agent, input_text=text, answer=text, title=text, cause_detail=text)
    a_step(run, summary=text, input={"arguments": {"to": "ana@example.com"}}, output={"content": text})
    program = Program(role=role)

    whole = program.get(f"/runs/{run.public_id}").json()
    line = program.get("/runs").json()["items"][0]
    step = program.get(f"/runs/{run.public_id}/steps", {"payload": "true", "limit": 1}).json()["items"][0]

    shown = f"Write to {told}"
    assert (whole["input"], whole["answer"], line["title"], line["cause_detail"]) == (shown,) * 4
    assert (step["summary"], step["payload"]["output"]["content"]) == (shown, shown)
    assert step["payload"]["input"]["arguments"]["to"] == told


def test_steps_come_in_order_with_payloads_on_demand(agent):
    run = a_run(agent=agent)
    a_step(run, StepKind.MODEL, "gpt", input_tokens=10, output_tokens=5, cost_usd=Decimal("0.001"))
    a_step(run, name="lookup_order", input={"arguments": {"order_id": "1042"}}, output={"result": {"total": "129.00"}})
    program = Program()

    first = program.get(f"/runs/{run.public_id}/steps", {"limit": 1}).json()
    rest = program.get(
        f"/runs/{run.public_id}/steps", {"cursor": first["next_cursor"], "payload": "true", "limit": 5}
    ).json()

    assert [step["name"] for step in first["items"] + rest["items"]] == ["gpt", "lookup_order"]
    assert first["items"][0]["payload"] is None
    assert (first["items"][0]["tokens"]["total"], first["items"][0]["cost_usd"]) == (15, "0.001")
    assert rest["items"][0]["payload"]["output"] == {"result": {"total": "129.00"}}
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("query", [{"payload": "true", "limit": 21}, {"cursor": "-1"}, {"cursor": "9" * 30}])
def test_steps_refuse_what_they_cannot_serve(agent, query):
    run = a_run(agent=agent)

    assert Program().get(f"/runs/{run.public_id}/steps", query).status_code == 422


def test_cancel_stops_a_queued_run_with_author_and_reason(agent):
    run = a_run(RunStatus.QUEUED, agent=agent)
    program = Program()

    answer = program.post(f"/runs/{run.public_id}/cancel", {"reason": "Wrong customer."})

    told = answer.json()
    assert (answer.status_code, told["status"]) == (200, "cancelled")
    assert told["cancellation"]["reason"] == "Wrong customer."
    assert "billing robot" in told["cancellation"]["by"]
    entry = AuditEntry.objects.get(action="run.cancel")
    assert (entry.actor_kind, entry.actor_id, entry.reason) == ("token", str(program.token.pk), "Wrong customer.")


def test_cancel_twice_is_harmless_and_a_finished_run_is_a_conflict(agent):
    run, done = a_run(RunStatus.QUEUED, agent=agent), a_run(agent=agent)
    program = Program()

    answers = [program.post(f"/runs/{run.public_id}/cancel", {"reason": "Twice."}) for _ in range(2)]
    refused = program.post(f"/runs/{done.public_id}/cancel", {"reason": "Late."})

    assert [answer.status_code for answer in answers] == [200, 200]
    assert AuditEntry.objects.filter(action="run.cancel").count() == 1
    assert refused.status_code == 409
    assert "final state" in refused.json()["detail"]


def test_cancel_needs_a_reason(agent):
    run = a_run(RunStatus.QUEUED, agent=agent)

    assert Program().post(f"/runs/{run.public_id}/cancel", {}).json()["errors"].keys() == {"reason"}


def test_reading_changes_nothing(agent):
    run = a_run(RunStatus.WAITING, agent=agent)
    an_event(run)
    before = Run.objects.values().get(pk=run.pk)
    program = Program(role=Role.ADMIN)

    for path in ("", f"/{run.public_id}", f"/{run.public_id}/steps", f"/{run.public_id}/cancel"):
        program.get(f"/runs{path}")

    assert Run.objects.values().get(pk=run.pk) == before
