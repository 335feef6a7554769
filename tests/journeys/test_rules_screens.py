"""Rules in a real browser: written, tried on past calls, stored, counted; and a question that two people answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from playwright.sync_api import Browser, Page, expect

from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus
from console.models import User
from console.roles import Role
from releases.models import Release
from runtime.models import RuleCount, Run
from runtime.states import StepKind, StepStatus, StepVerdict
from tests.builders import a_decision, a_release, a_run, a_step, a_tool, a_user, an_agent, an_approval
from tests.journeys import doors, looks

WIDTHS = (1440, 390)
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'
TOOL = a_tool(
    title="Refund ${amount} for order {order_id}",
    arguments={"order_id": "target", "amount": "amount"},
    moves_money=True,
    parameters={
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}},
        "required": ["order_id", "amount"],
    },
)
RULES = [
    {"id": "refund-limit", "tool": "issue_refund", "when": [{"argument": "amount", "op": "gt", "value": 500}],
     "then": "ask", "reason": f"Large refunds {EVIL}", "approvals_needed": 2},
    {"id": "at-night", "tool": "issue_refund", "condition": "hour >= 22 && totals.principal.after.sum.amount > 200.0",
     "then": "refuse", "reason": "Nobody is there at night.", "mode": "log"},
]  # fmt: skip
TRIED = "argument_0=amount&op_0=gt&value_0=100&tool=issue_refund&then=ask"


@dataclass(frozen=True)
class Stage:
    operator: User
    colleague: User
    release: Release
    run: Run


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    operator = a_user(Role.OPERATOR, name="Olga Rules", email="rules@example.test")
    colleague = a_user(Role.ADMIN, name="Carl Second", email="second@example.test")
    release = a_release(an_agent("ruled", "Refund agent"), version="1.0", tools=[TOOL], rules=RULES)
    noted = [{"id": "at-night", "version": "1", "verdict": "refuse", "log": True, "changes": True}]
    run = a_run(release=release)
    for number, amount in enumerate((40, 120, 180, 260, "much")):
        run = a_run(release=release, created_at=now() - timedelta(hours=number), principal_label="Ana Lima")
        arguments = {"order_id": "1042", "amount": amount}
        given = {"arguments": arguments, "rules": noted}
        a_step(run, name="issue_refund", rule="default", call_id="c1", input=given, output={"result": "paid"})
    asked = a_run(release=release, principal_label=EVIL)
    call = {"id": "c1", "name": "issue_refund", "arguments": {"order_id": EVIL, "amount": 700}}
    a_step(
        asked, StepKind.GUARDRAIL, "rule:refund-limit", verdict=StepVerdict.ASKED, rule="rule:refund-limit",
        call_id="c1", input={"call": call}, output={"decision": "ask"}, status=StepStatus.DONE,
    )  # fmt: skip
    today = datetime.now(UTC).date()
    RuleCount.objects.create(release=release, rule="refund-limit", day=today, asked=31)
    RuleCount.objects.create(release=release, rule="at-night", day=today, refused=12, changed=12, allowed=3, failed=1)
    return Stage(operator, colleague, release, run)


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


def address(stage: Stage, query: str = "") -> str:
    return f"/releases/{stage.release.public_id}/rules/try/{f'?{query}' if query else ''}"


def a_question(needed: int = 2) -> ApprovalRequest:
    return an_approval(
        agent="ruled", agent_name="Refund agent", approvals_needed=needed, roles=["admin", "operator"], fields=[
            {"name": "amount", "label": "Amount", "value": "129.00", "editable": False, "type": "amount"}
        ], arguments={"amount": "129.00"},
    )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    question = a_question()
    pages = {
        "changed": address(stage, "rule=at-night"),
        "tried": address(stage, TRIED),
        "figures": f"/releases/{stage.release.public_id}/rules/figures/",
        "question": question.get_absolute_url(),
    }

    looks.nothing_is_wrong(console, axe, pages, width=width)


def test_screenshots(console: Page, stage: Stage, shots: Callable[..., None], complaints: Any) -> None:
    pages = {
        "rule-form": address(stage, "rule=at-night"),
        "rule-tried": address(stage, TRIED),
        "rule-wrong": address(stage, "tool=issue_refund&then=ask&condition=args.amout+%3E+1"),
        "release": stage.release.get_absolute_url(),
        "trace": stage.run.get_absolute_url() + f"?step={stage.run.steps.get().public_id}",
    }
    question = a_question()
    a_decision(question, person_id="1")
    pages["question"] = question.get_absolute_url()
    for name, url in pages.items():
        console.goto(url)
        if name == "release":
            expect(console.locator("#rule-figures")).to_contain_text("would refuse")
        shots(console, name)
    complaints.forgive("status of 422")


def test_a_rule_is_written_tried_and_stored(console: Page, stage: Stage) -> None:
    console.goto(stage.release.get_absolute_url())
    console.get_by_role("link", name="Try a rule").click()
    console.get_by_label("Argument of comparison 1").fill("amount")
    console.get_by_label("Value of comparison 1").fill("100")
    console.get_by_label("Then").select_option("refuse the call")
    console.get_by_role("button", name="Try it on past calls").click()

    came = console.locator("section", has=console.get_by_role("heading", name="What it would have done"))
    expect(came).to_contain_text("4 calls that were “allowed” would be “refused”")
    expect(came).to_contain_text("1 call that was “people asked” would be “refused”")
    expect(came.get_by_role("link", name="Refund $260 for order 1042")).to_be_visible()

    console.get_by_label("Name of the rule").fill("no-large")
    console.get_by_label("Reason").fill("Nothing above $100.")
    console.get_by_label("Version label of the new release").fill("1.1")
    console.get_by_role("button", name="Store the release").click()

    expect(console.locator("h1")).to_have_text("Release 1.1")
    expect(console.locator("main")).to_contain_text("When amount is over 100, on issue_refund: refuse it")
    assert [rule.id for rule in Release.objects.get(agent=stage.release.agent, version="1.1").bundle.rules] == [
        "refund-limit", "at-night", "no-large",
    ]  # fmt: skip


def test_a_wrong_expression_is_explained_beside_it_and_kept(console: Page, stage: Stage, complaints: Any) -> None:
    console.goto(address(stage))
    console.get_by_label("Expression in CEL").fill("args.amout > 100.0")
    console.get_by_role("button", name="Try it on past calls").click()

    expect(console.locator("#id_condition-error")).to_contain_text("Did you mean amount?")
    expect(console.get_by_label("Expression in CEL")).to_have_value("args.amout > 100.0")
    complaints.forgive("status of 422")


def test_two_people_approve_and_the_first_sees_what_it_waits_for(
    console: Page, browser: Browser, console_url: str, stage: Stage
) -> None:
    question = a_question()
    console.goto(question.get_absolute_url())
    expect(console.locator("#state")).to_contain_text("0 of 2 approved")
    console.keyboard.press("a")
    console.keyboard.press("a")  # high risk: twice
    expect(console.locator("#toasts")).to_contain_text("1 of 2; it waits for somebody else")

    console.goto(question.get_absolute_url())
    expect(console.locator("#standing")).to_contain_text("1 of 2 approved")
    expect(console.locator("[data-approve]")).to_be_disabled()
    expect(console.locator("#reject > summary")).not_to_have_attribute("aria-disabled", "true")

    with_colleague = browser.new_context(base_url=console_url)
    second = with_colleague.new_page()
    doors.enter(second, stage.colleague)
    second.goto(question.get_absolute_url())
    expect(second.locator("#standing")).to_contain_text("Olga Rules approved")
    expect(second.locator("[data-approve]")).to_be_enabled()
    question.refresh_from_db()
    assert question.status == ApprovalStatus.PENDING
    with_colleague.close()
