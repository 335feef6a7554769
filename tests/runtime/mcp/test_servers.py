"""Keeping MCP servers: who may, what may be started and reached, what is asked of them (D41, secrets by name only)."""

from __future__ import annotations

import sys
import threading

import pytest
from django.db import connection

from console import problems
from console.models import AuditEntry
from console.roles import Role
from runtime.mcp import configuring, discoveries, reviews, servers
from runtime.mcp.configuring import NotUsable
from runtime.mcp.models import McpReview, McpServer, McpTool
from runtime.mcp.servers import Wanted
from runtime.mcp.states import Transport
from runtime.policies import offering
from tests.builders import a_user, an_actor, an_mcp_server, an_mcp_tool
from tests.runtime.mcp.conftest import PLAIN

pytestmark = pytest.mark.django_db
HERE = f"{sys.executable} {PLAIN}"


def by(role=Role.ADMIN, agent=""):
    return a_user(role, agent=agent).actor()


def http(url="https://mcp.example.com/mcp", **more):
    return Wanted(Transport.HTTP, url=url, **more)


def program(line, **more):
    return Wanted(Transport.STDIO, command_line=line, **more)


def register(wanted, name="library", actor=None):
    return servers.register(name, wanted, by=actor or by(), reason="For the desk.")


def test_a_server_is_added_audited_and_asked(django_capture_on_commit_callbacks):
    server = register(http(header_name="Authorization", header_variable="MCP_TOKEN"))

    assert server.asked_at is not None
    entry = AuditEntry.objects.get(action="mcp_server.register")
    assert entry.changes["url"] == [None, "https://mcp.example.com/mcp"]
    assert entry.changes["header_variable"] == [None, "MCP_TOKEN"]


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.OPERATOR, Role.MANAGER, Role.AUDITOR])
def test_only_admins_add_servers(role):
    with pytest.raises(problems.Forbidden):
        register(http(), actor=by(role))

    assert not McpServer.objects.exists()


def test_an_admin_of_one_agent_adds_none():
    with pytest.raises(problems.Forbidden):
        register(http(), actor=by(agent="shop-support"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/mcp",
        "http://2130706433/mcp",
        "http://0x7f.1/mcp",
        "http://0177.0.0.1/mcp",
        "http://[::1]/mcp",
        "http://[::ffff:10.0.0.1]/mcp",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://user:pass@example.com/mcp",
        "",
    ],
)
def test_an_address_that_leads_inside_is_refused(url):
    with pytest.raises(problems.Invalid) as refused:
        register(http(url))

    assert "url" in refused.value.extra["errors"]


def test_a_secret_is_sent_over_tls_only(settings):
    secret = {"header_name": "Authorization", "header_variable": "MCP_TOKEN"}
    with pytest.raises(problems.Invalid, match="https only"):
        register(http("http://mcp.example.com/mcp", **secret))

    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    register(http("http://127.0.0.1:8000/mcp", **secret))


@pytest.mark.parametrize(
    "line",
    [
        "/bin/sh -c id",
        f"{sys.executable} -c 'import os'",
        f"{sys.executable}",
        f"{HERE}x",
        f"  {sys.executable}  -u {PLAIN}",
        "plain.py",
        "",
        "'unbalanced",
    ],
)
def test_a_program_that_the_operator_has_not_listed_is_not_started(settings, line):
    settings.MCP_COMMANDS = [HERE, ""]

    with pytest.raises(problems.Invalid):
        register(program(line))


def test_a_listed_program_may_have_further_arguments(settings):
    settings.MCP_COMMANDS = [HERE]

    assert register(program(f"{HERE} --root '/srv/my docs'")).command[-1] == "/srv/my docs"


def test_a_program_that_is_listed_no_more_is_not_started_either(settings):
    settings.MCP_COMMANDS = [HERE]
    server = register(program(HERE))
    settings.MCP_COMMANDS = []

    with pytest.raises(NotUsable, match="STEADYHAND_MCP_COMMANDS"):
        configuring.of(server)


