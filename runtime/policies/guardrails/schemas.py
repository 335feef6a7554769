"""Whether a result or the arguments of a call have the shape that a JSON schema asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from releases.bundles import canonical
from runtime.policies.guardrails.rewriting import Found


def schema(settings: Mapping[str, Any], text: str, value: Any) -> Found | None:
    """The first place that breaks the schema. A text that is JSON is looked at as what it says."""
    from runtime import schemas  # brings jsonschema, which a worker without such a check need not load

    if value is None or isinstance(value, str):
        try:
            value = json.loads(text)
        except ValueError:
            value = text
    breach = schemas.first(canonical(settings["json_schema"]), value)
    if breach is None:
        return None
    place, rule = breach  # no message: it repeats the value, which may be what nobody should read
    return Found(f"{place or 'The value'} breaks the schema at {rule}.", (place,) if place else ())
