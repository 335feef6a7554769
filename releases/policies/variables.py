"""What the expression of a rule can read: its variables, and the values that a call gives them.

Numbers: an argument of class amount, or whose schema allows numbers with decimals, is a double; one whose schema allows
whole numbers only is an int. A double keeps 15 digits, so it compares with a number in an expression exactly as the
decimal would. An amount with more digits is left a text, which no comparison takes: the rule then fails closed.
Sums are made of decimals before they become doubles; `after` holds them with the call that is judged, so that a limit
needs no addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from console.principals import Principal
from releases.bundles import ToolManifest

EXACT_DIGITS = 15
SCOPES = ("principal", "agent")
# For people who write rules: variable and what it is.
MEANINGS = (
    ("tool.name, tool.effect, tool.moves_money", "the tool that is called, as its manifest says"),
    ("args.…", "its arguments; one that is not given is not there: has(args.note)"),
    ("principal.id, .kind, .label, .scopes, .attributes", "for whom the run works"),
    ("run.agent, run.thread_id", "which agent, and in which conversation"),
    ("run.tool_calls, run.approvals", "what this run has called and asked before"),
    ("tainted", "the run has read what an outsider may have written (also run.tainted)"),
    ("totals.principal.calls, totals.principal.sum.…", "calls of this tool today (UTC) for this principal, and sums"),
    ("totals.agent.calls, totals.agent.sum.…", "the same for everybody this agent works for"),
    ("totals.principal.after.calls, .after.sum.…", "the same, with this call counted"),
    ("now, hour, weekday", "the time in UTC; hour 0 to 23, weekday 1 (Monday) to 7"),
)  # fmt: skip


@dataclass(frozen=True)
class Total:
    """Calls of one day that happened, may have happened, or are under way. `version` changes with them."""

    calls: int = 0
    sums: Mapping[str, Decimal] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True)
class Totals:
    """What the tool was called for today, by scope: principal, agent."""

    day: date
    of: Mapping[str, Total]


@dataclass(frozen=True)
class Circumstances:
    """What is known of a call besides tool and arguments. What is None cannot be read: the rule fails closed."""

    agent: str
    principal: Principal
    scopes: frozenset[str] = frozenset()
    thread_id: str = ""
    tainted: bool = False
    approvals: int = 0
    tool_calls: int = 0
    now: datetime | None = None
    totals: Totals | None = None


def values(tool: ToolManifest, arguments: Mapping[str, Any], around: Circumstances) -> dict[str, Any]:
    """The variables of a call, ready for an expression."""
    who = around.principal
    found: dict[str, Any] = {
        "tool": {"name": tool.name, "effect": tool.effect, "moves_money": tool.moves_money},
        "args": arguments_of(tool, arguments),
        "principal": {
            "id": who.id,
            "kind": str(who.kind),
            "label": who.label,
            "scopes": sorted(around.scopes),
            "attributes": dict(who.attributes),
        },
        "run": {
            "agent": around.agent,
            "thread_id": around.thread_id,
            "tainted": around.tainted,
            "approvals": around.approvals,
            "tool_calls": around.tool_calls,
        },
        "tainted": around.tainted,
    }
    if around.now is not None:
        found |= {"now": around.now, "hour": around.now.hour, "weekday": around.now.isoweekday()}
    if around.totals is not None:
        added = amounts(tool, arguments)
        unread = [name for name in summed(tool) if arguments.get(name) is not None and name not in added]
        found["totals"] = {scope: _total(tool, total, added, unread) for scope, total in around.totals.of.items()}
    return found


def arguments_of(tool: ToolManifest, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as an expression reads them; what is not given is left out."""
    properties = tool.parameters.get("properties", {})
    return {
        name: _value(value, properties.get(name, {}), is_amount=tool.arguments.get(name) == "amount")
        for name, value in arguments.items()
        if value is not None
    }


def amounts(tool: ToolManifest, arguments: Mapping[str, Any]) -> dict[str, Decimal]:
    """What the call adds to the sums: its arguments of class amount that are finite numbers."""
    named = {name: decimal(arguments.get(name)) for name in summed(tool)}
    return {name: number for name, number in named.items() if number is not None}


def summed(tool: ToolManifest) -> list[str]:
    """The arguments that totals are summed over."""
    return sorted(name for name, kind in tool.arguments.items() if kind == "amount")


def decimal(value: Any) -> Decimal | None:
    """The exact number that a value stands for, if it is one and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 300 else None


def kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """The JSON types that a schema allows, as far as it says so in itself."""
    own = schema.get("type")
    found = {own} if isinstance(own, str) else set(own or ())
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found |= kinds(option)
    return frozenset(found)


def _value(value: Any, schema: Any, *, is_amount: bool = False) -> Any:
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, Mapping):
        inner = schema.get("properties", {})
        return {str(key): _value(item, inner.get(key, {})) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_value(item, schema.get("items", {}), is_amount=is_amount) for item in value]
    if is_amount or "number" in kinds(schema):
        number = decimal(value)
        if number is not None and _is_exact(number):
            return float(number)
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return value


def _is_exact(number: Decimal) -> bool:
    digits = number.as_tuple().digits
    return len("".join(map(str, digits)).strip("0")) <= EXACT_DIGITS


def _total(tool: ToolManifest, total: Total, added: Mapping[str, Decimal], unread: Iterable[str]) -> dict[str, Any]:
    """`unread`: amounts that are no number, so the sums with them are not known, and a rule about them fails closed."""
    names = _names(summed(tool), total.sums, added)
    before = {name: total.sums.get(name, Decimal(0)) for name in names}
    after = {name: before[name] + added.get(name, Decimal(0)) for name in names}
    return {
        "calls": total.calls,
        "sum": {name: float(number) for name, number in before.items()},
        "after": {"calls": total.calls + 1, "sum": {name: float(after[name]) for name in names if name not in unread}},
    }


def _names(*groups: Iterable[str]) -> list[str]:
    return sorted({name for group in groups for name in group})
