from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from releases.bundles import Budgets
from runtime.policies import budgeting
from runtime.policies.budgeting import Allowed, Exhausted, NotLower, Reserve, Spent

LIMITS = Budgets(
    max_steps=10,
    max_model_calls=4,
    max_tool_calls=3,
    max_tokens=1000,
    max_cost_usd=Decimal("0.50"),
    max_seconds=60,
    deadline_seconds=600,
)


def spent(**used: object) -> Spent:
    nothing = {"steps": 0, "tool_calls": 0, "tokens": 0, "cost_usd": Decimal(0), "working": timedelta()}
    return Spent(**{**nothing, **used})


MODEL = Reserve(model_calls=1, input_tokens=200, output_tokens=300, cost_usd=Decimal("0.10"))


@pytest.mark.parametrize(
    ("used", "reserve", "budget", "says"),
    [
        ({}, MODEL, None, ""),
        ({"steps": 9}, MODEL, None, ""),
        ({"steps": 10}, budgeting.A_STEP, "max_steps", "All 10 steps"),
        ({"model_calls": 3}, MODEL, None, ""),
        ({"model_calls": 4}, MODEL, "max_model_calls", "All 4 model calls"),
        ({"model_calls": 4}, budgeting.A_TOOL_CALL, None, ""),
        ({"tool_calls": 2}, budgeting.A_TOOL_CALL, None, ""),
        ({"tool_calls": 3}, budgeting.A_TOOL_CALL, "max_tool_calls", "All 3 tool calls"),
        ({"tool_calls": 3}, MODEL, None, ""),
        ({"tokens": 500}, MODEL, None, ""),
        ({"tokens": 501}, MODEL, "max_tokens", "501 tokens are used and the next call may need 500"),
        ({"tokens": 1000}, budgeting.A_TOOL_CALL, "max_tokens", "1,000 tokens are used, the limit is 1,000"),
        ({"tokens": 999}, budgeting.A_TOOL_CALL, None, ""),
        ({"cost_usd": Decimal("0.40")}, MODEL, None, ""),
        ({"cost_usd": Decimal("0.4000001")}, MODEL, "max_cost_usd", "the next call may cost $0.1000"),
        ({"cost_usd": Decimal("0.51")}, budgeting.A_TOOL_CALL, "max_cost_usd", "$0.5100 is spent"),
        ({"working": timedelta(seconds=59)}, MODEL, None, ""),
        ({"working": timedelta(seconds=60)}, MODEL, "max_seconds", "60 s of working time"),
        ({"elapsed": timedelta(seconds=599)}, MODEL, None, ""),
        ({"elapsed": timedelta(seconds=600)}, MODEL, "deadline", "600 s after the run was created"),
    ],
)
def test_a_call_is_held_against_every_limit_before_it_is_made(used, reserve, budget, says):
    decision = budgeting.decide_budget(LIMITS, spent(**used), reserve)

    if budget is None:
        assert decision == Allowed()
    else:
        assert isinstance(decision, Exhausted)
        assert decision.budget == budget
        assert says in decision.reason


def test_what_a_release_leaves_out_is_no_limit():
    decision = budgeting.decide_budget(Budgets(), spent(model_calls=39, elapsed=timedelta(days=400)), MODEL)

    assert decision == Allowed()


@pytest.mark.parametrize(
    ("limits", "used", "left_s"),
    [
        (Budgets(max_seconds=60), {"working": timedelta(seconds=20)}, 40),
        (LIMITS, {"working": timedelta(seconds=20), "elapsed": timedelta(seconds=590)}, 10),
        (LIMITS, {"working": timedelta(seconds=70)}, -10),
    ],
)
def test_a_call_may_take_what_is_left_of_working_time_and_deadline(limits, used, left_s):
    assert budgeting.left(limits, spent(**used)) == timedelta(seconds=left_s)


def test_limits_are_lowered_and_set_where_the_release_has_none():
    lower = budgeting.lowered(Budgets(), {"max_tokens": 5, "deadline_seconds": 60, "max_model_calls": 2})

    assert (lower.max_tokens, lower.deadline_seconds, lower.max_model_calls) == (5, 60, 2)
    assert lower.max_steps == Budgets().max_steps


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"max_steps": 11}, {"max_steps"}),
        ({"max_steps": 11, "max_tokens": 1001, "max_seconds": 5}, {"max_steps", "max_tokens"}),
        ({"deadline_seconds": 601}, {"deadline_seconds"}),
        ({"deadline_seconds": None}, {"deadline_seconds"}),
        ({"max_model_calls": None}, {"max_model_calls"}),
        ({"max_everything": 1}, {"max_everything"}),
    ],
)
def test_a_limit_above_the_releases_is_refused_by_name(wanted, names):
    with pytest.raises(NotLower) as refused:
        budgeting.lowered(LIMITS, wanted)

    assert set(refused.value.errors) == names


@pytest.mark.parametrize("wanted", [{"max_cost_usd": "NaN"}, {"max_tokens": -1}, {"deadline_seconds": 0}])
def test_a_malformed_limit_is_refused(wanted):
    with pytest.raises(ValidationError):
        budgeting.lowered(LIMITS, wanted)
