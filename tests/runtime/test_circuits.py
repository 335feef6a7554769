"""Circuit breakers shared by workers: one probe among all of them, and no query while all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runtime import circuits, worker, workers
from runtime.circuits import Circuits, Open, Ticket
from runtime.models import Breaker
from runtime.policies.breaking import Limits
from runtime.states import BreakerKind, BreakerState

pytestmark = pytest.mark.django_db(transaction=True)

TOOL = BreakerKind.TOOL
LIMITS = Limits(in_a_row=3, open_for=timedelta(seconds=0.4), longest=timedelta(seconds=3))
FOR_LONG = replace(LIMITS, open_for=timedelta(hours=1), longest=timedelta(hours=2))


def with_workers(count: int, story: Callable[..., Awaitable[Any]], limits: Limits = LIMITS) -> Any:
    """Run the story with that many workers' views on the one database, each with connections of its own."""

    async def go() -> Any:
        pools = [worker.open_pool(4) for _ in range(count)]
        for pool in pools:
            await pool.open(wait=True)
        views = [Circuits(pool, None, limits=limits) for pool in pools]
        try:
            return await story(*views)
        finally:
            for view, pool in zip(views, pools, strict=True):
                await view.settle()
                await pool.close()

    return asyncio.run(go())


async def ask(view: Circuits, name: str = "lookup") -> Ticket | Open:
    return await view.before(TOOL, name, limit_s=1)


async def call(view: Circuits, error_class: str | None, name: str = "lookup") -> Ticket | Open:
    leave = await ask(view, name)
    if isinstance(leave, Ticket):
        await view.after(leave, error_class, "connection refused" if error_class else "")
    return leave


async def fail_until_open(view: Circuits, name: str = "lookup") -> None:
    for _ in range(LIMITS.in_a_row):
        assert isinstance(await call(view, "unavailable", name), Ticket)


async def forget(view: Circuits) -> None:
    """Let the view grow old, as it does within a second."""
    view._read_at = float("-inf")


def test_a_healthy_call_costs_no_query():
    async def story(view: Circuits) -> tuple[int, float]:
        await call(view, None)
        before, began = view.queries, view.clock()
        for _ in range(200):
            await call(view, None)
            await asyncio.sleep(0.002)
        return view.queries - before, view.clock() - began

    queries, seconds = with_workers(1, story)

    assert queries <= seconds / circuits.FRESH_S + 1  # the view is read again once a second at most
    assert not Breaker.objects.exists()


def test_what_one_worker_opens_stops_all_of_them_and_names_the_error():
    async def story(first: Circuits, second: Circuits) -> tuple[Any, Any, Any]:
        await call(second, None)
        await fail_until_open(first)
        await forget(second)
        return await ask(first), await ask(second), await ask(second, "other")

    mine, theirs, other = with_workers(2, story, FOR_LONG)

    assert isinstance(mine, Open) and isinstance(theirs, Open) and isinstance(other, Ticket)
    assert theirs.sentence.startswith("The tool lookup is out of order since ")
    assert "3 calls failed, the last with unavailable: connection refused." in theirs.sentence
    row = Breaker.objects.get()
    assert (row.state, row.failures, row.openings) == (BreakerState.OPEN, 3, 1)


def test_successes_and_refusals_in_between_keep_it_closed():
    async def story(view: Circuits) -> Any:
        for _ in range(4):
            await call(view, "timeout")
            await call(view, "timeout")
            await call(view, "refused")
            await call(view, "rate_limited")
        return await ask(view)

    assert isinstance(with_workers(1, story), Ticket)


def test_of_many_callers_in_many_workers_exactly_one_becomes_the_probe():
    async def story(*views: Circuits) -> list[Any]:
        await fail_until_open(views[0])
        await asyncio.sleep(0.5)
        for view in views:
            await forget(view)
        return list(await asyncio.gather(*(ask(view) for view in views for _ in range(10))))

    answers = with_workers(3, story)

    probes = [answer for answer in answers if isinstance(answer, Ticket)]
    assert len(probes) == 1 and probes[0].probe
    assert all(answer.is_probing for answer in answers if isinstance(answer, Open))
    assert Breaker.objects.get().probe_by == probes[0].probe


