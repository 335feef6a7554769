from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils.timezone import now

from releases.bundles import Budgets
from runtime import forms, labels, meters, readings
from runtime.states import RunStatus
from tests.builders import a_release, a_run

pytestmark = pytest.mark.django_db

LIMITS = {
    "max_steps": 10,
    "max_model_calls": 4,
    "max_tool_calls": 3,
    "max_tokens": 1000,
    "max_cost_usd": "0.50",
    "max_seconds": 60,
    "deadline_seconds": 600,
    "max_approvals": 0,
}


def shown(**fields: object) -> dict[str, meters.Meter]:
    moment = now()
    run = a_run(budgets=LIMITS, created_at=moment - timedelta(seconds=300), finished_at=None, **fields)
    return {one.name: one for one in meters.of_run(run, moment)}


def test_every_limit_is_shown_with_what_is_used_of_it():
    found = shown(
        status=RunStatus.RUNNING,
        steps_used=5,
        model_calls=1,
        tool_calls=3,
        input_tokens=700,
        output_tokens=150,
        cost_usd=Decimal("0.125"),
        working_ms=30_000,
        turn_started_at=None,
    )

    assert list(found) == list(meters.CAPS)
    assert (found["max_steps"].used, found["max_steps"].limit, found["max_steps"].share) == ("5", "10", 0.5)
    assert (found["max_tokens"].used, found["max_tokens"].limit) == ("850", "1,000")
    assert (found["max_cost_usd"].used, found["max_cost_usd"].limit) == ("$0.125", "$0.500")
    assert (found["max_seconds"].used, found["max_seconds"].limit) == ("30 s", "1 min")
    assert (found["deadline_seconds"].used, found["deadline_seconds"].limit) == ("5 min", "10 min")
    states = {name: one.state for name, one in found.items() if one.state}
    assert states == {"max_tool_calls": "full", "max_tokens": "near", "max_approvals": "full"}
    assert found["max_steps"].width == "50%"


@pytest.mark.parametrize(
    ("cause", "name"),
    [("budget:max_tokens", "max_tokens"), ("budget:deadline", "deadline_seconds"), ("budget:max_steps", "max_steps")],
)
def test_the_limit_that_ended_the_run_is_marked(cause, name):
    found = shown(status=RunStatus.FAILED, cause=cause)

    assert [one.name for one in found.values() if one.state == "ended"] == [name]
    assert found[name].word == "ended the run"


def test_a_limit_that_the_run_does_not_have_is_no_meter():
    run = a_run(budgets={"max_steps": 5})  # accepted before the other limits existed
    found = {one.name: one for one in meters.of_run(run, now())}

    assert (found["deadline_seconds"].limit, found["deadline_seconds"].share) == ("no limit", None)
    assert (found["max_model_calls"].limit, found["max_model_calls"].width) == ("no limit", "")
    assert found["max_steps"].limit == "5"


def test_a_form_says_at_most_only_where_there_is_a_limit():
    limits = Budgets(max_cost_usd=Decimal("0.1"), max_seconds=120)

    assert forms.limit("max_seconds", limits) == "at most 2 min"
    assert forms.limit("max_cost_usd", limits) == "at most $0.100"
    assert forms.limit("deadline_seconds", limits) == "no limit"


def test_versions_show_also_what_nothing_is_counted_up_against():
    budgets = {one.name: one for one in readings.versions(a_run(release=a_release()), now()).budgets}

    assert set(budgets) == set(labels.BUDGETS)
    assert (budgets["max_repeats"].used, budgets["max_repeats"].limit) == ("", "3")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("budget:max_tokens", "Budget used up: tokens"),
        ("budget:deadline", "Past its deadline"),
        ("budget:per_agent.max_usd", "Budget used up: US dollars of the agent’s day"),
        ("budget:per_principal.max_tool_calls", "Budget used up: tool calls of the principal’s day"),
        ("model_usage_implausible", "The model did not answer: usage implausible"),
    ],
)
def test_a_cause_says_which_budget(cause, words):
    assert labels.cause(cause) == words
