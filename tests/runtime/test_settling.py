from __future__ import annotations

from decimal import Decimal

import pytest

from runtime.messages import Call, Cost, ModelReply, ToolResult, Usage, UserText
from runtime.policies import settling
from runtime.policies.settling import Doubted, Implausible, Settled

HELD = Usage(input_tokens=100, output_tokens=50, is_estimated=True)
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("parameters", "output"),
    [
        ({}, settling.USUAL_OUTPUT_TOKENS),
        ({"max_tokens": 50}, 50),
        ({"max_tokens": -5}, settling.USUAL_OUTPUT_TOKENS),
        ({"max_tokens": "50"}, settling.USUAL_OUTPUT_TOKENS),
        ({"max_tokens": True}, settling.USUAL_OUTPUT_TOKENS),
    ],
)
def test_a_call_reserves_its_texts_and_the_output_it_is_allowed(parameters, output):
    assert settling.reserve(401, parameters) == Usage(101, 0, output, is_estimated=True)


def test_the_conversation_is_measured_by_its_texts_and_calls():
    said = (UserText("1234"), ModelReply("12", (Call("c", "abc", {"a": 1}),)), ToolResult("c", "abc", "123456"))

    assert settling.characters(said) == 4 + 2 + 3 + len("{'a': 1}") + 6


@pytest.mark.parametrize(
    "usage",
    [Usage(10, 0, 5), Usage(10, 10, 0), Usage(10, 3, 300_000), Usage(settling.MOST_INPUT_TOKENS, 0, 1)],
)
def test_a_sensible_report_is_charged_as_it_is(usage):
    cost = Cost(Decimal("0.01"))
    characters = 0 if usage.output_tokens == 0 else 20

    assert settling.decide_settlement(usage, cost, HELD, reply_characters=characters) == Settled(usage, cost)


@pytest.mark.parametrize(
    ("usage", "says"),
    [
        (Usage(), "no input tokens"),
        (Usage(-10, 0, 5), "-10 input tokens"),
        (Usage(10, 0, -5), "-5 output tokens"),
        (Usage(10, -1, 5), "-1 cached tokens"),
        (Usage(10, 11, 5), "11 cached of 10 input"),
        (Usage(None, 0, 5), "no input tokens"),
        (Usage(NAN, 0, 5), "nan input tokens"),
        (Usage(10, 0, NAN), "nan output tokens"),
        (Usage(10.5, 0, 5), "10.5 input tokens"),
        (Usage("10", 0, 5), "'10' input tokens"),
        (Usage(True, 0, 5), "True input tokens"),
        (Usage(10, 0, 0), "no output tokens for 20 characters"),
        (Usage(10, 0, 300_081), "300,080 is the most any model gives"),
        (Usage(settling.MOST_INPUT_TOKENS + 1, 0, 5), "no model reads that many"),
    ],
)
def test_a_report_that_makes_no_sense_is_charged_the_reserve(usage, says):
    decided = settling.decide_settlement(usage, Cost(), HELD, reply_characters=20)

    assert isinstance(decided, Doubted)
    assert decided.usage == HELD
    assert says in decided.reason


@pytest.mark.parametrize("usd", [Decimal(-1), Decimal("NaN"), Decimal("sNaN"), NAN, None, 0.5, "1"])
def test_a_cost_that_makes_no_sense_is_charged_the_reserve(usd):
    decided = settling.decide_settlement(Usage(10, 0, 5), Cost(usd), HELD, reply_characters=20)

    assert isinstance(decided, Doubted)
    assert decided.usage == HELD


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(10, 0, 10**12), Cost()),
        (Usage(10**30, 0, 5), Cost()),
        (Usage(-(10**12), 0, 5), Cost()),
        (Usage(INFINITY, 0, 5), Cost()),
        (Usage(10, 0, 5), Cost(Decimal(10**9))),
        (Usage(10, 0, 5), Cost(Decimal(-(10**9)))),
        (Usage(10, 0, 5), Cost(Decimal("Infinity"))),
    ],
)
def test_a_report_beyond_any_plausibility_is_charged_and_ends_the_trust(usage, cost):
    decided = settling.decide_settlement(usage, cost, HELD, reply_characters=20)

    assert isinstance(decided, Implausible)
    assert decided.usage == HELD


def test_a_reply_longer_than_what_was_reserved_is_charged_by_its_length():
    decided = settling.decide_settlement(Usage(), Cost(), HELD, reply_characters=4000)

    assert isinstance(decided, Doubted)
    assert decided.usage == Usage(100, 0, 1000, is_estimated=True)


@pytest.mark.parametrize(
    ("usage", "cost", "is_believed"),
    [
        (Usage(), Cost(), True),
        (Usage(10, 0, 0), Cost(Decimal("0.01")), True),
        (Usage(-10, 0, 0), Cost(), False),
        (Usage(10, 0, NAN), Cost(), False),
        (Usage(), Cost(Decimal(-1)), False),
    ],
)
def test_a_failed_call_may_be_free_but_never_gives_anything_back(usage, cost, is_believed):
    decided = settling.decide_failure(usage, cost, HELD)

    assert decided == Settled(usage, cost) if is_believed else isinstance(decided, Doubted) and decided.usage == HELD
