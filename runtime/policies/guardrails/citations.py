"""Whether an answer cites passages that this run retrieved, and quotes them as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from releases.policies import patterns
from runtime.policies.guardrails.rewriting import Found, plain

# Square brackets around one word, as in [returns#window@2026.11]; not a link, whose address follows in parentheses.
USUAL = re.compile(r"\[([^\[\]\s]{1,200})\](?!\()")
QUOTED = re.compile(r"“([^“”\n]{1,1000})”|\"([^\"\n]{1,1000})\"")
MOST_CITATIONS = 500
SHORTEST_QUOTE = 3  # words; fewer are a name or a term


def citations(settings: Mapping[str, Any], text: str, passages: Mapping[str, str]) -> Found | None:
    cited = _cited(settings.get("pattern"), text)
    required = settings.get("required", "when_retrieved")
    if not cited and (required == "always" or (required == "when_retrieved" and passages)):
        return Found("The answer cites no passage.")
    if len(cited) > MOST_CITATIONS:
        raise ValueError(f"{len(cited):,} citations; at most {MOST_CITATIONS} are looked at")
    known: dict[str, str] = {}
    for citation, before in cited:
        if citation not in passages:
            return Found(f"The answer cites {citation[:120]}, which this run has not retrieved.")
        if citation not in known:
            known[citation] = plain(passages[citation])
        missing = _missing(before, known[citation]) if settings.get("quotes", True) else ""
        if missing:
            return Found(f"“{missing[:120]}” does not stand in the passage {citation[:120]}.")
    return None


def passages(results: Iterable[str]) -> dict[str, str]:
    """Passages by citation, from what retrieval tools returned: {"passages": [{"citation", "text"}, …]}."""
    found: dict[str, str] = {}
    for content in results:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            continue
        listed = value.get("passages") if isinstance(value, dict) else None
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and one.get("citation"):
                found[str(one["citation"])] = f"{one.get('title', '')}\n{one.get('text', '')}"
    return found


def _cited(pattern: str | None, text: str) -> list[tuple[str, str]]:
    """Each citation with the words before it, from the citation before on."""
    expression: Any = patterns.compiled(pattern) if pattern else USUAL
    found, reached = [], 0
    for match in expression.finditer(text):
        groups = match.groups()
        found.append((str(groups[0] if groups and groups[0] is not None else match[0]), text[reached : match.start()]))
        reached = match.end()
    return found


def _missing(before: str, passage: str) -> str:
    """The first quotation that is not in the passage, which comes in plain form."""
    for curly, straight in QUOTED.findall(before):
        quote: str = curly or straight
        if len(quote.split()) >= SHORTEST_QUOTE and plain(quote).strip(" .,;:…") not in passage:
            return quote
    return ""
