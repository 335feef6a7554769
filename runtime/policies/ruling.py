"""The operator's rules of a call: which hold, and what each of them comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from releases.bundles import Rule, ToolManifest
from releases.policies import expressions, variables
from releases.policies.expressions import BadExpression, Unevaluated, Values
from releases.policies.variables import Circumstances
from runtime.policies import conditions


@dataclass(frozen=True)
class Held:
    """A rule that holds for a call. With `error` its expression could not be evaluated, and so counts as holding."""

    rule: Rule
    error: str = ""

    @property
    def reason(self) -> str:
        if not self.error:
            return self.rule.reason
        return f"{self.rule.reason} Its condition could not be evaluated ({self.error}), so it counts as holding."

    @property
    def conditions(self) -> tuple[str, ...]:
        """What held, for people."""
        words = tuple(conditions.sentence(one) for one in self.rule.when)
        return (*words, self.rule.condition) if self.rule.condition else words


@dataclass(frozen=True)
class Applied:
    """What a rule that holds came to. `verdict` is that of the call with the rule in force: allow, ask, refuse.

    `is_log`: it was only noted, and `changes` says whether the verdict would have been another.
    """

    id: str
    version: str
    verdict: str
    is_log: bool = False
    changes: bool = False
    error: str = ""


def held(rules: Iterable[Rule], tool: ToolManifest, arguments: Mapping[str, Any], around: Circumstances) -> list[Held]:
    """The rules about the tool that hold, in their order.

    An expression that cannot be evaluated holds where the rule asks or refuses, and does not where it allows.
    """
    values: Values | None = None
    found = []
    for rule in rules:
        if rule.tool != tool.name or not all(conditions.holds(one, arguments) for one in rule.when):
            continue
        if not rule.condition:
            found.append(Held(rule))
            continue
        values = values or Values(variables.values(tool, arguments, around))
        try:
            if expressions.evaluate(rule.condition, values):
                found.append(Held(rule))
        except Unevaluated as wrong:
            if rule.then != "allow":
                found.append(Held(rule, str(wrong)))
    return found


def prepare(rules: Iterable[Rule]) -> None:
    """Compile the expressions, so that no call waits for it: the package alone takes a third of a second to import."""
    for rule in rules:
        with suppress(BadExpression):
            expressions.compiled(rule.condition)


def totals_read(rules: Iterable[Rule], tool: str) -> frozenset[str]:
    """Whose totals the rules about a tool read: principal, agent. Known from their texts alone."""
    return frozenset().union(*(_totals(rule.condition) for rule in rules if rule.tool == tool and rule.condition))


def _totals(text: str) -> frozenset[str]:
    try:
        return expressions.read(text).totals
    except BadExpression:  # stored before the checks of today: it cannot be evaluated, so it reads nothing
        return frozenset()


def as_json(applied: Sequence[Applied]) -> list[dict[str, Any]]:
    """For the step of the call."""
    return [
        {
            "id": one.id,
            "version": one.version,
            "verdict": one.verdict,
            **({"log": True, "changes": one.changes} if one.is_log else {}),
            **({"error": one.error} if one.error else {}),
        }
        for one in applied
    ]
