"""Comparing arguments: the conditions of policy rules."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from releases.bundles import Condition

WORDS = {
    "gt": "is more than",
    "ge": "is at least",
    "lt": "is less than",
    "le": "is at most",
    "eq": "is",
    "ne": "is not",
    "in": "is one of",
    "not_in": "is none of",
    "present": "is given",
    "absent": "is not given",
}


def holds(condition: Condition, arguments: Mapping[str, Any]) -> bool:
    """Whether the condition holds. A value that cannot be compared holds, so that a rule never misses by accident."""
    value = arguments.get(condition.argument)
    if condition.op in ("present", "absent"):
        return (value is not None) == (condition.op == "present")
    if condition.op in ("in", "not_in"):
        listed = isinstance(condition.value, list) and any(_same(value, item) for item in condition.value)
        return listed == (condition.op == "in")
    if condition.op in ("eq", "ne"):
        return _same(value, condition.value) == (condition.op == "eq")
    left, right = _number(value), _number(condition.value)
    if left is None or right is None:
        return True
    return {"gt": left > right, "ge": left >= right, "lt": left < right, "le": left <= right}[condition.op]


def sentence(condition: Condition) -> str:
    """For people: "amount is more than 100"."""
    if condition.op in ("present", "absent"):
        return f"{condition.argument} {WORDS[condition.op]}"
    value = ", ".join(map(str, condition.value)) if isinstance(condition.value, list) else condition.value
    return f"{condition.argument} {WORDS[condition.op]} {value}"


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _same(left: Any, right: Any) -> bool:
    numbers = _number(left), _number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    if isinstance(left, str) and isinstance(right, str):
        return left.strip().casefold() == right.strip().casefold()
    return bool(left == right)
