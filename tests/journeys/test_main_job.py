"""The main job in a real browser: ask for a refund, edit and approve it, pull the switch, stop a run."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from decimal import Decimal

import django_rq
import pytest
from django.db.models import F
from django.utils.timezone import now
from playwright.sync_api import Page, expect

from console import ids, live, queue
from console.models import AuditEntry, User
from console.roles import Role
from runtime.models import Run
from runtime.shop.models import Refund
from runtime.states import RunStatus
from tests.builders import a_run, a_user
from tests.journeys import doors

WORKERS = 2  # to be killed together
REFUND = "Please refund order 10482, the headphones arrived broken."


@pytest.fixture(scope="module")
def operator(database: str) -> User:
    return a_user(Role.OPERATOR, name="Olga Main", email="main.job@example.test")


@pytest.fixture
def console(page: Page, operator: User) -> Page:
    doors.enter(page, operator)
    return page


def start(page: Page, text: str, *, person: str = "cus_1001", name: str = "Ana Lima") -> Run:
    """Start a run on the page; returns it once its trace is open."""
    page.goto("/start/")
    page.locator("#id_principal_id").fill(person)
    page.locator("#id_principal_label").fill(name)
    page.locator("#id_text").fill(text)
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url(re.compile(r"/runs/run_\w+/"))
    return Run.objects.get(pk=ids.parse("run", page.url.split("/")[4]))


def shows(page: Page, status: str) -> None:
    """The page says so by itself, without a reload."""
    expect(page.locator("#run-head .badge").first).to_have_text(re.compile(status))


def approve(page: Page, *, amount: str = "") -> None:
    page.get_by_role("link", name="Review request").click()
    expect(page.get_by_role("heading", name=re.compile("Refund"), level=2).first).to_be_visible()
    button = page.locator("[data-approve]")
    if amount:
        page.locator("input[name$=amount]").fill(amount)
        expect(button).to_contain_text("Approve with 1 edit")
    expect(button).to_be_enabled()
    button.click()
    expect(page.locator("#toasts")).to_contain_text("Approved")


def test_a_refund_is_asked_for_edited_approved_and_paid_once(console: Page, shots: Callable[..., None]):
    run = start(console, REFUND)
    shows(console, "Waiting")
    shots(console, "main-1-waiting")

    approve(console, amount="99.00")
    console.goto(f"/runs/{run.public_id}/")
    shows(console, "Succeeded")
    shots(console, "main-2-succeeded")

    assert [refund.amount_usd for refund in Refund.objects.filter(order__number=10482)] == [Decimal("99.00")]
    run.refresh_from_db()
    assert "$99.00" in run.answer
    assert run.answer.startswith("Done: $99.00")
    audited = AuditEntry.objects.get(action="approval.approve")
    assert audited.changes["amount"] == ["129.00", "99.00"]
    expect(console.locator("table.tl")).to_contain_text("issue_refund")


def test_a_disabled_tool_refuses_and_the_trace_names_the_switch(console: Page, shots: Callable[..., None]):
    console.goto("/switches/")
    console.get_by_role("button", name="issue_refund: On").click()
    console.get_by_label("Why (may follow later)").locator("visible=true").fill("double refunds")
    console.get_by_role("button", name=re.compile("Turn off|Disable|Stop")).locator("visible=true").click()
    expect(console.locator("#strips")).to_contain_text("issue_refund is off")
    shots(console, "main-3-switched-off")

    run = start(console, "Please refund order 10471, the hub does not work.", person="cus_1002", name="Jonas Weber")
    shows(console, "Refused|Escalated")
    shots(console, "main-4-refused")

    expect(console.locator("#run-head")).to_contain_text("issue_refund is off")
    assert not Refund.objects.filter(order__number=10471).exists()
    assert run.steps.filter(rule="kill_switch").exists()


def test_a_waiting_run_is_stopped_with_a_reason(console: Page, shots: Callable[..., None]):
    run = start(console, "Please send order 10940 to Calle Real 12, 28013 Madrid, Spain.", person="cus_1004")
    shows(console, "Waiting")
    console.get_by_role("button", name="Stop run").first.click()
    asked = console.locator("dialog, .panel").locator("visible=true")
    asked.get_by_label(re.compile("Why|Reason")).fill("wrong customer")
    asked.get_by_role("button", name=re.compile("Stop")).click()
    shows(console, "Stopped|Cancelled")

    run.refresh_from_db()
    assert (run.status, run.cancel_reason) == (RunStatus.CANCELLED, "wrong customer")
    shots(console, "main-5-stopped")


def test_a_killed_worker_and_a_flushed_redis_lose_nothing(console: Page, product):
    """Both workers die while a refund waits, Redis forgets everything, then new workers carry it to its end."""
    run = start(console, "Order 10290: the laptop has a cracked screen. Refund it please.", person="cus_1006")
    for slot in (1, 2):
        worker = product.running[f"worker-{slot}"]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    django_rq.get_connection(queue.RUNS).flushdb()

    for slot in (1, 2):
        product.start_worker(slot)

    shows(console, "Waiting|Succeeded|Refused|Escalated")
    assert run.public_id in console.url


def test_a_notice_that_comes_while_the_page_asks_is_not_lost(console: Page):
    """The answer under way is older than the notice, and swaps away the region that heard it."""
    run = a_run(RunStatus.RUNNING, title="Overtaken")
    console.goto(f"/runs/{run.public_id}/")
    expect(console.locator("[data-live][data-state=live]").first).to_be_attached()
    console.wait_for_load_state("networkidle")
    console.evaluate(
        """() => document.body.addEventListener("htmx:beforeSwap", event => {
            const until = performance.now() + 1500;  // the answer is here, but its swap is late
            while (performance.now() < until) {}
        }, { once: true })"""
    )
    topic = f"run:{run.public_id}"

    live.send(topic)
    console.wait_for_timeout(100)
    Run.objects.filter(pk=run.pk).update(status=RunStatus.FAILED, finished_at=now(), seq=F("seq") + 1)
    live.send(topic)

    expect(console.locator("#run-head .badge").first).to_have_text(re.compile("Failed"), timeout=5_000)
