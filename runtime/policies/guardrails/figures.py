"""Whether every amount of money that is told was read somewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from runtime.policies.guardrails.rewriting import Found

FIGURE = re.compile(r"[$€£]\s?(\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,2})?)")
NUMBER = re.compile(r"\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,4})?")


def grounded(text: str, told: Sequence[str]) -> Found | None:
    """The first money figure of the text that stands in nothing the run was told."""
    figures = FIGURE.findall(text)
    if not figures:
        return None
    known = {number for source in told for number in map(_decimal, NUMBER.findall(source)) if number is not None}
    unknown = next((figure for figure in figures if _decimal(figure) not in known), None)
    return Found(f"The figure {unknown} appears in nothing the agent has read.") if unknown else None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "")).normalize()
    except InvalidOperation:
        return None
