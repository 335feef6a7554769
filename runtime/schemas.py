"""JSON schemas that strangers wrote, applied to arguments that a model made up: always an answer, always soon.

Patterns run in RE2, whose time is linear; a remote reference is never fetched; and one validation takes a bounded
number of steps, because references that double at each level, or long lists of alternatives for long arrays, never end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from releases.policies.patterns import compiled

MOST_ERRORS = 10
MOST_STEPS = 50_000  # of one validation: references, alternatives, elements and properties that are looked at
LONGEST_UNIQUE = 1_000  # elements of an array that are compared with each other
_steps: ContextVar[list[int]] = ContextVar("steps")

Weigh = Callable[[Any, Any], int]
# What a keyword costs, by its rule and the value it is applied to; every other keyword looks at one thing once.
WEIGHTS: dict[str, Weigh] = {
    **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef"), lambda rule, value: 10),
    **dict.fromkeys(("not", "if"), lambda rule, value: 1),
    **dict.fromkeys(
        ("anyOf", "oneOf", "allOf", "enum", "properties", "dependentSchemas", "dependencies", "prefixItems"),
        lambda rule, value: len(rule),
    ),
    **dict.fromkeys(
        ("items", "additionalItems", "contains"), lambda rule, value: len(value) if isinstance(value, list) else 1
    ),
    **dict.fromkeys(
        ("additionalProperties", "propertyNames"), lambda rule, value: len(value) if isinstance(value, dict) else 1
    ),
    "patternProperties": lambda rule, value: len(rule) * (len(value) if isinstance(value, dict) else 1),
}


UNENDING = (RecursionError, ArithmeticError)  # a schema that refers to itself, a number beyond those of the machine


class TooMuch(Exception):
    """The schema asks for more work than an answer is worth."""


def why_unusable(schema: Mapping[str, Any]) -> str:
    """Why arguments cannot be held to this schema, or nothing."""
    try:
        chosen = validator_for(schema, default=jsonschema.Draft202012Validator)
        chosen.check_schema(dict(schema))
        for keyword, pattern in _patterns(schema):
            if keyword.startswith("unevaluated"):
                return f"Its schema uses {keyword}, which is not applied here."
            _compiled(pattern)
    except jsonschema.SchemaError as wrong:
        return f"Its schema is no JSON schema: {wrong.message[:200]}"
    except (ValueError, RecursionError, TypeError) as wrong:
        return f"Its schema cannot be applied: {str(wrong)[:200]}"
    return ""


def errors(schema: str, value: Any) -> dict[str, str]:
    """The first rules of the schema (as JSON) that a value breaks, by place."""
    found: dict[str, str] = {}
    token = _steps.set([0])
    try:
        for wrong in islice(_validator(schema).iter_errors(value), MOST_ERRORS):
            found.setdefault(".".join(map(str, wrong.absolute_path)) or "arguments", wrong.message[:300])
    except Unresolvable as wrong:
        found["schema"] = f"The declared schema refers to {wrong.ref[:200]}, which is nowhere in it."
    except TooMuch as wrong:
        found["schema"] = str(wrong)
    except UNENDING as wrong:
        found["schema"] = f"The declared schema cannot be applied to this value ({type(wrong).__name__})."
    finally:
        _steps.reset(token)
    return found


def first(schema: str, value: Any) -> tuple[str, str] | None:
    """Where a value breaks the schema (as JSON) first, and by which of its rules. Neither repeats the value."""
    token = _steps.set([0])
    try:
        wrong = next(_validator(schema).iter_errors(value), None)
    except Unresolvable as unknown:
        return "", f"a reference to {unknown.ref[:200]}, which is nowhere in it"
    except TooMuch as much:
        return "", str(much)
    except UNENDING as wrong:
        return "", f"what cannot be applied to it ({type(wrong).__name__})"
    finally:
        _steps.reset(token)
    if wrong is None:
        return None
    return ".".join(map(str, wrong.absolute_path)), ".".join(map(str, wrong.absolute_schema_path))


@lru_cache(maxsize=512)
def _validator(schema: str) -> jsonschema.protocols.Validator:
    parsed = json.loads(schema)
    chosen = validator_for(parsed, default=jsonschema.Draft202012Validator)
    found: jsonschema.protocols.Validator = _bounded(chosen)(parsed, registry=Registry())
    return found


@lru_cache(maxsize=8)
def _bounded(chosen: Any) -> Any:
    rules = {
        **chosen.VALIDATORS,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "uniqueItems": _unique_items(chosen),
        "additionalProperties": _additional_properties(chosen),
    }
    counted = {name: _counted(rules[name], weigh) for name, weigh in WEIGHTS.items() if name in rules}
    return extend(chosen, rules | counted)  # type: ignore[no-untyped-call]  # jsonschema leaves it untyped


def _counted(apply: Any, weigh: Weigh) -> Any:
    def bounded(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[Any]:
        steps = _steps.get()
        steps[0] += weigh(rule, value)
        if steps[0] > MOST_STEPS:
            raise TooMuch(f"The declared schema takes more than {MOST_STEPS:,} steps for this value.")
        yield from apply(validator, rule, value, schema) or ()

    return bounded


def _unique_items(chosen: Any) -> Any:
    compare = chosen.VALIDATORS["uniqueItems"]

    def bounded(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(instance, list) and len(instance) > LONGEST_UNIQUE:
            yield jsonschema.ValidationError(f"{len(instance):,} elements; at most {LONGEST_UNIQUE:,} are compared")
            return
        yield from compare(validator, wanted, instance, schema) or ()

    return bounded


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield jsonschema.ValidationError(f"{instance[:100]!r} does not match {pattern[:100]!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, rule in patterns.items():
        for key, item in instance.items():
            if _compiled(pattern).search(key):
                yield from validator.descend(item, rule, path=key, schema_path=pattern)


def _additional_properties(chosen: Any) -> Any:
    plain = chosen.VALIDATORS["additionalProperties"]

    def bounded(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
        patterns = schema.get("patternProperties")
        if not patterns:
            yield from plain(validator, rule, instance, schema) or ()
        elif isinstance(instance, dict):
            matched = {key for key in instance if any(_compiled(pattern).search(key) for pattern in patterns)}
            rest = {key: item for key, item in instance.items() if key not in matched}
            yield from plain(validator, rule, rest, {**schema, "patternProperties": {}}) or ()

    return bounded


def _compiled(pattern: str) -> Any:
    """A pattern of RE2.

    Raises:
        ValueError: it uses what only a backtracking engine can do.
    """
    import re2

    try:
        return compiled(pattern, case_sensitive=True)
    except re2.error as wrong:
        raise ValueError(f"pattern {pattern[:80]!r} cannot be matched in linear time: {wrong}") from wrong


def _patterns(value: Any) -> Iterator[tuple[str, str]]:
    """Each keyword that matches texts, with its pattern; and those that match out of our sight."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "pattern" and isinstance(item, str):
                yield key, item
            elif key == "patternProperties" and isinstance(item, Mapping):
                yield from ((key, pattern) for pattern in item)
            elif key in ("unevaluatedProperties", "unevaluatedItems"):
                yield key, ""
            yield from _patterns(item)
    elif isinstance(value, list):
        for item in value:
            yield from _patterns(item)
