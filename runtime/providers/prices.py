"""What a model call costs, in USD, and how sure that is.

The price written in the release comes first. Without one, OpenAI and Anthropic models are looked up in the price list
that the package genai-prices carries (nothing is fetched); an endpoint of one's own is never priced by a model name
that merely resembles a vendor's.
"""

from __future__ import annotations

import re
from decimal import Decimal

from releases.bundles import ModelSpec, Price
from runtime.messages import Cost, Usage

MILLION = Decimal(1_000_000)
LISTED = {"openai": "openai", "anthropic": "anthropic"}
FREE = {"scripted", "replay"}
SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$")


def cost(spec: ModelSpec, usage: Usage, model_reported: str) -> Cost:
    """Price one call by the model that answered (`model_reported`), or the one that was asked when it says nothing.

    exact: a price of the release, or a listed model or its dated snapshot. estimated: the price of the nearest
    listed relative, or token counts that are an estimate themselves. unpriced: nobody knows; charged as zero. Counts
    that are no whole numbers have no price either; whether they are believed is settled elsewhere.
    """
    if not all(isinstance(count, int) for count in (usage.input_tokens, usage.cached_tokens, usage.output_tokens)):
        return Cost(basis="unpriced")
    if spec.price is not None:
        return Cost(_by_price(spec.price, usage), "estimated" if usage.is_estimated else "exact")
    if spec.provider in FREE:
        return Cost()
    if spec.provider not in LISTED:
        return Cost(basis="unpriced")
    found = _listed(LISTED[spec.provider], usage, [model_reported, spec.name])
    if found is None:
        return Cost(basis="unpriced")
    return Cost(found.usd, "estimated") if usage.is_estimated else found


def _by_price(price: Price, usage: Usage) -> Decimal:
    cached_usd = price.input_usd if price.cached_input_usd is None else price.cached_input_usd
    fresh = max(0, usage.input_tokens - usage.cached_tokens)
    return (
        fresh * price.input_usd + usage.cached_tokens * cached_usd + usage.output_tokens * price.output_usd
    ) / MILLION


def _listed(provider: str, usage: Usage, names: list[str]) -> Cost | None:
    for name in filter(None, names):
        if (usd := _look_up(provider, usage, name)) is not None:
            return Cost(usd, "exact" if _names_itself(provider, name) else "estimated")
    for name in filter(None, names):
        for relative in _relatives(name):
            if (usd := _look_up(provider, usage, relative)) is not None:
                return Cost(usd, "estimated")
    return None


def _look_up(provider: str, usage: Usage, name: str) -> Decimal | None:
    import genai_prices  # half a megabyte of prices and an HTTP client, which a scripted model never asks

    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens or None,
        output_tokens=usage.output_tokens,
    )
    try:
        return genai_prices.calc_price(counted, name, provider_id=provider).total_price
    except (LookupError, ValueError):
        return None


def _names_itself(provider: str, name: str) -> bool:
    """Whether the list means this very model: its id, or a snapshot of it, or a name it lists word by word.

    The list also matches by beginnings, so that `claude-sonnet-4-5-something` finds claude-sonnet-4-5.
    """
    import genai_prices

    listed = genai_prices.calc_price(genai_prices.Usage(input_tokens=1), name, provider_id=provider).model
    plain = SNAPSHOT.sub("", name.lower())
    if listed.id.lower() in {plain, name.lower()}:
        return True
    clauses = [listed.match, *getattr(listed.match, "or_", [])]
    exact = {getattr(clause, "equals", "").lower() for clause in clauses}
    begins = {getattr(clause, "starts_with", "").lower() for clause in clauses}
    return name.lower() in exact or plain in begins


def _relatives(name: str) -> list[str]:
    """Shorter and shorter beginnings of the name: gpt-5-foo-2027 → gpt-5-foo → gpt-5."""
    words = name.split("-")
    return ["-".join(words[:length]) for length in range(len(words) - 1, 1, -1)]
