"""A manager reads the overview: figures, chart, definitions, live, and feedback behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from console.models import User
from console.roles import Role
from runtime.states import RunStatus, StepStatus
from telemetry import rollups
from telemetry.models import Feedback
from tests.builders import a_run, a_step, a_user, an_agent
from tests.journeys import doors

WIDTHS = (1440, 390)
OUTCOMES = (RunStatus.SUCCEEDED,) * 7 + (
    RunStatus.REFUSED,
    RunStatus.ESCALATED,
    RunStatus.FAILED,
)  # ten runs for each hour


@pytest.fixture(scope="module")
def manager(database: str) -> User:
    return a_user(Role.MANAGER, name="Ines Overview", email="overview@example.test")


@pytest.fixture(scope="module")
def history(database: str) -> None:
    """Two days of runs of an agent, ten each hour."""
    agent = an_agent("overview-agent", "Overview agent")
    now = timezone.now()
    for hour in range(48):
        for number, status in enumerate(OUTCOMES):
            at = rollups.hour_of(now) - timedelta(hours=hour) + timedelta(milliseconds=number)
            run = a_run(
                status,
                agent=agent,
                created_at=at - timedelta(seconds=5),
                finished_at=at,
                working_ms=3000 + 100 * number,
                steps_used=6,
                input_tokens=900,
                output_tokens=90,
                cost_usd="0.012",
            )
            has_failed = status == RunStatus.FAILED
            a_step(run, name="lookup_order", status=StepStatus.FAILED if has_failed else StepStatus.DONE)
        rollups.roll_up(now - timedelta(hours=hour))


@pytest.fixture
def overview(page: Page, manager: User, history: None) -> Page:
    doors.enter(page, manager)
    page.goto("/overview/?range=24h&agent=overview-agent")
    return page


def test_figures_chart_and_definitions(overview: Page, shots: Callable[..., None]) -> None:
    tile = overview.locator("article", has=overview.get_by_role("heading", name="Success"))
    expect(tile).to_contain_text("70.0%")
    expect(tile).to_contain_text("240 runs")
    expect(tile.locator("svg.spark polyline")).to_have_count(1)

    tile.locator("summary").click()
    expect(tile.locator("dl")).to_contain_text("Cancelled runs are left out")
    tile.locator("summary").click()

    chart = overview.locator("[data-chart]")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".main-svg").first).to_be_visible()
    expect(chart.locator(".legend")).to_contain_text("Succeeded")
    assert chart.locator(".bars .point").count() >= 12

    overview.get_by_text("Show the figures as a table").click()
    expect(overview.locator("#chart-rows tr").first).to_contain_text("70.0%")
    shots(overview, "overview")


def test_a_chart_that_is_not_seen_is_not_loaded(overview: Page) -> None:
    overview.goto("about:blank")  # the wide page before may still be loading its chart
    overview.set_viewport_size({"width": 390, "height": 800})
    asked: list[str] = []
    overview.on("request", lambda request: asked.append(request.url))

    overview.goto("/overview/?range=24h")
    overview.mouse.wheel(0, 20_000)
    overview.wait_for_load_state("networkidle")

    assert not [url for url in asked if "plotly" in url and url.endswith(".js")]
    expect(overview.get_by_text("Show the figures as a table")).to_be_visible()


def test_the_page_follows_new_runs_without_losing_its_place(overview: Page) -> None:
    chart = overview.locator("[data-chart]")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".main-svg").first).to_be_visible()
    about = overview.locator("#about-success")
    about.locator("summary").click()
    expect(overview.locator("[data-live][data-state=live]").first).to_be_attached()

    a_run(RunStatus.CANCELLED, agent=an_agent("overview-agent"), cost_usd="0.6")
    # The scheduler of the product would do this within a minute.
    rollups.roll_up_recent(timezone.now())

    expect(overview.locator("#figures")).to_contain_text("241 runs")
    expect(chart.locator(".legend")).to_contain_text("Cancelled")
    expect(about).to_have_attribute("open", "")


def test_filters_are_links_and_lead_to_the_runs(overview: Page) -> None:
    overview.get_by_role("link", name="7 days").click()
    expect(overview).to_have_url(re.compile("range=7d.*agent=overview-agent|agent=overview-agent.*range=7d"))
    expect(overview.get_by_role("heading", name="Last 7 days, overview-agent")).to_be_visible()

    overview.get_by_role("link", name="Failures").click()

    expect(overview).to_have_url(re.compile("/runs/.*status=failed"))
    expect(overview.locator("main")).to_contain_text("Failed")


def test_the_export_is_a_file(overview: Page) -> None:
    with overview.expect_download() as started:
        overview.get_by_role("link", name="Export").click()

    text = started.value.path().read_text()
    assert started.value.suggested_filename.endswith(".csv")
    assert "Overview agent" in text
    assert "lookup_order" in text


def test_feedback_counts(overview: Page, manager: User, shots: Callable[..., None]) -> None:
    run = a_run(agent=an_agent("overview-agent"))
    overview.goto(f"/runs/{run.public_id}/feedback/")

    overview.get_by_label("Not helpful").check()
    overview.get_by_label("Comment").fill("It named <b>the wrong</b> order.")
    overview.get_by_role("button", name="Save feedback").click()

    expect(overview.locator("#feedback")).to_contain_text("Saved")
    expect(overview.locator("#feedback li")).to_contain_text("<b>the wrong</b>")
    shots(overview, "feedback")
    assert Feedback.objects.get(run=run).by_id == str(manager.pk)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(overview: Page, axe: Callable[[Page], list[dict[str, Any]]], width: int, theme: Any) -> None:
    overview.emulate_media(color_scheme=theme)
    overview.set_viewport_size({"width": width, "height": 900})
    for address in ("/overview/?range=24h", "/overview/?range=today&agent=support"):
        overview.goto(address)
        if width > 760 and "24h" in address:
            overview.locator("[data-chart]").scroll_into_view_if_needed()
            expect(overview.locator(".main-svg").first).to_be_visible()
        assert axe(overview) == []
        assert not overview.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_it_reads_without_script(scriptless: Page, manager: User, history: None) -> None:
    doors.enter(scriptless, manager)

    scriptless.goto("/overview/?range=24h&agent=overview-agent")
    scriptless.locator("#ask-success").click()

    expect(scriptless.locator("#about-success dl")).to_be_visible()
    expect(scriptless.locator("#figures")).to_contain_text("Found helpful")
