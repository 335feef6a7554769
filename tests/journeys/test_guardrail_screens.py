"""Guardrails in a real browser: what a message lost, what a verdict says, and an answer that a person edits first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console import ids
from console.models import User
from console.roles import Role
from releases.models import Release
from runtime.models import Run
from runtime.states import RunStatus
from tests.builders import a_release, a_user, an_agent
from tests.journeys import doors, looks

CARD = "4111 1111 1111 1111"
QUESTION = f"How long does a refund take until it is on my card? It is {CARD}."
RAILS: list[dict[str, Any]] = [
    {"id": "no-cards", "on": "input", "check": "personal_data", "settings": {"kinds": ["card"]}, "then": "redact"},
    {"id": "strange-texts", "on": "retrieved", "check": "injection", "then": "flag"},
    {"id": "real-sources", "on": "output", "check": "citations", "then": "escalate"},
    {
        "id": "no-deadlines", "version": "3", "on": "output", "check": "forbidden_topics", "then": "ask",
        "settings": {"patterns": [r"\b\d+ business days\b"]}, "risk": "low",
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def mara(database: str) -> User:
    shop = Release.objects.filter(agent__slug="support").order_by("-created_at").first()
    assert shop is not None
    content = {**shop.content, "version": "1.0", "guardrails": RAILS}
    a_release(an_agent("guarded", "Guarded support"), **content)
    return a_user(Role.SUPPORT, name="Mara Support", email="guarded.support@example.test")


@pytest.fixture
def console(page: Page, mara: User) -> Page:
    doors.enter(page, mara)
    return page


def test_an_answer_waits_for_a_person_and_its_trace_says_what_the_guardrails_found(
    console: Page, axe: Callable[[Page], list[dict[str, Any]]], shots: Callable[..., None]
) -> None:
    console.goto("/start/?agent=guarded")
    console.locator("#id_principal_id").fill("cus_1009")
    console.locator("#id_text").fill(QUESTION)
    console.get_by_role("button", name="Start the run").click()
    console.wait_for_url(re.compile(r"/runs/run_\w+/"))
    run = Run.objects.get(pk=ids.parse("run", console.url.split("/")[4]))
    expect(console.locator("#run-head .badge").first).to_have_text(re.compile("Waiting"))

    # The number never came as far as the database; the timeline says so beside the step that took it out.
    run.refresh_from_db()
    assert run.input_text.endswith("It is [card number removed].")
    row = console.locator("tr").filter(has_text="no-cards")
    expect(row).to_contain_text("Redacted")
    expect(row).to_contain_text("The text contains 1 card number.")
    shots(console, "guardrails-1-timeline")
    row.get_by_role("link").click()
    inspector = console.locator("#inspector")
    expect(inspector).to_contain_text("Take it out; the rest goes on")
    expect(inspector).to_contain_text("The user’s message")

    # A check that found nothing is there as well.
    console.locator("tr").filter(has_text="strange-texts").get_by_role("link").click()
    expect(inspector).to_contain_text("The text retrieved by search_policy")
    expect(inspector).to_contain_text("Words meant for the model")
    expect(inspector).to_contain_text("Let it pass")
    looks.nothing_is_wrong_here(console, axe)
    shots(console, "guardrails-2-inspector")

    # The answer waits. A person reads why, and lets it out in other words.
    console.goto(f"/runs/{run.public_id}/")
    console.get_by_role("link", name="Review request").click()
    card = console.locator("#detail")
    expect(card.get_by_role("heading", level=2).first).to_have_text("May this answer be given?")
    expect(card).to_contain_text("The text matches the pattern")
    expect(card).to_contain_text("guardrail:no-deadlines, version 3")
    looks.nothing_is_wrong_here(console, axe)
    shots(console, "guardrails-3-card")
    answer = card.locator("textarea[name$=text]")
    answer.fill("It takes a few days. [returns#refunds@2026.11]")
    card.get_by_role("button", name=re.compile("with 1 edit")).click()
    expect(console.locator("#toasts")).to_contain_text("Let it pass")

    console.goto(f"/runs/{run.public_id}/")
    expect(console.locator("#run-head .badge").first).to_have_text(re.compile("Succeeded"))
    run.refresh_from_db()
    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "It takes a few days. [returns#refunds@2026.11]")
    shots(console, "guardrails-4-answered")
