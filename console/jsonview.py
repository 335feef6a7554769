"""A JSON value as HTML that a person can read: escaped, folded, hidden characters spelled out."""

from __future__ import annotations

import json
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from console import words

OPEN_DEPTH = 2
DEEPEST = 60  # containers in each other; what is below is shown as JSON in one piece
MOST_ITEMS = 200
MOST_CHARACTERS = 4096
INDENT = "  "


def render(value: Any) -> SafeString:
    """Containers past a depth start folded; long lists and texts are folded too, never dropped."""
    return _value(value, 0)


def _value(value: Any, depth: int) -> SafeString:
    if depth == DEEPEST and isinstance(value, dict | list | tuple):
        return _fold("deeper", words.visible(json.dumps(value, default=str, ensure_ascii=False)))
    if isinstance(value, dict):
        return _container("{", "}", [(_key(key), item) for key, item in value.items()], depth)
    if isinstance(value, list | tuple):
        return _container("[", "]", [(SafeString(""), item) for item in value], depth)
    if isinstance(value, str):
        return _text(value)
    return format_html('<span class="l">{}</span>', json.dumps(value, default=str))


def _key(key: object) -> SafeString:
    return format_html('<span class="k">"{}"</span>: ', words.visible(key))


def _text(value: str) -> SafeString:
    head, rest = value[:MOST_CHARACTERS], value[MOST_CHARACTERS:]
    fold = _fold(f"{len(rest):,} more characters", words.visible(rest)) if rest else ""
    return format_html('<span class="s">"{}{}"</span>', words.visible(head), fold)


def _container(start: str, end: str, items: list[tuple[SafeString, Any]], depth: int) -> SafeString:
    if not items:
        return format_html("{}{}", start, end)
    shown, hidden = items[:MOST_ITEMS], items[MOST_ITEMS:]
    inner = _lines(shown, depth + 1)
    if hidden:
        inner = format_html(
            "{},\n{}{}", inner, INDENT * (depth + 1), _fold(f"{len(hidden):,} more", _lines(hidden, depth + 1))
        )
    inner = format_html("{}\n{}", inner, INDENT * depth)
    if depth >= OPEN_DEPTH:
        inner = _fold(f"{len(items):,} {'entry' if len(items) == 1 else 'entries'}", inner)
    return format_html("{}{}{}", start, inner, end)


def _lines(items: list[tuple[SafeString, Any]], depth: int) -> SafeString:
    rows = ((INDENT * depth, label, _value(item, depth)) for label, item in items)
    return format_html_join(",", "\n{}{}{}", rows)


def _fold(note: str, inner: SafeString) -> SafeString:
    return format_html("<details><summary>{}</summary>{}</details>", note, inner)