@pytest.mark.parametrize(
    ("child", "variable"),
    [
        ("TOKEN", "OPENAI_API_KEY"),
        ("TOKEN", "STEADYHAND_SECRET_KEY"),
        ("TOKEN", "DATABASE_URL"),
        ("LD_PRELOAD", "MCP_X"),
        ("PYTHONPATH", "MCP_X"),
        ("PATH", "MCP_X"),
        ("A B", "MCP_X"),
        ("TOKEN", "MCP_x"),
    ],
)
def test_no_variable_but_those_meant_for_it_reaches_a_program(settings, child, variable):
    settings.MCP_COMMANDS = [HERE]

    with pytest.raises(problems.Invalid):
        register(program(HERE, environment={child: variable}))


@pytest.mark.parametrize(("name", "variable"), [("Host", "MCP_X"), ("mcp-session-id", "MCP_X"), ("X-Y", "HOME")])
def test_headers_that_are_not_for_a_secret_are_refused(name, variable):
    with pytest.raises(problems.Invalid):
        register(http(header_name=name, header_variable=variable))


def test_a_secret_is_never_kept(monkeypatch):
    monkeypatch.setenv("MCP_TOKEN", "quetzal-feather-77")
    server = register(http(header_name="Authorization", header_variable="MCP_TOKEN"))

    config = configuring.of(server)

    assert config.headers == {"Authorization": "quetzal-feather-77"}
    assert "quetzal" not in repr(config) + str(list(McpServer.objects.values())) + str(
        list(AuditEntry.objects.values())
    )
    assert config.redacted("I was given quetzal-feather-77.") == "I was given •••."


def test_names_are_unique_also_to_the_eye():
    register(http())

    with pytest.raises(problems.Conflict):
        register(http())
    with pytest.raises(problems.Invalid, match="reads like"):
        register(http(), name="iibrary")


def test_turning_off_and_on_twice_is_harmless_and_needs_a_reason():
    an_mcp_server()
    with pytest.raises(problems.Invalid):
        servers.disable("library", by=an_actor(), reason=" ")

    for _ in range(2):
        servers.disable("library", by=an_actor(), reason="Odd answers.")
    with pytest.raises(NotUsable, match="Odd answers"):
        configuring.load("library")
    for _ in range(2):
        servers.enable("library", by=an_actor())

    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["mcp_server.disable", "mcp_server.enable"]


def test_changing_a_server_is_audited_and_leaves_reviews(settings):
    tool = an_mcp_tool()
    reviews.review("library", "find_book", tool.digest, by=an_actor(), reason="")

    servers.change("library", http("https://other.example.com/mcp"), by=by(), reason="Moved.")
    servers.change("library", http("https://other.example.com/mcp"), by=by(), reason="Again.")

    assert AuditEntry.objects.filter(action="mcp_server.change").count() == 1
    assert McpReview.objects.count() == 1


def test_the_server_is_asked_and_its_answer_kept(library):
    library.mood("strange")

    server = library.look()

    assert server.told == "Plain library 1, protocol 2025-06-18"
    tools = {tool.name: tool.problem for tool in McpTool.objects.all()}
    assert set(tools) == {"find_book", "lend", "trouble", "whisper", "hidden", "slow"}
    assert "Hidden characters" in tools["hidden"]
    assert "linear time" in tools["slow"]
    assert len(server.refused) == 4
    assert "\u0435" in server.refused[0][0]


def test_what_is_not_offered_any_more_is_kept_where_it_was_reviewed(library):
    library.mood("strange")
    library.look()
    library.review("whisper")
    library.mood("")

    library.look()

    digests = {tool.name: bool(tool.digest) for tool in McpTool.objects.all()}
    assert digests == {"find_book": True, "lend": True, "trouble": True, "whisper": False}
    assert AuditEntry.objects.filter(action="mcp_tool.change").count() == 1


