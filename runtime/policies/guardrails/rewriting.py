"""Taking something out of a text or a JSON value, wherever it stands in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Characters that hide or reorder text: bidirectional controls, zero-width, tag characters, soft hyphen.
HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
LONG_NUMBER = 7  # digits from which a number is looked at as a text


@dataclass(frozen=True)
class Found:
    """What a check has found: a sentence and evidence that do not repeat it, and how to go on without it."""

    sentence: str
    evidence: tuple[str, ...] = ()
    redacted: Callable[[], Any] = lambda: None


def rewrite(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed, keys and long numbers included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): rewrite(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rewrite(item, change) for item in value]
    if is_long_number(value):
        changed = change(str(value))
        return value if changed == str(value) else changed
    return value


def texts(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a value with its place: `rows.0.note`. A text alone stands at no place."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield at, str(key)
            yield from texts(item, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from texts(item, f"{at}.{number}" if at else str(number))
    elif is_long_number(value):
        yield at, str(value)


def is_long_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 10 ** (LONG_NUMBER - 1)


def plain(text: str) -> str:
    """The text as it is compared: no hidden characters, one form of each letter, no case, single spaces."""
    folded = unicodedata.normalize("NFKC", HIDDEN.sub("", text)).casefold()
    return " ".join(folded.split())


def readable(text: str) -> str:
    """The text with look-alike forms and hidden characters gone, its lines and case kept."""
    return unicodedata.normalize("NFKC", HIDDEN.sub("", text))


def counted(kinds: dict[str, int]) -> str:
    """`2 e-mail addresses, 1 card number`."""
    return ", ".join(f"{count} {name}{'' if count == 1 else _plural(name)}" for name, count in kinds.items())


def _plural(name: str) -> str:
    return "es" if name.endswith("s") else "s"
