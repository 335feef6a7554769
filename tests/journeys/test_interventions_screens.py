"""Pausing, resuming and retrying a run in a real browser, with real workers behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.models import User
from console.roles import Role
from releases.models import Release
from runtime.models import Run
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import PASSWORD, a_release, a_run, a_step, a_tool, a_user, an_agent, an_approval
from tests.journeys import doors, looks

WIDTHS = (1440, 390)


@pytest.fixture(scope="module")
def operator(database: str) -> User:
    return a_user(Role.OPERATOR, name="Olga Holds", email="holds@example.test")


@pytest.fixture(scope="module")
def release(database: str) -> Release:
    agent = an_agent("holds", "Held support")
    a_release(agent, version="4.1", tools=[a_tool("issue_refund", moves_money=True)])
    return a_release(agent, version="4.2", tools=[a_tool("issue_refund", moves_money=True)])


@pytest.fixture(scope="module")
def waiting(release: Release) -> Run:
    run = a_run(RunStatus.WAITING, release=release, title="Refund the kettle")
    request = an_approval(run)
    a_step(run, StepKind.INPUT, "Message received", output={"text": run.input_text})
    a_step(
        run, StepKind.APPROVAL, "Approval", status=StepStatus.STARTED, summary=request.title,
        input={"request": request.public_id, "title": request.title, "tool": "issue_refund"}, output={},
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def failed(release: Release) -> Run:
    old = release.agent.releases.get(version="4.1")
    run = a_run(RunStatus.FAILED, release=old, title="Refund the cable", cause="model_timeout")
    a_step(run, StepKind.INPUT, "Message received", output={"text": run.input_text})
    a_step(run, name="issue_refund", summary="Refund $12.00", call_id="c1", input={"arguments": {}}, output={})
    a_step(run, StepKind.MODEL, "scripted-1", status=StepStatus.FAILED, error="timeout", input={}, output={})
    return run


@pytest.fixture
def signed_in(page: Page, operator: User) -> Page:
    doors.enter(page, operator)
    return page


def test_a_run_is_paused_with_its_reason_and_resumed(signed_in: Page, waiting: Run, shots: Callable[..., None]):
    signed_in.goto(waiting.get_absolute_url())
    signed_in.get_by_role("button", name="Pause").click()
    dialog = signed_in.get_by_role("dialog")
    expect(dialog).to_contain_text("its deadline keeps running")
    dialog.get_by_label("Why").fill("Call the customer first.")
    dialog.get_by_role("button", name="Pause run").click()

    head = signed_in.locator("#run-head")
    expect(head).to_contain_text("Paused")
    expect(head).to_contain_text("Call the customer first.")
    expect(signed_in.get_by_role("link", name="Review request")).to_be_visible()
    shots(signed_in, "run-paused")

    signed_in.get_by_role("button", name="Resume").click()
    expect(signed_in.locator("#run-head")).to_contain_text("Waiting for approval")
    expect(signed_in.get_by_role("button", name="Pause")).to_be_visible()


def test_a_failed_run_is_retried_from_a_step_and_both_pages_say_so(
    signed_in: Page, failed: Run, shots: Callable[..., None]
):
    signed_in.goto(failed.get_absolute_url())
    signed_in.get_by_role("button", name="Retry from here").click()
    dialog = signed_in.get_by_role("dialog")
    expect(dialog).to_contain_text("takes over what was done before this step")
    shots(signed_in, "run-retry", full=False)
    dialog.get_by_label("Release").select_option(label="The active release, 4.2")
    dialog.get_by_label("Why").fill("The model is back.")
    dialog.get_by_role("button", name="Retry from here").click()

    expect(signed_in.locator("#run-head")).to_contain_text(f"Forked from {failed.public_id}")
    expect(signed_in.locator("#run-head")).to_contain_text("4.2")
    expect(signed_in.locator(".tl")).to_contain_text("Taken over")
    # A worker of the product takes it from there: the scripted model of this release does not exist, so it fails.
    expect(signed_in.locator("#run-head")).to_contain_text("Failed")
    expect(signed_in.get_by_role("button", name="Start again")).to_be_visible()
    shots(signed_in, "run-forked")

    signed_in.get_by_role("link", name=failed.public_id).first.click()
    expect(signed_in.locator("#run-head")).to_contain_text("Forks:")


def test_starting_again_names_what_may_be_done_twice(signed_in: Page, failed: Run, shots: Callable[..., None]):
    signed_in.goto(f"{failed.get_absolute_url()}?act=again")

    dialog = signed_in.get_by_role("dialog")
    expect(dialog).to_contain_text("May be done a second time")
    expect(dialog).to_contain_text("Refund $12.00")
    shots(signed_in, "run-again", full=False)
    signed_in.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_everything_works_without_script(scriptless: Page, operator: User, release: Release):
    run = a_run(RunStatus.WAITING, release=release, title="Without script")
    scriptless.goto("/accounts/login/")
    scriptless.fill("input[name=login]", operator.email)
    scriptless.fill("input[name=password]", PASSWORD)
    scriptless.get_by_role("button", name="Sign in").click()

    scriptless.goto(run.get_absolute_url())
    scriptless.locator("#pause > summary").click()
    scriptless.fill("#pause-reason", "Look first.")
    scriptless.locator("#pause form button:not([data-close])").click()
    expect(scriptless.locator("#run-head")).to_contain_text("Look first.")
    scriptless.get_by_role("button", name="Resume").click()
    expect(scriptless.locator("#run-head")).not_to_contain_text("Look first.")


def test_the_pages_are_accessible_and_fit(
    signed_in: Page, waiting: Run, failed: Run, release: Release, axe: Callable[[Page], Any]
):
    paused = a_run(RunStatus.PAUSED, release=release, pause_reason="Look first.", paused_by_label="Olga Holds",
                   pause_requested_at=waiting.created_at, waiting_since=waiting.created_at)  # fmt: skip
    addresses = (
        waiting.get_absolute_url(),
        paused.get_absolute_url(),
        f"{failed.get_absolute_url()}?act=again",
        "/agents/holds/",
    )
    for width in WIDTHS:
        looks.nothing_is_wrong(signed_in, axe, {address: address for address in addresses}, width=width)