def test_a_probe_that_is_answered_closes_it_for_everybody():
    async def story(first: Circuits, second: Circuits) -> Any:
        await fail_until_open(first)
        await asyncio.sleep(0.5)
        await call(second, None)
        await forget(first)
        return await ask(first)

    assert isinstance(with_workers(2, story), Ticket)
    assert Breaker.objects.get().state == BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_for_twice_as_long():
    async def story(view: Circuits) -> None:
        await fail_until_open(view)
        await asyncio.sleep(0.5)
        probe = await call(view, "timeout")
        assert isinstance(probe, Ticket) and probe.probe

    with_workers(1, story)

    row = Breaker.objects.get()
    assert (row.state, row.openings) == (BreakerState.OPEN, 2)
    assert (row.open_until - row.changed_at).total_seconds() == pytest.approx(0.8, abs=0.1)


def test_a_probe_that_was_given_up_leaves_its_place_to_the_next():
    async def story(first: Circuits, second: Circuits) -> Any:
        await fail_until_open(first)
        await asyncio.sleep(0.5)
        probe = await ask(first)
        assert isinstance(probe, Ticket) and probe.probe
        await first.drop(probe)
        await forget(second)
        return await ask(second)

    found = with_workers(2, story)

    assert isinstance(found, Ticket) and found.probe


def test_a_probe_whose_worker_died_is_made_again_by_another(monkeypatch):
    monkeypatch.setattr(circuits, "PROBE_GRACE_S", -0.8)

    async def story(first: Circuits, second: Circuits) -> Any:
        await fail_until_open(first)
        await asyncio.sleep(0.5)
        dead = await ask(first)
        await asyncio.sleep(0.3)
        await forget(second)
        found = await ask(second)
        await first.after(dead, None)  # it was not dead after all; what it says has no weight any more
        return dead, found

    dead, found = with_workers(2, story)

    assert isinstance(found, Ticket) and found.probe and found.probe != dead.probe
    assert Breaker.objects.get().state == BreakerState.HALF_OPEN


def test_calls_from_before_the_opening_say_nothing_about_what_follows():
    async def story(view: Circuits) -> Any:
        late = [await ask(view) for _ in range(10)]
        await fail_until_open(view)
        for ticket in late[:5]:
            await view.after(ticket, None)
        await asyncio.sleep(0.5)
        await call(view, None)  # the probe
        for ticket in late[5:]:
            await view.after(ticket, "timeout")
        return await ask(view)

    assert isinstance(with_workers(1, story), Ticket)
    assert Breaker.objects.get().state == BreakerState.CLOSED


def test_what_comes_and_goes_stays_open_for_longer_each_time():
    async def story(view: Circuits) -> None:
        await fail_until_open(view)
        await asyncio.sleep(0.5)
        await call(view, None)
        await fail_until_open(view)

    with_workers(1, story)

    row = Breaker.objects.get()
    assert (row.state, row.openings) == (BreakerState.OPEN, 2)
    assert (row.open_until - row.opened_at).total_seconds() == pytest.approx(0.8, abs=0.1)


def test_what_a_person_holds_open_stays_open_whatever_time_passes():
    async def story(view: Circuits) -> Any:
        await fail_until_open(view)
        await asyncio.to_thread(_hold)
        await asyncio.sleep(0.5)
        await forget(view)
        return await ask(view)

    found = with_workers(1, story)

    assert isinstance(found, Open) and found.until is None
    assert found.sentence.endswith("an operator has stopped its use. The vendor asked us to.")


def _hold() -> None:
    Breaker.objects.update(state=BreakerState.HELD, reason="The vendor asked us to.")


def test_a_worker_that_has_lost_its_lease_opens_nothing():
    """Thawed after a freeze, it finds every call in flight late."""
    life = workers.register("frozen")

    async def story(view: Circuits) -> Any:
        view.life = life.pk
        await asyncio.to_thread(workers.register, "frozen")
        for _ in range(LIMITS.in_a_row):
            await call(view, "timeout")
        return await ask(view)

    assert isinstance(with_workers(1, story), Ticket)
    assert not Breaker.objects.exists()


def test_a_call_after_a_long_silence_does_not_trust_what_it_knew():
    async def story(first: Circuits, second: Circuits) -> Any:
        await call(second, None)
        await second.settle()
        second._read_at -= 60
        await fail_until_open(first)
        return await ask(second)

    assert isinstance(with_workers(2, story, FOR_LONG), Open)
