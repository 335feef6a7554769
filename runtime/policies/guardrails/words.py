"""Checks of words and characters: length, hidden characters, secrets, phrases and patterns of an operator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from console import redact
from releases.policies.patterns import compiled
from runtime.policies.guardrails.rewriting import HIDDEN, Found, plain, readable, rewrite, texts

USUAL_LENGTH = 20_000  # characters
REMOVED = "[removed]"


def length(settings: Mapping[str, Any], text: str) -> Found | None:
    characters, size = settings.get("max_characters"), settings.get("max_bytes")
    if characters is None and size is None:
        characters = USUAL_LENGTH
    if characters is not None and len(text) > int(characters):
        return Found(f"The text has {len(text):,} characters; the limit is {int(characters):,}.")
    if size is not None and len(whole := text.encode("utf-8", "replace")) > int(size):
        return Found(f"The text has {len(whole):,} bytes; the limit is {int(size):,}.")
    return None


def hidden(settings: Mapping[str, Any], value: Any) -> Found | None:
    found = [(place, character) for place, text in texts(value) for character in HIDDEN.findall(text)]
    if len(found) <= int(settings.get("allowed", 0)):
        return None
    sentence = f"The text contains {len(found)} hidden characters (first: U+{ord(found[0][1]):04X})."
    return Found(sentence, _places(found), lambda: rewrite(value, lambda text: HIDDEN.sub("", text)))


def secrets(value: Any) -> Found | None:
    """Shapes of well-known credentials, and what stands under a name like `password`."""
    if not redact.has_secret(value):
        return None
    places = [(place, text) for place, text in texts(value) if redact.has_secret(text)]
    return Found("The text contains what looks like a credential.", _places(places), lambda: redact.value(value))


def banned(settings: Mapping[str, Any], value: Any) -> Found | None:
    phrases = [str(phrase) for phrase in settings.get("phrases", [])]
    read = [(place, plain(text)) for place, text in texts(value)]
    for phrase in phrases:
        wanted = plain(phrase)
        found = [(place, text) for place, text in read if wanted and wanted in text]
        if found:
            return Found(f"The text contains “{phrase}”.", _places(found), lambda: _without(value, phrases, ()))
    return None


def topics(settings: Mapping[str, Any], value: Any) -> Found | None:
    """Phrases, and patterns that RE2 matches in linear time whatever they are."""
    if found := banned({"phrases": settings.get("phrases", [])}, value):
        return Found(found.sentence, found.evidence, lambda: _without(value, *_all(settings)))
    phrases, patterns = _all(settings)
    read = [(place, readable(text)) for place, text in texts(value)]
    for pattern in patterns:
        expression = compiled(pattern)
        found_at = [(place, text) for place, text in read if expression.search(text)]
        if found_at:
            sentence = f"The text matches the pattern “{pattern[:80]}”."
            return Found(sentence, _places(found_at), lambda: _without(value, phrases, patterns))
    return None


def _all(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return [str(one) for one in settings.get("phrases", [])], [str(one) for one in settings.get("patterns", [])]


def _without(value: Any, phrases: list[str], patterns: list[str] | tuple[str, ...]) -> Any:
    """The value in readable form, without the phrases and what the patterns match."""
    spaced = [r"\s+".join(map(re.escape, readable(phrase).split())) for phrase in phrases]
    expressions = [compiled(pattern) for pattern in [*filter(None, spaced), *patterns]]

    def change(text: str) -> str:
        text = readable(text)
        for expression in expressions:
            text = expression.sub(REMOVED, text)
        return text

    return rewrite(value, change)


def _places(found: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place for place, _ in found if place))[:10]
