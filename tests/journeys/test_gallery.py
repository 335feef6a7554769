"""The shell, driven by hand: every part of the gallery, the keys, the palette, the socket, and no script at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from console import live, tokens
from console.models import AuditEntry, User
from console.roles import Role
from tests.builders import PASSWORD, a_user
from tests.journeys import looks

PAGES = (
    "/settings/components/",
    "/audit/",
    "/settings/",
    "/settings/tokens/",
    "/settings/people/",
    "/palette/",
    "/queues/",
    "/no/such/page/",
)
WIDTHS = (1440, 390)


@pytest.fixture(scope="module")
def admin(database: str) -> User:
    return a_user(Role.ADMIN, name="Ada Gallery", email="gallery@example.test")


@pytest.fixture
def signed_in(page: Page, admin: User) -> Page:
    sign_in(page, admin)
    return page


def sign_in(page: Page, user: User) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/runs/")


def has_sideways_scroll(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_on_the_pages_of_the_shell(
    signed_in: Page, complaints: Any, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    looks.nothing_is_wrong(signed_in, axe, {address: address for address in PAGES}, width=width)

    complaints.forgive("404")


def test_nothing_scrolls_sideways_on_the_smallest_screen(signed_in: Page) -> None:
    signed_in.set_viewport_size({"width": 320, "height": 700})

    for address in PAGES[:-1]:
        signed_in.goto(address)
        assert not has_sideways_scroll(signed_in), address


def test_the_door_is_accessible_and_says_no_in_words(
    page: Page, axe: Callable[[Page], list[dict[str, Any]]], shots: Callable[..., None]
) -> None:
    page.goto("/audit/")
    assert axe(page) == []
    shots(page, "sign-in")

    page.get_by_label("Email").fill("nobody@example.test")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_be_visible()
    assert axe(page) == []


def test_the_shell_as_pictures(signed_in: Page, shots: Callable[..., None]) -> None:
    for name, address in {"gallery": PAGES[0], "audit": PAGES[1], "appearance": PAGES[2], "tokens": PAGES[3]}.items():
        signed_in.goto(address)
        expect(signed_in.get_by_role("heading", level=1)).to_be_visible()
        shots(signed_in, name)


def test_keys_move_jump_and_explain_themselves(signed_in: Page, admin: User) -> None:
    for number in range(3):
        tokens.create(by=admin.actor(), name=f"key {number}", scopes=["audit.read"], expires_in=tokens.LONGEST)
    signed_in.goto("/audit/")
    rows = signed_in.locator("[data-row]")

    signed_in.keyboard.press("j")
    expect(rows.nth(0)).to_be_focused()
    signed_in.keyboard.press("j")
    signed_in.keyboard.press("k")
    expect(rows.nth(0)).to_be_focused()
    signed_in.keyboard.press("/")
    expect(signed_in.get_by_label("Object: name or id")).to_be_focused()
    signed_in.keyboard.type("jjk")  # typing is typing
    expect(signed_in.get_by_label("Object: name or id")).to_have_value("jjk")
    signed_in.keyboard.press("Escape")
    signed_in.keyboard.press("?")
    expect(signed_in.get_by_role("dialog")).to_contain_text("Go to Audit log")
    signed_in.keyboard.press("Escape")
    signed_in.keyboard.press("g")
    signed_in.keyboard.press("a")
    signed_in.wait_for_url("**/approvals/")


def test_keys_can_be_switched_off(signed_in: Page) -> None:
    signed_in.goto("/settings/")
    signed_in.get_by_label("Off", exact=True).check(force=True)
    signed_in.get_by_role("button", name="Save").click()
    expect(signed_in.get_by_role("status").filter(has_text="Saved for this browser.")).to_be_visible()

    signed_in.keyboard.press("?")

    expect(signed_in.get_by_role("dialog")).to_have_count(0)


def test_the_palette_opens_a_page(signed_in: Page, axe: Callable[[Page], list[dict[str, Any]]]) -> None:
    signed_in.keyboard.press("Control+k")
    signed_in.keyboard.type("api tok")
    expect(signed_in.get_by_role("option").first).to_contain_text("API tokens")
    expect(signed_in.get_by_role("option")).to_have_count(1)
    assert axe(signed_in) == []

    signed_in.keyboard.press("Enter")

    signed_in.wait_for_url("**/settings/tokens/")


def test_asking_before_it_happens(signed_in: Page, axe: Callable[[Page], list[dict[str, Any]]]) -> None:
    signed_in.goto("/settings/components/")
    opener = signed_in.get_by_role("button", name="Stop all new runs")
    opener.click()
    dialog = signed_in.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Stop new runs")
    assert axe(signed_in) == []

    expect(confirm).to_be_disabled()
    dialog.get_by_label("Type").fill("stop new runs")
    expect(confirm).to_be_enabled()
    signed_in.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_a_token_from_creation_to_the_end(signed_in: Page, admin: User) -> None:
    signed_in.goto("/settings/tokens/")
    signed_in.get_by_label("Name").fill("nightly export")
    signed_in.get_by_label("Read the audit log").check()
    signed_in.get_by_role("button", name="Create token").click()
    text = signed_in.locator("[data-secret]").inner_text()
    assert tokens.authenticate(text) is not None

    row = signed_in.get_by_role("row").filter(has_text="nightly export")
    row.get_by_role("button", name="Revoke").click()
    signed_in.get_by_role("dialog").get_by_label("Why").fill("no longer used")
    signed_in.get_by_role("dialog").get_by_role("button", name="Revoke token").click()

    expect(row).to_contain_text("Revoked")
    assert tokens.authenticate(text) is None
    assert AuditEntry.objects.filter(action="token.revoke", reason="no longer used").exists()


def test_the_theme_holds_without_a_flash(signed_in: Page) -> None:
    signed_in.emulate_media(color_scheme="light")
    signed_in.goto("/audit/")
    with signed_in.expect_response("**/settings/theme/"):
        signed_in.get_by_role("button", name="Use the dark theme").click()
    expect(signed_in.locator("html")).to_have_attribute("data-theme", "dark")

    html = signed_in.request.get("/audit/").text()

    assert 'data-theme="dark"' in html.partition("<head>")[0]


def test_a_page_hears_what_changed_and_says_when_it_cannot(signed_in: Page) -> None:
    signed_in.goto("/approvals/")
    indicator = signed_in.locator("[data-live]").first
    expect(indicator).to_have_text("Live")

    with signed_in.expect_response(lambda answer: "/approvals/" in answer.url and answer.request.method == "GET"):
        live.send("approvals")
    signed_in.context.set_offline(True)
    expect(indicator).to_have_text("Offline")
    expect(signed_in.locator("[data-offline]")).to_be_visible()
    signed_in.context.set_offline(False)
    expect(indicator).to_have_text("Live")


def test_signing_out_elsewhere_leaves_no_open_page_behind(signed_in: Page, context: BrowserContext) -> None:
    signed_in.goto("/approvals/")
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")

    other = context.new_page()
    other.goto("/settings/")
    other.get_by_role("button", name="Sign out").click()

    signed_in.wait_for_url("**/accounts/login/**")


@pytest.fixture
def without_script(browser: Browser, console_url: str) -> Iterator[Page]:
    opened = browser.new_context(
        base_url=console_url, java_script_enabled=False, viewport={"width": 390, "height": 844}, color_scheme="light"
    )
    opened.set_default_timeout(15_000)
    yield opened.new_page()
    opened.close()


def test_everything_works_without_script(without_script: Page, admin: User) -> None:
    page = without_script
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Use the dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    sign_in(page, admin)

    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("link", name="Search or jump to").click()
    page.get_by_role("searchbox").fill("tokens")
    page.get_by_role("button", name="Search").click()
    page.locator("#results").get_by_role("link", name="API tokens").click()
    page.get_by_label("Name").fill("made without script")
    page.get_by_label("Read the audit log").check()
    page.get_by_role("button", name="Create token").click()
    row = page.get_by_role("row").filter(has_text="made without script")
    row.get_by_text("Revoke", exact=True).click()
    row.get_by_role("button", name="Revoke token").click()
    expect(row).to_contain_text("Revoked")

    page.goto("/audit/")
    page.get_by_label("Object: name or id").fill("made without script")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("[data-row]").first).to_have_text("Revoke API token")
    page.locator("[data-row]").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("made without script")
