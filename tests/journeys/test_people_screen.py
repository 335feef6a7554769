"""Keeping people: somebody comes, gets a role, forgets the password, and goes."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from console.models import AuditEntry, User
from console.roles import Role
from tests.builders import a_user
from tests.journeys import doors, looks


@pytest.fixture(scope="module")
def admin(database: str) -> User:
    return a_user(Role.ADMIN, name="Ada Keeper", email="keeper@example.test")


def dialog(page: Page, button: str, reason: str, confirm: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    asked = page.get_by_role("dialog")
    asked.get_by_role("textbox").fill(reason)
    asked.get_by_role("button", name=confirm, exact=True).click()


def test_somebody_comes_and_goes(
    page: Page, admin: User, browser: Browser, console_url: str, axe: Any, shots: Any, complaints: Any
) -> None:
    doors.enter(page, admin)
    page.goto("/settings/people/")
    page.get_by_label("Name", exact=True).fill("Mara Lind")
    page.get_by_label("E-mail").fill("mara.lind@example.test")
    page.get_by_label("Role").select_option("support")
    page.get_by_label("Why").fill("She starts today.")
    page.get_by_role("button", name="Add person").click()
    expect(page.get_by_role("heading", name="The password of Mara Lind")).to_be_visible()
    password = page.locator("[data-secret]").inner_text()
    looks.nothing_is_wrong_here(page, axe)
    shots(page, "people")

    hers = browser.new_context(base_url=console_url)
    tab = hers.new_page()
    tab.goto("/accounts/login/")
    tab.get_by_label("Email").fill("mara.lind@example.test")
    tab.get_by_label("Password").fill(password)
    tab.get_by_role("button", name="Sign in").click()
    tab.wait_for_url("**/approvals/**")

    page.get_by_role("link", name="Mara Lind").click()
    page.get_by_label("Role", exact=True).select_option("operator")
    page.get_by_label("On", exact=True).select_option("support")
    page.get_by_role("textbox", name="Why").fill("She stands in for Tomas.")
    page.get_by_role("button", name="Give role").click()
    expect(page.get_by_role("row", name="Operator support")).to_be_visible()
    looks.nothing_is_wrong_here(page, axe)
    shots(page, "person")

    dialog(page, "Deactivate", "She has left.", "Deactivate")
    expect(page.get_by_text("Deactivated", exact=True)).to_be_visible()
    tab.reload()
    tab.wait_for_url("**/accounts/login/**")
    hers.close()
    page.get_by_role("link", name="What was done to this account").click()
    expect(page.get_by_text("She has left.")).to_be_visible()
    assert set(AuditEntry.objects.filter(actor_label="Ada Keeper").values_list("action", flat=True)) == {
        "user.create", "role.grant", "user.deactivate",
    }  # fmt: skip
    assert not complaints
