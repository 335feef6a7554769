"""What a change of a tool's labels means: whether the gate asks less, asks more, or nobody can tell.

A label is everything in a tool's manifest but its words for the model and for people. A change that loosens, or whose
meaning is unclear, is a second person's business. What nobody declared counts as the riskiest that can be said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from releases.bundles import AuthoredRows, Bundle, Retries, ToolManifest, canonical

WORDS = frozenset({"name", "description", "parameters", "title"})  # said to the model and to people, judged by nobody
SENSITIVE = frozenset({"destination", "amount", "commitment", "target"})
NOBODY = "nobody's labels"
EFFECTS = ("read", "write", "egress", "destructive")  # what comes later is asked about more


class Direction(StrEnum):
    LOOSER = "looser"  # the gate asks less, or more is believed
    UNCLEAR = "unclear"  # it depends
    STRICTER = "stricter"  # the gate asks more, or less is believed


@dataclass(frozen=True)
class Difference:
    """One label that differs. `before` and `after` are its values in JSON form."""

    field: str
    direction: Direction
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """All that differs in the labels of one tool. `source` says whose labels it is set against."""

    tool: str
    source: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    differences: tuple[Difference, ...]

    @property
    def direction(self) -> Direction:
        found = {difference.direction for difference in self.differences}
        return next(direction for direction in Direction if direction in found)

    @property
    def needs_review(self) -> bool:
        return self.direction is not Direction.STRICTER


@dataclass(frozen=True)
class Baseline:
    """Labels that were accepted before. `source` in words: "release 1.4"."""

    source: str
    manifest: ToolManifest


def labels(manifest: ToolManifest) -> dict[str, Any]:
    """The labels in JSON form: what digests are taken over."""
    return manifest.model_dump(mode="json", exclude=set(WORDS))


def undeclared(name: str) -> ToolManifest:
    """What counts for a tool of which nobody has said anything."""
    return ToolManifest(name=name, labelled=False)


def changes(bundle: Bundle, baselines: Mapping[str, Baseline]) -> tuple[Change, ...]:
    """What the bundle's labels change against the accepted ones; a tool without any is set against the riskiest."""
    found = []
    for tool in bundle.tools:
        baseline = baselines.get(tool.name) or Baseline(NOBODY, undeclared(tool.name))
        differences = compare(baseline.manifest, tool)
        if differences:
            found.append(Change(tool.name, baseline.source, labels(baseline.manifest), labels(tool), differences))
    return tuple(found)


def unlabelled(bundle: Bundle) -> tuple[str, ...]:
    """Tools that say themselves that nobody has reviewed their labels."""
    return tuple(tool.name for tool in bundle.tools if not tool.labelled)


def compare(before: ToolManifest, after: ToolManifest) -> tuple[Difference, ...]:
    """Every label that differs, with what the difference means. A label that this function does not know is unclear."""
    old, new = labels(before), labels(after)
    return tuple(
        Difference(name, _DIRECTIONS.get(name, _unclear)(before, after), old.get(name), new.get(name))
        for name in ToolManifest.model_fields
        if old.get(name) != new.get(name)
    )


Judge = Callable[[ToolManifest, ToolManifest], Direction]


def _unclear(before: ToolManifest, after: ToolManifest) -> Direction:
    return Direction.UNCLEAR


def _looser_when(is_looser: Callable[[ToolManifest], Any]) -> Judge:
    """For labels of two values: looser when the new one is the one that loosens."""
    return lambda before, after: Direction.LOOSER if is_looser(after) else Direction.STRICTER


def _grows(value: Callable[[ToolManifest], Any]) -> Judge:
    return lambda before, after: Direction.LOOSER if value(after) > value(before) else Direction.STRICTER


def _effect(before: ToolManifest, after: ToolManifest) -> Direction:
    falls = EFFECTS.index(after.effect) < EFFECTS.index(before.effect)
    return Direction.LOOSER if falls else Direction.STRICTER


