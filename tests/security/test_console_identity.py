"""Identity where people see it: tokens say for whom they act, runs for whom they work and who started them."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.utils.html import strip_tags

from console import tokens
from console.models import ApiToken, AuditEntry
from console.roles import Role
from runtime.models import Run
from tests.builders import a_release, a_run, a_thread, a_user, an_agent
from tests.programs import Program

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator():
    return a_user(Role.OPERATOR, name="Olga Operator")


@pytest.fixture
def browser(operator):
    client = Client()
    client.force_login(operator)
    return client


def a_token_made_with(browser: Client, **fields: str) -> ApiToken:
    browser.post("/settings/tokens/", {"name": "shop", "days": "30", "scopes": ["runs.create"], **fields})
    return ApiToken.objects.get()


@pytest.mark.parametrize(
    ("fields", "end_users", "attributes", "says"),
    [
        ({}, ["*"], {}, "It acts for itself and for any end user."),
        ({"acts_for": "itself", "end_users": "acme-*"}, [], {}, "It acts for nobody but itself."),
        (
            {"acts_for": "some", "end_users": "acme-*  globex-7", "attributes": "tier tenant=acme"},
            ["acme-*", "globex-7"],
            {"tenant": "acme", "tier": "*"},
            "It acts for itself and for end users acme-* or globex-7.",
        ),
    ],
)
def test_a_token_is_made_for_somebody_and_the_list_says_for_whom(browser, fields, end_users, attributes, says):
    token = a_token_made_with(browser, **fields)

    assert (token.end_users, token.attributes) == (end_users, attributes)
    assert says in browser.get("/settings/tokens/").content.decode()
    made = AuditEntry.objects.get(action="token.create").changes
    assert (made["end_users"], made["attributes"]) == ([None, end_users], [None, attributes])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"acts_for": "some"}, "Say which"),
        ({"acts_for": "some", "end_users": "a\u202eb"}, "printable"),
        ({"acts_for": "some", "end_users": " ".join(f"a{n}" for n in range(21))}, "At most 20 patterns"),
        ({"attributes": "Tenant=acme"}, "is no name of an attribute"),
        ({"attributes": "tenant="}, "The value of tenant"),
        ({"tool_scopes": "x" * 81}, "A tool scope is a text"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_with_the_reason(browser, fields, sentence):
    page = browser.post("/settings/tokens/", {"name": "shop", "days": "30", "scopes": ["runs.create"], **fields})

    assert not ApiToken.objects.exists()
    assert sentence in page.content.decode()


def test_the_scopes_of_its_runs_are_part_of_the_form(browser):
    token = a_token_made_with(browser, tool_scopes="orders:read refunds:write")

    assert token.tool_scopes == ["orders:read", "refunds:write"]
    assert "orders:read, refunds:write" in browser.get("/settings/tokens/").content.decode()


def test_the_head_of_a_run_says_for_whom_and_by_which_program(browser):
    run = a_run(
        principal_id="acme-1", principal_label="Ana Lima", principal_attributes={"tier": "gold"},
        started_by_kind="token", started_by_label="shop front (Ada)",
    )  # fmt: skip

    head = strip_tags(browser.get(run.get_absolute_url()).content.decode())

    assert "For Ana Lima, end user, tier gold" in head
    assert "by the program shop front (Ada)" in head


def test_a_person_may_start_a_run_for_himself(browser, operator):
    agent = a_release(an_agent("support")).agent

    answer = browser.post("/start/", {"agent": agent.slug, "text": "Sum up", "for_self": "on"})

    run = Run.objects.get()
    assert answer.status_code == 302
    assert (run.principal_id, run.principal_label) == (operator.actor().itself, "Olga Operator")
    assert "member of staff" in browser.get(run.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    "principal", ["service:tok_x", "staff:usr_x", "Staff: somebody"], ids=["service", "staff", "written otherwise"]
)
def test_a_person_starts_runs_for_customers_and_for_himself_only(browser, principal):
    a_release(an_agent("support"))

    answer = browser.post("/start/", {"agent": "support", "text": "Sum up", "principal_id": principal})

    assert answer.status_code == 403
    assert not Run.objects.exists()


def test_somebody_must_be_said(browser):
    a_release(an_agent("support"))

    page = browser.post("/start/", {"agent": "support", "text": "Sum up"})

    assert page.status_code == 422
    assert "unless it works for you" in page.content.decode()


def test_to_go_on_with_a_conversation_keeps_whom_it_is_for(browser):
    agent = a_release(an_agent("support")).agent
    thread = a_thread(agent, principal_id="acme-1", principal_attributes={"tier": "gold"}, scopes=["orders:read"])

    browser.post("/start/", {"thread": thread.public_id, "text": "And now?", "principal_id": "cus_other"})

    run = Run.objects.get()
    assert (run.principal_id, run.principal_attributes, run.scopes) == ("acme-1", {"tier": "gold"}, ["orders:read"])


def test_a_token_never_names_its_owner_as_itself():
    """The service is the token: what it does alone is nobody's personal doing."""
    program = Program()

    assert program.token.actor().itself != program.owner.actor().itself
    assert tokens.authenticate(program.secret).actor().itself.startswith("service:tok_")


def test_the_commands_of_the_how_to_do_what_it_says(capsys):
    page = (settings.BASE_DIR / "docs" / "how-to" / "act-for-end-users.md").read_text()
    make, start = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    a_user(Role.OPERATOR, email="tomas@example.com")
    a_release(an_agent("support"))

    call_command(*shlex.split(make.replace("\\\n", " "))[2:])
    secret = capsys.readouterr().out.strip()
    body = json.loads(re.search(r"-d '(.*)'", start, re.DOTALL)[1])
    answer = Client().post(
        "/api/v1/runs", body, content_type="application/json", headers={"Authorization": f"Bearer {secret}"}
    )

    assert answer.status_code == 202, answer.json()
    assert answer.json()["principal"]["attributes"] == {"tenant": "acme", "tier": "gold"}
    assert answer.json()["scopes"] == ["orders:read"]
