"""What a release may read of the memory that other releases have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Step = tuple[int, int]  # from one schema version to another
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """One stored entry: its key and the schema version it was written in."""

    key: str
    schema_version: int


@dataclass(frozen=True)
class Reading:
    """Which entry stands for a key, and the versions it passes on the way; none where nothing can read it."""

    entry: Found
    path: tuple[int, ...] | None


def decide_readings(found: Iterable[Found], wanted: int, steps: Iterable[Step]) -> list[Reading]:
    """One reading per key: the release's own version first, else the newest older one that can be migrated.

    What no migration leads to `wanted` is never read as if it were of that version; it is listed as unreadable.
    """
    by_key: dict[str, list[Found]] = {}
    for entry in found:
        by_key.setdefault(entry.key, []).append(entry)
    return [_reading(entries, wanted, frozenset(steps)) for _, entries in sorted(by_key.items())]


def _reading(entries: Sequence[Found], wanted: int, steps: frozenset[Step]) -> Reading:
    newest_first = sorted(entries, key=lambda entry: -entry.schema_version)
    for entry in sorted(newest_first, key=lambda entry: entry.schema_version != wanted):
        path = _path(entry.schema_version, wanted, steps)
        if path is not None:
            return Reading(entry, path)
    return Reading(newest_first[0], None)


def _path(start: int, end: int, steps: frozenset[Step]) -> tuple[int, ...] | None:
    """The shortest chain of migrations upwards; a rollback never reads what a newer schema wrote."""
    paths: list[tuple[int, ...]] = [(start,)]
    while paths:
        path = paths.pop(0)
        if path[-1] == end:
            return path
        paths += [(*path, after) for before, after in sorted(steps) if before == path[-1] < after <= end]
    return None


@dataclass(frozen=True)
class Room:
    """What a principal's memory with one agent holds, without the entry that is written now."""

    entries: int
    bytes: int


def decide_write(room: Room, size: int, *, most_entries: int, most_bytes: int, largest: int) -> str:
    """Why a value cannot be kept; empty when it fits."""
    if size > largest:
        return f"The value has {size:,} bytes; at most {largest:,} are kept under one key. Keep less."
    if room.entries >= most_entries:
        return f"{most_entries} things are remembered about this person already. Forget one first."
    if room.bytes + size > most_bytes:
        return f"The memory of this person would exceed {most_bytes:,} bytes. Forget something first."
    return ""


def chosen(registered: Mapping[tuple[str, int, int], T], agent: str) -> dict[Step, T]:
    """The migrations of one agent: its own, and for other steps those that were registered for every agent."""
    general = {(before, after): one for (of, before, after), one in registered.items() if not of}
    own = {(before, after): one for (of, before, after), one in registered.items() if of == agent}
    return {**general, **own}