def _retry(before: ToolManifest, after: ToolManifest) -> Direction:
    """`read` may be repeated most freely, `unsafe` never; the two between are safe for different reasons."""
    if after.retry == "read" or before.retry == "unsafe":
        return Direction.LOOSER
    return Direction.STRICTER if before.retry == "read" or after.retry == "unsafe" else Direction.UNCLEAR


def _retries(before: ToolManifest, after: ToolManifest) -> Direction:
    old, new = (tool.retries or Retries(attempts=1) for tool in (before, after))
    rest = [one.model_dump(exclude={"attempts"}) for one in (old, new)]
    if new.attempts > old.attempts:
        return Direction.LOOSER
    is_less = new.attempts == 1 or (new.attempts < old.attempts and rest[0] == rest[1])
    return Direction.STRICTER if is_less else Direction.UNCLEAR


def _scope(before: ToolManifest, after: ToolManifest) -> Direction:
    if not after.scope:
        return Direction.LOOSER
    return Direction.UNCLEAR if before.scope else Direction.STRICTER


def _minted(before: ToolManifest, after: ToolManifest) -> Direction:
    """A number that is no id any more counts as an amount, where the system fills it in."""
    gone = set(before.minted) - set(after.minted)
    if set(after.minted) - set(before.minted):
        return Direction.LOOSER
    return Direction.UNCLEAR if gone & set(after.system) else Direction.STRICTER


def _more(values: Callable[[ToolManifest], set[Any]]) -> Judge:
    """For labels that make values believed: looser as soon as one more is."""
    return lambda before, after: Direction.LOOSER if values(after) - values(before) else Direction.STRICTER


def _believed_rows(tool: ToolManifest) -> set[tuple[str, str]]:
    return {(_where(rows), name) for rows in tool.authored for name in rows.fields}


def _where(rows: AuthoredRows) -> str:
    return canonical({key: sorted(wanted) for key, wanted in rows.where.items()})


def _arguments(before: ToolManifest, after: ToolManifest) -> Direction:
    names = sorted(set(before.arguments) | set(after.arguments))
    return worst(
        argument(before.arguments.get(name, ""), after.arguments.get(name, ""))
        for name in names
        if before.arguments.get(name) != after.arguments.get(name)
    )


def argument(before: str, after: str) -> Direction:
    """What another class of an argument means; no class at all is sensitive in every respect.

    Between two sensitive classes it depends on the value: each believes other sources.
    """
    was_guarded, is_guarded = (one in SENSITIVE or not one for one in (before, after))
    if was_guarded and is_guarded:
        return Direction.UNCLEAR
    if was_guarded or after == "free":
        return Direction.LOOSER
    if after == "destination":  # without it nothing leaves, and the call counts as a plain write
        return Direction.UNCLEAR
    return Direction.STRICTER if is_guarded or before == "free" else Direction.UNCLEAR


def worst(directions: Iterable[Direction]) -> Direction:
    found = set(directions)
    return next((one for one in Direction if one in found), Direction.STRICTER)


_DIRECTIONS: Mapping[str, Judge] = {
    "effect": _effect,
    "output_trust": _looser_when(lambda tool: tool.output_trust == "trusted"),
    "output_secret": _looser_when(lambda tool: not tool.output_secret),
    "retry": _retry,
    "retries": _retries,
    "arguments": _arguments,
    "scope": _scope,
    "timeout_s": _grows(lambda tool: tool.timeout_s),
    "output_cap_bytes": _grows(lambda tool: tool.output_cap_bytes),
    "verifies": _looser_when(lambda tool: tool.verifies),  # what it says settles a call without a person
    "moves_money": _looser_when(lambda tool: not tool.moves_money),
    "minted": _minted,
    "system": _more(lambda tool: set(tool.system)),
    "authored": _more(_believed_rows),
    "harmless": _more(lambda tool: {(name, value) for name, given in tool.harmless.items() for value in given}),
    "labelled": _looser_when(lambda tool: tool.labelled),
}


def summary(found: Sequence[Change]) -> str:
    """`2 looser, 1 stricter`, for the audit log."""
    counts = {one: sum(change.direction is one for change in found) for one in Direction}
    return ", ".join(f"{count} {one.value}" for one, count in counts.items() if count) or "none"
