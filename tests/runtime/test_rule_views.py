"""Rules on screens and for programs: tried on past calls, stored in a new release, counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from console.roles import Role
from releases.models import Release
from runtime.models import RuleCount, Step
from runtime.states import StepKind, StepStatus, StepVerdict
from tests.builders import a_release, a_run, a_step, a_tool, a_user, an_agent
from tests.programs import Program

pytestmark = pytest.mark.django_db

TOOL = a_tool(
    title="Refund ${amount} for order {order_id}",
    arguments={"order_id": "target", "amount": "amount"},
    parameters={
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}},
        "required": ["order_id", "amount"],
    },
)
OVER_100 = {"tool": "issue_refund", "argument_0": "amount", "op_0": "gt", "value_0": "100", "then": "ask"}


@pytest.fixture
def release() -> Release:
    return a_release(an_agent("shop-support", "Shop support"), version="1.0", tools=[TOOL])


def a_call(release, amount, *, who="cust-1001", at=None, verdict="allow", **fields):
    """A past run of one call, allowed, asked about or refused."""
    run = a_run(release=release, principal_id=who, principal_label="Ana Lima", created_at=at or now())
    arguments = {"order_id": "1042", "amount": amount}
    if verdict == "allow":
        given = {"arguments": arguments, **fields.pop("given", {})}
        return a_step(run, name="issue_refund", rule="default", call_id="c1", input=given, output={}, **fields)
    words = {"ask": StepVerdict.ASKED, "refuse": StepVerdict.REFUSED}
    status = {"ask": StepStatus.DONE, "refuse": StepStatus.REFUSED}[verdict]
    given = {"call": {"id": "c1", "name": "issue_refund", "arguments": arguments}}
    return a_step(
        run, StepKind.GUARDRAIL, "rule:x", status=status, verdict=words[verdict], rule="rule:x", call_id="c1",
        input=given, output={}, **fields,
    )  # fmt: skip


def a_browser(role=Role.OPERATOR, **options):
    browser = Client()
    browser.force_login(a_user(role, **options))
    return browser


def url(name, release):
    return reverse(f"runtime:{name}", args=[release.pk])


def text(answer):
    return answer.content.decode()


# Trying


def test_a_form_of_common_cases_says_what_would_have_changed(release):
    for amount, verdict in ((150, "allow"), (250, "allow"), (300, "ask"), (400, "refuse"), (20, "allow")):
        a_call(release, amount, verdict=verdict)

    page = text(a_browser().get(url("rule-try", release), OVER_100))

    for part in (
        "When amount is over 100, on issue_refund: ask a person",
        "2 calls that were “allowed” would be “people asked”",
        "Refund $250 for order 1042",
        f"/runs/{Step.objects.filter(name='issue_refund').first().run.public_id}/?step=",
    ):
        assert part in page
    assert page.count('<tr><th scope="row"') == 4
    assert not RuleCount.objects.exists()


def test_an_expression_is_tried_with_totals_of_the_days(release):
    today = now().astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    for minute, who, fields in (
        (0, "cust-1", {}),
        (1, "cust-2", {}),
        (2, "cust-1", {"status": StepStatus.FAILED}),
        (3, "cust-1", {}),
        (4, "cust-1", {}),
        (5, "cust-1", {"given": {"forked_from": "stp_1"}}),
    ):
        a_call(release, 200, who=who, at=today + timedelta(minutes=minute), **fields)
    a_call(release, 200, who="cust-1", at=today - timedelta(days=1))

    answer = a_browser().get(
        url("rule-try", release),
        {"tool": "issue_refund", "then": "refuse", "condition": "totals.principal.after.sum.amount > 500.0"},
    )

    report = answer.context["tried"].report
    assert report.examined == 6
    assert report.changed == {("allow", "refuse"): 1}  # only the third one that was paid to cust-1 on that day
    assert report.matches[0].past.at == today + timedelta(minutes=4)


def test_a_call_that_was_approved_is_judged_once_and_counted_when_it_was_made(release):
    run = a_run(release=release)
    arguments = {"order_id": "1", "amount": 150}
    a_step(
        run, StepKind.GUARDRAIL, "rule:x", verdict=StepVerdict.ASKED, rule="rule:x", call_id="c1",
        input={"call": {"id": "c1", "name": "issue_refund", "arguments": arguments}}, output={},
    )  # fmt: skip
    a_step(run, StepKind.APPROVAL, "Approval", call_id="c1", verdict=StepVerdict.APPROVED)
    a_step(run, name="issue_refund", rule="approved", call_id="c1", input={"arguments": arguments}, output={})
    a_call(release, 10, at=now() + timedelta(seconds=30))

    answer = a_browser().get(
        url("rule-try", release),
        {"tool": "issue_refund", "then": "refuse", "condition": "totals.agent.calls > 0"},
    )

    assert answer.context["tried"].report.examined == 2
    assert answer.context["tried"].report.changed == {("allow", "refuse"): 1}


def test_what_cannot_be_evaluated_is_said(release):
    a_call(release, "much")

    page = text(a_browser().get(url("rule-try", release), {**OVER_100, "value_0": "", "argument_0": "",
                                                          "condition": "args.amount > 100.0"}))  # fmt: skip

    assert "could not be evaluated for 1 of them" in page


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"condition": "args.amout > 1.0"}, "Did you mean amount?"),
        ({"condition": "args.amount >"}, "the expression ends too early"),
        ({"tool": "nobody"}, "Select a valid choice"),
        ({"op_0": "longer"}, "Input should be"),
        ({"approvals_needed": "2", "then": "refuse"}, "It belongs to rules that ask"),
        ({"calls": "5000"}, "less than or equal to 2000"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_rest_stays(release, sent, said):
    answer = a_browser().get(url("rule-try", release), {**OVER_100, "reason": "Kept <b>words</b>", **sent})

    assert answer.status_code == 422
    page = text(answer)
    assert said in page
    assert "Kept &lt;b&gt;words&lt;/b&gt;" in page
    assert "Store it in a new release" not in page


def test_at_most_two_thousand_calls_are_looked_at_and_it_says_so(release, monkeypatch):
    from runtime import backtests

    monkeypatch.setattr(backtests, "MOST_CALLS", 2)
    for amount in (1, 2, 3):
        a_call(release, amount)

    answer = a_browser().get(url("rule-try", release), {**OVER_100, "calls": "2"})

    assert answer.context["tried"].report.examined == 2
    assert "There are older calls" in text(answer)


def test_personal_data_of_past_calls_is_masked_for_those_without_the_right(release, monkeypatch):
    from console import roles

    holders = roles.holders("runs.personal") - {Role.OPERATOR}
    monkeypatch.setitem(roles._holders, "runs.personal", holders)
    a_step(a_run(release=release, principal_label="ana@example.test"), name="issue_refund",
           input={"arguments": {"order_id": "ana@example.test", "amount": 500}}, output={})  # fmt: skip

    page = text(a_browser().get(url("rule-try", release), OVER_100))

    assert "ana@example.test" not in page
    assert "•••" in page


def test_the_page_needs_few_queries(release, django_assert_max_num_queries):
    for amount in range(100, 140):
        a_call(release, amount)
    browser = a_browser()
    browser.get(url("rule-try", release))

    with django_assert_max_num_queries(12):
        browser.get(url("rule-try", release), OVER_100)


# Storing


def test_the_rule_is_stored_in_a_new_release_and_nothing_else_changes(release):
    browser = a_browser()
    sent = {**OVER_100, "id": "refund-limit", "reason": "Over $100.", "approvals_needed": "2", "ask_roles": ["admin"],
            "mode": "log", "condition": "hour >= 22", "new_version": "1.1"}  # fmt: skip

    answer = browser.post(url("rule-save", release), sent)

    made = Release.objects.get(version="1.1")
    assert answer["Location"] == made.get_absolute_url()
    rule = made.bundle.rules[0]
    assert (rule.id, rule.mode, rule.approvals_needed, rule.ask_roles) == ("refund-limit", "log", 2, [Role.ADMIN])
    assert rule.condition == "hour >= 22"
    assert made.note == "1.0 with rule refund-limit added."
    assert made.bundle.model_copy(update={"version": "1.0", "rules": []}) == release.bundle
    release.agent.refresh_from_db()
    assert release.agent.active_release == release
    page = text(browser.get(made.get_absolute_url()))
    assert (
        "Only logged: when amount is over 100 and hour &gt;= 22, on issue_refund: ask 2 people with the role admin"
        in page
    )


def test_a_rule_of_the_same_name_gives_way_and_keeps_its_place(release):
    rules = [{"id": name, "tool": "issue_refund", "then": "ask", "reason": "why"} for name in ("a", "b", "c")]
    old = a_release(release.agent, version="2.0", tools=[TOOL], rules=rules)
    browser = a_browser()
    form = browser.get(url("rule-try", old) + "?rule=b").context["form"]
    assert form.initial["id"] == "b"

    browser.post(url("rule-save", old), {**OVER_100, "id": "b", "reason": "better", "new_version": "2.1"})

    stored = Release.objects.get(version="2.1").bundle.rules
    assert [(rule.id, rule.reason) for rule in stored] == [("a", "why"), ("b", "better"), ("c", "why")]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"id": ""}, "This field is required"),
        ({"new_version": "1.0"}, "already has a release 1.0"),
        ({"new_version": ""}, "The bundle cannot be used"),
        ({"condition": "args.amout > 1.0"}, "Did you mean"),
    ],
)
def test_a_rule_that_cannot_be_stored_is_explained_and_kept(release, sent, said):
    answer = a_browser().post(
        url("rule-save", release), {**OVER_100, "id": "r", "reason": "Because", "new_version": "1.1", **sent}
    )

    assert answer.status_code in (409, 422)
    assert said in text(answer)
    assert 'value="Because"' in text(answer)
    assert Release.objects.count() == 1


def test_who_may_not_create_releases_of_the_agent_finds_nothing(release):
    elsewhere = a_browser(agent="another-agent")
    assert elsewhere.get(url("rule-try", release)).status_code == 404
    assert elsewhere.post(url("rule-save", release), OVER_100).status_code == 404
    assert a_browser(Role.SUPPORT).get(url("rule-try", release)).status_code == 403
    assert a_browser(Role.SUPPORT).get(url("rule-figures", release)).status_code == 200


# Counting


def test_the_release_shows_what_its_rules_came_to_in_a_week(release):
    rules = [
        {"id": "night", "tool": "issue_refund", "then": "refuse", "reason": "why", "mode": "log"},
        {"id": "quiet", "tool": "issue_refund", "then": "ask", "reason": "why"},
    ]
    made = a_release(release.agent, version="2.0", tools=[TOOL], rules=rules)
    today = datetime.now(UTC).date()
    for days, refused in ((0, 3), (6, 4), (7, 100)):
        RuleCount.objects.create(
            release=made, rule="night", day=today - timedelta(days=days), refused=refused, failed=1
        )

    page = text(a_browser(Role.AUDITOR).get(url("rule-figures", made)))

    assert "Only logged" in page
    assert "2 not evaluated" in page
    assert '>7</td><td class="num" data-label="Would allow">' in page.replace("\n", "")
    assert url("rule-figures", made) in text(a_browser(Role.AUDITOR).get(made.get_absolute_url()))


# Programs


def test_a_program_tries_and_stores_a_rule(release):
    step = a_call(release, 150)
    rule = {
        "id": "limit",
        "tool": "issue_refund",
        "condition": "args.amount > 100.0",
        "then": "refuse",
        "reason": "No.",
    }
    program = Program("releases.create", "runs.read", role=Role.OPERATOR)

    tried = program.post(f"/releases/{release.public_id}/rules/try", {"rule": rule}).json()

    assert tried["changed"] == [{"was": "allow", "would_be": "refuse", "calls": 1}]
    assert tried["matches"][0]["step_id"] == step.public_id
    blind = Program("releases.create", role=Role.OPERATOR)
    assert blind.post(f"/releases/{release.public_id}/rules/try", {"rule": rule}).json()["matches"] == []

    made = program.post(f"/releases/{release.public_id}/rules", {"rule": rule, "version": "1.1"}).json()
    assert Release.objects.get(version="1.1").public_id == made["release_id"]

    wrong = program.post(f"/releases/{release.public_id}/rules/try", {"rule": {**rule, "condition": "args.x > 1"}})
    assert wrong.status_code == 422
    assert "has no argument x" in wrong.json()["errors"]["condition"]


def test_past_calls_of_other_agents_are_not_looked_at(release):
    a_call(a_release(an_agent("other"), tools=[TOOL]), 500)

    answer = a_browser().get(url("rule-try", release), OVER_100)

    assert answer.context["tried"].report.examined == 0
    assert "never called this tool" in text(answer)
