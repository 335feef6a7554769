"""Masking of secrets before anything is written to a trace, a log, the audit or an export."""

from __future__ import annotations

import re
from typing import Any

MASK = "•••"

# Shapes of well-known credentials; each expression runs in linear time.
SHAPES = [
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.{0,8000}?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)", re.S),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    re.compile(r"\b(?:sk|pk|rk)[-_](?:live|test|ant|proj|or)?[-_]?[A-Za-z0-9_-]{20,200}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,255}"),
    re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,200}"),
    re.compile(r"\bsth_[a-z0-9]{8}_[A-Za-z0-9_-]{30,100}"),
    re.compile(r"(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}(?=@)"),
]
NAMED = re.compile(
    r"(?i)\b(password|passwd|pwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)"
    r"(\"?\s{0,3}[=:]\s{0,3}\"?)([^\s\"'&,;]{4,200})"
)
SECRET_NAMES = re.compile(
    r"(?i)^(password|passwd|pwd|secret|api[_-]?key|apikey|token|access[_-]?token|authorization|client[_-]?secret"
    r"|private[_-]?key|cookie|set-cookie)$"
)


def text(value: str) -> str:
    """The text with every known shape of a credential masked."""
    for shape in SHAPES:
        value = shape.sub(MASK, value)
    return NAMED.sub(lambda m: f"{m[1]}{m[2]}{MASK}", value)


def value(thing: Any) -> Any:
    """The same for a JSON value: strings are scanned, fields with a secret's name are masked whole."""
    if isinstance(thing, str):
        return text(thing)
    if isinstance(thing, dict):
        return {
            text(str(key)): MASK if SECRET_NAMES.match(str(key)) and isinstance(item, str) and item else value(item)
            for key, item in thing.items()
        }
    if isinstance(thing, list | tuple):
        return [value(item) for item in thing]
    return thing


def has_secret(thing: Any) -> bool:
    """Whether masking would change the value."""
    return bool(value(thing) != (list(thing) if isinstance(thing, tuple) else thing))
