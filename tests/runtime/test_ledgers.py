from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from psycopg_pool import AsyncConnectionPool

from releases.bundles import Daily
from runtime import ledgers, worker
from runtime.ledgers import Holder
from runtime.models import Ledger, Reservation, Run
from runtime.policies.budgeting import Exhausted
from runtime.policies.daily import Amounts
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_run, a_step

pytestmark = pytest.mark.django_db(transaction=True)

CONNECTIONS = 50
CENT = Amounts(usd=Decimal("0.01"), tokens=100, model_calls=1)
TODAY = datetime.now(UTC).date()


def limits(*, agent: dict[str, Any] | None = None, principal: dict[str, Any] | None = None) -> Daily:
    return Daily.model_validate({"per_agent": agent or {}, "per_principal": principal or {}})


def holder(run: Run, *, principal: str = "cus_1", step: UUID | None = None) -> Holder:
    return Holder(run.pk, run.fence, step or uuid4(), run.agent_id, principal)


def a_working_run() -> Run:
    return a_run(RunStatus.RUNNING, fence=1)


def using(work: Any, *, connections: int = 2) -> Any:
    async def go() -> Any:
        async with AsyncConnectionPool(
            worker.conninfo(),
            min_size=connections,
            max_size=connections,
            kwargs={"autocommit": True},
            open=False,
            timeout=60,
        ) as pool:
            return await work(pool)

    return asyncio.run(go())


def in_thread(work: Callable[..., Any], *args: Any, **fields: Any) -> Awaitable[Any]:
    """Django's connection belongs to the thread; it is closed before the thread goes on to something else."""

    def go() -> Any:
        try:
            return work(*args, **fields)
        finally:
            connection.close()

    return asyncio.to_thread(go)


def reserve(who: Holder, of: Daily, wanted: Amounts, *, day: date | None = None) -> Exhausted | None:
    return using(lambda pool: ledgers.reserve(pool, who, of, wanted, day=day))


def settle(who: Holder, used: Amounts) -> bool:
    return using(lambda pool: ledgers.settle(pool, who.step_id, used))


def standing(principal: str = "", day: date = TODAY) -> dict[str, Any]:
    found = Ledger.objects.get(principal_id=principal, day=day)
    return {
        "usd": (found.settled_usd, found.reserved_usd),
        "tokens": (found.settled_tokens, found.reserved_tokens),
        "calls": (found.settled_model_calls + found.settled_tool_calls,
                  found.reserved_model_calls + found.reserved_tool_calls),
    }  # fmt: skip


def test_a_reserve_is_held_and_then_replaced_by_what_was_used():
    run = a_working_run()
    who, of = holder(run), limits(agent={"max_usd": "1"}, principal={"max_tokens": 1000})

    assert reserve(who, of, CENT) is None
    held = standing()
    assert settle(who, Amounts(usd=Decimal("0.004"), tokens=40, model_calls=1)) is True

    assert held == {"usd": (0, Decimal("0.01")), "tokens": (0, 100), "calls": (0, 1)}
    assert standing() == standing("cus_1") == {"usd": (Decimal("0.004"), 0), "tokens": (40, 0), "calls": (1, 0)}
    assert not Reservation.objects.exists()


def test_settling_twice_changes_nothing():
    who, of = holder(a_working_run()), limits(agent={"max_usd": "1"})
    reserve(who, of, CENT)

    assert settle(who, CENT) is True
    assert settle(who, CENT) is False

    assert standing()["usd"] == (Decimal("0.01"), 0)


def test_a_limit_may_be_used_up_exactly_and_money_in_flight_counts():
    run, of = a_working_run(), limits(agent={"max_usd": "0.02"})

    assert reserve(holder(run), of, CENT) is None
    assert reserve(holder(run), of, CENT) is None
    refused = reserve(holder(run), of, CENT)

    assert isinstance(refused, Exhausted)
    assert refused.budget == "per_agent.max_usd"
    assert "$0.0200 of $0.0200" in refused.reason
    assert standing()["usd"] == (0, Decimal("0.02"))


