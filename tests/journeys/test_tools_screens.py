"""Tools and label changes in a real browser: found, read, reviewed by a second person, and then made active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from playwright.sync_api import Browser, Page, expect

from console.models import User
from console.roles import Role
from releases import releases
from releases.models import Release
from telemetry import rollups
from telemetry.models import MetricPoint
from tests.builders import a_breaker, a_bundle, a_release, a_switch, a_tool, a_user, an_agent
from tests.journeys import doors, looks

EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'
PAY = a_tool(
    "courier_pay",
    moves_money=True,
    description=f"Pays a courier. {EVIL}",
    scope="couriers:pay",
    arguments={"to": "destination", "sum": "amount"},
    parameters={"properties": {"to": {"type": "string"}, "sum": {"type": "number"}, "why": {"type": "string"}}},
)
READ = a_tool("courier_read", effect="read", retry="read", scope="couriers:read")
LOOSE = {**PAY, "effect": "read", "arguments": {"to": "free", "sum": "amount"}, "timeout_s": 10}


@dataclass(frozen=True)
class Stage:
    author: User
    second: User
    active: Release
    changed: Release
    second_changed: Release


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    author = a_user(Role.OPERATOR, name="Olga Author", email="author@example.test")
    second = a_user(Role.MANAGER, name="Mara Second", email="second@example.test")
    agent = an_agent("couriers", "Courier desk", owner=author)
    active = a_release(agent, version="1.0", tools=[READ, PAY])
    made = [
        releases.create(agent, a_bundle(version, tools=[READ, LOOSE, *more]), by=author.actor(), note=EVIL)
        for version, more in (("2.0", []), ("2.1", [a_tool("courier_new", labelled=True)]))
    ]
    a_release(an_agent("other-couriers", "Other couriers"), tools=[{**PAY, "effect": "egress"}])
    a_switch(target="courier_read", reason="They moved.")
    a_breaker("courier_pay")
    # The roll-up counts the present and the previous hour again, and would find no runs for this figure.
    MetricPoint.objects.create(
        hour=rollups.hour_of(now() - timedelta(hours=6)), agent=agent, release=active, dimension="tool",
        name="courier_pay", runs=9, tool_calls=40, tool_errors=2, tool_refused=3, tool_asked=4,
        working_histogram={"300": 40},
    )  # fmt: skip
    return Stage(author, second, active, *made)


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.second)
    return page


def addresses(stage: Stage) -> dict[str, str]:
    return {
        "tools": "/tools/",
        "tools-nothing": "/tools/?q=nothing-like-it",
        "tool": "/tools/courier_pay/",
        "label-changes": stage.second_changed.get_absolute_url(),
        "rule-of-two": stage.active.agent.get_absolute_url(),
    }


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    looks.nothing_is_wrong(console, axe, addresses(stage), width=width)


def test_screenshots(console: Page, stage: Stage, shots: Callable[..., None]) -> None:
    for name, address in addresses(stage).items():
        console.goto(address)
        shots(console, name)


def test_a_tool_is_found_read_and_followed_to_its_runs(console: Page, stage: Stage) -> None:
    console.goto("/agents/")
    console.get_by_role("navigation").get_by_role("link", name="Tools", exact=True).click()
    console.get_by_role("searchbox", name="Search tools").fill("courier")
    console.get_by_role("button", name="Filter", exact=True).click()
    row = console.get_by_role("row").filter(has_text="courier_pay")
    expect(row).to_contain_text("Labels differ")
    expect(row.locator("[data-label='Asked']")).to_have_text("4")
    expect(console.get_by_role("row").filter(has_text="courier_read")).to_contain_text("courier_read is off")

    row.get_by_role("link", name="courier_pay").click()

    expect(console.locator("#differences")).to_contain_text("Courier desk")
    expect(console.locator("#differences")).to_contain_text("Sends something out")
    expect(console.get_by_role("row").filter(has_text="why")).to_contain_text("no class")
    console.get_by_role("link", name="Runs of the last 7 days that called it").click()
    console.wait_for_url("**/runs/?tool=courier_pay&since=week")


def test_a_second_person_reads_the_change_and_the_release_can_answer(
    console: Page, stage: Stage, browser: Browser, console_url: str
) -> None:
    author = browser.new_context(base_url=console_url)
    his = author.new_page()
    doors.enter(his, stage.author)
    his.goto(stage.changed.get_absolute_url())
    expect(his.locator("#labels")).to_contain_text("a second person has to review")
    expect(his.locator("#whynot")).to_contain_text("A second person has to review that first")
    expect(his.get_by_role("button", name="Make active")).to_be_disabled()

    console.goto(stage.changed.get_absolute_url())
    expect(console.locator("#labels")).to_contain_text("Changes own data")
    console.get_by_role("button", name="Accept the label changes").click()
    console.get_by_role("dialog").get_by_label("Why").fill("Compared with the code.")
    console.get_by_role("dialog").get_by_role("button", name="Accept them").click()
    expect(console.locator("#labels")).to_contain_text("Mara Second")
    expect(console.locator("#labels")).to_contain_text("Reviewed")

    his.reload()
    his.get_by_role("button", name="Make active").click()
    his.get_by_role("dialog").get_by_label("Why").fill("Better")
    his.get_by_role("dialog").get_by_role("button", name="Make active").click()
    expect(his.locator("h1 + .badge")).to_have_text("Active")
    author.close()


@pytest.fixture
def plain(scriptless: Page, stage: Stage) -> Page:
    doors.enter(scriptless, stage.second)
    return scriptless


def test_without_script_a_change_is_rejected(plain: Page, stage: Stage) -> None:
    plain.goto(stage.second_changed.get_absolute_url())

    plain.locator("#reject-labels > summary").click()
    plain.locator("#reject-labels").get_by_label("Why").fill("It pays.")
    plain.locator("#reject-labels").get_by_role("button", name="Reject them").click()

    expect(plain.locator("#labels")).to_contain_text("Rejected")
    expect(plain.locator("#labels")).to_contain_text("Mara Second")
