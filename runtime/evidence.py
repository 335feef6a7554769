"""What an approver reads beside a proposed call: the user's words, passages, facts and the agent's own words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.messages import Message, ModelReply, Notice, ToolResult, UserText
from runtime.policies import wording

LONGEST_QUOTE = 1200
MOST_BLOCKS = 8
MOST_FACTS = 10
MOST_ROWS = 3


def blocks(
    told: Sequence[Message], who: str, *, doubted: frozenset[str] = frozenset(), alone: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The user's words first, then the newest of what was read and said. All of it is untrusted text.

    What the `doubted` tools have returned is marked: an outsider may have written it. Where one of the values stands in
    it for which nobody speaks (`alone`), only the rows with it are shown, as the words of that outsider.
    """
    found = [block for message in told for block in _of(message, who, doubted, alone)]
    return found[:1] + found[1:][-(MOST_BLOCKS - 1) :]


def rows_with(content: str, alone: Sequence[str]) -> list[str]:
    """Of a result, the rows in which one of the values stands: each field on its line, long texts cut."""
    try:
        value = json.loads(content)
    except ValueError:
        return []
    wanted = [wording.phrase(one) for one in alone if wording.phrase(one)]
    rows = [row for row in _rows(value) if any(_stands(row, one) for one in wanted)]
    return ["\n".join(_facts(row)) for row in rows[:MOST_ROWS]]


def _rows(value: Any) -> Iterable[Mapping[str, Any]]:
    """The innermost objects of a JSON value first."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _rows(item)
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _rows(item)


def _stands(row: Mapping[str, Any], wanted: str) -> bool:
    return any(wording.is_said(wanted, wording.phrase(item)) for item in row.values() if isinstance(item, str))


def _of(message: Message, who: str, doubted: frozenset[str], alone: Sequence[str]) -> Iterable[dict[str, Any]]:
    if isinstance(message, UserText):
        return [_block("quote", who, message.text)]
    if isinstance(message, ModelReply):
        return [_block("model", "The agent wrote", message.text)] if message.text.strip() else []
    if isinstance(message, Notice) or message.is_error:
        return []
    is_doubted = message.name in doubted
    rows = rows_with(message.content, alone) if is_doubted and alone else []
    if rows:
        return [{**_block("outsider", message.name, "\n\n".join(rows)), "is_doubted": True}]
    return [{**block, "is_doubted": is_doubted} for block in _read(message)]


def _read(result: ToolResult) -> list[dict[str, Any]]:
    """A tool's result: passages as such, an object as its plain fields, anything else as it is."""
    try:
        value = json.loads(result.content)
    except ValueError:
        value = result.content
    if isinstance(value, Mapping) and isinstance(value.get("passages"), list):
        return [
            _block("passage", str(p.get("title", "")), str(p.get("text", "")), str(p.get("citation", "")))
            for p in value["passages"][:3]
            if isinstance(p, Mapping)
        ]
    if isinstance(value, Mapping):
        return [_block("fact", result.name, "\n".join(_facts(value)), "what the tool answered")]
    return [_block("fact", result.name, str(value), "what the tool answered")]


def _facts(value: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, item in value.items():
        label = str(name).replace("_", " ").capitalize()
        if isinstance(item, list):
            item = f"{len(item)} listed" if item and not isinstance(item[0], str) else ", ".join(map(str, item))
        elif isinstance(item, Mapping):
            item = ", ".join(str(part) for part in item.values() if not isinstance(part, Mapping | list))
        if item not in (None, "", {}):
            lines.append(f"{label}: {item}")
    return lines[:MOST_FACTS]


def _block(kind: str, title: str, text: str, note: str = "") -> dict[str, Any]:
    return {"kind": kind, "title": title, "text": text[:LONGEST_QUOTE], "note": note, "url": ""}