def test_where_one_of_two_ledgers_refuses_neither_is_raised():
    run = a_working_run()
    of = limits(agent={"max_usd": "1"}, principal={"max_tokens": 150})

    assert reserve(holder(run), of, CENT) is None
    refused = reserve(holder(run), of, CENT)
    other = reserve(holder(run, principal="cus_2"), of, CENT)

    assert isinstance(refused, Exhausted)
    assert refused.budget == "per_principal.max_tokens"
    assert other is None
    assert standing()["tokens"] == (0, 200)
    assert standing("cus_1")["tokens"] == standing("cus_2")["tokens"] == (0, 100)
    assert Reservation.objects.count() == 2


def test_each_agent_keeps_its_own_ledger_of_a_person():
    of = limits(principal={"max_model_calls": 1})

    assert reserve(holder(a_working_run()), of, CENT) is None
    assert reserve(holder(a_working_run()), of, CENT) is None
    assert Ledger.objects.filter(principal_id="cus_1").count() == 2


def test_fifty_racing_calls_never_pass_the_limit_and_the_ledger_is_exact():
    """D11: everybody wants the last units at once, over two principals and one agent, on 50 real connections."""
    run = a_working_run()
    of = limits(agent={"max_usd": "0.30"}, principal={"max_tokens": 2000})
    spent = Amounts(usd=Decimal("0.007"), tokens=70, model_calls=1)

    async def race(pool: AsyncConnectionPool[Any]) -> list[bool]:
        start = asyncio.Event()

        async def one(number: int) -> bool:
            who = holder(run, principal=f"cus_{number % 2}")
            await start.wait()
            if await ledgers.reserve(pool, who, of, CENT) is not None:
                return False
            if number % 3 == 0:
                await ledgers.settle(pool, who.step_id, spent)
            return True

        racing = [asyncio.ensure_future(one(number)) for number in range(CONNECTIONS * 4)]
        await asyncio.sleep(0.05)
        start.set()
        return await asyncio.gather(*racing)

    granted = using(race, connections=CONNECTIONS)

    agent = Ledger.objects.get(principal_id="")
    assert agent.settled_usd + agent.reserved_usd <= Decimal("0.30")
    assert agent.settled_model_calls + agent.reserved_model_calls == sum(granted)
    assert agent.reserved_usd == Decimal("0.01") * Reservation.objects.count()
    assert agent.settled_usd == Decimal("0.007") * agent.settled_model_calls
    people = Ledger.objects.exclude(principal_id="")
    assert sum(one.settled_usd + one.reserved_usd for one in people) == agent.settled_usd + agent.reserved_usd
    assert all(one.settled_tokens + one.reserved_tokens <= 2000 for one in people)


def test_fifty_racing_calls_get_all_there_is():
    run, of = a_working_run(), limits(agent={"max_usd": "0.20"})

    async def race(pool: AsyncConnectionPool[Any]) -> list[Exhausted | None]:
        return await asyncio.gather(*(ledgers.reserve(pool, holder(run), of, CENT) for _ in range(CONNECTIONS)))

    answers = using(race, connections=CONNECTIONS)

    assert answers.count(None) == 20
    assert standing()["usd"] == (0, Decimal("0.20"))


def test_fifty_racing_runs_are_counted_exactly():
    run, of = a_working_run(), limits(agent={"max_runs": 7})

    def one() -> bool:
        with transaction.atomic():
            return ledgers.count_run(of, agent_id=run.agent_id, principal_id="cus_1") is None

    async def race() -> list[bool]:
        return await asyncio.gather(*(in_thread(one) for _ in range(CONNECTIONS)))

    assert sum(asyncio.run(race())) == 7
    assert Ledger.objects.get().settled_runs == 7


