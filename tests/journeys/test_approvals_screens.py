"""The approvals inbox in a real browser: by keyboard, on a phone, with a colleague, and without script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from playwright.sync_api import Browser, Page, expect

from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus
from console import ids, live
from console.models import User
from console.roles import Role
from runtime.models import Run
from tests.builders import a_user, an_approval
from tests.journeys import doors, looks

WIDTHS = (1440, 390)
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'
ADDRESS = "Please send order 10940 to Calle Real 12, 28013 Madrid, Spain."
REFUND = "Please refund order 10482, the headphones arrived broken."


@dataclass(frozen=True)
class Stage:
    """What the journeys of this module find. The requests belong to no run: they are looked at, never decided."""

    mara: User
    lena: User
    soon: ApprovalRequest
    later: ApprovalRequest
    stopped: ApprovalRequest


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    evidence = [
        {"kind": "quote", "title": "", "text": f"The hinge is cracked. {EVIL}", "note": "Ana Lima", "url": ""},
        {
            "kind": "fact",
            "title": "lookup_order",
            "text": f"Delivered. {EVIL}",
            "note": "",
            "url": "",
            "is_doubted": True,
        },
        {"kind": "model", "title": "The agent wrote", "text": "A refund is due.", "note": "", "url": ""},
    ]
    side = [{"title": "On behalf of", "rows": [["Name", "Ana Lima"], ["Message", EVIL]]}]
    history = [{"icon": "message-square", "text": "Read the message"}, {"icon": "sparkles", "text": "Chose a refund"}]
    doubt = {"origin": f"on nobody's word, read from lookup_order {EVIL}", "is_doubted": True}
    fields = [
        {"name": "order_id", "label": "Order", "value": "1042", "editable": False, "origin": "typed by the user"},
        {"name": "amount", "label": "Amount", "value": "129.00", "editable": True, "type": "amount", **doubt},
    ]
    about: dict[str, Any] = {"evidence": evidence, "side": side, "history": history, "subject_url": "/runs/"}
    about["fields"] = fields
    return Stage(
        mara=a_user(Role.SUPPORT, name="Mara Decides", email="decides@example.test"),
        lena=a_user(Role.SUPPORT, name="Lena Colleague", email="colleague@example.test"),
        soon=an_approval(title="Refund $129.00 to Ana Lima", due_at=now() + timedelta(minutes=9), **about),
        later=an_approval(title=f"Refund $20.00 {EVIL}", risk="low", due_at=now() + timedelta(hours=5), **about),
        stopped=an_approval(title="Refund $15.00 to Tom", status=ApprovalStatus.FROZEN, **about),
    )


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.mara)
    return page


@pytest.fixture
def colleague(browser: Browser, console_url: str, stage: Stage) -> Iterator[Page]:
    context = browser.new_context(base_url=console_url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    doors.enter(page, stage.lena)
    yield page
    context.close()


@pytest.fixture
def plain(scriptless: Page, stage: Stage) -> Page:
    doors.enter(scriptless, stage.mara)
    return scriptless


def a_waiting_run(page: Page, text: str, person: str) -> tuple[Run, ApprovalRequest]:
    """Ask the demo agent for something that a person has to decide."""
    page.goto("/start/")
    page.locator("#id_principal_id").fill(person)
    page.locator("#id_text").fill(text)
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url(re.compile(r"/runs/run_\w+/"))
    run = Run.objects.get(pk=ids.parse("run", page.url.split("/")[4]))
    expect(page.locator("#run-head .badge").first).to_have_text(re.compile("Waiting"))
    return run, ApprovalRequest.objects.get(subject_id__startswith=run.public_id)


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    dialogs: list[str] = []
    console.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))

    details = (stage.later.get_absolute_url(), stage.stopped.get_absolute_url())
    addresses = ("/approvals/", "/approvals/?view=done&q=nothing", *details)
    looks.nothing_is_wrong(console, axe, {address: address for address in addresses}, width=width)
    assert dialogs == []


def test_screenshots(console: Page, stage: Stage, shots: Callable[..., None]) -> None:
    console.goto("/approvals/")
    shots(console, "approvals-list", full=False)
    console.goto(stage.soon.get_absolute_url())
    shots(console, "approvals-detail", full=False)


def test_the_keyboard_moves_opens_claims_and_edits(console: Page, stage: Stage) -> None:
    console.goto("/approvals/")
    first = console.locator("[data-row]").first

    console.keyboard.press("j")
    console.keyboard.press("k")
    expect(first).to_be_focused()
    console.keyboard.press("Enter")
    expect(console.locator("#asked")).to_be_focused()
    expect(console.locator("#state")).to_contain_text("Claimed by you")
    expect(console.locator("li.item[aria-current]")).to_contain_text(first.locator(".strong").inner_text())

    console.goto(stage.soon.get_absolute_url())
    expect(console.locator("#state")).to_contain_text("Claimed by you")
    console.keyboard.press("m")
    amount = console.locator("input[name=arg-amount]")
    expect(amount).to_be_focused()
    amount.fill("99.00")
    expect(console.locator("[data-approve]")).to_contain_text("Approve with 1 edit")
    expect(console.locator("tr", has=amount)).to_contain_text("Edited by you, 30.00 less")
    console.keyboard.press("Enter")
    expect(amount).to_have_value("99.00")
    console.get_by_role("button", name="Reset edits").click()
    expect(amount).to_have_value("129.00")
    expect(console.locator("[data-approve]")).to_contain_text(re.compile(r"^Approve A$"))

    # High risk: one press only arms the button.
    console.keyboard.press("a")
    expect(console.locator("[data-approve]")).to_contain_text("Press A again")
    stage.soon.refresh_from_db()
    assert stage.soon.status == ApprovalStatus.PENDING


def test_the_key_sheet_names_the_keys_of_the_screen(console: Page, stage: Stage) -> None:
    console.goto(stage.soon.get_absolute_url())

    console.keyboard.press("?")

    for label in ("Approve; twice when the risk is high", "Reject", "Edit the first value", "Next request"):
        expect(console.get_by_role("dialog")).to_contain_text(label)


def test_a_phone_shows_one_pane_with_the_actions_in_reach(console: Page, stage: Stage) -> None:
    console.set_viewport_size({"width": 390, "height": 844})
    console.goto("/approvals/")
    expect(console.locator("#detail")).to_be_hidden()

    console.locator(f"#row-{stage.soon.public_id}").click()

    expect(console.locator("#detail")).to_be_visible()
    expect(console.locator("#rows")).to_be_hidden()
    button = console.locator("[data-approve]").bounding_box()
    assert button is not None
    assert button["y"] + button["height"] <= 844
    assert button["height"] >= 40
    console.get_by_role("link", name="Back to the queue").click()
    expect(console.locator("#rows")).to_be_visible()
    expect(console.locator("#detail")).to_be_hidden()


def test_new_requests_wait_behind_a_bar(console: Page, stage: Stage) -> None:
    console.goto(stage.soon.get_absolute_url())
    expect(console.locator("[data-live]").first).to_have_text("Live")
    rows = console.locator("[data-row]").count()

    an_approval(title="Refund that came later", due_at=now() + timedelta(minutes=1))
    live.send("approvals")

    bar = console.get_by_role("link", name=re.compile("1 new request"))
    expect(bar).to_be_visible()
    assert console.locator("[data-row]").count() == rows
    console.keyboard.press(".")
    expect(console.locator("#rows")).to_contain_text("Refund that came later")


def test_a_colleague_sees_the_claim_and_then_the_decision(console: Page, colleague: Page) -> None:
    run, request = a_waiting_run(console, ADDRESS, "cus_1004")
    console.goto(request.get_absolute_url())
    expect(console.locator("#state")).to_contain_text("Claimed by you")

    colleague.goto(request.get_absolute_url())
    expect(colleague.locator("#state")).to_contain_text("Claimed by Mara Decides")
    expect(colleague.locator("[data-approve]")).to_be_disabled()
    note = colleague.get_by_placeholder("Add a note for the audit log")
    note.fill("typed by Lena")

    console.keyboard.press("r")
    asked = console.get_by_role("dialog")
    asked.get_by_label("More information is needed first").check()
    asked.get_by_label("In your words").fill("Is it packed?")
    asked.get_by_role("button", name="Reject").click()
    expect(console.locator("#toasts")).to_contain_text("Rejected")

    expect(colleague.locator("#standing")).to_contain_text("Mara Decides rejected this")
    expect(colleague.locator("#standing")).to_contain_text("More information is needed first: Is it packed?")
    expect(note).to_be_hidden()
    request.refresh_from_db()
    assert request.status == ApprovalStatus.REJECTED
    assert run.steps.filter(verdict="rejected").exists()


def test_a_decision_that_came_too_late_says_who_was_first(console: Page, colleague: Page) -> None:
    _, request = a_waiting_run(console, REFUND, "cus_1001")
    colleague.goto(request.get_absolute_url())
    expect(colleague.locator("#state")).to_contain_text("Claimed by you")
    console.goto(request.get_absolute_url())
    console.get_by_role("button", name="Take over").click()
    expect(console.locator("#state")).to_contain_text("Claimed by you")

    # Lena's page still shows her own claim for a moment; the server decides.
    answer = colleague.request.post(
        f"{request.get_absolute_url()}decide/",
        form={
            "csrfmiddlewaretoken": colleague.locator("[name=csrfmiddlewaretoken]").first.input_value(),
            "version": str(request.version),
            "verdict": "approve",
        },
        headers={"Referer": colleague.url},
    )

    assert answer.status == 409
    assert "A colleague is working on this request" in answer.text()
    request.refresh_from_db()
    assert request.status == ApprovalStatus.PENDING


def test_without_script_a_request_is_edited_and_approved(plain: Page, console: Page) -> None:
    run, request = a_waiting_run(console, REFUND, "cus_1001")

    plain.goto(request.get_absolute_url())
    plain.get_by_role("button", name="Claim").click()
    expect(plain.locator("#state")).to_contain_text("Claimed by you")
    plain.locator("input[name=arg-amount]").fill("10.00")
    plain.get_by_role("button", name="Approve").click()

    expect(plain.locator("#toasts")).to_contain_text("Approved with 1 edit")
    decision = request.decisions.get()
    assert decision.edits["amount"][1] == "10.00"
    console.goto(f"/runs/{run.public_id}/")
    expect(console.locator("#run-head .badge").first).to_have_text(re.compile("Succeeded"))


def test_without_script_a_rejection_needs_its_reason(plain: Page, stage: Stage) -> None:
    plain.goto(stage.later.get_absolute_url())

    plain.locator("#reject > summary").click()
    plain.locator("#reject").get_by_role("button", name="Reject", exact=True).click()

    expect(plain.locator("#problem-part")).to_contain_text("A rejection needs a reason")
    stage.later.refresh_from_db()
    assert stage.later.status == ApprovalStatus.PENDING
