"""A JSON value as HTML that a person can read: escaped, folded, hidden characters spelled out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from console import words

OPEN_DEPTH = 2
MOST_ITEMS = 200
MOST_CHARACTERS = 4096
INDENT = "  "


def render(value: Any) -> SafeString:
    """Containers past a depth start folded; long lists and texts are folded too, never dropped."""
    return mark_safe("".join(_value(value, 0)))


def _value(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _container("{", "}", [(f"{_key(key)}: ", item) for key, item in value.items()], depth)
    elif isinstance(value, list | tuple):
        yield from _container("[", "]", [("", item) for item in value], depth)
    elif isinstance(value, str):
        yield _text(value)
    else:
        yield f'<span class="l">{escape(json.dumps(value, default=str))}</span>'


def _key(key: object) -> str:
    return f'<span class="k">"{words.visible(key)}"</span>'


def _text(value: str) -> str:
    if len(value) <= MOST_CHARACTERS:
        return f'<span class="s">"{words.visible(value)}"</span>'
    head, rest = words.visible(value[:MOST_CHARACTERS]), words.visible(value[MOST_CHARACTERS:])
    note = f"{len(value) - MOST_CHARACTERS:,} more characters"
    return f'<span class="s">"{head}</span>{_fold(note, f"<span class=s>{rest}</span>")}<span class="s">"</span>'


def _container(start: str, end: str, items: list[tuple[str, Any]], depth: int) -> Iterator[str]:
    if not items:
        yield start + end
        return
    shown, hidden = items[:MOST_ITEMS], items[MOST_ITEMS:]
    inner = ",".join(_lines(shown, depth + 1))
    if hidden:
        inner += "," + _fold(f"\n{INDENT * (depth + 1)}{len(hidden):,} more", ",".join(_lines(hidden, depth + 1)))
    inner += f"\n{INDENT * depth}"
    if depth >= OPEN_DEPTH:
        inner = _fold(f"{len(items):,} {'entry' if len(items) == 1 else 'entries'}", inner)
    yield f"{start}{inner}{end}"


def _lines(items: list[tuple[str, Any]], depth: int) -> Iterator[str]:
    for label, item in items:
        yield f"\n{INDENT * depth}{label}{''.join(_value(item, depth))}"


def _fold(note: str, inner: str) -> str:
    return f"<details><summary>{escape(note)}</summary>{inner}</details>"
