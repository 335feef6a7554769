"""Agents and releases in a real browser: read, compared, made, activated and returned to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.models import User
from console.roles import Role
from releases.models import Agent, Release
from tests.builders import a_bundle, a_release, a_tool, a_user, an_agent
from tests.journeys import doors, looks

WIDTHS = (1440, 390)
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'
RULE = {
    "id": "refund-limit",
    "tool": "issue_refund",
    "when": [{"argument": "amount", "op": "gt", "value": 100}],
    "then": "ask",
    "reason": f"Large refunds need a person {EVIL}",
}


@dataclass(frozen=True)
class Stage:
    operator: User
    agent: Agent
    old: Release
    new: Release


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    operator = a_user(Role.OPERATOR, name="Olga Ships", email="ships@example.test")
    agent = an_agent("ships", "Shipping agent", owner=operator, description="Moves parcels.")
    old = a_release(agent, version="1.0", note="First", rules=[RULE])
    new = a_release(
        agent,
        is_active=False,
        version="2.0",
        note="Asks less often",
        instructions=f"Help the customer.\nBe brief.\n{EVIL}",
        tools=[a_tool("issue_refund", moves_money=True), a_tool("hand_off", hands_off=True)],
        rules=[{**RULE, "when": [{"argument": "amount", "op": "gt", "value": 150}]}],
        guardrails=[{"id": "long", "on": "input", "check": "length", "settings": {"most": 8000}}],
    )
    return Stage(operator, agent, old, new)


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


@pytest.fixture
def plain(scriptless: Page, stage: Stage) -> Page:
    doors.enter(scriptless, stage.operator)
    return scriptless


def addresses(stage: Stage) -> dict[str, str]:
    return {
        "agents": "/agents/",
        "agent": stage.agent.get_absolute_url(),
        "release": stage.new.get_absolute_url(),
        "compare": f"/releases/compare/?a={stage.old.public_id}&b={stage.new.public_id}",
        "release-form": f"/agents/ships/releases/new/?copy={stage.old.public_id}",
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, stage: Stage, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    looks.nothing_is_wrong(console, axe, addresses(stage), width=width)


def test_screenshots(console: Page, stage: Stage, shots: Callable[..., None]) -> None:
    for name, address in addresses(stage).items():
        console.goto(address)
        shots(console, name)


def test_a_release_is_made_active_and_returned_from(console: Page, stage: Stage) -> None:
    console.goto(stage.new.get_absolute_url())
    console.get_by_role("button", name="Make active").click()
    asked = console.get_by_role("dialog")
    expect(asked).to_contain_text("Runs in flight keep theirs")
    asked.get_by_label("Why").fill("Asks less often")
    asked.get_by_role("button", name="Make active").click()

    expect(console.locator("#toasts")).to_contain_text("answers all new runs")
    expect(console.locator("h1 + .badge")).to_have_text("Active")
    stage.agent.refresh_from_db()
    assert stage.agent.active_release == stage.new

    console.goto(stage.agent.get_absolute_url())
    expect(console.locator("main")).to_contain_text("Asks less often")
    console.get_by_role("link", name="1.0", exact=True).first.click()
    console.get_by_role("button", name=re.compile("Make active|Return to this release")).click()
    console.get_by_role("dialog").get_by_label("Why").fill("It was worse")
    console.get_by_role("dialog").get_by_role("button", name=re.compile("Make active|Return to it")).click()
    expect(console.locator("h1 + .badge")).to_have_text("Active")
    stage.agent.refresh_from_db()
    assert stage.agent.active_release == stage.old


def test_an_open_list_follows_a_change_made_elsewhere(console: Page, stage: Stage) -> None:
    console.goto("/agents/")
    other = console.context.new_page()
    other.goto(stage.new.get_absolute_url())
    other.get_by_role("button", name=re.compile("Make active|Return to this release")).click()
    other.get_by_role("dialog").get_by_label("Why").fill("again")
    other.get_by_role("dialog").get_by_role("button", name=re.compile("Make active|Return to it")).click()
    expect(other.locator("h1 + .badge")).to_have_text("Active")

    row = console.locator("tr", has_text="Shipping agent")
    expect(row).to_contain_text("2.0")


def test_a_broken_bundle_is_explained_and_kept_until_it_fits(console: Page, stage: Stage, complaints: Any) -> None:
    console.goto("/agents/ships/releases/new/")
    console.get_by_label("What is new").fill("Third")
    console.get_by_label("Bundle as JSON").fill('{"version": "3.0"')
    console.get_by_role("button", name="Store the release").click()

    expect(console.locator("#problem-part")).to_contain_text("This is not JSON")
    expect(console.get_by_label("Bundle as JSON")).to_have_value('{"version": "3.0"')
    expect(console.get_by_label("What is new")).to_have_value("Third")
    complaints.forgive("status of 422")

    console.get_by_label("Bundle as JSON").fill(json.dumps(a_bundle("3.0")))
    console.get_by_role("button", name="Store the release").click()
    expect(console.locator("h1")).to_have_text("Release 3.0")
    expect(console.locator("h1 + .badge")).to_have_text("Never active")


def test_without_script_a_release_is_made_active(plain: Page, stage: Stage) -> None:
    release = a_release(stage.agent, is_active=False, version="4.0")
    plain.goto(release.get_absolute_url())

    plain.locator("#activate > summary").click()
    plain.locator("#activate").get_by_label("Why").fill("No script here")
    plain.locator("#activate").get_by_role("button", name="Make active").last.click()

    expect(plain.locator("#toasts")).to_contain_text("answers all new runs")
    stage.agent.refresh_from_db()
    assert stage.agent.active_release == release
