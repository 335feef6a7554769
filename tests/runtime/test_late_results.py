"""What comes after its turn has given up: a call that commits all the same, a claim whose answer was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.utils.timezone import now

from console import ids
from releases.bundles import Retries
from runtime import claiming, tools, worker, workers
from runtime.states import RunStatus
from tests import builders
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, trace, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


@tools.tool(effect="write", retry="transactional", output_trust="trusted", timeout_s=0.2, retries=Retries(attempts=3))
def late_pay(ctx: tools.ToolContext, amount: int) -> str:
    """Pay, and take longer than it may; what the turn writes about it waits for this transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runtime_run WHERE id = %s FOR UPDATE", [ids.parse("run", ctx.run_id)])
        cursor.execute(
            "INSERT INTO spy (key, amount) VALUES (%s, %s)", [f"{ctx.idempotency_key} {time.time()}", amount]
        )
    time.sleep(0.6)
    return "paid"


def test_a_call_that_commits_after_its_time_out_has_happened_and_is_not_made_again() -> None:
    told: list[str] = []

    def script(request):  # type: ignore[no-untyped-def]
        told.extend(harness.told(request))
        return saying(calling("late_pay", amount=5), "Done.")(request)

    run = work(start(a_scripted_release(script, use=("late_pay",))))

    assert run.status == RunStatus.SUCCEEDED
    assert len(harness.paid()) == 1
    assert [step for step in trace(run) if step[0] == "tool"] == [("tool", "late_pay", "allowed")]
    assert run.steps.get(name="late_pay").status == "done"
    assert "paid" in told


def test_a_claimed_run_that_is_given_back_keeps_the_time_it_was_held() -> None:
    life = workers.register("slot")
    run = builders.a_run(RunStatus.RUNNING, worker=life, fence=1, turn_started_at=now() - timedelta(seconds=3))

    async def go() -> None:
        pool = worker.open_pool(1)
        await pool.open(wait=True)
        await claiming.give_back(pool, life.pk, [run.pk])
        await pool.close()

    asyncio.run(go())

    run.refresh_from_db()
    assert (run.status, run.worker, run.events.get().kind) == (RunStatus.QUEUED, None, "run.yielded")
    assert 3000 <= run.working_ms < 60_000
