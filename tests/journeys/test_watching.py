"""What people see of runs from outside: the text while it is written, the queue, the messages to callers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now
from playwright.sync_api import Page, Request, expect

from console import live
from console.models import User
from console.roles import Role
from releases.models import Release
from runtime import drafts
from runtime.models import Callback, Delivery, DeliveryAttempt, Draft, Run, Worker
from runtime.states import DeliveryStatus, Hold, RunStatus, StepKind
from tests.builders import a_delivery, a_release, a_run, a_step, a_user, an_agent, an_event
from tests.journeys import doors
from tests.journeys.holding import hold_the_first

WIDTHS = (1440, 390)
WORKERS = 2  # the table of workers has a row for each
TEXT = "Thank you for writing. I have looked at your order and at our policy. "


@dataclass(frozen=True)
class Stage:
    operator: User
    release: Release
    told: Run


@pytest.fixture(scope="module")
def stage(database: str) -> Stage:
    operator = a_user(Role.OPERATOR, name="Olga Watches", email="watches@example.test")
    release = a_release(an_agent("watched", "Watched desk"), version="9.9")
    return Stage(operator, release, a_told_run(release))


def a_told_run(release: Release) -> Run:
    run = a_run(release=release, title="Refund for order 1042", callback_url="https://shop.example/hooks/runs?key=1")
    Callback.objects.create(run=run, events=["run.started", "run.finished"])
    for kind, status, tries in (
        ("run.started", DeliveryStatus.DELIVERED, 1),
        ("run.finished", DeliveryStatus.PENDING, 2),
    ):
        row = a_delivery(run, kind, status=status, attempts=tries, last_error="" if tries == 1 else "It is away.")
        Delivery.objects.filter(pk=row.pk).update(
            delivered_at=now() if tries == 1 else None, next_at=None if tries == 1 else now() + timedelta(hours=1)
        )
        for number in range(1, tries + 1):
            DeliveryAttempt.objects.create(
                delivery=row, number=number, took_ms=40 * number, answer=204 if tries == 1 else 503,
                error="" if tries == 1 else "The receiver answered 503.",
            )  # fmt: skip
    given_up = a_run(release=release, title="A message nobody took", callback_url="https://gone.example/")
    Callback.objects.create(run=given_up)
    a_delivery(given_up, last_error="The receiver answered 410. It does not want to be told any more.")
    return run


@pytest.fixture
def signed_in(page: Page, stage: Stage) -> Page:
    doors.enter(page, stage.operator)
    return page


def write(run: Run, text: str) -> None:
    Draft.objects.update_or_create(run=run, defaults={"text": text, "updated_at": now()})
    live.send(drafts.topic(run.public_id))


def a_run_at_work(stage: Stage, title: str = "Being answered") -> Run:
    run = a_run(RunStatus.RUNNING, release=stage.release, title=title, turn_started_at=now())
    an_event(run, "run.created")
    a_step(run, StepKind.INPUT, "Message received", output={"text": "Please"})
    return run


@pytest.mark.parametrize("tab", ["", "?tab=conversation"])
def test_text_grows_in_place_while_it_is_written(
    signed_in: Page, stage: Stage, tab: str, shots: Callable[..., None]
) -> None:
    run = a_run_at_work(stage)
    signed_in.goto(run.get_absolute_url() + tab)
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    asked: list[str] = []
    signed_in.on("request", lambda request: asked.append(request.url))

    for count in range(1, 6):
        write(run, TEXT * count)
        expect(signed_in.locator("#draft")).to_have_text((TEXT * count).strip())

    shots(signed_in, "draft-conversation" if tab else "draft-timeline")
    expect(signed_in.locator("#draft")).to_be_visible()
    texts, wholes = sum("/draft/" in url for url in asked), sum("/live/" in url for url in asked)
    assert texts >= 4  # the first may come with the page, which is asked again once it listens
    assert wholes <= texts / 2  # the page is asked again when it opens and every 20 s, not for each piece


def test_what_changes_in_the_text_is_replaced_and_never_doubled(signed_in: Page, stage: Stage) -> None:
    run = a_run_at_work(stage)
    write(run, "I will look at order 1042")
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("#draft")).to_have_text("I will look at order 1042")

    write(run, "I will look at your order\u202e now")
    expect(signed_in.locator("#draft")).to_have_text("I will look at your orderU+202E now")
    signed_in.reload()
    expect(signed_in.locator("#draft")).to_have_text("I will look at your orderU+202E now")
    write(run, "Anew")
    expect(signed_in.locator("#draft")).to_have_text("Anew")


def test_a_reader_is_told_the_answer_and_not_each_piece(signed_in: Page, stage: Stage) -> None:
    run = a_run_at_work(stage)
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    write(run, TEXT)
    expect(signed_in.locator("#draft")).to_have_text(TEXT.strip())
    assert signed_in.locator("#said").text_content() == ""
    assert signed_in.locator("[aria-live] #draft, #draft[aria-live]").count() == 0

    Draft.objects.filter(run=run).delete()
    a_step(run, StepKind.ANSWER, "Answer", output={"status": "succeeded", "text": "You get it back."})
    Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, answer="You get it back.", finished_at=now())
    live.send(f"run:{run.public_id}")

    expect(signed_in.locator("#said")).to_have_text("Succeeded. You get it back.")
    expect(signed_in.locator("#draft")).to_have_count(0)


def test_who_wants_no_motion_gets_each_piece_at_once(signed_in: Page, stage: Stage) -> None:
    run = a_run_at_work(stage)
    signed_in.emulate_media(reduced_motion="reduce")
    signed_in.goto(run.get_absolute_url())
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    signed_in.evaluate("""() => {
        window.drawn = [];
        const look = () => document.querySelector('#draft')?.textContent.length ?? 0;
        new MutationObserver(() => window.drawn.push(look())).observe(
            document.querySelector('main'), { subtree: true, childList: true, characterData: true });
    }""")

    write(run, TEXT * 3)
    expect(signed_in.locator("#draft")).to_have_text((TEXT * 3).strip())

    assert set(signed_in.evaluate("window.drawn")) - {0} == {len(TEXT * 3)}  # a page that is asked again draws 0 first


# The queue


@pytest.fixture
def busy(stage: Stage) -> None:
    held = {"release": stage.release, "created_at": now() - timedelta(minutes=9)}
    # Nothing that the workers of the journeys would free, end or take up.
    a_run(RunStatus.QUEUED, title="Waits for tomorrow", held_for=Hold.TIMER, wake_at=now() + timedelta(days=1), **held)
    lost = a_run(RunStatus.RUNNING, title="Rescued from a dead worker", **held)
    an_event(lost, "lease.lost", data={"slot": "lost-1", "recovery": 2})
    Worker.objects.create(
        slot="lost-1", host="box-7", pid=4711, version="2026.11.3", lease_until=now() - timedelta(minutes=2),
        ended_at=now() - timedelta(minutes=1),
    )  # fmt: skip


def test_the_queue_shows_who_waits_and_who_works(
    signed_in: Page, stage: Stage, busy: None, axe: Callable[[Page], list[Any]], shots: Callable[..., None]
) -> None:
    signed_in.goto("/queue/")
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")
    expect(signed_in.get_by_role("row", name="Its time")).to_contain_text("Waits for tomorrow")
    expect(signed_in.get_by_role("row", name="lost-1").first).to_contain_text("Died")
    expect(signed_in.get_by_role("link", name="Rescued from a dead worker")).to_be_visible()
    expect(signed_in.get_by_role("table", name="Workers that live").get_by_role("row")).to_have_count(3)
    shots(signed_in, "queue-health")

    a_run(RunStatus.PAUSED, release=stage.release, title="Held just now", waiting_since=now())
    live.send("runs")

    expect(signed_in.get_by_role("row", name="Whoever paused it")).to_contain_text("Held just now")
    for width in WIDTHS:
        for theme in ("light", "dark"):
            signed_in.set_viewport_size({"width": width, "height": 900})
            signed_in.emulate_media(color_scheme=theme)
            assert axe(signed_in) == [], (width, theme)
            assert signed_in.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


# Messages to callers


def test_a_message_is_looked_into_and_sent_again(
    signed_in: Page, stage: Stage, axe: Callable[[Page], list[Any]], shots: Callable[..., None]
) -> None:
    signed_in.goto("/deliveries/")
    row = signed_in.get_by_role("row", name="A message nobody took")
    expect(row).to_contain_text("Given up")
    expect(row).to_contain_text("It does not want to be told any more")
    shots(signed_in, "deliveries")
    for width in WIDTHS:
        for theme in ("light", "dark"):
            signed_in.set_viewport_size({"width": width, "height": 900})
            signed_in.emulate_media(color_scheme=theme)
            assert axe(signed_in) == [], (width, theme)
            assert signed_in.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    signed_in.set_viewport_size({"width": 1440, "height": 900})
    expect(signed_in.locator("[data-live]").first).to_have_text("Live")

    row.get_by_role("button", name="Send again").click()
    dialog = signed_in.get_by_role("dialog")
    dialog.get_by_label("Why").fill("They mended it")
    live.send("deliveries")
    signed_in.wait_for_timeout(1500)
    expect(dialog.get_by_label("Why")).to_have_value("They mended it")  # nobody takes it away from under the hands
    dialog.get_by_role("button", name="Send again").click()

    expect(signed_in.get_by_text("Sending again: Ended")).to_be_visible()
    assert signed_in.url.endswith("/deliveries/")
    assert Delivery.objects.get(run__title="A message nobody took").status in set(DeliveryStatus)


def test_the_runs_own_tab_shows_each_attempt(
    signed_in: Page, stage: Stage, axe: Callable[[Page], list[Any]], shots: Callable[..., None]
) -> None:
    signed_in.goto(stage.told.get_absolute_url())
    signed_in.get_by_role("link", name="Deliveries").last.click()

    expect(signed_in.get_by_role("heading", name="Messages to the caller")).to_be_visible()
    signed_in.get_by_text("It is away.").click()
    expect(signed_in.get_by_text("The receiver answered 503.").first).to_be_visible()
    shots(signed_in, "deliveries-tab")
    assert axe(signed_in) == []


def test_details_opened_while_the_page_asks_again_stay_open(signed_in: Page, stage: Stage) -> None:
    tab = re.compile(r"tab=deliveries")
    held = hold_the_first(signed_in, tab)

    def is_refresh(request: Request) -> bool:
        return "hx-request" in request.headers and tab.search(request.url) is not None

    with signed_in.expect_request(is_refresh):  # once the page listens
        signed_in.goto(f"{stage.told.get_absolute_url()}?tab=deliveries")
    signed_in.get_by_text("It is away.").click()

    with signed_in.expect_response(lambda answer: answer.request == held[0].request) as answered:
        held[0].continue_()
    answered.value.finished()

    expect(signed_in.get_by_text("The receiver answered 503.").first).to_be_visible()
    with signed_in.expect_request(is_refresh):  # what was put off is made up for
        signed_in.get_by_text("It is away.").click()
