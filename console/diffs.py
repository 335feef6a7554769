"""What changed between two texts or values, line by line, with the changed words marked."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from console import words

CONTEXT = 3
# Beyond this a diff costs more than it tells; the two texts are then shown as removed and added.
MOST_LINES = 4000


@dataclass(frozen=True)
class Line:
    kind: str  # "", add, del, hd
    before: int | None
    after: int | None
    sign: str
    text: SafeString


def text_of(value: Any) -> str:
    """A value as the text that is compared: strings as they are, everything else as sorted JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def lines(before: Any, after: Any, *, context: int = CONTEXT) -> list[Line]:
    """The unified difference; empty when nothing changed. Runs of empty lines are counted: they hide nothing."""
    return list(_folded(_lines(_split(before), _split(after), context)))


def _split(value: Any) -> list[str]:
    """Only at line feeds: other characters that break a line are shown, and differ from one."""
    text = text_of(value)
    return text.split("\n") if text else []


def _lines(old: list[str], new: list[str], context: int) -> list[Line]:
    if max(len(old), len(new)) > MOST_LINES:
        return [_removed(i, line) for i, line in enumerate(old)] + [_added(i, line) for i, line in enumerate(new)]
    found: list[Line] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context):
        if group[0][1] > 0:
            found.append(Line("hd", None, None, "", format_html("{} lines above", group[0][1])))
        for tag, i1, i2, j1, j2 in group:
            found += _block(tag, old, new, (i1, i2, j1, j2))
    return found


def _folded(found: Iterable[Line]) -> Iterator[Line]:
    for (_, is_empty), group in itertools.groupby(found, lambda line: (line.kind, not line.text.strip())):
        alike = list(group)
        is_long = is_empty and len(alike) > words.MOST_BREAKS
        yield from [replace(alike[0], text=words.empty_lines(len(alike)))] if is_long else alike


def _block(tag: str, old: list[str], new: list[str], span: tuple[int, int, int, int]) -> list[Line]:
    i1, i2, j1, j2 = span
    if tag == "equal":
        return [Line("", i + 1, j1 + i - i1 + 1, "", words.visible(old[i])) for i in range(i1, i2)]
    pairs = [_marked(old[i], new[j]) for i, j in zip(range(i1, i2), range(j1, j2), strict=False)]
    gone = [Line("del", i1 + n + 1, None, "−", left) for n, (left, _) in enumerate(pairs)]
    come = [Line("add", None, j1 + n + 1, "+", right) for n, (_, right) in enumerate(pairs)]
    gone += [_removed(i, old[i]) for i in range(i1 + len(pairs), i2)]
    return gone + come + [_added(j, new[j]) for j in range(j1 + len(pairs), j2)]


def _removed(index: int, text: str) -> Line:
    return Line("del", index + 1, None, "−", words.visible(text))


def _added(index: int, text: str) -> Line:
    return Line("add", None, index + 1, "+", words.visible(text))


def _marked(old: str, new: str) -> tuple[SafeString, SafeString]:
    """Both lines with the words that differ in <mark>; unmarked when hardly anything is shared."""
    left, right = re.findall(r"\w+|\s+|.", old), re.findall(r"\w+|\s+|.", new)
    match = difflib.SequenceMatcher(None, left, right, autojunk=False)
    if len(left) + len(right) > 2000 or match.ratio() < 0.4:
        return words.visible(old), words.visible(new)
    gone, come = [], []
    for tag, i1, i2, j1, j2 in match.get_opcodes():
        gone.append(_mark("".join(left[i1:i2]), tag != "equal"))
        come.append(_mark("".join(right[j1:j2]), tag != "equal"))
    return _joined(gone), _joined(come)


def _mark(text: str, is_changed: bool) -> SafeString:
    shown = words.visible(text)
    return format_html("<mark>{}</mark>", shown) if is_changed and text else shown


def _joined(parts: list[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))
