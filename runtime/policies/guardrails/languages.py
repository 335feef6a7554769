"""Whether a text is in a language that it may be in. Told by py3langid, which needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from runtime.policies.guardrails.rewriting import Found

MOST_LOOKED_AT = 5_000  # characters from the beginning
FEWEST_LETTERS = 40  # fewer decide nothing: names and numbers look like any language
SUREST = 0.9


def language(settings: Mapping[str, Any], text: str, asked: str) -> Found | None:
    """The finding when the text is surely in another language; a short or mixed text is undecided and passes."""
    spoken = told(text)
    if spoken is None:
        return None
    allowed = {str(code).casefold() for code in settings.get("allowed", [])}
    if allowed and spoken not in allowed:
        return Found(f"The text is in {spoken}; allowed: {', '.join(sorted(allowed))}.")
    wanted = told(asked) if settings.get("as_asked") else None
    if wanted is not None and spoken != wanted:
        return Found(f"The text is in {spoken}, the request in {wanted}.")
    return None


def told(text: str) -> str | None:
    """The language's two-letter code, or None where that is not certain."""
    text = " ".join(text[:MOST_LOOKED_AT].split())
    if sum(character.isalpha() for character in text) < FEWEST_LETTERS:
        return None
    code, certainty = _identifier().classify(text)
    return str(code) if certainty >= SUREST else None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
