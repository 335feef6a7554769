"""What a rule would have done about calls that were judged before. Facts in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from releases.bundles import Rule, ToolManifest
from releases.policies import variables
from releases.policies.variables import Circumstances, Total, Totals
from runtime.policies import ruling

STRICTNESS = ("allow", "ask", "refuse")


@dataclass(frozen=True)
class Past:
    """One call as it was proposed and judged, or made after a person's approval (then `verdict` is empty).

    `around` is what was known besides, but for the totals. `counts`: it was made, and happened or may have, so that
    totals of its day have it.
    """

    key: Any
    at: datetime
    arguments: Mapping[str, Any]
    verdict: str  # allow, ask, refuse
    around: Circumstances
    counts: bool = False


@dataclass(frozen=True)
class Match:
    """A past call for which the rule holds, and what its verdict would have been."""

    past: Past
    would: str
    error: str = ""

    @property
    def changes(self) -> bool:
        return self.would != self.past.verdict


@dataclass(frozen=True)
class Report:
    examined: int
    matches: Sequence[Match]
    changed: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (was, would be) -> calls

    @property
    def matched(self) -> int:
        return len(self.matches)

    @property
    def failed(self) -> int:
        return sum(bool(match.error) for match in self.matches)


def judge(rule: Rule, tool: ToolManifest, calls: Sequence[Past]) -> Report:
    """Ask the rule about each call, as if it had been in force.

    Totals are those of the calls given, in their order: what the rule itself would have stopped stays counted. A rule
    only ever makes a verdict stricter; one that allows changes none.
    """
    days = _Days()
    matches: list[Match] = []
    changed: dict[tuple[str, str], int] = {}
    examined = 0
    for past in sorted(calls, key=lambda one: one.at):
        if past.verdict:
            examined += 1
            around = replace(past.around, totals=days.of(past))
            if held := ruling.held([rule], tool, past.arguments, around):
                match = Match(past, max(past.verdict, rule.then, key=STRICTNESS.index), held[0].error)
                matches.append(match)
                if match.changes:
                    pair = (past.verdict, match.would)
                    changed[pair] = changed.get(pair, 0) + 1
        if past.counts:
            days.add(past, variables.amounts(tool, past.arguments))
    return Report(examined, matches[::-1], changed)


class _Days:
    """Totals of each day, as they grow."""

    def __init__(self) -> None:
        self._totals: dict[tuple[date, str | None], Total] = {}

    def of(self, past: Past) -> Totals:
        day = past.at.date()
        whose = {"principal": past.around.principal.id, "agent": None}
        return Totals(day, {scope: self._totals.get((day, who), Total()) for scope, who in whose.items()})

    def add(self, past: Past, amounts: Mapping[str, Decimal]) -> None:
        for who in (past.around.principal.id, None):
            key = (past.at.date(), who)
            total = self._totals.get(key, Total())
            sums = {name: total.sums.get(name, Decimal(0)) + amount for name, amount in amounts.items()}
            self._totals[key] = Total(total.calls + 1, {**total.sums, **sums})
