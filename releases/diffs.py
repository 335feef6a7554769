"""Two releases side by side."""

from __future__ import annotations

from dataclasses import dataclass

from releases.models import Release
from releases.policies import diff


@dataclass(frozen=True)
class Comparison:
    before: Release
    after: Release
    areas: list[tuple[str, list[diff.Change]]]

    @property
    def is_same(self) -> bool:
        return not self.areas

    @property
    def summary(self) -> str:
        """`Instructions (1), Tools (2)`; empty when nothing changed."""
        return ", ".join(f"{area} ({len(found)})" for area, found in self.areas)


def compare(before: Release, after: Release) -> Comparison:
    areas: dict[str, list[diff.Change]] = {}
    for change in diff.changes(before.bundle, after.bundle):
        areas.setdefault(change.area, []).append(change)
    return Comparison(before, after, list(areas.items()))
