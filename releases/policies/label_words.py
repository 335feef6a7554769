"""Labels in words: what each is called, how its values read, and what a value makes the gate do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from releases.bundles import AuthoredRows, Retries, ToolManifest
from releases.policies import sentences
from releases.policies.labelling import WORDS, Change, Difference, Direction

# In the order in which they are read.
NAMES = {
    "effect": "Effect",
    "labelled": "Reviewed",
    "output_trust": "What it returns",
    "output_secret": "Secrecy",
    "moves_money": "Money",
    "scope": "Scope",
    "arguments": "Arguments",
    "minted": "Ids of the system",
    "system": "Fields of the system",
    "authored": "Rows of the user",
    "harmless": "Harmless values",
    "retry": "Repeating it",
    "retries": "Attempts",
    "verifies": "After a crash",
    "timeout_s": "Time-out",
    "output_cap_bytes": "Longest result",
    "hands_off": "Handing over",
    "declines": "Declining",
    "is_retrieval": "Retrieval",
    "server": "MCP server",
    "schema_digest": "Reviewed as",
}
OF_SERVERS = ("server", "schema_digest")
EFFECTS = {
    "read": ("Reads", "It changes nothing and is never asked about for what it does."),
    "write": ("Changes own data", "Once a run has read untrusted text, each sensitive value needs a source."),
    "egress": (
        "Sends something out",
        "As for changes; besides, no link, account number or secret may leave that the user has not named.",
    ),
    "destructive": ("Destroys something", "It cannot be undone, so a person is always asked."),
}
TRUST = {
    "trusted": ("Trusted", "No outsider can write it, so its values may justify later calls."),
    "untrusted": ("Untrusted", "An outsider may have written it: a run that reads it is tainted."),
}
ARGUMENTS = {
    "destination": "where something goes; needs a source, or to be the user's own",
    "amount": "how much; needs the user's word, or a precedent with the same party",
    "commitment": "what is promised or agreed; needs a source",
    "target": "which object is meant; needs an id of the system or the user's word",
    "label": "a name or heading; needs no source, and must not carry secrets out",
    "content": "a text; needs no source, and must not carry links, accounts or secrets out",
    "free": "anything; needs no source",
    "": "nobody has said: sensitive in every respect",
}
CLASSES = {"": "no class"}
DIRECTIONS = {
    Direction.LOOSER: ("warn", "shield-minus", "Looser", "The gate asks less, or believes more."),
    Direction.UNCLEAR: (
        "warn",
        "shield-question-mark",
        "Unclear",
        "It depends on the call whether the gate asks less.",
    ),
    Direction.STRICTER: ("ok", "shield-plus", "Stricter", "The gate asks more, or believes less."),
}


@dataclass(frozen=True)
class Label:
    """One label as people read it; `meaning` says what it makes the gate do, empty where the value says it all."""

    field: str
    name: str
    value: str
    meaning: str = ""


@dataclass(frozen=True)
class ChangedLabel:
    name: str
    before: str
    after: str
    tone: str
    icon: str
    word: str


def described(manifest: ToolManifest) -> list[Label]:
    """Every label with its meaning, but the classes of arguments, which are a table of their own.

    What only tools of servers have is left out of others.
    """
    fields = [
        name for name in (*NAMES, *_others()) if name != "arguments" and (manifest.server or name not in OF_SERVERS)
    ]
    return [Label(name, called(name), said(name, getattr(manifest, name)), meaning(name, manifest)) for name in fields]


def called(field: str) -> str:
    return NAMES.get(field, field.replace("_", " ").capitalize())


def changed(change: Change) -> list[ChangedLabel]:
    return differences(change.differences)


def differences(found: Iterable[Difference]) -> list[ChangedLabel]:
    """The differences of one tool, in the order in which labels are read."""
    order = [*NAMES, *_others()]
    found = sorted(found, key=lambda one: order.index(one.field))
    return [
        ChangedLabel(called(one.field), _of(one.field, one.before), _of(one.field, one.after), *_badge(one.direction))
        for one in found
    ]


def _badge(direction: Direction) -> tuple[str, str, str]:
    tone, icon, word, _ = DIRECTIONS[direction]
    return tone, icon, word


def _of(field: str, value: Any) -> str:
    """A value in JSON form, as it stands in a change."""
    if field == "retries" and value is not None:
        value = Retries.model_validate(value)
    if field == "authored":
        value = [AuthoredRows.model_validate(rows) for rows in value or []]
    return said(field, value)


def said(field: str, value: Any) -> str:
    speak = _SAID.get(field)
    return speak(value) if speak else sentences.value(value) or "none"


def meaning(field: str, manifest: ToolManifest) -> str:
    if field == "effect":
        return EFFECTS[manifest.effect][1]
    if field == "output_trust":
        return TRUST[manifest.output_trust][1]
    value = getattr(manifest, field)
    return _MEANINGS.get(field, "") if value else ""


def argument_class(name: str) -> str:
    """`target`, or what an argument without a class counts as."""
    return CLASSES.get(name, name)


def _others() -> list[str]:
    return [name for name in ToolManifest.model_fields if name not in NAMES and name not in WORDS]


def _yes(yes: str, no: str) -> Callable[[Any], str]:
    return lambda value: yes if value else no


def _arguments(classes: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in sorted(classes.items())) or "no class given"


def _authored(rows: list[AuthoredRows]) -> str:
    return "; ".join(_row(one) for one in rows) or "none"


def _row(rows: AuthoredRows) -> str:
    where = " and ".join(f"{key} is {' or '.join(wanted)}" for key, wanted in rows.where.items())
    return f"{', '.join(rows.fields)} where {where}"


def _harmless(values: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(given)}" for name, given in sorted(values.items())) or "none"


_SAID: Mapping[str, Callable[[Any], str]] = {
    "effect": lambda value: EFFECTS[value][0],
    "labelled": _yes("Somebody answers for these labels", "Nobody has reviewed these labels"),
    "output_trust": lambda value: TRUST[value][0],
    "output_secret": _yes("Secret", "Not secret"),
    "moves_money": _yes("Moves money", "Moves no money"),
    "scope": lambda value: f"Needs {value}" if value else "Needs none",
    "arguments": _arguments,
    "authored": _authored,
    "harmless": _harmless,
    "retry": lambda value: sentences.RETRIES[value].capitalize(),
    "retries": lambda value: sentences.attempts(value).capitalize() if value else "One",
    "verifies": _yes("It can be asked whether a call happened", "It cannot be asked whether a call happened"),
    "timeout_s": lambda value: f"{value:g} s",
    "output_cap_bytes": lambda value: f"{value:,} bytes",
    "hands_off": _yes("A successful call ends the run as escalated", "The run goes on"),
    "declines": _yes("A successful call ends the run as refused", "The run goes on"),
    "is_retrieval": _yes("What it returns are passages of documents", "No retrieval"),
    "server": lambda value: value or "None",
    "schema_digest": lambda value: f"Schema and description {value[:16]}" if value else "Not pinned",
}
_MEANINGS = {
    "labelled": "The labels were declared, and reviewed where they were changed.",
    "output_secret": "Nothing of it may leave in a text that the user has not named.",
    "moves_money": "It stands out on approval cards and in lists.",
    "scope": "The person a run works for must hold it.",
    "minted": "An id from there says which object is meant.",
    "system": "Outsiders may cause a row, and cannot write these freely.",
    "authored": "What stands there counts as the user's own words.",
    "harmless": "These need no source.",
    "schema_digest": "When the server offers anything else under this name, the tool is out of order.",
}
