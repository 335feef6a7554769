"""What holds for every address of the API, whichever app answers."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest
from django.test import Client, RequestFactory
from django.utils.timezone import now

from console import envelope, problems, roles
from console.models import ApiToken, RoleGrant
from console.roles import Role
from tests.builders import a_run, a_user, an_agent, an_approval
from tests.programs import API, Program

pytestmark = pytest.mark.django_db


def test_a_problem_is_json_with_a_status_a_title_and_a_way_out():
    answer = Program().get("/runs/run_00000000000000000000000000")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "title", "status", "detail", "request_id"}
    assert answer.json()["status"] == 404


def test_without_a_token_nothing_is_answered():
    answer = Client().get(f"{API}/runs")

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_a_signed_in_browser_is_no_program():
    client = Client()
    client.force_login(a_user(Role.ADMIN))

    assert client.get("/runs/").status_code == 200
    assert client.get(f"{API}/runs").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer sth_aaaaaaaa_wrong",
        "Bearer \x00",
        "Bearer ünicode",
        "sth_x",
    ],
)
def test_what_is_no_token_is_refused(header):
    assert Client().get(f"{API}/runs", headers={"Authorization": header}).status_code == 401


def test_a_token_with_one_letter_changed_is_refused():
    program = Program()
    last = "A" if program.secret[-1] != "A" else "B"

    answer = program.get("/runs", Authorization=f"Bearer {program.secret[:-1]}{last}")

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "fields",
    [{"expires_at": now() - timedelta(seconds=1)}, {"revoked_at": now()}],
    ids=["expired", "revoked"],
)
def test_an_ended_token_is_refused_with_the_words_for_an_unknown_one(fields):
    program = Program()
    program.set(**fields)

    answer = program.get("/runs")

    unknown = program.get("/runs", Authorization="Bearer sth_aaaaaaaa_unknown")
    assert answer.status_code == 401
    assert answer.json()["detail"] == unknown.json()["detail"]


def test_a_token_ends_with_its_owners_account_and_shrinks_with_their_role():
    program = Program("runs.read", "runs.cancel")
    RoleGrant.objects.filter(user=program.owner).update(role=Role.AUDITOR)
    run = a_run()

    assert program.get("/runs").status_code == 200
    assert program.post(f"/runs/{run.public_id}/cancel", {"reason": "no"}).status_code == 403

    program.owner.is_active = False
    program.owner.save()
    assert program.get("/runs").status_code == 401


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "Authorization"])
def test_a_token_in_the_address_is_refused_and_not_repeated(name):
    program = Program()

    answer = Client().get(f"{API}/runs", {name: program.secret})

    assert answer.status_code == 400
    assert "Authorization: Bearer" in answer.json()["detail"]
    assert program.secret not in answer.content.decode()


def test_a_token_reaches_neither_log_nor_database(caplog):
    caplog.set_level(logging.DEBUG)
    program = Program()
    program.get("/runs")
    program.get("/runs", Authorization=f"Bearer {program.secret}x")
    program.post("/runs", {"agent": "nobody"})

    assert program.secret not in caplog.text
    assert program.secret not in json.dumps(list(ApiToken.objects.values()), default=str)


ENDPOINTS = {
    ("GET", "/runs"): "runs.read",
    ("POST", "/runs"): "runs.create",
    ("GET", "/runs/{run}"): "runs.read",
    ("GET", "/runs/{run}/steps"): "runs.read",
    ("GET", "/runs/{run}/events/stream"): "runs.read",
    ("POST", "/runs/{run}/cancel"): "runs.cancel",
    ("POST", "/runs/{run}/pause"): "runs.pause",
    ("POST", "/runs/{run}/resume"): "runs.pause",
    ("POST", "/runs/{run}/fork"): "runs.create",
    ("GET", "/runs/{run}/deliveries"): "runs.read",
    ("GET", "/queue"): "health.read",
    ("GET", "/threads"): "runs.read",
    ("GET", "/threads/{thread}"): "runs.read",
    ("GET", "/memories"): "memory.read",
    ("POST", "/memories/erase"): "memory.erase",
    ("GET", "/schedules"): "schedules.read",
    ("POST", "/schedules"): "schedules.manage",
    ("GET", "/schedules/{schedule}"): "schedules.read",
    ("POST", "/schedules/{schedule}/enable"): "schedules.manage",
    ("POST", "/schedules/{schedule}/disable"): "schedules.manage",
    ("POST", "/schedules/{schedule}/run"): "schedules.manage",
    ("GET", "/callback-secret"): "runs.create",
    ("POST", "/callback-secret/rotate"): "runs.create",
    ("GET", "/approvals"): "approvals.read",
    ("GET", "/approvals/{approval}"): "approvals.read",
    ("POST", "/approvals/{approval}/decision"): "approvals.decide",
    ("GET", "/agents"): "releases.read",
    ("GET", "/agents/{agent}"): "releases.read",
    ("GET", "/agents/{agent}/releases"): "releases.read",
    ("GET", "/releases/{release}"): "releases.read",
    ("POST", "/releases/{release}/rules/try"): "releases.create",
    ("POST", "/releases/{release}/rules"): "releases.create",
    ("GET", "/releases/{release}/labels"): "releases.read",
    ("POST", "/releases/{release}/labels/review"): "labels.review",
    ("GET", "/tools"): "releases.read",
    ("GET", "/switches"): "switches.read",
    ("POST", "/switches"): "switches.engage",
    ("POST", "/switches/{switch}/lift"): "switches.lift",
    ("POST", "/runs/{run}/feedback"): "feedback.give",
}
A_RULE = {"id": "limit", "tool": "issue_refund", "then": "ask", "reason": "A test."}
BODIES = {
    "/runs": {"agent": "shop-support", "input": "Hello", "user_id": "cust-1"},
    "/memories/erase": {"user_id": "cust-1", "reason": "A test."},
    "/schedules": {
        "agent": "shop-support",
        "name": "Daily",
        "input": "Hello",
        "user_id": "cust-1",
        "expression": "every day",
    },
    "/schedules/{schedule}/enable": {},
    "/schedules/{schedule}/disable": {"reason": "A test."},
    "/schedules/{schedule}/run": {},
    "/releases/{release}/rules/try": {"rule": A_RULE},
    "/releases/{release}/rules": {"rule": A_RULE, "version": "9.9"},
    "/releases/{release}/labels/review": {"verdict": "accept", "digest": "0", "reason": "A test."},
    "/runs/{run}/cancel": {"reason": "A test."},
    "/runs/{run}/pause": {"reason": "A test."},
    "/runs/{run}/resume": {},
    "/runs/{run}/fork": {"reason": "A test."},
    "/callback-secret/rotate": {"reason": "A test."},
    "/runs/{run}/feedback": {"score": 1},
    "/approvals/{approval}/decision": {"verdict": "reject", "reason": "A test."},
    "/switches": {"scope": "everything", "effect": "pause_runs", "reason": "A test."},
    "/switches/{switch}/lift": {"reason": "A test.", "phrase": "turn on issue_refund"},
}


def _operations():
    schema = Client().get(f"{API}/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path.removeprefix(API), operation


def _shape(path):
    """`/runs/{run_id}` as the table above writes it."""
    return path.replace("_id}", "}").replace("{slug}", "{agent}")


def test_every_operation_stands_in_the_scope_matrix():
    assert {(method, _shape(path)) for method, path, _ in _operations()} == set(ENDPOINTS)


@pytest.fixture
def objects():
    from tests.builders import a_release, a_schedule, a_switch

    agent = an_agent("shop-support")
    release = a_release(agent)
    run = a_run(agent=agent)
    return {
        "run": run.public_id,
        "approval": an_approval(a_run(agent=agent)).public_id,
        "agent": agent.slug,
        "release": release.public_id,
        "switch": a_switch().public_id,
        "thread": run.thread.public_id,
        "schedule": a_schedule(agent).public_id,
    }


def _call(program, method, path, objects):
    address = path.format(**objects)
    return program.get(address) if method == "GET" else program.post(address, BODIES[path])


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_an_operation_opens_with_its_scope_and_with_no_other(method, path, objects):
    scope = ENDPOINTS[method, path]
    everything = roles.permissions_of(Role.ADMIN)

    without = _call(Program(*(everything - {scope}), role=Role.ADMIN), method, path, objects)
    alone = _call(Program(scope, role=Role.ADMIN), method, path, objects)

    assert without.status_code == 403
    assert scope in without.json()["detail"]
    # With its scope alone a call gets past the door: what it then says is the operation's own.
    assert alone.status_code not in (401, 403)


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in ENDPOINTS if "{" in p and "{switch}" not in p])
def test_another_agents_object_looks_exactly_like_no_object(method, path, objects):
    foreign = Program(agent="another-agent", role=Role.ADMIN)
    nothing = {name: f"{value[:4]}{'0' * 26}" for name, value in objects.items()}

    hidden = _call(foreign, method, path, objects)
    absent = _call(foreign, method, path, nothing)
    malformed = _call(foreign, method, path, dict.fromkeys(objects, "run_x"))

    bodies = [{**answer.json(), "request_id": ""} for answer in (hidden, absent, malformed)]
    assert [answer.status_code for answer in (hidden, absent, malformed)] == [404, 404, 404]
    assert bodies[0] == bodies[1] == bodies[2]


def test_unknown_addresses_and_methods_are_problems_too():
    program = Program()

    unknown = program.get("/nonsense")
    wrong = program.client.delete(f"{API}/runs", headers=program.headers)

    assert (unknown.status_code, unknown["Content-Type"]) == (404, "application/problem+json")
    assert (wrong.status_code, wrong["Content-Type"]) == (405, "application/problem+json")
    assert "GET" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "JSON"),
        (b'{"agent": NaN}', "NaN"),
        (b'{"agent": "a", "agent": "b"}', "twice"),
        (b'{"agent": "a\\u0000b"}', "NUL"),
        (b'{"agent": "\\ud800"}', "surrogate"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(body, told):
    answer = Program().post("/runs", body)

    assert answer.status_code == 400
    assert told in answer.json()["detail"]


def test_unknown_and_missing_fields_are_named():
    answer = Program().post("/runs", {"agent": "a", "inptu": "Hello", "status": "succeeded", "cost_usd": 0})

    assert answer.status_code == 422
    assert set(answer.json()["errors"]) == {"input", "user_id", "inptu", "status", "cost_usd"}
    assert "no such field" in answer.json()["errors"]["status"]


def test_nested_fields_are_named_with_their_place():
    body = {"agent": "a", "input": "Hello", "user_id": "u", "budgets": {"max_steps": 0, "tenant": 1}}

    assert set(Program().post("/runs", body).json()["errors"]) == {"budgets.max_steps", "budgets.tenant"}


@pytest.mark.parametrize(
    "query", [{"statsu": "failed"}, {"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"user_id": "\0"}]
)
def test_a_query_that_selects_something_else_than_meant_is_refused(query):
    answer = Program().get("/runs", query)

    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_an_unknown_query_parameter_is_refused_with_the_known_ones():
    assert "status" in Program().get("/runs", {"statsu": "failed"}).json()["detail"]


def test_a_large_body_is_refused_before_it_is_read(settings):
    settings.API_LARGEST_BODY_BYTES = 1000

    answer = Program().post("/runs", {"agent": "a", "input": "x" * 1000, "user_id": "u"})

    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["detail"]


def test_a_large_body_is_refused_also_when_it_did_not_say_its_length(settings):
    settings.API_LARGEST_BODY_BYTES = 1000
    request = RequestFactory().post("/", b"[" + b"1," * 500 + b"1]", content_type="application/json")

    with pytest.raises(problems.Problem) as refused:
        envelope.StrictParser().parse_body(request)

    assert refused.value.status == 413


def test_a_request_id_is_kept_when_it_is_usable():
    program = Program()

    given = program.get("/runs", **{"X-Request-Id": "order-42"})
    hostile = program.get("/runs", **{"X-Request-Id": "<script>"})

    assert given["X-Request-Id"] == "order-42"
    assert hostile["X-Request-Id"] != "<script>"


def test_answers_stay_out_of_caches():
    assert "no-store" in Program().get("/runs")["Cache-Control"]


def test_every_answer_says_what_is_left_of_the_rate_and_the_limit_holds(settings):
    settings.API_REQUESTS_PER_MINUTE = 3
    program, other = Program(), Program()

    answers = [program.get("/runs") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers[:3]] == ["2", "1", "0"]
    assert int(answers[3]["Retry-After"]) >= 1
    assert answers[3]["Content-Type"] == "application/problem+json"
    assert other.get("/runs").status_code == 200


def test_an_error_of_ours_answers_as_a_problem_without_its_inside(monkeypatch):
    from runtime import wire

    monkeypatch.setattr(wire, "line", lambda *_: 1 / 0)
    a_run()

    answer = Program().get("/runs")

    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/problem+json"
    assert "ZeroDivision" not in answer.content.decode()


def test_the_reference_is_a_page_of_ours_without_script_or_foreign_host():
    client = Client()
    client.force_login(a_user(Role.SUPPORT))

    answer = client.get(f"{API}/docs")

    page = answer.content.decode()
    main = page[page.index('id="main"') :]
    assert answer.status_code == 200
    for _, path, operation in _operations():
        assert path in main
        assert operation["x-scope"] in main
    assert "<script" not in main
    assert "https://" not in main
    assert "style=" not in main


def test_the_reference_asks_strangers_to_sign_in_first():
    answer = Client().get(f"{API}/docs")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/")


def test_the_schema_says_of_every_operation_which_scope_it_needs_and_how_it_refuses():
    for method, path, operation in _operations():
        assert operation["x-scope"] == ENDPOINTS[method, _shape(path)]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert operation["description"]
