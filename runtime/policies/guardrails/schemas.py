"""Whether a result or the arguments of a call have the shape that a JSON schema asks for, in bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from releases.bundles import canonical
from runtime.policies.guardrails import words
from runtime.policies.guardrails.rewriting import Found


def schema(settings: Mapping[str, Any], text: str, value: Any) -> Found | None:
    """The first place that breaks the schema. A text that is JSON is looked at as what it says."""
    if value is None or isinstance(value, str):
        try:
            value = json.loads(text)
        except ValueError:
            value = text
    wrong = next(iter(_validator(canonical(settings["json_schema"])).iter_errors(value)), None)
    if wrong is None:
        return None
    place = ".".join(str(part) for part in wrong.absolute_path)
    rule = ".".join(str(part) for part in wrong.absolute_schema_path)
    # The message repeats the value, which may be what nobody should read.
    return Found(f"{place or 'The value'} breaks the schema at {rule}.", (place,) if place else ())


@lru_cache(maxsize=256)
def _validator(written: str) -> Any:
    """A validator that fetches nothing, matches patterns by RE2, and compares items once."""
    import jsonschema
    from jsonschema import validators
    from referencing import Registry

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not words.compiled(f"(?-i){wanted}").search(value):
            yield jsonschema.ValidationError("does not match")

    def unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list) and len({canonical(item) for item in value}) < len(value):
            yield jsonschema.ValidationError("has equal items")

    extend: Any = validators.extend
    kind = extend(jsonschema.Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})
    return kind(json.loads(written), registry=Registry())
