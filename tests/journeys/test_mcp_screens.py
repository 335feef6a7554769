"""MCP servers in a real browser: added, asked by a real worker, reviewed, changed behind our back, stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.models import User
from console.roles import Role
from runtime.mcp.models import McpReview, McpServer
from tests.builders import a_user, an_mcp_server, an_mcp_tool
from tests.journeys import doors, looks
from tests.runtime.mcp.conftest import PLAIN, command

WIDTHS = (1440, 390)
EVIL = 'Find a book. <img src=x onerror="alert(1)"> \u202egnorw\u200b'


@dataclass(frozen=True)
class Stage:
    admin: User
    operator: User
    folder: Path

    def mood(self, word: str) -> None:
        (self.folder / "mood").write_text(word)


@pytest.fixture(scope="module", autouse=True)
def allowed() -> Iterator[None]:
    """What the workers may start; set before they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYHAND_MCP_COMMANDS", json.dumps([f"{sys.executable} {PLAIN}"]))
        yield


@pytest.fixture(scope="module")
def stage(database: str, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    tool = an_mcp_tool("archive", "find_book", description=EVIL)
    McpReview.objects.create(
        tool=tool, digest="0" * 64, offer={**tool.offer, "description": "Find a book."}, by_id="1", by_label="Olga"
    )
    an_mcp_tool("archive", "lend")
    an_mcp_server("far-away", error="no answer within 10 s", seen_at=None)
    return Stage(
        admin=a_user(Role.ADMIN, name="Ada Adds", email="adds@example.test"),
        operator=a_user(Role.OPERATOR, name="Olga Reads", email="reads@example.test"),
        folder=tmp_path_factory.mktemp("library"),
    )


@pytest.fixture
def console(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.admin)
    return page


@pytest.fixture
def plain(scriptless: Page, stage: Stage) -> Page:
    doors.enter(scriptless, stage.operator)
    return scriptless


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wrong_in_either_theme_and_width(
    console: Page, axe: Callable[[Page], list[dict[str, Any]]], width: int
) -> None:
    pages = ("/mcp/", "/mcp/new/", "/mcp/archive/", "/mcp/archive/tools/find_book/", "/mcp/archive/tools/lend/")
    looks.nothing_is_wrong(console, axe, {address: address for address in pages}, width=width)
    console.get_by_role("button", name="Review").click()
    expect(console.get_by_role("dialog")).to_be_visible()
    looks.nothing_is_wrong_so(console, axe)


def test_screenshots(console: Page, shots: Callable[..., None]) -> None:
    pages = {"list": "", "form": "new/", "server": "archive/", "changed": "archive/tools/find_book/"}
    for name, address in pages.items():
        console.goto(f"/mcp/{address}")
        shots(console, f"mcp-{name}")


def test_a_change_is_read_with_what_it_hides(console: Page) -> None:
    console.goto("/mcp/archive/tools/find_book/")

    expect(console.get_by_role("heading", name="What changed")).to_be_visible()
    expect(console.locator(".unseen", has_text="U+202E")).to_be_visible()
    expect(console.get_by_text('<img src=x onerror="alert(1)">')).to_be_visible()


def test_a_server_is_added_asked_reviewed_and_noticed_when_it_changes(
    console: Page, stage: Stage, complaints: Any
) -> None:
    console.goto("/mcp/new/")
    console.get_by_label("Name", exact=True).fill("library")
    console.get_by_label("Command").fill("/bin/sh -c id")
    console.get_by_label("Why").fill("For the desk.")
    console.get_by_role("button", name="Add it").click()
    expect(console.get_by_text("is not among the commands that may be started").first).to_be_visible()
    expect(console.get_by_label("Why")).to_have_value("For the desk.")
    complaints.forgive("422")

    console.get_by_label("Command").fill(" ".join(command(PLAIN, stage.folder)))
    console.get_by_role("button", name="Add it").click()
    expect(console.get_by_role("link", name="library__find_book")).to_be_visible()
    expect(console.locator("#server")).to_contain_text("Plain library 1")

    console.get_by_role("link", name="library__lend").click()
    console.get_by_role("button", name="Review").click()
    console.get_by_role("dialog").get_by_role("button", name="It is reviewed").click()
    manifest = console.get_by_label("Manifest as JSON")
    expect(manifest).to_be_visible()
    assert json.loads(manifest.input_value())["server"] == "library"

    stage.mood("rug-pull")
    console.goto("/mcp/library/")
    console.get_by_role("button", name="Ask it now").click()
    row = console.locator("tr", has_text="library__lend")
    expect(row).to_contain_text("Changed")
    row.get_by_role("link").click()
    expect(console.locator("tr.add", has_text="evil.example")).to_be_visible()
    expect(console.get_by_text("Every call is refused until a person has reviewed the change")).to_be_visible()


def test_without_script_a_tool_is_reviewed_and_its_server_stopped_and_turned_off(plain: Page) -> None:
    plain.goto("/mcp/archive/tools/lend/")
    plain.locator("#review summary").click()
    plain.get_by_role("button", name="It is reviewed").click()
    expect(plain.locator("h1 + .badge")).to_contain_text("Reviewed")

    plain.goto("/mcp/archive/")
    plain.locator("#here-disable-tool-server-archive summary").click()
    plain.locator("#here-disable-tool-server-archive .foot .kill").click()
    expect(plain.locator("#strips")).to_contain_text("MCP server archive is off")

    plain.goto("/mcp/archive/")
    plain.locator("#off summary").click()
    plain.locator("#off").get_by_label("Why").fill("Drill")
    plain.locator("#off .foot .primary").click()
    expect(plain.locator("#server")).to_contain_text("It is off")
    assert McpServer.objects.get(name="archive").disabled_reason == "Drill"
