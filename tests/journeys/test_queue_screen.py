"""An admin looks at the job queues and controls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from redis import Redis
from rq.results import Result
from rq.suspension import suspend

from console import alarms, queue
from console.models import AuditEntry, User
from console.roles import Role
from tests.builders import a_user
from tests.journeys import looks
from tests.journeys.conftest import Product
from tests.journeys.test_gallery import sign_in


@pytest.fixture(scope="module")
def admin(database: str) -> User:
    return a_user(Role.ADMIN, name="Quentin Queues", email="queues@example.test")


def fill(redis: Redis) -> None:
    """Suspended workers, a job that waits, one that has failed, one at work, and an alarm."""
    suspend(redis)
    waiting = queue.Queue(queue.RUNS, connection=redis, serializer="json")
    waiting.enqueue_call("runtime.jobs.run_turn", args=("run_" + "0" * 26,))
    for name in ("failed", "working"):
        job = waiting.enqueue_call("runtime.jobs.run_turn", args=("run_" + "1" * 26,), job_id=name)
        waiting.remove(job)
    failed = waiting.fetch_job("failed")
    assert failed is not None
    waiting.failed_job_registry.add(failed)
    Result.create_failure(failed, 60, "Traceback\nValueError: the run could not be read")
    redis.zadd(waiting.started_job_registry.key, {"working:" + "0" * 32: 2**40})
    redis.set(f"steadyhand:alarm:{alarms.DISK_FULL}", "no space", ex=600)


def test_the_queues_are_seen_and_controlled(
    page: Page,
    product: Product,
    admin: User,
    axe: Callable[[Page], list[dict[str, Any]]],
    shots: Callable[..., None],
) -> None:
    redis = Redis.from_url(product.env["REDIS_URL"])
    sign_in(page, admin)
    fill(redis)
    for width in looks.WIDTHS:
        looks.nothing_is_wrong(page, axe, {"queues": "/queues/"}, width=width)

    shots(page, "queues")
    expect(page.get_by_text("The disk of the database is full")).to_be_visible()
    expect(page.get_by_text("Workers are suspended")).to_be_visible()
    page.set_viewport_size({"width": 1440, "height": 1100})
    page.get_by_role("button", name="Empty", exact=True).first.click()
    page.get_by_label("Why").locator("visible=true").fill("A flood of mistaken runs.")
    page.get_by_role("button", name="Empty it").locator("visible=true").click()

    expect(page.get_by_text("1 jobs removed")).to_be_visible()
    assert redis.llen(f"rq:queue:{queue.RUNS}") == 0
    entry = AuditEntry.objects.get(action="queue.empty")
    assert (entry.actor_label, entry.reason) == (admin.name, "A flood of mistaken runs.")
