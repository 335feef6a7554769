from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from releases.bundles import Daily
from runtime.policies import daily
from runtime.policies.daily import Amounts, Line

LIMITS = Daily.model_validate({"per_agent": {"max_usd": 10, "max_runs": 100}, "per_principal": {"max_tool_calls": 2}})


@pytest.mark.parametrize(
    ("limits", "names", "is_limited"),
    [
        (None, daily.NAMES, False),
        (Daily(), daily.NAMES, False),
        (LIMITS, daily.OF_A_MODEL_CALL, True),
        (LIMITS, daily.OF_A_TOOL_CALL, True),
        (LIMITS, daily.OF_A_RUN, True),
        (Daily.model_validate({"per_agent": {"max_runs": 1}}), daily.OF_A_MODEL_CALL, False),
        (Daily.model_validate({"per_agent": {"max_runs": 1}}), daily.OF_A_TOOL_CALL, False),
    ],
)
def test_a_call_only_asks_where_a_limit_is_about_it(limits, names, is_limited):
    assert daily.is_limited(limits, names) is is_limited


def test_the_agent_comes_before_its_principal():
    assert list(daily.scopes(LIMITS)) == ["per_agent", "per_principal"]
    assert list(daily.scopes(Daily.model_validate({"per_principal": {"max_usd": 0}}))) == ["per_principal"]
    assert daily.scopes(None) == {}


@pytest.mark.parametrize(
    ("agent", "principal", "wanted", "budget", "says"),
    [
        (Amounts(), Amounts(), Amounts(usd=Decimal(10)), None, ""),
        (Amounts(usd=Decimal("0.01")), Amounts(), Amounts(usd=Decimal(10)), "per_agent.max_usd", "$0.0100 of $10.00"),
        (Amounts(usd=Decimal(99)), Amounts(), Amounts(tool_calls=1), "per_agent.max_usd", "$99.00 of $10.00"),
        (Amounts(), Amounts(tool_calls=1), Amounts(tool_calls=1), None, ""),
        (Amounts(), Amounts(tool_calls=2), Amounts(tool_calls=1), "per_principal.max_tool_calls", "2 of 2 tool calls"),
        (Amounts(runs=100), Amounts(), Amounts(runs=1), "per_agent.max_runs", "100 of 100 runs"),
        (Amounts(tokens=10**12), Amounts(usd=Decimal(99)), Amounts(tokens=1), None, ""),
    ],
)
def test_the_first_limit_that_would_be_exceeded_is_named_in_numbers(agent, principal, wanted, budget, says):
    refused = daily.why_refused(LIMITS, [Line("per_agent", agent), Line("per_principal", principal)], wanted)

    assert (refused.budget if refused else None) == budget
    assert says in (refused.reason if refused else "")


def test_a_day_ends_at_midnight_utc():
    east = timezone(timedelta(hours=9))

    assert daily.until_tomorrow(datetime(2026, 3, 1, 23, 59, tzinfo=UTC)) == timedelta(minutes=1)
    assert daily.until_tomorrow(datetime(2026, 3, 2, 8, 0, tzinfo=east)) == timedelta(hours=1)
