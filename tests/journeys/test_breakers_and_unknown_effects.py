"""Circuit breakers, and the question whether a call happened, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from approvals.models import ApprovalRequest
from console.models import User
from console.roles import Role
from runtime.models import Breaker
from runtime.states import BreakerKind, BreakerState
from tests.builders import a_breaker, a_release, a_tool, a_user, an_agent, an_approval
from tests.journeys import doors, looks

WIDTHS = (1440, 390)
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'
LABELS = {"approve": "It happened", "reject": "It did not happen", "give_up": "Give up"}
WHY = "This call was cut off while it was under way, so nobody knows whether it happened."


@dataclass(frozen=True)
class Stage:
    operator: User
    question: ApprovalRequest


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    tools = [a_tool("drill_write"), a_tool("drill_read", effect="read", retry="read"), a_tool("drill_mail")]
    model = {"provider": "openai", "name": "gpt-5"}
    fallback = {"provider": "anthropic", "name": "claude-sonnet-4-5"}
    a_release(an_agent("drills", "Drill agent"), tools=tools, model=model, fallback_model=fallback)
    a_breaker("drill_write", last_error=f"unavailable: connection refused {EVIL}", failures=7, calls=9)
    a_breaker("drill_mail", BreakerState.HELD, reason="The vendor asked us to.", changed_by_label="Olga Stops")
    a_breaker("openai gpt-5", BreakerState.HALF_OPEN, kind=BreakerKind.MODEL, probe_by="a worker")
    evidence = [{"kind": "fact", "title": "The look-up of drill_mail", "text": "No answer.", "note": "", "url": ""}]
    question = an_approval(
        title="Did this happen? Refund $129.00", labels=LABELS, why=WHY, evidence=evidence, rule="unknown-effect"
    )
    return Stage(a_user(Role.OPERATOR, name="Olga Stops", email="breaks@example.test"), question)


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    pages = {"breakers": "/breakers/", "question": f"/approvals/{stage.question.public_id}/"}
    looks.nothing_is_wrong(console, axe, pages, width=width)
    console.goto("/breakers/")
    console.get_by_role("button", name="Close").first.click()
    expect(console.get_by_role("dialog")).to_be_visible()
    looks.nothing_is_wrong_so(console, axe)


def test_screenshots(console: Page, stage: Stage, shots: Callable[..., None]) -> None:
    console.goto("/breakers/")
    shots(console, "breakers")
    console.goto(f"/approvals/{stage.question.public_id}/")
    shots(console, "unknown-effect")
    console.keyboard.press("u")
    shots(console, "unknown-effect-give-up", full=False)


def test_an_operator_closes_one_and_holds_it_open_again_while_a_second_page_follows(console: Page) -> None:
    console.goto("/breakers/")
    other = console.context.new_page()
    other.goto("/breakers/")
    line = other.get_by_role("row", name="drill_write")
    expect(line).to_contain_text("Out of order")

    console.get_by_role("row", name="drill_write").get_by_role("button", name="Close").click()
    console.get_by_role("dialog").get_by_label("Why").fill("It is back.")
    console.get_by_role("dialog").get_by_role("button", name="Close it").click()
    expect(console.get_by_text("Calls to drill_write pass again.")).to_be_visible()
    expect(line).to_contain_text("Works")

    console.get_by_role("row", name="drill_write").get_by_role("button", name="Hold open").click()
    console.get_by_role("dialog").get_by_label("Why").fill("Maintenance tonight.")
    console.get_by_role("dialog").get_by_role("button", name="Hold it open").click()
    expect(line).to_contain_text("Held open")
    expect(line).to_contain_text("Maintenance tonight.")
    expect(other.get_by_text("is held open").first).to_be_visible()  # the banner of every page
    assert Breaker.objects.get(name="drill_write").state == BreakerState.HELD
    other.close()


def test_a_key_opens_the_third_answer_and_escape_leaves_it(console: Page, stage: Stage) -> None:
    console.goto(f"/approvals/{stage.question.public_id}/")
    expect(console.get_by_role("button", name="It happened")).to_be_visible()
    expect(console.get_by_text("The look-up of drill_mail")).to_be_visible()

    console.keyboard.press("u")
    dialog = console.get_by_role("dialog")
    expect(dialog).to_contain_text("The run ends as failed, and the call stays marked as unknown.")
    expect(dialog.get_by_label("What you tried")).to_be_visible()
    console.keyboard.press("Escape")

    expect(dialog).to_be_hidden()
    stage.question.refresh_from_db()
    assert stage.question.status == "pending"
