from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from releases.bundles import ModelSpec, Price
from runtime.messages import Cost, Usage
from runtime.policies import usage as usage_policy
from runtime.policies.usage import Believed, Doubted, Reported
from runtime.providers import prices

USAGE = Usage(input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000)
PRICE = Price(input_usd=Decimal("3"), cached_input_usd=Decimal("0.30"), output_usd=Decimal("15"))


def a_spec(provider: str, name: str, price: Price | None = None) -> ModelSpec:
    base_url = "http://127.0.0.1:11434/v1" if provider == "openai-compatible" else None
    return ModelSpec(provider=provider, name=name, base_url=base_url, price=price)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openai-compatible", "scripted", "replay"])
def test_the_price_of_the_release_comes_first(provider: str) -> None:
    found = prices.cost(a_spec(provider, "gpt-5", PRICE), USAGE, "gpt-5")

    assert found == Cost(Decimal("3.42"), "exact")  # 0.6 × 3 + 0.4 × 0.30 + 0.1 × 15


def test_cached_tokens_cost_the_same_when_no_price_is_set_for_them() -> None:
    price = PRICE.model_copy(update={"cached_input_usd": None})

    assert prices.cost(a_spec("openai", "x", price), USAGE, "x").usd == Decimal("4.5")


@pytest.mark.parametrize(
    ("provider", "asked", "reported", "usd", "basis"),
    [
        ("openai", "gpt-5", "gpt-5-2025-08-07", "1.80", "exact"),
        ("openai", "gpt-5", "", "1.80", "exact"),
        ("openai", "gpt-5", "gpt-5-2031-01-01", "1.80", "exact"),  # unknown to the list, so the asked one counts
        ("openai", "gpt-5-2031-01-01", "", "1.80", "estimated"),
        ("openai", "gpt-5-tuned-for-us", "", "1.80", "estimated"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "3.42", "exact"),
        ("anthropic", "claude-sonnet-4-5", "", "3.42", "exact"),
        ("anthropic", "claude-sonnet-4-5-special", "", "3.42", "estimated"),
        ("openai", "no-such-model", "", "0", "unpriced"),
        ("anthropic", "gpt-5", "", "0", "unpriced"),
        ("openai-compatible", "gpt-5", "gpt-5", "0", "unpriced"),
        ("scripted", "support-rules", "", "0", "exact"),
        ("replay", "recorded", "gpt-5", "0", "exact"),
    ],
)
def test_prices_by_name(provider: str, asked: str, reported: str, usd: str, basis: str) -> None:
    usage = Usage(input_tokens=1_000, cached_tokens=400, output_tokens=100)

    found = prices.cost(a_spec(provider, asked), usage, reported)

    assert (found.usd * 1000, found.basis) == (Decimal(usd), basis)


def test_estimated_tokens_never_give_an_exact_cost() -> None:
    usage = Usage(input_tokens=1000, output_tokens=10, is_estimated=True)

    assert prices.cost(a_spec("openai", "gpt-5"), usage, "gpt-5").basis == "estimated"
    assert prices.cost(a_spec("openai", "gpt-5", PRICE), usage, "gpt-5").basis == "estimated"


def test_a_count_of_cached_tokens_beyond_the_input_earns_no_credit() -> None:
    found = prices.cost(a_spec("replay", "x", PRICE), Usage(input_tokens=10, cached_tokens=1000), "x")

    assert found.usd >= 0


@pytest.mark.parametrize(
    "reported",
    [
        Reported(100, 0, 20),
        Reported(100, None, 20),
        Reported(100, 100, 20),
        Reported(400 + usage_policy.MOST_HIDDEN_INPUT_TOKENS, 0, 20),
        Reported(100, 0, 100_000),  # a long train of thought that nobody sees
    ],
)
def test_a_possible_report_is_believed(reported: Reported) -> None:
    decided = usage_policy.decide_usage(reported, request_characters=400, reply_characters=80)

    assert decided == Believed(Usage(reported.input_tokens, reported.cached_tokens or 0, reported.output_tokens))


@pytest.mark.parametrize(
    ("reported", "said"),
    [
        (Reported(), "no input tokens"),
        (Reported(2000, 0, None), "no output tokens"),
        (Reported(-1, 0, 20), "'-1' input tokens"),
        (Reported(2000, 0, -20), "'-20' output tokens"),
        (Reported(float("nan"), 0, 20), "'nan' input tokens"),
        (Reported(True, 0, 20), "'True' input tokens"),
        (Reported("100", 0, 20), "'100' input tokens"),
        (Reported(0, 0, 20), "no input tokens for 8000"),
        (Reported(2, 0, 20), "only 2 input tokens"),
        (Reported(10**9, 0, 20), "most possible"),
        (Reported(2000, 0, 10**9), "most possible"),
        (Reported(2000, 2001, 20), "2001 cached tokens"),
        (Reported(2000, -1, 20), "-1 cached tokens"),
    ],
)
def test_an_impossible_report_is_charged_by_length(reported: Reported, said: str) -> None:
    decided: Any = usage_policy.decide_usage(reported, request_characters=8000, reply_characters=81)

    assert isinstance(decided, Doubted)
    assert said in decided.reason
    assert decided.usage == Usage(2000, 0, 21, is_estimated=True)