def test_a_run_without_a_daily_limit_asks_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert ledgers.count_run(None, agent_id=uuid4(), principal_id="x") is None
        assert ledgers.count_run(limits(agent={"max_usd": 1}), agent_id=uuid4(), principal_id="x") is None


def test_what_a_crashed_worker_held_is_released_once_the_run_is_claimed_again():
    run = a_working_run()
    who, of = holder(run), limits(agent={"max_usd": "1"})
    reserve(who, of, CENT)

    assert ledgers.sweep() == 0
    Run.objects.filter(pk=run.pk).update(fence=2)
    assert ledgers.sweep() == 1
    assert settle(who, CENT) is False

    assert standing() == {"usd": (0, 0), "tokens": (0, 0), "calls": (0, 0)}


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.WAITING, RunStatus.QUEUED])
def test_what_is_held_for_a_run_that_nobody_executes_is_released(status):
    run = a_working_run()
    reserve(holder(run), limits(agent={"max_usd": "1"}), CENT)

    Run.objects.filter(pk=run.pk).update(status=status)

    assert ledgers.sweep() == 1
    assert standing()["usd"] == (0, 0)


def test_a_crash_after_the_step_and_before_the_settling_is_charged_by_the_step():
    run = a_working_run()
    who, of = holder(run), limits(agent={"max_usd": "1"})
    reserve(who, of, CENT)
    a_step(run, StepKind.MODEL, id=who.step_id, input_tokens=30, output_tokens=3, cost_usd=Decimal("0.002"))

    Run.objects.filter(pk=run.pk).update(fence=2)
    ledgers.sweep()

    assert standing() == {"usd": (Decimal("0.002"), 0), "tokens": (33, 0), "calls": (1, 0)}


def test_a_tool_call_whose_intent_is_committed_counts_even_when_its_worker_died():
    run = a_working_run()
    of = limits(principal={"max_tool_calls": 1})
    made, not_made = holder(run), holder(run, principal="cus_2")
    for who in (made, not_made):
        reserve(who, of, Amounts(tool_calls=1))
    a_step(run, StepKind.TOOL, id=made.step_id, status=StepStatus.STARTED)

    Run.objects.filter(pk=run.pk).update(fence=2)
    ledgers.sweep()

    assert (standing("cus_1")["calls"], standing("cus_2")["calls"]) == ((1, 0), (0, 0))


def test_settling_and_sweeping_at_the_same_moment_charge_once():
    run = a_working_run()
    of = limits(agent={"max_usd": "100"}, principal={"max_usd": "100"})
    calls = [holder(run, principal=f"cus_{number % 3}") for number in range(60)]

    async def race(pool: AsyncConnectionPool[Any]) -> None:
        for who in calls:
            await ledgers.reserve(pool, who, of, CENT)
        await in_thread(Run.objects.filter(pk=run.pk).update, fence=2)
        sweeps = [in_thread(ledgers.sweep) for _ in range(4)]
        await asyncio.gather(*(ledgers.settle(pool, who.step_id, CENT) for who in calls), *sweeps)

    using(race, connections=20)

    agent = Ledger.objects.get(principal_id="")
    assert not Reservation.objects.exists()
    assert agent.reserved_usd == 0
    assert agent.settled_usd == Decimal("0.01") * agent.settled_model_calls
    people = Ledger.objects.exclude(principal_id="")
    assert sum(one.settled_usd for one in people) == agent.settled_usd
    assert all(one.reserved_usd == 0 for one in people)


def test_a_call_over_midnight_is_settled_on_the_day_it_was_reserved():
    run, of = a_working_run(), limits(agent={"max_usd": "0.01"})
    yesterday = TODAY - timedelta(days=1)
    who = holder(run)
    assert reserve(who, of, CENT, day=yesterday) is None

    today = holder(run)
    assert reserve(today, of, CENT) is None
    settle(who, CENT)

    assert standing(day=yesterday)["usd"] == (Decimal("0.01"), 0)
    assert standing()["usd"] == (0, Decimal("0.01"))
