"""The list of runs, the trace and the form that starts one, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.utils.timezone import now
from playwright.sync_api import Browser, Page, expect

from approvals.models import ApprovalRequest
from console import live
from console.models import User
from console.roles import Role
from releases.models import Release
from runtime.models import Run
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_release, a_run, a_step, a_thread, a_tool, a_user, an_agent, an_approval, an_event
from tests.journeys import doors, looks
from tests.journeys.holding import hold_the_first

WIDTHS = (1440, 390)
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'


@dataclass(frozen=True)
class Stage:
    """What the journeys of this module find in the database."""

    operator: User
    auditor: User
    release: Release
    waiting: Run
    answered: Run
    failed: Run
    long: Run


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    operator = a_user(Role.OPERATOR, name="Olga Runs", email="runs@example.test")
    auditor = a_user(Role.AUDITOR, name="Axel Looks On", email="looks.on@example.test")
    tools = [a_tool("search_policy", effect="read", retry="read", is_retrieval=True), a_tool("issue_refund")]
    rule = {"id": "refund-limit", "tool": "issue_refund", "then": "ask", "reason": "Over the limit of $100.00."}
    release = a_release(an_agent("screens", "Screen support"), version="9.1", tools=tools, rules=[rule])
    return Stage(
        operator,
        auditor,
        release,
        waiting=a_waiting_run(release),
        answered=an_answered_run(release),
        failed=a_failed_run(release),
        long=a_long_run(release),
    )


@transaction.atomic  # real workers look on: one of them would mend a run that waits for a question not asked yet
def a_waiting_run(release: Release) -> Run:
    run = a_run(
        RunStatus.WAITING, release=release, title="Refund the broken headphones",
        created_at=now() - timedelta(minutes=3),
        input_text=f"Please refund order 1042. Write to ana@example.org. {EVIL}", steps_used=4, model_calls=1,
    )  # fmt: skip
    an_event(run, "run.created", by_label="Olga Runs")
    a_step(run, StepKind.INPUT, "Message received", output={"text": run.input_text})
    a_step(
        run, StepKind.MODEL, "scripted-1", took=timedelta(seconds=3), cost_usd=Decimal("0.029"), cost_basis="exact",
        summary="proposes issue_refund", input={"provider": "scripted", "messages": []},
        output={"calls": [{"id": "c1", "name": "issue_refund", "arguments": {"amount": "129.00", "note": EVIL}}]},
    )  # fmt: skip
    a_step(
        run, StepKind.GUARDRAIL, "rule:refund-limit", verdict="asked", rule="rule:refund-limit", call_id="c1",
        input={"call": {"name": "issue_refund", "arguments": {"amount": "129.00", "note": EVIL}}},
        output={"decision": "ask", "reason": "Over the limit of $100.00.", "conditions": ["amount is more than 100"]},
    )  # fmt: skip
    request = an_approval(run, due_at=now() + timedelta(hours=2))
    a_step(
        run, StepKind.APPROVAL, "Approval", status=StepStatus.STARTED, call_id="c1", summary=request.title,
        input={"request": request.public_id, "title": request.title, "tool": "issue_refund"}, output={},
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(waiting_since=now() - timedelta(minutes=2), working_ms=4_000)
    return run


def an_answered_run(release: Release) -> Run:
    run = a_run(
        release=release, title="Can I return opened goods?", input_text="Can I?", thread=a_thread(release.agent),
        answer="Yes, within 30 days [returns#opened@2].", created_at=now() - timedelta(minutes=20),
        cost_usd=Decimal("0.0712"), tools_called=["search_policy"], tainted=True,
    )  # fmt: skip
    passage = {"citation": "returns#opened@2", "title": "Opened goods", "text": "30 days.", "score": 0.7}
    a_step(
        run, StepKind.RETRIEVAL, "search_policy", call_id="c1", summary="1 passage",
        input={"arguments": {"query": "opened"}}, output={"result": {"passages": [passage]}},
    )  # fmt: skip
    a_step(
        run, StepKind.APPROVAL, "Approval", verdict="edited", took=timedelta(minutes=2), input={},
        output={"by": "Mara Okafor", "edits": {"amount": ["129.00", "99.00"]}, "reason": "The cable was fine."},
    )  # fmt: skip
    a_step(run, StepKind.ANSWER, "Answered", output={"status": "succeeded", "cause": "answered", "text": run.answer})
    return run


def a_failed_run(release: Release) -> Run:
    run = a_run(
        RunStatus.FAILED, release=release, title="Where is my parcel?", cause="model_timeout",
        cause_detail="The model did not answer after 4 attempts.", created_at=now() - timedelta(minutes=40),
    )  # fmt: skip
    for attempt in (1, 2):
        a_step(run, StepKind.MODEL, "scripted-1", status=StepStatus.FAILED, error="timeout", attempt=attempt, output={})
    return run


def a_long_run(release: Release) -> Run:
    run = a_run(RunStatus.FAILED, release=release, title="Many steps", created_at=now() - timedelta(minutes=50))
    for number in range(1, 231):
        status = StepStatus.FAILED if number in (5, 220) else StepStatus.DONE
        a_step(run, name=f"step_{number}", status=status, took=timedelta(milliseconds=20), call_id=str(number))
    return run


def pages(stage: Stage) -> list[str]:
    runs = [stage.waiting, stage.answered, stage.failed, stage.long]
    tabs = ("conversation", "data", "context", "events", "versions")
    return [
        "/runs/",
        "/runs/?status=failed&status=refused&q=parcel",
        "/runs/?q=nothing+like+this&cost=much",
        *(run.get_absolute_url() for run in runs),
        *(f"{stage.waiting.get_absolute_url()}?part={part}" for part in ("input", "output", "raw")),
        *(f"{stage.answered.get_absolute_url()}?tab={tab}" for tab in tabs),
        f"{stage.long.get_absolute_url()}?from=201",
        f"{stage.long.get_absolute_url()}?show=errors&scale=true",
        "/start/?agent=screens",
        f"/start/?thread={stage.answered.thread.public_id}",
    ]


@pytest.fixture
def signed_in(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


def has_sideways_scroll(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_on_the_pages_of_runs(
    signed_in: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    looks.nothing_is_wrong(signed_in, axe, {address: address for address in pages(stage)}, width=width)


def test_nothing_scrolls_sideways_on_the_smallest_screen(signed_in: Page, stage: Stage) -> None:
    signed_in.set_viewport_size({"width": 320, "height": 700})

    for address in pages(stage):
        signed_in.goto(address)
        assert not has_sideways_scroll(signed_in), address


def test_the_pages_of_runs_as_pictures(signed_in: Page, stage: Stage, shots: Callable[..., None]) -> None:
    named = {
        "run-list": "/runs/?agent=screens",
        "run-waiting": stage.waiting.get_absolute_url(),
        "run-conversation": f"{stage.answered.get_absolute_url()}?tab=conversation",
        "run-versions": f"{stage.answered.get_absolute_url()}?tab=versions",
        "run-start": "/start/?agent=screens",
    }
    for name, address in named.items():
        signed_in.goto(address)
        expect(signed_in.get_by_role("heading", level=1)).to_be_visible()
        shots(signed_in, name)


def test_the_list_by_keyboard_and_filters_by_pointer(signed_in: Page, stage: Stage) -> None:
    signed_in.goto("/runs/?agent=screens")
    rows = signed_in.locator("[data-row]")

    signed_in.keyboard.press("j")
    signed_in.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    signed_in.keyboard.press("k")
    signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_role("heading", level=1)).to_contain_text("Refund the broken headphones")

    signed_in.go_back()
    signed_in.locator("#filters summary").filter(has_text="Status").click()
    signed_in.get_by_label("Failed").check()
    signed_in.get_by_role("button", name="Apply").locator("visible=true").click()
    signed_in.wait_for_url("**status=failed**")
    expect(rows).to_have_count(2)
    expect(signed_in.locator("#runs")).to_contain_text("The model did not answer: timed out")


def test_new_runs_wait_until_they_are_asked_for(signed_in: Page, stage: Stage) -> None:
    signed_in.goto("/runs/?agent=screens&status=refused")
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    first = a_run(RunStatus.REFUSED, release=stage.release, title="An older refusal")
    signed_in.goto("/runs/?agent=screens&status=refused")
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")

    a_run(RunStatus.REFUSED, release=stage.release, title="A newer refusal")
    live.send("runs")

    expect(signed_in.locator("#runs .newbar")).to_contain_text("1 new run")
    expect(signed_in.locator("[data-row]")).to_have_text([first.title])
    signed_in.keyboard.press(".")
    expect(signed_in.locator("[data-row]")).to_have_text(["A newer refusal", first.title])


def test_a_step_opens_beside_the_timeline_and_stays_in_the_address(signed_in: Page, stage: Stage) -> None:
    signed_in.goto(stage.waiting.get_absolute_url())
    inspector = signed_in.locator("#inspector")
    expect(inspector).to_contain_text("Over the limit of $100.00.")

    signed_in.locator("[data-row]").filter(has_text="scripted-1").click()
    expect(inspector).to_contain_text("The model proposed a call: issue_refund.")
    expect(signed_in.locator("tr[data-selected]")).to_contain_text("scripted-1")
    inspector.get_by_role("link", name="Output").click()
    expect(inspector.locator(".json")).to_contain_text('"issue_refund"')
    expect(inspector.locator(".json")).to_contain_text("U+202E")

    signed_in.reload()
    expect(inspector.locator(".json")).to_contain_text('"issue_refund"')
    expect(signed_in.locator("tr[data-selected]")).to_contain_text("scripted-1")
    assert signed_in.locator("main img").count() == 0


def test_a_refresh_that_is_under_way_does_not_take_an_opened_step_away(signed_in: Page, stage: Stage) -> None:
    refresh = re.compile(r"/live/\?")
    held = hold_the_first(signed_in, refresh)
    with signed_in.expect_request(refresh):
        signed_in.goto(stage.waiting.get_absolute_url())
    signed_in.locator("[data-row]").filter(has_text="scripted-1").click()
    expect(signed_in.locator("#inspector")).to_contain_text("The model proposed a call")

    with signed_in.expect_response(lambda answer: "/live/?" in answer.url and "step=stp_" in answer.url):
        held[0].continue_()

    expect(signed_in.locator("tr[data-selected]")).to_contain_text("scripted-1")
    expect(signed_in.locator("#inspector")).to_contain_text("The model proposed a call")


def test_from_error_to_error_and_to_full_width_by_keys(signed_in: Page, stage: Stage) -> None:
    signed_in.goto(stage.failed.get_absolute_url())
    rows = signed_in.locator("[data-row]")

    signed_in.keyboard.press("]")
    expect(rows.nth(0)).to_be_focused()
    signed_in.keyboard.press("]")
    expect(rows.nth(1)).to_be_focused()
    signed_in.keyboard.press("[")
    expect(rows.nth(0)).to_be_focused()
    signed_in.keyboard.press("f")
    signed_in.wait_for_url("**wide=yes**")
    expect(signed_in.locator(".trace[data-wide]")).to_be_visible()


def test_the_trace_follows_its_run_to_the_end(signed_in: Page, stage: Stage) -> None:
    run = a_waiting_run(stage.release)
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    expect(signed_in.get_by_role("button", name="Stop run")).to_be_visible()
    opened = signed_in.locator("[data-row]").filter(has_text="scripted-1")
    opened.click()
    expect(signed_in.locator("#inspector")).to_contain_text("The model proposed a call")

    run.steps.filter(kind=StepKind.APPROVAL).update(
        status=StepStatus.DONE, verdict="approved", finished_at=now(), summary="by Mara Okafor"
    )
    a_step(run, StepKind.ANSWER, "Answered", output={"status": "succeeded", "text": "Done."})
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.SUCCEEDED, cause="answered", answer="Done.", finished_at=now(), waiting_since=None
    )
    live.send(f"run:{run.public_id}")

    expect(signed_in.locator("#run-head .badge").first).to_contain_text("Succeeded")
    expect(signed_in.locator("[data-row]").last).to_contain_text("Answered")
    expect(signed_in.locator("tr[data-selected]")).to_contain_text("scripted-1")
    expect(opened).to_be_focused()
    expect(signed_in.get_by_role("button", name="Stop run")).to_have_count(0)
    expect(signed_in.get_by_role("button", name="Save feedback")).to_be_visible()
    assert "live:run" not in signed_in.content()


def test_a_dialog_opened_while_the_buttons_are_asked_for_stays_and_they_follow_once_it_is_closed(
    signed_in: Page, stage: Stage
) -> None:
    run = a_run(RunStatus.RUNNING, release=stage.release, title="Moves under the hand")
    buttons = re.compile(f"{run.public_id}/$")
    held = hold_the_first(signed_in, buttons)
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    Run.objects.filter(pk=run.pk).update(status=RunStatus.WAITING, waiting_since=now())
    with signed_in.expect_request(lambda request: buttons.search(request.url) is not None):
        live.send(f"run:{run.public_id}")

    signed_in.get_by_role("button", name="Stop run").first.click()
    reason = signed_in.locator("dialog").get_by_label(re.compile("Why|Reason"))
    reason.fill("wrong customer")
    with signed_in.expect_response(lambda answer: answer.request == held[0].request) as answered:
        held[0].continue_()
    answered.value.finished()
    signed_in.wait_for_timeout(200)  # a swap would have been made by now

    expect(reason).to_have_value("wrong customer")
    assert signed_in.locator("#run-actions").get_attribute("data-state") == "running"
    signed_in.keyboard.press("Escape")
    expect(signed_in.locator("#run-actions")).to_have_attribute("data-state", "waiting")


def test_a_dialog_opened_in_a_step_stays_while_the_trace_goes_on(signed_in: Page, stage: Stage) -> None:
    run = a_run(RunStatus.PAUSED, release=stage.release, title="Tried again under the hand")
    a_step(run, StepKind.MODEL, "scripted-1", input={}, output={"text": "Good day"})
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    signed_in.get_by_role("button", name="Retry from here").click()
    question = signed_in.get_by_role("dialog", name="Retry from this step?")
    expect(question).to_be_visible()

    a_step(run, name="lookup_order", input={}, output={"result": {"total": "129.00"}})
    live.send(f"run:{run.public_id}")
    expect(signed_in.locator("[data-row]").last).to_contain_text("lookup_order")

    expect(question).to_be_visible()
    signed_in.keyboard.press("Escape")
    expect(signed_in.locator("#inspector")).to_contain_text("lookup_order returned a result.")


def test_until_a_step_is_opened_the_details_follow_the_run(signed_in: Page, stage: Stage) -> None:
    run = a_run(RunStatus.WAITING, release=stage.release, waiting_since=now())
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("#inspector")).to_contain_text("No step yet")
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")

    a_step(run, StepKind.MODEL, "scripted-1", input={}, output={"text": "Good day"})
    live.send(f"run:{run.public_id}")
    expect(signed_in.locator("#inspector")).to_contain_text("The model answered with text.")
    expect(signed_in.locator("tr[data-selected]")).to_contain_text("scripted-1")

    a_step(run, name="lookup_order", input={}, output={"result": {"total": "129.00"}})
    live.send(f"run:{run.public_id}")
    expect(signed_in.locator("#inspector")).to_contain_text("lookup_order returned a result.")


def test_a_run_is_stopped_with_a_reason(signed_in: Page, stage: Stage) -> None:
    run = a_waiting_run(stage.release)
    signed_in.goto(run.get_absolute_url())

    signed_in.get_by_role("button", name="Stop run").click()
    dialog = signed_in.get_by_role("dialog")
    dialog.get_by_label("Why").fill("Wrong customer")
    dialog.get_by_role("button", name="Stop run").click()

    expect(signed_in.locator("#run-head")).to_contain_text("Stopped by Olga Runs")
    expect(signed_in.locator("#run-head")).to_contain_text("Wrong customer")
    assert Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED


def test_a_long_run_comes_in_pages_with_the_errors_of_the_others(signed_in: Page, stage: Stage) -> None:
    signed_in.goto(stage.long.get_absolute_url())
    for failed in ("step_5", "step_220"):
        signed_in.keyboard.press("]")
        expect(signed_in.get_by_role("link", name=failed, exact=True)).to_be_focused()
    expect(signed_in.locator("[data-row]")).to_have_count(200)
    expect(signed_in.get_by_role("link", name="step_220")).to_be_visible()

    signed_in.get_by_role("link", name="Show next 200").click()

    expect(signed_in.locator("[data-row]")).to_have_count(30)
    expect(signed_in.get_by_role("link", name="step_5", exact=True)).to_be_visible()


def test_an_auditor_reads_everything_but_personal_data(page: Page, stage: Stage) -> None:
    doors.enter(page, stage.auditor)
    page.goto(f"{stage.waiting.get_absolute_url()}?tab=data")

    expect(page.locator("main")).to_contain_text("Please refund order 1042. Write to •••.")
    expect(page.get_by_role("button", name="Stop run")).to_have_count(0)


@pytest.fixture
def without_script(browser: Browser, console_url: str, stage: Stage) -> Iterator[Page]:
    opened = browser.new_context(
        base_url=console_url, java_script_enabled=False, viewport={"width": 1440, "height": 900}, color_scheme="light"
    )
    opened.set_default_timeout(15_000)
    page = opened.new_page()
    doors.enter(page, stage.operator)
    yield page
    opened.close()


def test_everything_works_without_script(without_script: Page, stage: Stage) -> None:
    page = without_script
    page.goto("/runs/")
    page.get_by_role("searchbox").fill(stage.waiting.public_id)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_role("link", name=stage.waiting.title).click()
    page.get_by_role("link", name="scripted-1").click()
    expect(page.locator("#inspector")).to_contain_text("The model proposed a call: issue_refund.")
    page.locator("#inspector").get_by_role("link", name="Raw").click()
    expect(page.locator("#inspector .json")).to_contain_text('"idempotency_key"')
    page.get_by_role("link", name="Event log").click()
    expect(page.locator("table.log")).to_contain_text("run.created")

    page.goto(f"/start/?thread={stage.answered.thread.public_id}")
    page.get_by_text("Lower the budgets of this run").click()
    page.get_by_label("Steps").fill("500")
    page.get_by_label("Message").fill("And sealed ones?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Steps")).to_have_value("500")
    expect(page.get_by_role("alert")).to_contain_text("Budgets can only be lowered")
    expect(page.get_by_label("Message")).to_have_value("And sealed ones?")
    assert ApprovalRequest.objects.filter(status="pending").exists()
