"""Every page x nobody, each role on another agent, each role everywhere (D27, D32). The API's own matrix is in
tests/console/test_api_envelope.py; both fail when an address is added without an expectation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import django_rq
import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.html import escape
from django.utils.timezone import now

from approvals import subjects
from console import ids, queue, roles
from console.models import ApiToken, AuditEntry
from console.roles import Role
from releases.models import KillSwitch
from runtime.models import Breaker, Run
from tests import builders

pytestmark = pytest.mark.django_db

ANYBODY, SIGNED_IN = "anybody", "signed in"
MARK = "Quetzal"


@dataclass(frozen=True)
class Page:
    """`permission`: who may; `about`: the object in its address; `shows_all`: it is not divided by agents."""

    permission: str
    methods: frozenset[str]
    about: str = ""
    posted: tuple[tuple[str, str], ...] = ()
    shows_all: bool = False
    query: tuple[str, ...] = ()  # the object's id under these names, instead of in the path


def reads(permission: str, about: str = "", *, shows_all: bool = False, query: tuple[str, ...] = ()) -> Page:
    return Page(permission, frozenset({"GET"}), about, shows_all=shows_all, query=query)


def acts(permission: str, about: str = "", *, shows_all: bool = False, **posted: str) -> Page:
    return Page(permission, frozenset({"POST"}), about, tuple(posted.items()), shows_all)


def both(permission: str, about: str = "", **posted: str) -> Page:
    return Page(permission, frozenset({"GET", "POST"}), about, tuple(posted.items()))


WHY = "A test of the matrix."
PAGES = {
    "account_login": both(ANYBODY),
    "account_logout": both(SIGNED_IN),
    "account_inactive": reads(ANYBODY),
    "account_signup": both(ANYBODY),
    "account_change_password": both(SIGNED_IN),
    "console:home": reads(SIGNED_IN),
    "console:palette": reads(SIGNED_IN),
    "console:appearance": both(SIGNED_IN),
    "console:theme": acts(ANYBODY),
    "console:token-list": both(SIGNED_IN),
    "console:token-revoke": acts(SIGNED_IN, "token", shows_all=True, reason=WHY),
    "console:person-list": reads("people.read", shows_all=True),
    "console:person-add": acts("people.manage", shows_all=True, name="Q", email="q@q.test", role="support", reason=WHY),
    "console:person-detail": reads("people.read", "person", shows_all=True),
    "console:person-deactivate": acts("people.manage", "person", shows_all=True, reason=WHY),
    "console:person-reactivate": acts("people.manage", "person", shows_all=True, reason=WHY),
    "console:person-password": acts("people.manage", "person", shows_all=True, reason=WHY),
    "console:role-grant": acts("people.manage", "person", shows_all=True, role="operator", reason=WHY),
    "console:role-take-away": acts("people.manage", "grant", shows_all=True, reason=WHY),
    "console:components": reads("components.read"),
    "console:queue-list": reads("queues.read"),
    "console:queue-empty": acts("queues.manage", queue="chores", reason=WHY),
    "console:queue-requeue": acts("queues.manage", queue="chores", reason=WHY),
    "console:queue-delete": acts("queues.manage", queue="chores", job="gone", reason=WHY),
    "console:queue-stop": acts("queues.manage", queue="chores", job="gone", reason=WHY),
    "console:queue-suspend": acts("queues.manage", reason=WHY),
    "console:queue-resume": acts("queues.manage", reason=WHY),
    "console:audit-list": reads("audit.read", shows_all=True),
    "console:audit-verify": acts("audit.verify"),
    "console:audit-detail": reads("audit.read", "entry", shows_all=True),
    "approvals:list": reads("approvals.read"),
    "approvals:rows": reads("approvals.read"),
    "approvals:count": reads("approvals.read"),
    "approvals:next": reads("approvals.read"),
    "approvals:detail": reads("approvals.read", "approval"),
    "approvals:state": reads("approvals.read", "approval"),
    "approvals:decide": acts("approvals.decide", "approval", verdict="reject", reason=WHY, version="1"),
    "approvals:claim": acts("approvals.decide", "approval"),
    "releases:agent-list": reads("releases.read"),
    "releases:agent-detail": reads("releases.read", "agent"),
    "releases:release-create": both("releases.create", "agent", content="{}"),
    "releases:release-compare": reads("releases.read", "release", query=("a", "b")),
    "releases:release-detail": reads("releases.read", "release"),
    "releases:release-bundle": reads("releases.read", "release"),
    "releases:release-activate": acts("releases.activate", "release", reason=WHY),
    "releases:label-review": acts("labels.review", "release", verdict="accept", digest="0", reason=WHY),
    "releases:switch-list": reads("switches.read", shows_all=True),
    "releases:switch-engage": acts("switches.engage", scope="agent", effect="pause_runs", target="quetzal", reason=WHY),
    "releases:switch-count": reads("switches.read", shows_all=True),
    "releases:switch-strip": reads("switches.read", shows_all=True),
    "releases:switch-lift": acts("switches.lift", "switch", reason=WHY, phrase="turn on quetzal"),
    "releases:switch-explain": acts("switches.engage", "switch", reason=WHY),
    "runtime:run-list": reads("runs.read"),
    "runtime:run-rows": reads("runs.read"),
    "runtime:run-detail": reads("runs.read", "run"),
    "runtime:run-steps": reads("runs.read", "run"),
    "runtime:run-draft": reads("runs.read", "run"),
    "runtime:step-payload": reads("runs.read", "step"),
    "runtime:run-cancel": acts("runs.cancel", "run", reason=WHY),
    "runtime:run-pause": acts("runs.pause", "run", reason=WHY),
    "runtime:run-resume": acts("runs.pause", "run"),
    "runtime:run-fork": acts("runs.create", "run", reason=WHY),
    "runtime:breaker-list": reads("breakers.read"),
    "runtime:breaker-strip": reads("breakers.read"),
    "runtime:breaker-hold": acts("breakers.set", kind="tool", name="issue_refund", reason=WHY),
    "runtime:breaker-close": acts("breakers.set", kind="tool", name="quetzal_tool", reason=WHY),
    "runtime:queue-health": reads("health.read"),
    "runtime:queue-strip": reads("health.read"),
    "runtime:delivery-list": reads("deliveries.read"),
    "runtime:delivery-send-again": acts("deliveries.send", "delivery", reason=WHY),
    "runtime:thread-detail": reads("runs.read", "thread"),
    "runtime:memory-list": reads("memory.read"),
    "runtime:memory-erase": acts("memory.erase", principal="cust-1001", reason=WHY),
    "runtime:memory-delete": acts("memory.erase", "memory", reason=WHY),
    "runtime:schedule-list": reads("schedules.read"),
    "runtime:schedule-create": both("schedules.manage", agent="quetzal", name="Daily", text="Hello"),
    "runtime:schedule-detail": reads("schedules.read", "schedule"),
    "runtime:schedule-enable": acts("schedules.manage", "schedule"),
    "runtime:schedule-disable": acts("schedules.manage", "schedule", reason=WHY),
    "runtime:schedule-run": acts("schedules.manage", "schedule"),
    "runtime:agent-budgets": reads("runs.read", "agent"),
    "runtime:rule-try": reads("releases.create", "release"),
    "runtime:rule-save": acts("releases.create", "release", tool="issue_refund", then="ask", id="r", reason=WHY,
                              new_version="quetzal-2"),
    "runtime:rule-figures": reads("releases.read", "release"),
    "runtime:run-start": both("runs.create", agent="quetzal", text="Hello", principal_id="cust-1"),
    "runtime:start-people": reads("runs.create"),
    "mcp:server-list": reads("mcp.read", shows_all=True),
    "mcp:server-create": both("mcp.manage", name="quetzal-two", transport="stdio", command_line="/bin/x", reason=WHY),
    "mcp:server-detail": reads("mcp.read", "server", shows_all=True),
    "mcp:server-change": replace(both("mcp.manage", "server", reason=WHY), shows_all=True),
    "mcp:server-discover": acts("mcp.review", "server", shows_all=True),
    "mcp:server-disable": acts("mcp.review", "server", shows_all=True, reason=WHY),
    "mcp:server-enable": acts("mcp.review", "server", shows_all=True),
    "mcp:tool-detail": reads("mcp.read", "server-tool", shows_all=True),
    "mcp:tool-review": acts("mcp.review", "server-tool", shows_all=True, digest="1" * 64),
    "telemetry:overview": reads("metrics.read"),
    "telemetry:overview-export": reads("metrics.read"),
    "telemetry:tool-list": reads("releases.read"),
    "telemetry:tool-detail": reads("releases.read", "tool"),
    "telemetry:feedback": both("feedback.give", "run", score="1"),
}  # fmt: skip
ABOUT = [name for name, page in PAGES.items() if page.about and not page.shows_all]


class Subject:
    """What the approval is about; it takes every answer."""

    def check(self, request: Any, arguments: Any) -> dict[str, Any]:
        return dict(arguments)

    def decided(self, request: Any, decision: Any) -> None: ...

    def ended(self, request: Any) -> None: ...


@pytest.fixture
def objects(monkeypatch) -> dict[str, tuple[Any, ...]]:
    """One of everything, all of one agent, each carrying the mark in what a page would show of it."""
    monkeypatch.setitem(subjects._handlers, "tool_call", Subject())
    agent = builders.an_agent("quetzal", f"{MARK} desk")
    release = builders.a_release(agent, version=f"{MARK}-1")
    run = builders.a_run(agent=agent, title=f"{MARK} refund", input_text=f"{MARK} text")
    step = builders.a_step(run, input={"arguments": {"note": MARK}}, output={"result": MARK})
    owner = builders.a_user(Role.ADMIN)
    person = builders.a_user(Role.SUPPORT, name=f"{MARK} Person")
    token = ApiToken.objects.create(
        owner=owner, name=f"{MARK} token", prefix="quetzal1", digest="0" * 64, expires_at=now() + timedelta(days=1)
    )
    from console import audit
    from console.actors import system

    audit.record(system("test"), "token.create", token, reason=MARK)
    builders.a_breaker("quetzal_tool", last_error=MARK)
    switch = builders.a_switch(target="quetzal", scope="agent", effect="writes_off", reason="No reason given yet.")
    return {
        "approval": (builders.an_approval(run, title=f"{MARK} approval").pk,),
        "delivery": (builders.a_delivery(run).pk,),
        "agent": (agent.slug,),
        "release": (release.pk,),
        "run": (run.pk,),
        "step": (run.pk, step.pk),
        "switch": (switch.pk,),
        "tool": (release.bundle.tools[0].name,),
        "token": (token.pk,),
        "person": (person.pk,),
        "grant": (person.grants.get().pk,),
        "entry": (AuditEntry.objects.latest("id").pk,),
        "thread": (run.thread_id,),
        "memory": (builders.a_memory(agent, value=MARK).pk,),
        "schedule": (builders.a_schedule(agent, name=f"{MARK} schedule").pk,),
        "server": ("quetzal-server",),
        "server-tool": ("quetzal-server", builders.an_mcp_tool("quetzal-server", description=MARK).name),
        "": (),
    }


NOTHING = {
    "tool": ("no_such_tool",),
    "agent": ("nobody-here",), "step": (ids.new(), ids.new()), "approval": (ids.new(),), "release": (ids.new(),),
    "run": (ids.new(),), "switch": (ids.new(),), "token": (ids.new(),), "entry": (999_999_999,),
    "delivery": (ids.new(),), "thread": (ids.new(),), "memory": (ids.new(),), "schedule": (ids.new(),),
}  # fmt: skip


def named(patterns: list[Any], space: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "api":
                yield from named(pattern.url_patterns, f"{pattern.namespace}:" if pattern.namespace else space)
        elif isinstance(pattern, URLPattern):
            yield f"{space}{pattern.name}"


def client_of(role: Role | None, *, agent: str = "") -> Client:
    client = Client(raise_request_exception=False)
    if role is not None:
        client.force_login(builders.a_user(role, agent=agent))
    return client


def ask(client: Client, name: str, method: str, args: tuple[Any, ...]) -> Any:
    page = PAGES[name]
    address = reverse(name, args=() if page.query else args)
    if page.query:
        address += "?" + urlencode(dict.fromkeys(page.query, ids.public("rel", args[0])))
    return client.get(address) if method == "GET" else client.post(address, dict(page.posted))


def told(answer: Any) -> str:
    """The page without what differs between any two answers: tokens of forms, the reference of the refusal, ages."""
    text = re.sub(r'csrfmiddlewaretoken" value="[^"]*"|[^>]*</time>', "", shown(answer))
    text = text.replace(answer.request["PATH_INFO"], "").replace(escape(answer.request["QUERY_STRING"]), "")
    return re.sub(r"\b[0-9a-f]{8}\b|person\d+@\S+|Ada Number \d+|\bAN\b", "", text)


def shown(answer: Any) -> str:
    return (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()


def holds(role: Role, permission: str) -> bool:
    return permission in (ANYBODY, SIGNED_IN) or role in roles.holders(permission)


def test_every_address_of_every_app_has_an_expectation():
    assert sorted(set(named(get_resolver().url_patterns))) == sorted(PAGES)


@dataclass(frozen=True)
class Asked:
    name: str
    page: Page
    method: str
    answer: Any
    is_changed: bool  # by this request alone; it is undone

    @property
    def status(self) -> int:
        return int(self.answer.status_code)

    @property
    def is_offered(self) -> bool:
        return self.method in self.page.methods

    @property
    def is_marked(self) -> bool:
        return MARK in shown(self.answer)


def everything(objects: dict[str, tuple[Any, ...]], role: Role | None, *, agent: str = "") -> Iterator[Asked]:
    """Every address by each method, always from where one begins: whoever asks has just signed in.

    That an address does not take a method is asked of each role once, not on another agent again.
    """
    client = client_of(role, agent=agent)
    cookies, before = client.cookies.output(), state()
    for (name, page), method in itertools.product(PAGES.items(), ("GET", "POST")):
        if agent and method not in page.methods:
            continue
        django_rq.get_connection(queue.CHORES).flushdb()
        client.cookies = type(client.cookies)(cookies.replace("Set-Cookie:", ""))
        with transaction.atomic():
            written = writes()
            answer = ask(client, name, method, objects[page.about])
            yield Asked(name, page, method, answer, writes() != written and state() != before)
            transaction.set_rollback(True)


def wrong(asked: Iterable[Asked], is_right: Callable[[Asked], bool]) -> list[tuple[str, str, int, bool]]:
    return [(each.method, each.name, each.status, each.is_changed) for each in asked if not is_right(each)]


def test_strangers_are_sent_to_sign_in_and_change_nothing(objects):
    def is_right(asked: Asked) -> bool:
        if asked.is_marked or asked.is_changed:
            return False
        if not asked.is_offered:
            return asked.status == 405
        if asked.page.permission == ANYBODY:
            return asked.status in (200, 302)
        if asked.name == "account_logout":  # who is not signed in is out already
            return True
        return asked.status == 302 and asked.answer.url.startswith("/accounts/login/")

    assert wrong(everything(objects, None), is_right) == []


@pytest.mark.parametrize("role", Role)
def test_a_role_everywhere_reaches_what_it_holds_and_nothing_else(objects, role):
    def is_right(asked: Asked) -> bool:
        if asked.is_changed and not (asked.method == "POST" and asked.status < 400):
            return False
        if not asked.is_offered:
            return asked.status == 405
        if not holds(role, asked.page.permission):
            return asked.status == 403 and not asked.is_marked
        if asked.name == "console:token-revoke":  # somebody else's: an admin's business
            return asked.status == (302 if role == Role.ADMIN else 404)
        return asked.status in (200, 204, 302, 409, 422)

    assert wrong(everything(objects, role), is_right) == []


@pytest.mark.parametrize("role", Role)
def test_a_role_on_another_agent_sees_and_changes_nothing_of_this_one(objects, role):
    def is_right(asked: Asked) -> bool:
        if asked.is_changed or (asked.is_marked and not asked.page.shows_all):
            return False
        if not holds(role, asked.page.permission):
            return asked.status == 403
        return asked.status == 404 or asked.name not in ABOUT or asked.page.about == "switch"

    assert wrong(everything(objects, role, agent="another-agent"), is_right) == []


@pytest.mark.parametrize("role", Role)
def test_what_is_foreign_looks_exactly_like_what_is_not_there(role, objects):
    client = client_of(role, agent="another-agent")
    for name in ABOUT:
        page = PAGES[name]
        if page.about == "switch":
            continue
        expected = 404 if holds(role, page.permission) else 403
        for method in page.methods:
            foreign = ask(client, name, method, objects[page.about])
            absent = ask(client, name, method, NOTHING[page.about])

            assert (foreign.status_code, absent.status_code) == (expected, expected), name
            assert told(foreign) == told(absent), name


def test_a_change_is_seen_and_undone(objects):
    """Or else all of the above would say nothing."""
    before = state()

    changed = {(each.method, each.name) for each in everything(objects, Role.OPERATOR) if each.is_changed}

    assert {("POST", "approvals:decide"), ("POST", "approvals:claim"), ("POST", "runtime:memory-delete")} <= changed
    assert state() == before


def writes() -> int:
    """How many rows this transaction has written; only if there are more does `state` say anything new."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables"
            " WHERE relname NOT LIKE 'django\\_%%' AND relname NOT LIKE 'auth\\_%%'"
        )
        return int(cursor.fetchone()[0])


def state() -> tuple[Any, ...]:
    """What an action could have changed."""
    from approvals.models import ApprovalRequest, Decision
    from releases.models import Agent, LabelReview, Release
    from runtime.mcp.models import McpReview, McpServer
    from runtime.models import Delivery, Memory, Schedule
    from telemetry.models import Feedback

    return (
        list(Delivery.objects.values_list("pk", "status", "next_at")),
        list(ApprovalRequest.objects.values_list("pk", "status", "version", "claimed_by")),
        Decision.objects.count(),
        list(Run.objects.values_list("pk", "status", "cancel_requested_at", "pause_requested_at")),
        list(Agent.objects.values_list("pk", "active_release")),
        Release.objects.count(),
        list(McpServer.objects.values_list("pk", "disabled_at", "asked_at")),
        McpReview.objects.count(),
        LabelReview.objects.count(),
        list(KillSwitch.objects.values_list("pk", "lifted_at", "reason")),
        list(ApiToken.objects.values_list("pk", "revoked_at")),
        list(Breaker.objects.values_list("name", "state")),
        Feedback.objects.count(),
        Memory.objects.count(),
        list(Schedule.objects.values_list("pk", "next_at")),
    )
