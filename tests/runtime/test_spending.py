"""Budgets through the real engine, with a scripted provider that reports what it likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from console import problems
from releases import bundles, switches
from releases.states import Scope, SwitchEffect
from runtime import forks, ledgers, spending, threads
from runtime.messages import Reply, Usage
from runtime.models import Ledger, Reservation, Run
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, effects, saying, start, work, work_all

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = {"input_usd": "1", "output_usd": "1000"}  # a thousand tokens out cost a dollar
NAN = float("nan")
TODAY = datetime.now(UTC).date()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def budgets(**limits: Any) -> dict[str, Any]:
    return bundles.Budgets(**limits).model_dump(mode="json")


def a_priced_release(script: Any, *, max_tokens: int = 100, **content: Any) -> Any:
    release = a_scripted_release(script, **content)
    release.content["model"] |= {"price": PRICE, "parameters": {"max_tokens": max_tokens}}
    release.save()
    return release


def looking(request: Any) -> Reply:
    """A model that looks up one order after the other."""
    return calling("spy_read", order_id=str(len(request.messages)))


@pytest.mark.parametrize(
    ("limits", "cause", "says"),
    [
        ({"max_model_calls": 2}, "max_model_calls", "All 2 model calls are used."),
        ({"max_tool_calls": 2}, "max_tool_calls", "All 2 tool calls are used."),
        ({"max_tokens": 900}, "max_tokens", "the next call may need"),
        ({"max_cost_usd": "0.12"}, "max_cost_usd", "the next call may cost $0.1"),
        ({"max_steps": 6}, "max_steps", "All 6 steps are used."),
    ],
)
def test_a_run_ends_before_the_call_that_would_pass_a_limit(limits, cause, says):
    run = work(start(a_priced_release(looking, budgets=budgets(**limits))))

    assert (run.status, run.cause) == (RunStatus.FAILED, f"budget:{cause}")
    assert says in run.cause_detail
    assert run.cost_usd <= Decimal(run.budgets["max_cost_usd"])
    assert run.input_tokens + run.output_tokens <= run.budgets["max_tokens"]


def test_a_first_call_that_does_not_fit_is_never_made():
    asked = []
    release = a_priced_release(lambda request: asked.append(1) or Reply("ok"), budgets=budgets(max_cost_usd="0.05"))

    run = work(start(release))

    assert (run.status, run.cause, asked) == (RunStatus.FAILED, "budget:max_cost_usd", [])
    assert run.cost_usd == 0


@pytest.mark.parametrize(
    "usage",
    [
        Usage(-1000, 0, -1000),
        Usage(100, 0, -1_000_000),
        Usage(None, 0, None),
        Usage(NAN, 0, 5),
        Usage(100, 0, NAN),
        Usage(100, 0, "many"),
        Usage(100, 200, 5),
        Usage(100, 0, 5_000_000),
    ],
)
def test_nonsense_usage_is_charged_the_reserve_and_never_credited(usage):
    """D12"""
    release = a_priced_release(saying(replace(calling("spy_read", order_id="1"), usage=usage), "ok"))

    run = work(start(release))

    first, second = run.steps.filter(kind="model").order_by("seq")
    assert run.status == RunStatus.SUCCEEDED
    assert (first.output_tokens, first.cost_basis) == (100, "estimated")
    assert first.input_tokens > 0
    assert first.cost_usd >= Decimal("0.1")
    assert "The reserve was charged instead." in first.payload.output["usage_note"]
    assert first.payload.output["usage_estimated"] is True
    assert run.cost_usd == first.cost_usd + second.cost_usd
    assert "usage_note" not in second.payload.output


def test_a_provider_that_credits_with_every_call_still_meets_the_limit():
    credit = Usage(10, 0, -100_000)
    script = lambda request: replace(looking(request), usage=credit)  # noqa: E731

    run = work(start(a_priced_release(script, budgets=budgets(max_cost_usd="0.35"))))

    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:max_cost_usd")
    assert run.model_calls == 3


def test_usage_beyond_any_plausibility_stops_the_run():
    release = a_priced_release(saying(replace(calling("spy_read", order_id="1"), usage=Usage(100, 0, 10**15))))

    run = work(start(release))

    assert (run.status, run.cause) == (RunStatus.FAILED, "model_usage_implausible")
    step = run.steps.get(kind="model")
    assert (step.status, step.output_tokens) == ("failed", 100)
    assert effects == []


# The day


def used(principal: str = "", day: Any = TODAY) -> dict[str, Any]:
    one = Ledger.objects.get(principal_id=principal, day=day)
    return {
        "usd": one.settled_usd,
        "tokens": one.settled_tokens,
        "model_calls": one.settled_model_calls,
        "tool_calls": one.settled_tool_calls,
        "runs": one.settled_runs,
        "reserved": (one.reserved_usd, one.reserved_tokens, one.reserved_model_calls, one.reserved_tool_calls),
    }


NOTHING = (0, 0, 0, 0)


def test_the_ledgers_of_a_day_are_what_the_journals_say():
    everything = {"max_usd": 100, "max_tokens": 10**7, "max_tool_calls": 100, "max_runs": 100}
    daily = {"per_agent": everything, "per_principal": everything}
    release = a_priced_release(saying(calling("spy_read", order_id="1"), "ok"), daily=daily)

    runs = [start(release, principal_id=f"cus_{number % 2}") for number in range(6)]
    work_all(runs)

    ended = list(Run.objects.all())
    assert {run.status for run in ended} == {RunStatus.SUCCEEDED}
    assert used() == {
        "usd": sum(run.cost_usd for run in ended),
        "tokens": sum(run.input_tokens + run.output_tokens for run in ended),
        "model_calls": 12,
        "tool_calls": 6,
        "runs": 6,
        "reserved": NOTHING,
    }
    assert used("cus_0")["runs"] == used("cus_1")["runs"] == 3
    assert used("cus_0")["usd"] + used("cus_1")["usd"] == used()["usd"]
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    ("daily", "cause", "says"),
    [
        ({"per_agent": {"max_usd": "0.25"}}, "per_agent.max_usd", "this agent has used"),
        (
            {"per_principal": {"max_tokens": 1500}},
            "per_principal.max_tokens",
            "this principal with this agent has used",
        ),
        ({"per_principal": {"max_model_calls": 2}}, "per_principal.max_model_calls", "2 of 2 model calls"),
        ({"per_agent": {"max_tool_calls": 1}}, "per_agent.max_tool_calls", "1 of 1 tool calls"),
    ],
)
def test_a_run_ends_where_the_day_has_no_room_and_says_which_budget(daily, cause, says):
    plenty = budgets(max_steps=1000, max_tool_calls=1000, max_cost_usd=100)
    run = work(start(a_priced_release(looking, daily=daily, budgets=plenty)))

    assert (run.status, run.cause) == (RunStatus.FAILED, f"budget:{cause}")
    assert says in run.cause_detail
    assert used("" if "agent" in cause else "cus_1")["reserved"] == NOTHING


def test_the_day_of_one_person_does_not_end_another_ones_runs():
    release = a_priced_release(
        saying(calling("spy_read", order_id="1"), "ok"), daily={"per_principal": {"max_model_calls": 2}}
    )

    first, second, third = (work(start(release, principal_id=who)) for who in ("cus_1", "cus_1", "cus_2"))

    assert [run.status for run in (first, second, third)] == ["succeeded", "failed", "succeeded"]


def test_a_failed_attempt_is_settled_too():
    daily = {"per_agent": {"max_model_calls": 10}}
    release = a_priced_release(saying(Reply("", usage=Usage(10, 0, 10**15))), daily=daily)

    work(start(release))

    assert used()["model_calls"] == 1
    assert used()["usd"] >= Decimal("0.1")
    assert used()["reserved"] == NOTHING


def test_a_call_that_a_switch_stops_is_given_back():
    """The switch is engaged between the verdict and the intent: nothing was made, nothing is counted."""
    daily = {"per_agent": {"max_tool_calls": 5}}
    release = a_priced_release(saying(calling("spy_read", order_id="1"), "ok"), daily=daily)

    async def engage_meanwhile(engine, turn):
        held = await before(engine, turn)
        await threads.run(
            lambda: switches.engage(
                Scope.TOOL, SwitchEffect.DISABLE_TOOL, "spy_read", by=harness.DECIDER, reason="Stop."
            )
        )
        return held

    before = spending.hold_tool_call
    spending.hold_tool_call = engage_meanwhile
    try:
        run = work(start(release))
    finally:
        spending.hold_tool_call = before

    assert effects == []
    assert run.steps.filter(rule="kill_switch").exists()
    assert (used()["tool_calls"], used()["reserved"]) == (0, NOTHING)


def test_a_worker_that_dies_between_reserve_and_settle_leaves_nothing_behind():
    class Killed(BaseException):
        pass

    daily = {"per_agent": {"max_usd": "100", "max_tool_calls": 5}}
    release = a_priced_release(saying(calling("spy_read", order_id="1"), "ok"), daily=daily)

    run = start(release)
    settle = spending.settle

    async def never(*_: Any) -> None:
        raise Killed

    spending.settle = never  # the process is gone before it can settle the model call
    try:
        with pytest.raises(Killed):
            work(run)
    finally:
        spending.settle = settle
    assert used()["reserved"][0] > 0

    Run.objects.filter(pk=run.pk).update(status="queued")  # as the reconciler does once the lease has expired
    ended = work(run)
    assert ledgers.sweep() == 1

    assert ended.status == RunStatus.SUCCEEDED
    assert used() == {
        "usd": ended.cost_usd,
        "tokens": ended.input_tokens + ended.output_tokens,
        "model_calls": 2,
        "tool_calls": 1,
        "runs": 0,
        "reserved": NOTHING,
    }


def test_over_the_runs_of_a_day_a_request_is_refused_and_says_when():
    release = a_priced_release(saying("ok"), daily={"per_principal": {"max_runs": 1}})
    start(release, idempotency_key="one")

    with pytest.raises(problems.TooMany) as refused:
        start(release)
    again = start(release, idempotency_key="one")
    start(release, principal_id="cus_2")

    assert "1 of 1 runs" in refused.value.detail
    assert "daily.per_principal.max_runs" in refused.value.detail
    assert 0 < refused.value.retry_after <= timedelta(days=1).total_seconds()
    assert again == Run.objects.get(idempotency_key="one")
    assert Run.objects.count() == 2
    assert used("cus_1")["runs"] == used("cus_2")["runs"] == 1


def test_a_release_without_daily_limits_asks_no_ledger():
    work(start(a_priced_release(saying(calling("spy_read", order_id="1"), "ok"))))

    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM runtime_ledger), (SELECT count(*) FROM runtime_reservation)")
        assert cursor.fetchone() == (0, 0)


# The loop guard


def test_a_round_of_calls_that_differ_only_in_their_wording_is_a_loop():
    words = ["Is it here?", "is it here", "IS IT here", "is it: here?"]

    def script(request):
        number = sum(type(message).__name__ == "ModelReply" for message in request.messages)
        asked = words[number // 2 % 4]
        return calling("spy_read", f"c{number}", order_id=asked.replace("here", "there") if number % 2 else asked)

    run = work(start(a_scripted_release(script)))

    assert (run.status, run.cause) == (RunStatus.FAILED, "loop-guard")
    assert run.cause_detail == "The same 2 calls were made 3 times in a row already; the limit is 3."
    assert len(effects) == 6
    assert run.steps.get(rule="loop-guard").payload.output["reason"] == run.cause_detail


def test_calls_with_other_arguments_are_no_loop():
    def script(request):
        number = sum(type(message).__name__ == "ModelReply" for message in request.messages)
        return calling("spy_read", f"c{number}", order_id=str(number)) if number < 8 else Reply("done")

    assert work(start(a_scripted_release(script))).status == RunStatus.SUCCEEDED


def test_a_fork_is_a_run_of_the_day_and_has_a_deadline_of_its_own():
    release = a_priced_release(
        saying("ok"), daily={"per_agent": {"max_runs": 2}}, budgets=budgets(deadline_seconds=3600)
    )
    first = work(start(release))

    again, _ = forks.fork(first.pk, by=harness.STARTER, reason="Once more.")
    work(again)
    with pytest.raises(problems.TooMany):
        forks.fork(first.pk, by=harness.STARTER, reason="And again.", idempotency_key="two")

    assert again.deadline_at == again.created_at + timedelta(seconds=3600)
    assert used()["runs"] == 2
