"""The arguments of a proposed call, read strictly: what two parsers could read differently stays text."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from runtime.policies import nesting

MOST_CHARACTERS = 1_000_000
UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class AmbiguousError(ValueError):
    pass


def parse(raw: str | dict[str, Any] | None) -> dict[str, Any] | str:
    """A JSON object, or the text itself when it is not one.

    Text that repeats a key, holds NaN or an infinity, nests absurdly, hides NUL or half a character, or is larger
    than any honest call stays text, so that the gate refuses it as unreadable. No text at all means no arguments.
    """
    if isinstance(raw, dict):
        raw = json.dumps(raw)
    text = writable(raw or "")
    if not text.strip():
        return {}
    if len(text) > MOST_CHARACTERS:
        return text[:MOST_CHARACTERS]
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        return found if isinstance(found, dict) and not nesting.is_too_deep(found) and _is_writable(found) else text
    except (ValueError, RecursionError):
        return text


def writable(text: str) -> str:
    """The text without NUL and halves of surrogate pairs, which PostgreSQL cannot store; each becomes U+FFFD."""
    return UNWRITABLE.sub("\ufffd", text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AmbiguousError("a key occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise AmbiguousError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise AmbiguousError(f"{digits[:40]} is beyond any number")
    return number


def _is_writable(found: Any) -> bool:
    if isinstance(found, str):
        return UNWRITABLE.search(found) is None
    if isinstance(found, dict):
        return all(_is_writable(key) and _is_writable(item) for key, item in found.items())
    return all(_is_writable(item) for item in found) if isinstance(found, list) else True