def test_a_server_that_cannot_be_asked_keeps_what_was_known_of_it(library):
    library.look()
    library.mood("complains")

    server = library.look()

    assert "is wrong" in server.error
    assert "hunter2" not in server.error
    assert McpTool.objects.exclude(digest="").count() == 3
    library.mood("")
    assert library.look().error == ""


def test_a_server_that_says_nothing_is_given_up(library):
    McpServer.objects.update(connect_timeout_s=0.5)
    library.mood("deaf")

    assert "no answer within 0.5 s" in library.look().error


def test_only_what_was_shown_is_reviewed(library):
    library.look()
    lend = McpTool.objects.get(name="lend")
    library.mood("rug-pull")
    library.look()

    with pytest.raises(problems.Conflict, match="Look again"):
        reviews.review("library", "lend", lend.digest, by=an_actor(), reason="")


def test_an_offer_that_cannot_be_used_is_not_reviewed(library):
    library.mood("strange")
    library.look()
    hidden = McpTool.objects.get(name="hidden")

    with pytest.raises(problems.Conflict, match="Hidden characters"):
        reviews.review("library", "hidden", hidden.digest, by=an_actor(), reason="")


def test_support_reviews_nothing():
    tool = an_mcp_tool()

    with pytest.raises(problems.Forbidden):
        reviews.review("library", "find_book", tool.digest, by=by(Role.SUPPORT), reason="")


def test_a_tool_comes_as_the_most_dangerous_kind():
    tool = an_mcp_tool()
    review = reviews.review("library", "find_book", tool.digest, by=an_actor(), reason="Read it.")

    manifest = reviews.manifest(tool, review)

    assert (manifest.labelled, manifest.effect, manifest.output_trust, manifest.retry) == (
        False,
        "egress",
        "untrusted",
        "unsafe",
    )
    assert (manifest.name, manifest.server, manifest.schema_digest) == ("library__find_book", "library", tool.digest)
    assert AuditEntry.objects.get(action="mcp_tool.review").changes["reviewed"] == ["", tool.digest]


def test_looking_again_at_what_has_not_changed_writes_nothing(library, django_assert_num_queries):
    library.look()
    listing = offering.Listing({t.name: offering.Judged(t.offer, t.digest, t.problem) for t in McpTool.objects.all()})

    with django_assert_num_queries(4):  # the row, its tools, and a savepoint around both
        discoveries.store("library", listing, library.row.told or "Plain library 1, protocol 2025-06-18")


@pytest.mark.django_db(transaction=True)
def test_a_server_that_does_not_answer_holds_one_thread_however_often_it_is_asked_for(monkeypatch):
    server, begun, over = an_mcp_server(), threading.Semaphore(0), threading.Event()
    looks = []

    async def listed(config):
        looks.append(config.name)
        begun.release()
        over.wait(30)
        raise OSError("nobody is there")

    def look():
        discoveries.look(server.pk)
        connection.close()

    monkeypatch.setattr(discoveries, "_listed", listed)
    first = threading.Thread(target=look)
    first.start()
    assert begun.acquire(timeout=30)

    for _ in range(8):
        look()  # returns at once
        assert looks == [server.name]
    over.set()
    first.join(30)

    assert looks == [server.name] * 2  # what was asked for meanwhile is looked at once more
    look()
    assert looks == [server.name] * 3


@pytest.mark.django_db(transaction=True)
def test_a_look_that_broke_off_keeps_nobody_from_looking(monkeypatch):
    server, looks = an_mcp_server(), []

    async def listed(config):
        looks.append(config.name)
        raise LookupError("an error of ours")

    monkeypatch.setattr(discoveries, "_listed", listed)

    for _ in range(2):
        with pytest.raises(LookupError):
            discoveries.look(server.pk)

    assert len(looks) == 2
