"""Whether the guardrails and the verification of a bundle make sense: asked when a release is created.

A stored release is loaded without it: what it was accepted with stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from releases.bundles import Bundle, Guardrail, ModelSpec
from releases.policies.patterns import compiled

CALL_SIDES = frozenset({"retrieved", "arguments", "results"})
ALL_SIDES = CALL_SIDES | {"input", "output"}
SIDES: dict[str, frozenset[str]] = {
    "schema": CALL_SIDES,
    "citations": frozenset({"output"}),
    "language": frozenset({"input", "output"}),
    "grounded_figures": frozenset({"arguments", "output"}),
}
ACTIONS: dict[str, frozenset[str]] = {
    "input": frozenset({"flag", "redact", "refuse", "stop", "escalate"}),
    **{side: frozenset({"flag", "redact", "refuse", "ask", "stop", "escalate"}) for side in ("output", *CALL_SIDES)},
}
CAN_REDACT = frozenset({"secrets", "personal_data", "hidden_characters", "banned_phrases", "forbidden_topics"})
PersonalKind = Literal["email", "phone", "card", "iban", "ssn"]
MOST_PATTERNS = 50
LONGEST_PATTERN = 500
MOST_SCHEMA_PARTS = 2_000  # parts of a JSON schema, counted as often as it refers to them

Phrase = Annotated[str, Field(min_length=1, max_length=200)]
Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN)]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Length(Settings):
    max_characters: int | None = Field(default=None, gt=0)
    max_bytes: int | None = Field(default=None, gt=0)


class Hidden(Settings):
    allowed: int = Field(default=0, ge=0)


class Personal(Settings):
    kinds: list[PersonalKind] = Field(default=[], description="Left out: all")
    region: str | None = Field(default=None, pattern=r"^[A-Z]{2}$", description="Country of phone numbers without +")
    allowed: list[Phrase] = Field(default=[], max_length=100, description="Never counted: the shop's own address, say")
    users_own: bool = Field(default=False, description="What the user himself wrote is not counted")


class Injection(Settings):
    taints: bool = Field(default=True, description="A finding taints the run")


class Citations(Settings):
    required: Literal["always", "when_retrieved", "never"] = "when_retrieved"
    pattern: Pattern | None = None
    quotes: bool = Field(default=True, description="Quoted words must stand in the passage cited after them")


class Topics(Settings):
    phrases: list[Phrase] = Field(default=[], max_length=500)
    patterns: list[Pattern] = Field(default=[], max_length=MOST_PATTERNS)


class Banned(Settings):
    phrases: list[Phrase] = Field(min_length=1, max_length=500)


class Language(Settings):
    allowed: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(default=[], max_length=100)
    as_asked: bool = Field(default=False, description="The answer's language must be that of the request")


class Schema(Settings):
    json_schema: dict[str, Any]


class Graded(Settings):
    criteria: str = Field(min_length=1, max_length=4000)
    model: dict[str, Any] | None = None
    timeout_s: float = Field(default=10, gt=0, le=600, strict=False)


SETTINGS: dict[str, type[Settings]] = {
    "length": Length,
    "schema": Schema,
    "hidden_characters": Hidden,
    "secrets": Settings,
    "personal_data": Personal,
    "injection": Injection,
    "citations": Citations,
    "forbidden_topics": Topics,
    "language": Language,
    "banned_phrases": Banned,
    "grounded_figures": Settings,
    "model_graded": Graded,
}


def mistakes(bundle: Bundle) -> dict[str, str]:
    """What is wrong with the guardrails, by place in the bundle: `guardrails.2.settings.patterns.0`."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for number, rail in enumerate(bundle.guardrails):
        place = f"guardrails.{number}"
        if rail.id in seen:
            found[f"{place}.id"] = f"{rail.id} is there twice. Give each guardrail an id of its own."
        seen.add(rail.id)
        found |= {f"{place}.{where}": said for where, said in _mistakes(rail, bundle)}
    return found


def _mistakes(rail: Guardrail, bundle: Bundle) -> Iterator[tuple[str, str]]:
    sides = SIDES.get(rail.check, ALL_SIDES)
    if rail.on not in sides:
        yield "on", f"{rail.check} can check {_listed(sides)}, not {rail.on}."
    if rail.then not in ACTIONS[rail.on]:
        yield "then", f"On {rail.on} a guardrail can {_listed(ACTIONS[rail.on])}, not {rail.then}."
    elif rail.then == "redact" and rail.check not in CAN_REDACT:
        yield "then", f"{rail.check} cannot say what to take out. Of those that can redact: {_listed(CAN_REDACT)}."
    if rail.tools and rail.on not in CALL_SIDES:
        yield "tools", f"Only guardrails of {_listed(CALL_SIDES)} are about tools; this one is on {rail.on}."
    unknown = sorted(set(rail.tools) - set(bundle.toolset))
    if unknown:
        yield "tools", f"The release has no tool {', '.join(unknown)}."
    yield from _settings(rail)


