"""The built-in checks of texts: what comes in from outside and what the agent is about to say."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from console import redact
from releases.bundles import Guardrail

# Characters that hide or reorder text: bidirectional controls, zero-width, tag characters, soft hyphen.
HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
FIGURE = re.compile(r"[$€£]\s?(\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,2})?)")
NUMBER = re.compile(r"\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,4})?")


@dataclass(frozen=True)
class Checked:
    """The result of one guardrail. `finding` is empty when the text passed."""

    guardrail: Guardrail
    finding: str

    @property
    def passed(self) -> bool:
        return not self.finding


def check(guardrails: Iterable[Guardrail], on: str, text: str, sources: Sequence[str] = ()) -> list[Checked]:
    """Run every guardrail of one side. `sources` is all the run was told: user text, tool arguments and results."""
    return [Checked(rail, CHECKS[rail.check](rail, text, sources)) for rail in guardrails if rail.on == on]


def _length(rail: Guardrail, text: str, sources: Sequence[str]) -> str:
    limit = int(rail.settings.get("max_characters", 20_000))
    return f"The text has {len(text):,} characters; the limit is {limit:,}." if len(text) > limit else ""


def _hidden(rail: Guardrail, text: str, sources: Sequence[str]) -> str:
    found = HIDDEN.findall(text)
    if len(found) <= int(rail.settings.get("allowed", 0)):
        return ""
    return f"The text contains {len(found)} hidden characters (first: U+{ord(found[0]):04X})."


def _secrets(rail: Guardrail, text: str, sources: Sequence[str]) -> str:
    return "The text contains what looks like a credential." if redact.has_secret(text) else ""


def _banned(rail: Guardrail, text: str, sources: Sequence[str]) -> str:
    plain = _plain(text)
    for phrase in rail.settings.get("phrases", []):
        if _plain(str(phrase)) in plain:
            return f"The text contains “{phrase}”."
    return ""


def _grounded(rail: Guardrail, text: str, sources: Sequence[str]) -> str:
    """Every money figure in the text must stand in something the run was told."""
    known = {number for source in sources for number in map(_decimal, NUMBER.findall(source)) if number is not None}
    for figure in FIGURE.findall(text):
        if _decimal(figure) not in known:
            return f"The figure {figure} appears in nothing the agent has read."
    return ""


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", HIDDEN.sub("", text)).casefold()
    return " ".join(folded.split())


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "")).normalize()
    except InvalidOperation:
        return None


CHECKS: dict[str, Callable[[Guardrail, str, Sequence[str]], str]] = {
    "length": _length,
    "hidden_characters": _hidden,
    "secrets": _secrets,
    "banned_phrases": _banned,
    "grounded_figures": _grounded,
}
