"""The tools as people and programs see them: labels, releases, use and state, by role."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now

from console.roles import Role
from releases import labels
from releases.bundles import ToolManifest
from runtime.states import StepKind, StepStatus, StepVerdict
from telemetry import rollups
from telemetry.models import Dimension, MetricPoint
from tests.builders import a_breaker, a_release, a_run, a_step, a_switch, a_tool, a_user, an_agent, an_mcp_tool
from tests.programs import Program

pytestmark = pytest.mark.django_db

PAY = a_tool(
    "pay",
    effect="write",
    moves_money=True,
    description="Pays <b>anybody</b>.",
    arguments={"to": "destination"},
    parameters={
        "properties": {"to": {"type": "string"}, "sum": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
        "required": ["to"],
    },
)


@pytest.fixture(autouse=True)
def code(monkeypatch):
    known = {"pay": ToolManifest.model_validate(PAY), "spare": ToolManifest(name="spare", effect="read", retry="read")}
    monkeypatch.setattr(labels, "_installed", [lambda: known])
    return known


@pytest.fixture
def release():
    return a_release(an_agent("shop", "Shop desk"), version="1.0", tools=[PAY])


def a_browser(role=Role.AUDITOR, *, agent=""):
    browser = Client()
    browser.force_login(a_user(role, agent=agent))
    return browser


def page(address, role=Role.AUDITOR, *, agent=""):
    answer = a_browser(role, agent=agent).get(address)
    assert answer.status_code == 200, answer.content.decode()[:2000]
    return answer.content.decode()


LIST, DIFFERS = "/tools/", "</svg>Labels differ</span>"


def test_the_list_has_tools_of_releases_and_of_the_code_those_of_active_releases_first(release):
    a_release(release.agent, is_active=False, version="0.9", tools=[a_tool("old_way")])

    shown = page(LIST)

    assert [shown.index(f">{name}</a>") for name in ("pay", "old_way", "spare")] == sorted(
        shown.index(f">{name}</a>") for name in ("pay", "old_way", "spare")
    )
    assert "Changes something, moves money" in shown
    assert "Shop desk" in shown and ">1.0</a>" in shown
    assert "None: installed only" in shown


def test_labels_that_differ_are_told(release, code):
    assert DIFFERS not in page(LIST)
    a_release(an_agent("mail", "Mail desk"), version="7", tools=[{**PAY, "effect": "egress"}])
    code["pay"] = ToolManifest.model_validate({**PAY, "effect": "destructive"})

    assert DIFFERS in page(LIST)
    assert DIFFERS in page(f"{LIST}?show=differs")
    assert ">spare</a>" not in page(f"{LIST}?show=differs")
    told = page("/tools/pay/")

    assert "Mail desk" in told and "Sends something out" in told
    assert "The installed code" in told and "Destroys something" in told


def test_the_list_is_searched_and_filtered(release):
    a_switch(target="pay")
    for query, expected in {
        "q=PAY": ["pay"],
        "q=anybody": ["pay"],
        "effect=read": ["spare"],
        "show=stopped": ["pay"],
        "show=idle": ["spare"],
        "show=active": ["pay"],
        "show=unlabelled": [],
        "show=untrusted&q=spare": ["spare"],
        "show=nonsense": ["pay", "spare"],
    }.items():
        shown = page(f"{LIST}?{query}")
        assert [name for name in ("pay", "spare") if f">{name}</a>" in shown] == expected, query
    assert "No tool fits" in page(f"{LIST}?q=nothing-like-it")


def test_state_of_switch_and_breaker_is_told(release):
    a_switch(target="pay")
    a_breaker("pay")

    for shown in (page(LIST), page("/tools/pay/")):
        assert "pay is off" in shown
        assert "Out of order" in shown


def test_the_page_of_a_tool_says_what_each_label_means(release):
    shown = page("/tools/pay/")

    for part in (
        "Pays &lt;b&gt;anybody&lt;/b&gt;.",
        "Changes own data", "each sensitive value needs a source",
        "destination", "Where something goes",
        "number or null", "Nobody has said: sensitive in every respect",
        "Every release that has it, and the installed code, says the same of it.",
        reverse("releases:switch-list"), reverse("runtime:breaker-list"), "/runs/?tool=pay&amp;since=week",
    ):  # fmt: skip
        assert part in shown, part


def an_hour_of_calls(release):
    """Two made (one failed), one refused, one asked about, in a run that ended just now; and a tool that is made up."""
    run = a_run(agent=release.agent, release=release, created_at=now() - timedelta(seconds=30), finished_at=now())
    a_step(run, StepKind.TOOL, name="pay")
    a_step(run, StepKind.TOOL, name="pay", status=StepStatus.FAILED)
    judged = {"call_id": "c1", "input": {"call": {"id": "c1", "name": "pay"}}}
    a_step(run, StepKind.GUARDRAIL, name="schema", verdict=StepVerdict.REFUSED, rule="schema", **judged)
    a_step(run, StepKind.GUARDRAIL, name="unlabelled", verdict=StepVerdict.ASKED, rule="unlabelled", **judged)
    made_up = {"call_id": "c2", "input": {"call": {"id": "c2", "name": "x" * 200}}}
    a_step(run, StepKind.GUARDRAIL, name="release-tools", verdict=StepVerdict.REFUSED, rule="release-tools", **made_up)
    rollups.roll_up(now())


def test_use_counts_calls_refusals_and_questions(release):
    an_hour_of_calls(release)

    point = MetricPoint.objects.get(dimension=Dimension.TOOL)
    assert (point.name, point.runs, point.tool_calls, point.tool_errors, point.tool_refused, point.tool_asked) == (
        "pay", 1, 2, 1, 1, 1,
    )  # fmt: skip
    cells = 'data-label="Calls">2</td><td class="n" data-label="Refused">1</td><td class="n" data-label="Asked">1</td>'
    assert cells in page(LIST)
    assert cells in page("/tools/pay/")
    MetricPoint.objects.update(hour=now() - timedelta(days=8))
    assert cells not in page(LIST)


def test_a_person_of_another_agent_sees_neither_tool_nor_use(release):
    a_release(an_agent("mail", "Mail desk"), version="7", tools=[a_tool("sort_mail")])
    an_hour_of_calls(release)

    shown = page(LIST, Role.OPERATOR, agent="mail")

    assert ">sort_mail</a>" in shown
    assert ">pay</a>" not in shown and ">spare</a>" not in shown and "Shop desk" not in shown
    browser = a_browser(Role.OPERATOR, agent="mail")
    assert browser.get("/tools/pay/").status_code == browser.get("/tools/nowhere/").status_code == 404
    a_release(an_agent("mail"), version="8", tools=[PAY])
    theirs = page("/tools/pay/", Role.OPERATOR, agent="mail")
    assert "Shop desk" not in theirs and 'data-label="Calls">2' not in theirs


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"digest": "f" * 64}, "Changed"),
        ({"digest": ""}, "Not offered any more"),
        ({"server__disabled_at": now()}, "Server off"),
    ],
)
def test_a_tool_of_an_mcp_server_is_not_said_to_be_on_while_its_calls_are_refused(change, says):
    tool = an_mcp_tool("library", "find_book")
    pinned = a_tool("library__find_book", server="library", schema_digest=tool.digest, retry="unsafe")
    a_release(an_agent("shop"), tools=[pinned])
    for name, value in change.items():
        target = tool.server if name.startswith("server__") else tool
        setattr(target, name.removeprefix("server__"), value)
        target.save()

    lists, shown = page(LIST), page("/tools/library__find_book/")

    for text in (lists, shown):
        assert ("</svg>On</span>" in text) is not bool(says)
        assert f"</svg>{says or 'On'}</span>" in text
    assert tool.get_absolute_url() in shown
    assert ("library__find_book" in page(f"{LIST}?show=stopped")) is bool(says)
    told = Program(role=Role.AUDITOR).get("/tools", {"q": "library"}).json()
    assert [one["refused_because"] for one in told["items"]] == [says]


def test_the_pages_need_few_queries_whatever_the_number_of_tools(release):
    browser, counts = a_browser(), []

    def count():
        for address in (LIST, "/tools/pay/"):
            with CaptureQueriesContext(connection) as asked:
                browser.get(address)
            counts.append(len(asked))

    a_switch(target="pay")
    a_breaker("pay")
    browser.get(LIST)  # what is looked up once for all pages
    count()
    for number in range(5):
        agent = an_agent(f"more-{number}")
        a_release(agent, tools=[PAY, *(a_tool(f"tool_{number}_{each}") for each in range(8))])
        a_release(agent, is_active=False, tools=[{**PAY, "effect": "egress"}])
        a_breaker(f"tool_{number}_1")
        a_switch(target=f"tool_{number}_2")
    count()

    assert counts[:2] == counts[2:]
    assert max(counts) <= 12, counts


def test_older_releases_that_were_not_looked_into_are_told(release, monkeypatch):
    from telemetry import inventory

    monkeypatch.setattr(inventory, "MOST_RELEASES", 1)
    a_release(release.agent, is_active=False, version="2.0", tools=[a_tool("newest")])
    a_release(release.agent, is_active=False, version="3.0", tools=[a_tool("newest")])

    shown = page(LIST)

    assert ">pay</a>" in shown  # of the active release, however old
    assert "2 older ones were not" in shown


def test_a_program_lists_the_tools(release):
    an_hour_of_calls(release)
    a_switch(target="pay")
    program = Program(role=Role.AUDITOR)

    told = program.get("/tools", {"limit": 1}).json()

    (pay,) = told["items"]
    assert (pay["name"], pay["labels"]["effect"], pay["is_installed"]) == ("pay", "write", True)
    assert (pay["use"]["calls"], pay["use"]["refused"], pay["use"]["p50_ms"]) == (2, 1, None)
    assert [(one["agent"], one["version"], one["is_active"]) for one in pay["offers"]] == [("shop", "1.0", True)]
    assert pay["switches"] == ["pay is off"]
    rest = program.get("/tools", {"cursor": told["next_cursor"]}).json()
    assert ([one["name"] for one in rest["items"]], rest["next_cursor"]) == (["spare"], None)
    assert [one["name"] for one in program.get("/tools", {"active": "true"}).json()["items"]] == ["pay"]
    assert [one["name"] for one in program.get("/tools", {"q": "PAYS", "effect": "write"}).json()["items"]] == ["pay"]
    assert program.get("/tools", {"colour": "red"}).status_code == 422
    assert Program("releases.read", agent="mail").get("/tools").json()["items"] == []
