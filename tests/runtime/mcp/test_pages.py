"""The pages of MCP servers: what they show, who may act, how many queries they take."""

from __future__ import annotations

import pytest
from django.test import Client

from console.models import AuditEntry
from console.roles import Role
from releases.states import Scope
from runtime.mcp import reviews
from runtime.mcp.models import McpReview, McpServer, McpTool
from runtime.policies import offering
from tests.builders import a_release, a_switch, a_user, an_actor, an_agent, an_mcp_server, an_mcp_tool

pytestmark = pytest.mark.django_db
EVIL = '<script>alert(1)</script>\u202e "quoted"'


def client(role=Role.OPERATOR) -> Client:
    found = Client()
    found.force_login(a_user(role))
    return found


def page(url, role=Role.OPERATOR, status=200):
    answer = client(role).get(url)
    assert answer.status_code == status
    return answer.content.decode()


def review(tool):
    return reviews.review(tool.server.name, tool.name, tool.digest, by=an_actor(), reason="Read it.")


def change(tool, description=EVIL):
    tool.offer = {**tool.offer, "description": description}
    tool.digest = offering.digest(tool.offer)
    tool.save()


def test_the_list_says_what_needs_a_person():
    changed, _ = an_mcp_tool(name="lend"), an_mcp_tool(name="find_book")
    review(changed)
    change(changed)
    an_mcp_server("files", error="no answer within 10 s", seen_at=None)

    text = page("/mcp/")

    assert text.index("Changed") < text.index("Not reviewed")
    assert "no answer within 10 s" in text
    assert "/mcp/new/" not in text
    assert "/mcp/new/" in page("/mcp/", Role.ADMIN)


def test_an_empty_list_says_what_they_are_for():
    assert "No MCP server yet" in page("/mcp/")


@pytest.mark.parametrize("url", ["/mcp/", "/mcp/library/", "/mcp/library/tools/find_book/"])
def test_more_rows_take_no_more_queries(url, django_assert_max_num_queries, django_assert_num_queries):
    review(an_mcp_tool())
    seen = client()
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as few:
        seen.get(url)
    for number in range(12):
        review(an_mcp_tool("library", f"tool_{number}"))
        an_mcp_tool(f"server-{number}")
    with django_assert_num_queries(len(few)):
        seen.get(url)
    assert len(few) <= 12


def test_a_change_is_shown_as_a_difference_with_hidden_characters_visible():
    tool = an_mcp_tool()
    review(tool)
    change(tool)

    text = page("/mcp/library/tools/find_book/")

    assert "What changed" in text
    assert "Find a book." in text
    assert "<script>alert" not in text
    assert "U+202E" in text
    assert "As it was reviewed." in text


def test_the_manifest_is_there_once_it_is_reviewed_as_it_is_offered():
    tool = an_mcp_tool()
    assert "its manifest stands here" in page("/mcp/library/tools/find_book/")

    review(tool)
    text = page("/mcp/library/tools/find_book/")
    assert f"&quot;schema_digest&quot;: &quot;{tool.digest}&quot;" in text
    assert "&quot;labelled&quot;: false" in text

    change(tool)
    assert "its manifest stands here" in page("/mcp/library/tools/find_book/")


def test_a_tool_names_the_active_releases_that_pin_something_else():
    tool = an_mcp_tool()
    manifest = reviews.manifest_json(tool, review(tool))
    a_release(an_agent("desk", "Desk"), tools=[{**manifest, "labelled": True}])
    assert "Pins what is offered now" in page("/mcp/library/tools/find_book/")

    change(tool)
    assert "its calls are refused" in page("/mcp/library/tools/find_book/")


def test_a_tool_is_reviewed_as_it_was_shown():
    tool = an_mcp_tool()
    operator = client()

    operator.post("/mcp/library/tools/find_book/review/", {"digest": "1" * 64, "reason": ""})
    assert not McpReview.objects.exists()

    operator.post("/mcp/library/tools/find_book/review/", {"digest": tool.digest, "reason": "Read it."})
    assert McpReview.objects.get().digest == tool.digest
    assert AuditEntry.objects.get(action="mcp_tool.review").reason == "Read it."


def test_a_refused_form_keeps_what_was_typed():
    admin = client(Role.ADMIN)
    typed = {
        "name": "files", "transport": "http", "url": "http://127.0.0.1/mcp", "environment": "A=B",
        "connect_timeout_s": "5", "call_timeout_s": "6", "output_cap_bytes": "5000", "reason": "For the desk.",
    }  # fmt: skip

    answer = admin.post("/mcp/new/", typed)

    assert answer.status_code == 422
    assert "127.0.0.1 is not an address on the public internet" in answer.content.decode()
    assert 'value="For the desk."' in answer.content.decode()

    answer = admin.post("/mcp/new/", {**typed, "url": "https://mcp.example.com/mcp"})
    assert (answer.status_code, answer["Location"]) == (302, "/mcp/files/")
    server = McpServer.objects.get()
    assert (server.connect_timeout_s, server.output_cap_bytes, server.environment) == (5, 5000, {})

    changed = admin.get("/mcp/files/change/").content.decode()
    assert 'value="https://mcp.example.com/mcp"' in changed
    admin.post("/mcp/files/change/", {**typed, "url": "https://other.example.com/mcp"})
    assert McpServer.objects.get().url == "https://other.example.com/mcp"


def test_the_switch_of_a_server_is_on_its_page_and_on_that_of_switches():
    an_mcp_server()
    operator = client()
    assert "MCP servers</h2>" not in operator.get("/switches/").content.decode()

    operator.post(
        "/switches/engage/", {"scope": "server", "effect": "disable_tool", "target": "library", "reason": "Odd."}
    )

    for url in ("/switches/", "/mcp/library/", "/mcp/"):
        text = operator.get(url).content.decode()
        assert "MCP server library is off" in text, url


def test_a_server_and_a_tool_of_one_name_have_switches_of_their_own():
    tool = an_mcp_tool(name="lend")
    a_release(an_agent("desk", "Desk"), tools=[{**reviews.manifest_json(tool, review(tool)), "labelled": True}])
    a_switch(scope=Scope.SERVER, target="library")

    text = page("/switches/")

    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    assert "Its tools are used by Desk" in text


def test_what_a_server_is_given_is_shown_by_name_only():
    an_mcp_server(
        header_name="Authorization", header_variable="MCP_TOKEN", url="https://mcp.example.com/mcp?key=s3cret"
    )

    text = page("/mcp/library/")

    assert "MCP_TOKEN" in text
    assert "s3cret" not in text


def test_refused_offers_and_problems_are_named():
    an_mcp_tool(name="lend")
    McpTool.objects.update(problem="Hidden characters stand in its schema at bo\ufffdok.")
    McpServer.objects.update(refused=[["l\u0435nd", "Its name has other characters."]])

    text = page("/mcp/library/")

    assert "Its name has other characters." in text
    assert "Cannot be used" in text
