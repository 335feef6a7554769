"""Circuit breakers as people see and turn them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from console import problems
from console.models import AuditEntry
from console.roles import Role
from releases import bundles
from runtime import breakers, circuits
from runtime.models import Breaker
from runtime.states import BreakerKind, BreakerState
from tests.builders import a_breaker, a_release, a_tool, a_user, an_actor, an_agent

pytestmark = pytest.mark.django_db
TOOL, MODEL = BreakerKind.TOOL, BreakerKind.MODEL


def page_for(role: Role = Role.OPERATOR, *, agent: str = "") -> Client:
    client = Client()
    client.force_login(a_user(role, agent=agent))
    return client


def shown(client: Client) -> str:
    return client.get("/breakers/").content.decode()


# The verbs


def test_a_person_holds_a_working_tool_open_and_it_is_audited():
    a_release(tools=[a_tool("pay")])
    olga = an_actor(Role.OPERATOR)

    breakers.hold(TOOL, "pay", by=olga, reason="The bank asked us to.")

    row = Breaker.objects.get()
    assert (row.state, row.reason, row.changed_by_label) == (BreakerState.HELD, "The bank asked us to.", olga.label)
    assert row.opened_at is not None and row.open_until is None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason) == ("breaker.hold", "The bank asked us to.")
    assert entry.changes == {"state": ["closed", "held"]}


def test_closing_lets_calls_pass_and_forgets_how_often_it_opened():
    a_breaker("pay", openings=6)

    breakers.close(TOOL, "pay", by=an_actor(Role.ADMIN), reason="It is back.")

    row = Breaker.objects.get()
    assert (row.state, row.openings, row.open_until) == (BreakerState.CLOSED, 0, None)
    assert AuditEntry.objects.get().changes == {"state": ["open", "closed"]}


def test_turning_it_twice_changes_nothing():
    a_breaker("pay")
    olga = an_actor(Role.OPERATOR)

    breakers.hold(TOOL, "pay", by=olga, reason="first")
    breakers.hold(TOOL, "pay", by=olga, reason="second")
    assert Breaker.objects.get().reason == "first"
    breakers.close(TOOL, "pay", by=olga, reason="third")
    breakers.close(TOOL, "pay", by=olga, reason="fourth")

    assert Breaker.objects.get().reason == "third"
    assert AuditEntry.objects.count() == 2


@pytest.mark.parametrize("verb", [breakers.hold, breakers.close])
@pytest.mark.parametrize(("role", "agent"), [(Role.MANAGER, ""), (Role.SUPPORT, ""), (Role.OPERATOR, "one-agent")])
def test_who_may_not_leaves_no_trace(verb, role, agent):
    a_breaker("pay")

    with pytest.raises(problems.Forbidden):
        verb(TOOL, "pay", by=an_actor(role, agent=agent), reason="I want to.")

    assert Breaker.objects.get().state == BreakerState.OPEN
    assert not AuditEntry.objects.exists()


def test_a_reason_is_needed_and_the_name_has_to_exist():
    a_breaker("pay")
    olga = an_actor(Role.OPERATOR)

    with pytest.raises(problems.Invalid, match="Say why"):
        breakers.hold(TOOL, "pay", by=olga, reason="  ")
    with pytest.raises(problems.Invalid, match="no tool 'pya'"):
        breakers.hold(TOOL, "pya", by=olga, reason="typed wrongly")
    with pytest.raises(problems.Invalid, match="no model"):
        breakers.hold(MODEL, "openai gpt-nothing", by=olga, reason="typed wrongly")


def test_a_model_is_called_by_vendor_name_and_place():
    at_home = bundles.ModelSpec(provider="openai-compatible", name="llama", base_url="http://127.0.0.1:8080/v1")

    assert circuits.model_name(bundles.ModelSpec(provider="openai", name="gpt-5")) == "openai gpt-5"
    assert circuits.model_name(at_home) == "openai-compatible llama at http://127.0.0.1:8080/v1"


# The page


def test_every_tool_and_model_of_an_active_release_is_listed_with_its_state():
    a_release(
        an_agent("desk", "Help desk"),
        model={"provider": "openai", "name": "gpt-5"},
        fallback_model={"provider": "anthropic", "name": "claude-sonnet-4-5"},
        tools=[a_tool("pay"), a_tool("look", effect="read", retry="read")],
    )
    a_breaker("pay", last_error="timeout: no answer in 5 s <b>", failures=7, calls=9)
    a_breaker("openai gpt-5", BreakerState.HALF_OPEN, kind=MODEL, probe_by="somebody")

    html = shown(page_for())

    assert html.count("data-breaker=") == 4
    assert "Out of order" in html and "Being tried" in html and html.count("Works") == 2
    assert "timeout: no answer in 5 s &lt;b&gt;" in html and "7 of 9 calls failed" in html
    assert "Used by Help desk" in html
    assert "(2 open)" in html


def test_the_banner_is_on_every_page_while_something_is_out_of_order():
    client = page_for()
    assert "is out of order" not in client.get("/runs/").content.decode()
    a_breaker("pay")
    a_breaker("openai gpt-5", BreakerState.HELD, kind=MODEL)

    html = client.get("/metrics/").content.decode()

    assert "pay</span> is out of order" in html and "openai gpt-5</span> is held open" in html


def test_an_operator_turns_it_on_the_page():
    a_release(tools=[a_tool("pay")])
    client = page_for()

    held = client.post("/breakers/hold/", {"kind": "tool", "name": "pay", "reason": "asked to"}, follow=True)
    assert "Held open" in held.content.decode() and "asked to" in held.content.decode()
    closed = client.post("/breakers/close/", {"kind": "tool", "name": "pay", "reason": "over"}, follow=True)

    assert "Calls to pay pass again." in closed.content.decode()


@pytest.mark.parametrize("posted", [{}, {"kind": "x", "name": "pay"}, {"kind": "tool"}, {"kind": "tool", "name": "\0"}])
def test_a_form_that_names_no_breaker_is_refused(posted):
    assert page_for().post("/breakers/hold/", posted).status_code == 422


def test_who_looks_after_one_agent_sees_its_tools_and_nothing_to_turn():
    a_release(an_agent("desk"), tools=[a_tool("pay")])
    a_release(an_agent("other"), tools=[a_tool("secret_tool")])
    a_breaker("secret_tool")

    client = page_for(Role.OPERATOR, agent="desk")

    html = shown(client)
    assert "pay" in html and "secret_tool" not in html
    assert "Ask an operator of all agents." in html
    assert "/breakers/hold/" not in html
    assert "secret_tool" not in client.get("/breakers/strip/").content.decode()


def test_a_tool_of_older_releases_is_listed_while_its_breaker_is_open():
    a_breaker("old_tool")
    a_breaker("forgotten", BreakerState.CLOSED)

    html = shown(page_for())

    assert "old_tool" in html and "Not in an active release" in html
    assert "forgotten" not in html


def test_the_page_and_the_banner_need_few_queries(django_assert_max_num_queries):
    client = page_for()
    for number in range(12):
        a_release(an_agent(f"agent-{number}"), tools=[a_tool(f"tool_{number}")])
        a_breaker(f"tool_{number}")
    shown(client)

    with django_assert_max_num_queries(10):
        shown(client)
    with django_assert_max_num_queries(5):
        client.get("/breakers/strip/")


def test_the_page_says_when_the_next_call_is_the_probe():
    a_breaker("soon")
    a_breaker("due", open_until=now() - timedelta(seconds=1))

    lines = {line.name: line.is_due for line in breakers.board(an_actor(Role.OPERATOR)).tools}

    assert lines == {"soon": False, "due": True}
