"""Whether the expression of a rule makes sense for its tool: names, types, and a trial with samples.

What is wrong is said when the release is made: at run time a condition that cannot be evaluated counts as holding
where the rule asks or refuses, and would ask people for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from console import roles
from console.principals import Principal
from releases.bundles import Bundle, Rule, ToolManifest
from releases.policies import expressions, variables
from releases.policies.expressions import BadExpression, Expression, Path, Unevaluated, Values
from releases.policies.variables import Circumstances, Total, Totals

DECIDE = "approvals.decide"
ATTRIBUTES = ("principal", "attributes")
DEEPEST_SCHEMA = 6
WORDS = {"text": "a text", "number": "a number", "flag": "true or false", "list": "a list", "map": "a map"}
# What evaluating samples may run into without the expression being wrong: it depends on the values.
BY_CHANCE = ("there is no ", "a list is shorter", "it divides by zero", "a number is too large")


@dataclass(frozen=True)
class Shape:
    """What a variable holds. `fields` None: anything may be read of it."""

    kind: str  # text, number, flag, list, map; empty: not known
    fields: Mapping[str, Shape] | None = None
    is_optional: bool = False
    item: Shape | None = None


ANY = Shape("")
TEXT, NUMBER, FLAG = (Shape(kind, {}) for kind in ("text", "number", "flag"))
TIME = Shape("time", {})


def faults(bundle: Bundle) -> dict[str, str]:
    """What is wrong with the rules of a bundle: the place, and a sentence. Empty when all can be used."""
    return {
        f"rules.{index}.{name}": wrong
        for index, rule in enumerate(bundle.rules)
        for name, wrong in of_rule(rule, bundle.toolset[rule.tool]).items()
    }


def of_rule(rule: Rule, tool: ToolManifest) -> dict[str, str]:
    """What is wrong with one rule: the field, and a sentence."""
    found = {}
    if rule.condition:
        try:
            check(rule.condition, tool)
        except BadExpression as wrong:
            found["condition"] = str(wrong)
    if rule.then != "ask":
        for name, given in (("approvals_needed", rule.approvals_needed > 1), ("ask_roles", bool(rule.ask_roles))):
            if given:
                found[name] = f"It belongs to rules that ask; this one says {rule.then}. Leave it out."
    may = roles.holders(DECIDE)
    if cannot := [role.value for role in rule.ask_roles if may and role not in may]:
        known = ", ".join(sorted(role.value for role in may))
        found["ask_roles"] = f"Nobody decides requests as {cannot[0]}. Roles that may: {known}."
    return found


def check(text: str, tool: ToolManifest) -> None:
    """Guard the expression of a rule about this tool.

    Raises:
        BadExpression: what is wrong, where, and the way out.
    """
    expressions.compiled(text)
    expression = expressions.read(text)
    root = shape(tool)
    for path in expression.paths:
        _guard_path(path, root, tool)
    _guard_optional(expression, root)
    _guard_comparisons(expression, root)
    _try(text, tool)


def shape(tool: ToolManifest) -> Shape:
    """The variables that the rules of a tool can read."""
    sums = Shape("map", dict.fromkeys(variables.summed(tool), NUMBER))
    counted = {"calls": NUMBER, "sum": sums}
    total = Shape("map", {**counted, "after": Shape("map", counted)})
    return Shape(
        "map",
        {
            "tool": Shape("map", {"name": TEXT, "effect": TEXT, "moves_money": FLAG}),
            "args": _arguments(tool),
            "principal": Shape(
                "map", {"id": TEXT, "kind": TEXT, "label": TEXT, "scopes": Shape("list"), "attributes": Shape("map")}
            ),
            "run": Shape(
                "map", {"agent": TEXT, "thread_id": TEXT, "tainted": FLAG, "approvals": NUMBER, "tool_calls": NUMBER}
            ),
            "tainted": FLAG,
            "totals": Shape("map", dict.fromkeys(variables.SCOPES, total)),
            "now": TIME,
            "hour": NUMBER,
            "weekday": NUMBER,
        },
    )


def _arguments(tool: ToolManifest) -> Shape:
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return Shape("map")
    return Shape("map", {**_fields(tool.parameters, 0), **_amounts(tool, tool.parameters)})


def _amounts(tool: ToolManifest, schema: Mapping[str, Any]) -> dict[str, Shape]:
    names = [name for name in variables.summed(tool) if name in schema["properties"]]
    return {name: Shape("number", {}, _is_optional(schema, name)) for name in names}


def _fields(schema: Mapping[str, Any], depth: int) -> dict[str, Shape]:
    found = {}
    for name, part in schema.get("properties", {}).items():
        of = _of_schema(part, depth + 1)
        found[str(name)] = Shape(of.kind, of.fields, _is_optional(schema, name), of.item)
    return found


def _is_optional(schema: Mapping[str, Any], name: str) -> bool:
    """Whether the argument may be missing, or be null, which counts as missing."""
    part = schema["properties"].get(name, {})
    if not isinstance(part, Mapping):
        return True
    has_default = part.get("default") is not None
    return "null" in variables.kinds(part) or (name not in schema.get("required", ()) and not has_default)


def _of_schema(part: Any, depth: int) -> Shape:
    if not isinstance(part, Mapping) or depth > DEEPEST_SCHEMA:
        return ANY
    allowed = variables.kinds(part) - {"null"}
    if allowed and allowed <= {"number", "integer", "string"} and "number" in allowed:
        return NUMBER
    if len(allowed) != 1:
        return ANY
    kind = next(iter(allowed))
    if kind == "object":
        return Shape("map", _fields(part, depth) if part.get("properties") else None)
    if kind == "array":
        return Shape("list", item=_of_schema(part.get("items"), depth + 1))
    return {"string": TEXT, "integer": NUMBER, "boolean": FLAG}.get(kind, ANY)


def _guard_path(path: Path, root: Shape, tool: ToolManifest) -> None:
    here, read = root, "the variables"
    for place, part in enumerate(path.parts, start=1):
        if here.fields is None:
            return
        if part not in here.fields:
            raise BadExpression(f"Character {path.at}: {_missing(part, read, here, path, tool)}")
        here, read = here.fields[part], ".".join(path.parts[:place])


def _missing(part: str, read: str, here: Shape, path: Path, tool: ToolManifest) -> str:
    names = sorted(here.fields or ())
    if path.parts[0] == "totals" and read.endswith("sum") and not names:
        return (
            f"nothing is summed of {tool.name}. Give the argument the class amount in its manifest: "
            f'"arguments": {{"{part}": "amount"}}.'
        )
    near = get_close_matches(part, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    if read == "the variables":
        return f"there is no variable {part}.{hint} There are: {', '.join(names)}."
    if read == "args":
        return f"{tool.name} has no argument {part}.{hint} It has: {', '.join(names)}."
    return f"{read} has no field {part}.{hint} It has: {', '.join(names) or 'none'}."


def _guard_optional(expression: Expression, root: Shape) -> None:
    """What may be missing, an argument or an attribute, is asked for before it is used."""
    asked = {path.parts for path in expression.paths if path.is_asked}
    for path in expression.paths:
        for end in range(2, len(path.parts) + 1):
            of = _at(root, path.parts[:end])
            is_attribute = path.parts[:2] == ATTRIBUTES and end == 3
            may_miss = is_attribute or (path.parts[0] == "args" and of is not None and of.is_optional)
            if may_miss and path.parts[:end] not in asked:
                name = ".".join(path.parts[:end])
                raise BadExpression(
                    f"Character {path.at}: {name} may be missing. "
                    f"Write has({name}) && … before it is used, or !has({name}) || … where missing should count."
                )


def _guard_comparisons(expression: Expression, root: Shape) -> None:
    """`==` and `!=` of a text with a number are allowed in CEL, and never what is meant: the rule would never hold."""
    starts = {path.first: path for path in expression.paths}
    ends = {path.last: path for path in expression.paths}
    tokens = expression.tokens
    for index in range(1, len(tokens) - 1):
        if tokens[index].text not in ("==", "!="):
            continue
        for path, other in ((ends.get(index - 1), index + 1), (starts.get(index + 1), index - 1)):
            if path is None:
                continue
            of, literal = _at(root, path.parts), _literal(tokens[other].kind, tokens[other].text)
            if of is not None and of.kind in WORDS and literal and of.kind != literal:
                name, text = ".".join(path.parts), tokens[other].text
                raise BadExpression(
                    f"Character {path.at}: {name} is {WORDS[of.kind]} and never equals {text}, {WORDS[literal]}. "
                    f"Write {_mended(of.kind, text)}."
                )


def _literal(kind: str, text: str) -> str:
    if text in ("true", "false"):
        return "flag"
    return {"text": "text", "number": "number"}.get(kind, "")


def _mended(kind: str, text: str) -> str:
    bare = text.strip("rR\"'")
    return {"text": f'"{bare}"', "number": f"{bare} without quotes", "flag": "true or false"}.get(kind, "another value")


def _at(root: Shape, parts: tuple[str, ...]) -> Shape | None:
    here = root
    for part in parts:
        if here.fields is None or part not in here.fields:
            return None
        here = here.fields[part]
    return here


def _try(text: str, tool: ToolManifest) -> None:
    """Evaluate it with samples. They differ, so that both sides of `&&` and `||` are reached."""
    for values in _samples(tool):
        try:
            expressions.evaluate(text, Values(values))
        except Unevaluated as wrong:
            said = str(wrong)
            if not said.startswith(BY_CHANCE):
                raise BadExpression(
                    f"It was tried with sample arguments, and cannot be used: {said.rstrip('.')}."
                ) from wrong


def _samples(tool: ToolManifest) -> Iterator[dict[str, Any]]:
    for number, text, flag in ((0, "", False), (1, "text", True), (10**6, "text", False), (-1, "other", True)):
        arguments = {
            name: _sample(of, number, text, flag) for name, of in (_arguments(tool).fields or {}).items()
        } or dict.fromkeys(tool.arguments, number)
        sums = dict.fromkeys(variables.summed(tool), Decimal(number))
        total = Total(max(number, 0), sums)
        around = Circumstances(
            agent="agent",
            principal=Principal("cust-1001", "Ana Lima", {}),
            thread_id="thr_1",
            tainted=flag,
            approvals=max(number, 0),
            tool_calls=max(number, 0),
            now=datetime(2026, 11, 27, 12, 0, tzinfo=UTC),
            totals=Totals(date(2026, 11, 27), dict.fromkeys(variables.SCOPES, total)),
        )
        yield variables.values(tool, arguments, around)


def _sample(of: Shape, number: int, text: str, flag: bool) -> Any:
    if of.kind == "list":
        return [_sample(of.item, number, text, flag)] if of.item else []
    if of.kind == "map":
        return {name: _sample(inner, number, text, flag) for name, inner in (of.fields or {}).items()}
    return {"text": text, "number": number, "flag": flag}.get(of.kind)
