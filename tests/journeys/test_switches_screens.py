"""Kill switches in a real browser: pulled in one go, seen everywhere, lifted with a phrase, also without script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.models import User
from console.roles import Role
from releases.models import KillSwitch
from releases.states import Scope, SwitchEffect
from tests.builders import a_release, a_switch, a_tool, a_user, an_agent
from tests.journeys import doors, looks

WIDTHS = (1440, 390)
WORKERS = 2  # each of them says that it has seen a switch
EVIL = '<img src=x onerror="alert(1)"> \u202egnorw'


@dataclass(frozen=True)
class Stage:
    operator: User
    manager: User


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    tools = [a_tool("drill_write"), a_tool("drill_read", effect="read", retry="read")]
    a_release(an_agent("drills", "Drill agent"), tools=tools)
    a_switch(SwitchEffect.PAUSE_RUNS, Scope.AGENT, "drills", reason=EVIL)
    return Stage(
        operator=a_user(Role.OPERATOR, name="Olga Stops", email="stops@example.test"),
        manager=a_user(Role.MANAGER, name="Max Looks On", email="looks@example.test"),
    )


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


@pytest.fixture
def plain(scriptless: Page, stage: Stage) -> Page:
    doors.enter(scriptless, stage.operator)
    return scriptless


def standing(target: str) -> list[KillSwitch]:
    return list(KillSwitch.objects.engaged().filter(target=target))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    looks.nothing_is_wrong(console, axe, {"switches": "/switches/"}, width=width)
    console.get_by_role("button", name="Calls, drill_write: On").click()
    expect(console.get_by_role("dialog")).to_be_visible()
    looks.nothing_is_wrong_so(console, axe)


def test_who_only_looks_on_finds_them_locked(page: Page, stage: Stage, axe: Callable[[Page], Any]) -> None:
    doors.enter(page, stage.manager)
    page.goto("/switches/")

    expect(page.get_by_role("button", name="Calls, drill_write: On")).to_have_count(0)
    expect(page.locator("tr", has_text="drill_write")).to_contain_text("Your role may not engage kill switches")
    assert axe(page) == []


def test_screenshots(console: Page, shots: Callable[..., None]) -> None:
    console.goto("/switches/")
    shots(console, "switches")


def test_a_tool_is_stopped_seen_on_an_open_page_and_lifted_with_the_phrase(console: Page) -> None:
    other = console.context.new_page()
    other.goto("/agents/")
    expect(other.locator("[data-live]").first).to_have_text("Live")
    console.goto("/switches/")

    console.get_by_role("button", name="Calls, drill_write: On").click()
    asked = console.get_by_role("dialog")
    expect(asked).to_contain_text("Used by Drill agent")
    asked.get_by_role("button", name="Turn off").click()

    expect(console.locator("#toasts")).to_contain_text("drill_write is off")
    expect(console.locator(".ctl.off", has_text="drill_write is off")).to_be_visible()
    expect(other.locator("#strips")).to_contain_text("drill_write is off")
    expect(console.locator("#switches")).to_contain_text("Seen by 2 of 2 workers")
    console.get_by_label("Why it was engaged").fill("Drill")
    console.get_by_role("button", name="Keep reason").click()
    expect(console.locator(".ctl.off", has_text="drill_write is off")).to_contain_text("Drill")

    console.get_by_role("button", name="Calls, drill_write: Off").first.click()
    asked = console.get_by_role("dialog")
    lift = asked.get_by_role("button", name="Lift")
    asked.get_by_label("Why is it safe again").fill("Drill over")
    expect(lift).to_be_disabled()
    asked.get_by_label("to confirm").fill("turn on drill_write")
    lift.click()
    expect(console.locator("#toasts")).to_contain_text("Lifted: drill_write is off")
    assert standing("drill_write") == []
    assert KillSwitch.objects.get(target="drill_write").lift_reason == "Drill over"


def test_a_refresh_never_takes_an_open_dialog_away(console: Page) -> None:
    console.goto("/switches/")
    console.get_by_role("button", name="Calls, drill_read: On").click()
    asked = console.get_by_role("dialog")
    asked.get_by_label("Why (may follow later)").fill("half a sentence")

    other = console.context.new_page()
    other.goto("/switches/")
    other.get_by_role("button", name="Write tools, drills: Allowed").click()
    other.get_by_role("dialog").get_by_role("button", name="Turn write tools off").click()
    expect(other.locator("#toasts")).to_contain_text("write tools are off")

    expect(console.locator("#strips")).to_contain_text("write tools are off")
    expect(asked.get_by_label("Why (may follow later)")).to_have_value("half a sentence")
    asked.get_by_role("button", name="Turn off").click()
    expect(console.locator("#toasts")).to_contain_text("drill_read is off")


def test_without_script_everything_is_paused_and_allowed_again(plain: Page) -> None:
    plain.goto("/switches/")
    row = plain.locator("#all-pause-runs-everything")
    row.locator("summary").click()
    row.get_by_label("Why (may follow later)").fill("Fire drill")
    row.get_by_role("button", name="Pause new runs").click()
    expect(plain.locator("#strips")).to_contain_text("Everything: new runs are paused")

    row = plain.locator("#active-pause-runs-everything")
    row.locator("summary").click()
    row.get_by_label("Why is it safe again").fill("Drill over")
    row.get_by_label("to confirm").fill("turn on everything")
    row.get_by_role("button", name="Lift").click()
    expect(plain.locator("#toasts")).to_contain_text("Lifted: Everything: new runs are paused")
    assert not KillSwitch.objects.engaged().filter(scope=Scope.EVERYTHING).exists()