def _settings(rail: Guardrail) -> Iterator[tuple[str, str]]:
    try:
        SETTINGS[rail.check].model_validate(rail.settings)
    except ValidationError as wrong:
        for error in wrong.errors():
            where = ".".join(map(str, ("settings", *error["loc"])))
            known = ", ".join(SETTINGS[rail.check].model_fields) or "none"
            extra = f"{rail.check} has no such setting. It has: {known}."
            yield where, extra if error["type"] == "extra_forbidden" else error["msg"]
        return
    if rail.check == "forbidden_topics" and not (rail.settings.get("phrases") or rail.settings.get("patterns")):
        yield "settings", "Say phrases, patterns, or both."
    if rail.check == "language" and not (rail.settings.get("allowed") or rail.settings.get("as_asked")):
        yield "settings", "Say which languages are allowed, or as_asked."
    for number, pattern in enumerate(rail.settings.get("patterns") or []):
        if said := wrong_pattern(pattern):
            yield f"settings.patterns.{number}", said
    if (pattern := rail.settings.get("pattern")) and (said := wrong_pattern(pattern)):
        yield "settings.pattern", said
    if rail.check == "schema" and (said := wrong_schema(rail.settings["json_schema"])):
        yield "settings.json_schema", said
    if rail.check == "model_graded" and rail.settings.get("model") is not None:
        try:
            ModelSpec.model_validate(rail.settings["model"])
        except ValidationError as wrong:
            yield "settings.model", "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors())


def wrong_pattern(pattern: str) -> str:
    """Why RE2 cannot use the pattern; empty when it can. RE2 matches in linear time, so it knows no look-around
    and no references back."""
    import re2

    try:
        compiled(pattern)
    except re2.error as wrong:
        said = wrong.args[0] if wrong.args else "unknown"
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return (
            f"The pattern {pattern[:60]!r} cannot be used: {text}. Patterns are RE2: no look-around, no references "
            f"back, and at most {LONGEST_PATTERN} characters."
        )
    return ""


def wrong_schema(schema: Mapping[str, Any]) -> str:
    """Why a JSON schema cannot be used to check results in bounded time; empty when it can."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        parts, patterns = _expanded(schema, schema, ())
    except jsonschema.SchemaError as wrong:
        return f"This is no JSON schema: {wrong.message[:300]}"
    except (_NotUsable, RecursionError) as wrong:
        return str(wrong) or "The schema is nested too deep."
    if parts > MOST_SCHEMA_PARTS:
        return f"The schema has {parts:,} parts with what it refers to; at most {MOST_SCHEMA_PARTS:,} are accepted."
    return next((said for pattern in patterns if (said := wrong_pattern(pattern))), "")


class _NotUsable(ValueError):
    pass


def _expanded(part: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> tuple[int, list[str]]:
    """How many parts a validation may have to look at, and the patterns among them."""
    if isinstance(part, list):
        return _together(_expanded(item, root, within) for item in part)
    return _together(_keyword(*pair, root, within) for pair in part.items()) if isinstance(part, dict) else (0, [])


def _keyword(key: str, item: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> tuple[int, list[str]]:
    if key in ("patternProperties", "$dynamicRef", "$recursiveRef"):
        raise _NotUsable(f"{key} cannot be used here: it cannot be checked in bounded time.")
    if key in ("$defs", "enum", "const", "default", "examples"):
        return 0, []
    if key == "pattern" and isinstance(item, str):
        return 0, [item]
    if key == "properties" and isinstance(item, dict):  # its keys are names, not keywords
        return _together(_expanded(schema, root, within) for schema in item.values())
    if key == "$ref" and isinstance(item, str):
        if item in within:
            raise _NotUsable(f"The schema refers to itself ({item}), so nothing bounds the check.")
        return _expanded(_referred(item, root), root, (*within, item))
    return _expanded(item, root, within)


def _together(counted: Iterable[tuple[int, list[str]]]) -> tuple[int, list[str]]:
    count = 1
    patterns: list[str] = []
    for more, others in counted:
        count, patterns = count + more, [*patterns, *others]
        if count > MOST_SCHEMA_PARTS:
            break
    return count, patterns


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/"):
        raise _NotUsable(f"{reference!r} leads out of the schema. Refer to parts of it only: #/$defs/name.")
    found: Any = root
    for name in reference[2:].split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            raise _NotUsable(f"The schema has nothing at {reference}.")
        found = found[name]
    return found


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
