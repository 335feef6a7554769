"""Runs wait for their time, their thread and a free slot; however many workers claim, no limit is ever passed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils.timezone import now

from console import problems
from runtime import admission, runs, tools, worker, workers
from runtime.engine import Engine
from runtime.models import Run
from runtime.states import FINAL, Hold, OnBusy, RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work
from tests.runtime.meeting import at_once

pytestmark = pytest.mark.django_db(transaction=True)

at_work: list[int] = []
most: list[int] = [0]


@tools.tool(effect="read", output_trust="trusted", arguments={"number": "free"})
async def spy_crowd(ctx: tools.ToolContext, number: int) -> str:
    """Stay a moment, and count who else is here."""
    at_work.append(number)
    most[0] = max(most[0], len(at_work))
    await asyncio.sleep(0.03)
    at_work.remove(number)
    return "done"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    at_work.clear()
    most[0] = 0
    yield from harness.fresh()


def a_crowded_release(**content: Any):
    script = saying(calling("spy_crowd", number=1), "Done.")
    return a_scripted_release(script, use=("spy_crowd", "spy_read"), **content)


def work_in_lives(started: Sequence[Run], lives: int, *, until_s: float = 30) -> None:
    """Several worker lives, each on a loop of its own, are sent for every run again and again until all have ended."""

    def live(slot: str) -> None:
        life = workers.register(slot)

        async def go() -> None:
            pool = worker.open_pool(4)
            await pool.open(wait=True)
            engine = Engine(pool, life.pk)
            end = time.monotonic() + until_s
            try:
                while time.monotonic() < end and await asyncio.to_thread(_unfinished, started):
                    await asyncio.gather(*(engine.run_turn(run.pk) for run in started))
                    await asyncio.sleep(0.01)
                await engine.settle()
            finally:
                await pool.close()

        asyncio.run(go())
        connection.close()

    threads = [threading.Thread(target=live, args=(f"life-{number}",)) for number in range(lives)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _unfinished(started: Sequence[Run]) -> bool:
    try:
        return Run.objects.filter(pk__in=[run.pk for run in started]).exclude(status__in=FINAL).exists()
    finally:
        connection.close()


def reread(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def test_several_workers_never_pass_the_limit_of_an_agent_and_every_run_ends():
    release = a_crowded_release(concurrency={"agent": 2})
    started = [start(release, principal_id=f"cus_{number}") for number in range(12)]

    work_in_lives(started, lives=3)

    assert most[0] == 2
    assert {reread(run).status for run in started} == {RunStatus.SUCCEEDED}


def test_two_passes_at_once_never_give_out_the_last_slot_twice():
    release = a_crowded_release(concurrency={"agent": 1, "principal": 1})
    started = [start(release, principal_id=person) for person in ("ana", "ben")]
    agent = release.agent.slug
    for _ in range(40):
        Run.objects.update(held_for=Hold.SLOT)

        at_once(2, lambda place: admission.fill([f"principal:{agent}:{('ana', 'ben')[place]}"]))

        assert sorted(reread(run).held_for for run in started) == ["", Hold.SLOT]


def test_without_a_limit_they_are_at_work_together():
    release = a_crowded_release()
    started = [start(release, principal_id=f"cus_{number}") for number in range(12)]

    work_in_lives(started, lives=3)

    assert most[0] > 2


def test_one_person_waits_and_another_does_not():
    release = a_crowded_release(concurrency={"principal": 1})
    of_ana = [start(release, principal_id="ana") for _ in range(3)]
    of_ben = start(release, principal_id="ben")

    assert [reread(run).held_for for run in of_ana] == ["", Hold.SLOT, Hold.SLOT]
    assert [reread(run).wait_reason for run in of_ana] == ["", "rate_limit", "rate_limit"]
    assert reread(of_ben).held_for == ""

    work(of_ana[0])

    assert [reread(run).held_for for run in of_ana[1:]] == ["", Hold.SLOT]


def test_a_model_has_a_limit_over_all_agents(settings):
    releases = [a_crowded_release(), a_crowded_release()]
    settings.MODEL_CONCURRENCY = {f"scripted/{release.bundle.model.name}": 1 for release in releases}

    started = [start(releases[0]), start(releases[0]), start(releases[1])]

    assert [reread(run).held_for for run in started] == ["", Hold.SLOT, ""]


def test_a_run_without_limits_is_never_held():
    run = start(a_crowded_release())

    assert (run.slots, run.held_for) == ({}, "")
    assert work(run).held_for == ""


def test_a_run_that_waits_for_a_person_frees_its_slot_and_asks_for_one_again():
    rule = {"id": "ask", "tool": "spy_read", "then": "ask", "reason": "A person looks first."}
    script = saying(calling("spy_read", order_id="1"), "Done.")
    release = a_scripted_release(script, use=("spy_read",), rules=[rule], concurrency={"agent": 1})
    first, second = start(release), start(release)

    assert work(first).status == RunStatus.WAITING

    assert reread(second).held_for == ""
    Run.objects.filter(pk=first.pk).update(status=RunStatus.QUEUED)
    assert work(first).status == RunStatus.QUEUED
    work(second)
    assert work(first).status == RunStatus.WAITING


def test_the_run_of_a_dead_worker_asks_for_its_slot_again():
    release = a_crowded_release(concurrency={"agent": 1})
    first, second = start(release), start(release)
    life = workers.register("dead")
    Run.objects.filter(pk=first.pk).update(status=RunStatus.RUNNING, held_for=Hold.SLOT, worker=life)

    workers.register("dead")
    admission.sweep()

    held = sorted([reread(first).held_for, reread(second).held_for])
    assert held == ["", Hold.SLOT]


def test_a_freed_slot_that_nobody_told_of_is_found_by_the_sweep():
    release = a_crowded_release(concurrency={"agent": 1})
    first, second = start(release), start(release)
    Run.objects.filter(pk=first.pk).update(status=RunStatus.FAILED)

    admission.sweep()

    assert reread(second).held_for == ""


def test_a_worker_that_is_sent_for_a_held_run_leaves_it_alone():
    release = a_crowded_release(concurrency={"agent": 1})
    first, second = start(release), start(release)

    assert work(second).status == RunStatus.QUEUED
    assert work(first).status == RunStatus.SUCCEEDED
    assert work(second).status == RunStatus.SUCCEEDED


def test_a_conversation_goes_on_by_itself_when_a_run_ends():
    seen = []

    def script(request):
        seen.append([message.text for message in request.messages])
        return saying("Answer.")(request)

    release = a_scripted_release(script)
    first = start(release, "one")
    second = start(release, "two", thread_id=first.thread_id, on_busy=OnBusy.QUEUE)
    assert work(second).status == RunStatus.QUEUED

    work(first)

    assert reread(second).held_for == ""
    assert work(second).status == RunStatus.SUCCEEDED
    assert seen[-1] == ["one", "Answer.", "two"]


def test_an_interrupted_run_ends_with_its_cause_and_the_next_one_starts():
    def interrupt():
        blocked.append(start(release, "stop", thread_id=first.thread_id, on_busy=OnBusy.INTERRUPT))
        connection.close()

    def script(request):
        if not blocked:
            harness.in_background(interrupt).join()
        return saying(calling("spy_read", order_id="1"), "Answer.")(request)

    blocked: list[Run] = []
    release = a_scripted_release(script)
    first = start(release, "one")

    ended = work(first)

    assert (ended.status, ended.cause) == (RunStatus.CANCELLED, "interrupted")
    assert reread(blocked[0]).held_for == ""
    assert work(blocked[0]).status == RunStatus.SUCCEEDED


def test_a_delayed_run_starts_when_its_time_has_come():
    release = a_crowded_release()
    run = start(release, delay=timedelta(hours=1))
    assert (run.held_for, run.wait_reason) == (Hold.TIMER, "timer")
    assert work(run).status == RunStatus.QUEUED

    admission.sweep()
    assert reread(run).held_for == Hold.TIMER
    Run.objects.filter(pk=run.pk).update(wake_at=now() - timedelta(seconds=1))
    admission.sweep()

    assert work(run).status == RunStatus.SUCCEEDED


def test_a_delayed_run_can_be_cancelled_and_a_past_time_is_now():
    release = a_crowded_release()
    later = start(release, start_at=now() + timedelta(days=1))
    at_once = start(release, start_at=now() - timedelta(days=1))

    runs.cancel(later.pk, by=harness.STARTER, reason="Not needed")

    assert reread(later).status == RunStatus.CANCELLED
    assert (at_once.held_for, at_once.wake_at) == ("", None)


def test_a_delayed_message_joins_the_line_of_its_thread_when_its_time_comes():
    release = a_crowded_release()
    first = start(release)
    later = start(release, thread_id=first.thread_id, delay=timedelta(hours=1))
    Run.objects.filter(pk=later.pk).update(wake_at=now() - timedelta(seconds=1))

    admission.sweep()
    assert reread(later).held_for == Hold.THREAD
    work(first)
    admission.sweep()

    assert reread(later).held_for == ""


@pytest.mark.parametrize(
    "when",
    [{"delay": timedelta(days=400)}, {"delay": timedelta(hours=1), "start_at": now()}],
    ids=["too late", "both"],
)
def test_a_time_that_cannot_be_used_is_refused(when):
    with pytest.raises(problems.Invalid):
        start(a_crowded_release(), **when)


def test_a_repeated_request_with_a_delay_gives_the_first_run():
    release = a_crowded_release()
    first = start(release, delay=timedelta(hours=1), idempotency_key="later")

    assert start(release, delay=timedelta(hours=1), idempotency_key="later") == first
    with pytest.raises(problems.Conflict):
        start(release, delay=timedelta(hours=2), idempotency_key="later")


def test_whoever_holds_one_run_and_does_not_go_on_holds_up_no_other():
    stuck, other = (start(a_crowded_release(concurrency={"agent": 1})) for _ in range(2))
    Run.objects.update(held_for=Hold.SLOT)
    with psycopg.connect(worker.conninfo()) as frozen:
        frozen.execute("SELECT 1 FROM runtime_run WHERE id = %s FOR UPDATE", [stuck.pk])
        filling = harness.in_background(lambda: (admission.fill(), connection.close()))
        filling.join(10)
        hold = reread(other).held_for
        frozen.rollback()
        filling.join()

    assert hold == ""
    admission.fill()
    assert reread(stuck).held_for == ""
